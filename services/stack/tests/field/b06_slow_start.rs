//! A cold replica that gets its whole share at once: traefik/traefik#4845, envoyproxy/envoy#11050,
//! istio/istio#21228, linkerd/linkerd2#7277, dotnet/yarp#2430, projectcontour/contour#2296.

use std::collections::BTreeMap;

use evenkeel_stack::Service;

use crate::common::{World, any_port, closed_port, even, listen_on, server};

async fn climbed(world: &World, id: &str) -> u64 {
    world.backend(id).await["climbed_percent"].as_u64().unwrap()
}

/// A proxy over a server that is there and one that is not yet.
async fn settled(variables: &[(&str, &str)]) -> (World, String) {
    let first = server(0, any_port());
    let newcomer = closed_port().to_string();
    let urls = format!("http://{},http://{newcomer}", first.address);
    let world = World::over(&urls, variables, vec![first]);
    world.until_eligible(1).await;
    (world, newcomer)
}

fn arrive(id: &str) -> Service {
    server(1, listen_on(id.parse().unwrap()))
}

async fn leave(world: &World, newcomer: Service) {
    tokio::task::spawn_blocking(move || newcomer.kill()).await.unwrap().unwrap();
    world.until_eligible(1).await;
}

/// Notes what was served within each step of a climb, to its end.
async fn watch_climb(world: &World, id: &str, seen: &mut BTreeMap<u64, BTreeMap<String, usize>>) {
    world.until_eligible(2).await;
    loop {
        let before = climbed(world, id).await;
        // All turns of a step: ten of the one and so many of the other.
        let spread = world.spread(10 + before as usize / 10).await;
        // What a busy machine has not served within one step says nothing.
        if climbed(world, id).await == before {
            seen.insert(before, spread);
        }
        if before == 100 {
            return;
        }
    }
}

#[tokio::test]
async fn one_that_comes_up_beside_others_gets_tenths_of_its_share_and_in_the_end_all_of_it() {
    let (world, id) = settled(&[("PROXY_SLOW_START", "2s")]).await;
    let mut newcomer = arrive(&id);
    let mut seen = BTreeMap::new();
    watch_climb(&world, &id, &mut seen).await;
    // The whole pool was new, or we were too slow to see any of it: then it has to climb again.
    while seen.len() < 2 {
        leave(&world, newcomer).await;
        newcomer = arrive(&id);
        watch_climb(&world, &id, &mut seen).await;
    }
    for (percent, spread) in seen {
        let share = percent as usize / 10;
        let expected = [("s0".to_owned(), 10), ("s1".to_owned(), share)].into();
        assert_eq!(spread, expected, "at {percent} %");
    }
    drop(newcomer);
}

#[tokio::test]
async fn when_all_are_new_all_serve_at_once() {
    let world = World::start(2, &[("PROXY_SLOW_START", "1h")]).await;
    for index in 0..2 {
        assert_eq!(climbed(&world, &world.id(index)).await, 100);
    }
    assert_eq!(world.spread(10).await, even(&["s0", "s1"], 5));
}
