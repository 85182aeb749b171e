//! Updates that cost requests: kubernetes/kubernetes#82173, traefik/traefik#1384, istio/istio#11682,
//! zitadel/zitadel#8772.

use std::time::Duration;

use chassis::shutdown::{Stop, StopPlan};
use evenkeel_stack::{Service, start_server};

use crate::{
    common::{World, name_server::NameServer},
    load::Load,
    names::{self, at, ids},
};

const REPLICAS: u8 = 3;

/// A replica whose name is its number. Told to stop, it serves until the proxy has surely looked its
/// name up again.
fn replica(last: u8, port: u16) -> Service {
    let stop = StopPlan { quiet: Duration::from_secs(3), max: Duration::from_secs(60) };
    let name = format!("r{last}");
    start_server(at(3, last, port), server::Settings { name, stop, ..Default::default() }).unwrap()
}

/// Three replicas with a name, numbered from `first` on.
async fn service(first: u8) -> (NameServer, Vec<Service>, World) {
    let mut replicas = vec![replica(first, 0)];
    let port = replicas[0].address.port();
    replicas.extend((1..REPLICAS).map(|more| replica(first + more, port)));
    let numbers: Vec<u8> = (first..first + REPLICAS).collect();
    let names = NameServer::start(&names::web(3, &numbers)).await;
    let world = names::world(&names, &format!("dns://web.test:{port}"), &[]);
    world.until_eligible(REPLICAS.into()).await;
    (names, replicas, world)
}

async fn until_served_by(world: &World, port: u16, numbers: &[u8]) {
    let mut expected: Vec<String> =
        numbers.iter().map(|last| format!("127.0.3.{last}:{port}")).collect();
    expected.sort();
    let is_so = async || {
        let mut ids = ids(world).await;
        ids.sort();
        ids == expected
    };
    world.until("the pool to be as the name says", is_so).await;
    world.until_eligible(numbers.len()).await;
}

fn names_of(numbers: impl Iterator<Item = u8>) -> Vec<String> {
    let mut names: Vec<String> = numbers.map(|last| format!("r{last}")).collect();
    names.sort();
    names
}

#[tokio::test]
async fn replicas_that_are_replaced_in_turn_and_stop_when_told_cost_no_request() {
    const FIRST: u8 = 10;
    let (names, replicas, world) = service(FIRST).await;
    let port = replicas[0].address.port();
    let load = Load::of_gets_and_posts(&world);
    let mut numbers: Vec<u8> = (FIRST..FIRST + REPLICAS).collect();
    let mut next = Vec::new();
    // One more first; then the next one comes as soon as an old one is told to go, and its name
    // says so at the same time.
    for number in FIRST + REPLICAS..FIRST + 2 * REPLICAS {
        next.push(replica(number, port));
        numbers.push(number);
        names.set(&names::web(3, &numbers));
        until_served_by(&world, port, &numbers).await;
        load.more(&world, 20).await;
        numbers.remove(0);
        names.set(&names::web(3, &numbers));
        replicas[usize::from(number - FIRST - REPLICAS)].ask_to_stop(Stop::Graceful);
    }
    until_served_by(&world, port, &numbers).await;
    for old in &replicas {
        world.until("the old replica to end", async || old.has_ended()).await;
    }
    load.more(&world, 20).await;
    let tally = load.end().await;
    assert_eq!(tally.servers(), names_of(FIRST..FIRST + 2 * REPLICAS));
}

#[tokio::test]
async fn replicas_that_vanish_before_their_name_says_so_cost_no_request_that_may_be_sent_again() {
    const FIRST: u8 = 20;
    let (names, replicas, world) = service(FIRST).await;
    let port = replicas[0].address.port();
    let load = Load::of_gets(&world);
    let mut numbers: Vec<u8> = (FIRST..FIRST + REPLICAS).collect();
    let mut next = Vec::new();
    for old in replicas {
        load.more(&world, 20).await;
        tokio::task::spawn_blocking(move || old.kill()).await.unwrap().unwrap();
        load.more(&world, 20).await;
        numbers.push(numbers.last().unwrap() + 1);
        next.push(replica(*numbers.last().unwrap(), port));
        numbers.remove(0);
        names.set(&names::web(3, &numbers));
        until_served_by(&world, port, &numbers).await;
    }
    load.more(&world, 20).await;
    let tally = load.end().await;
    assert_eq!(tally.servers(), names_of(FIRST..FIRST + 2 * REPLICAS));
}
