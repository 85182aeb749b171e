//! Backends found by DNS: SRV records, and a name server that misbehaves in each way.
#![allow(clippy::unwrap_used)]

mod common;

use chassis::shutdown::Stop;
use common::{
    World, any_port, closed_port,
    name_server::{Data, Mood, NameServer},
    server,
};

const SERVICE: &str = "_http._tcp.web.test";
const HERE: Data = Data::A(std::net::Ipv4Addr::LOCALHOST);

fn over(names: &NameServer, backends: &str, servers: Vec<evenkeel_stack::Service>) -> World {
    let address = names.address.to_string();
    World::over(backends, &[("PROXY_NAME_SERVERS", &address)], servers)
}

async fn ids(world: &World) -> Vec<String> {
    let pool = world.admin_json("/v1/pools/default").await;
    let backends = pool["backends"].as_array().unwrap();
    backends.iter().map(|backend| backend["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_targets_of_srv_records_are_backends_with_their_ports_and_weights() {
    let servers = [server(0, any_port()), server(1, any_port())];
    let [a, b] = [&servers[0], &servers[1]].map(|server| server.address.port());
    let names = NameServer::start(&[
        (SERVICE, Data::srv(10, 30, a, "a.test")),
        (SERVICE, Data::srv(10, 10, b, "b.test")),
        ("a.test", HERE),
        ("b.test", HERE),
    ])
    .await;
    let world = over(&names, &format!("srv://{SERVICE}"), servers.into());
    world.until_eligible(2).await;
    assert_eq!(ids(&world).await, [format!("a.test:{a}"), format!("b.test:{b}")]);
    let spread = world.spread(8).await;
    assert_eq!(spread, [("s0".to_owned(), 6), ("s1".to_owned(), 2)].into());
    let pool = world.admin_json("/v1/pools/default").await;
    assert_eq!(pool["source"]["kind"], "srv");
    assert_eq!(pool["source"]["text"], format!("srv://{SERVICE}"));

    names.set(&[(SERVICE, Data::srv(10, 30, b, "b.test")), ("b.test", HERE)]);
    world.until_eligible(1).await;
    assert_eq!(ids(&world).await, [format!("b.test:{b}")]);
}

#[tokio::test]
async fn records_of_a_higher_priority_number_stand_by_for_those_of_the_lowest() {
    let servers = [server(0, any_port()), server(1, any_port())];
    let [main, spare] = [&servers[0], &servers[1]].map(|server| server.address.port());
    let names = NameServer::start(&[
        (SERVICE, Data::srv(20, 50, spare, "a-spare.test")),
        (SERVICE, Data::srv(10, 1, main, "main.test")),
        ("a-spare.test", HERE),
        ("main.test", HERE),
    ])
    .await;
    let mut world = over(&names, &format!("srv://{SERVICE}"), servers.into());
    let [main_id, spare_id] = [format!("main.test:{main}"), format!("a-spare.test:{spare}")];
    world.until("two backends", async || ids(&world).await.len() == 2).await;
    let are = async |world: &World, expected: [&str; 2]| {
        let (main, spare) = (world.backend(&main_id).await, world.backend(&spare_id).await);
        assert_eq!((&main["tier"], &spare["tier"]), (&0.into(), &1.into()));
        [&main["effective"], &spare["effective"]] == expected
    };
    world.until("the spare to stand by", async || are(&world, ["serving", "standby"]).await).await;
    assert_eq!(world.spread(6).await, common::even(&["s0"], 6));

    world.servers[0].take().unwrap().stop(Stop::Prompt).unwrap();
    assert_eq!(world.spread(6).await, common::even(&["s1"], 6));
    world.until("the spare to serve", async || are(&world, ["down", "serving"]).await).await;

    // With the main one gone from the records, too, nobody is above it any more.
    names.set(&[(SERVICE, Data::srv(20, 50, spare, "a-spare.test")), ("a-spare.test", HERE)]);
    world.until("one backend", async || ids(&world).await.len() == 1).await;
    assert_eq!(world.backend(&spare_id).await["tier"], 0);
}

#[tokio::test]
async fn a_name_server_in_trouble_keeps_the_backends_and_is_told() {
    let live = server(0, any_port());
    let port = live.address.port();
    let records = [(SERVICE, Data::srv(0, 0, port, "a.test")), ("a.test", HERE)];
    let names = NameServer::start(&records).await;
    let world = over(&names, &format!("srv://{SERVICE}"), vec![live]);
    world.until_eligible(1).await;
    let id = ids(&world).await;
    let told = async |expected: &str| {
        let is_told = async || {
            let pool = world.admin_json("/v1/pools/default").await;
            let error = pool["source"]["error"].as_str().unwrap_or("all is well");
            error.contains(expected)
        };
        world.until(expected, is_told).await;
        assert_eq!(ids(&world).await, id, "{expected}");
        assert_eq!(world.get("/").await, (200, "s0".to_owned()), "{expected}");
    };
    for (mood, expected) in [
        (Mood::Code(2), "Server Failure"),
        (Mood::Code(3), "knows no such name"),
        (Mood::Code(0), "no such records"),
        (Mood::Code(5), "Query Refused"),
        (Mood::Garbage, "cannot be had"),
        (Mood::Silent, "no answer from the name server"),
    ] {
        names.set_mood(mood);
        told(expected).await;
    }
    names.set_mood(Mood::Fine);
    told("all is well").await;
    // "Not available at this domain" (RFC 2782) is no reason to refuse requests that work.
    names.set(&[(SERVICE, Data::srv(0, 0, 0, ""))]);
    told("found no backends").await;
    // Neither is a target that is gone while its record is there still.
    names.set(&records[..1]);
    let before = names.asked_for_addresses();
    world.until("look-ups of the target", async || names.asked_for_addresses() > before + 2).await;
    assert_eq!(world.get("/").await, (200, "s0".to_owned()));
}

#[tokio::test]
async fn addresses_that_come_with_the_records_are_not_looked_up() {
    let live = server(0, any_port());
    let port = live.address.port();
    let records = [(SERVICE, Data::srv(0, 0, port, "a.test")), ("a.test", HERE)];
    let names = NameServer::start(&records).await;
    names.set_mood(Mood::Talkative);
    let world = over(&names, &format!("srv://{SERVICE}"), vec![live]);
    world.until_eligible(1).await;
    assert_eq!(names.asked_for_addresses(), 0);
}

#[tokio::test]
async fn answers_that_do_not_fit_into_a_datagram_come_by_tcp() {
    let targets: Vec<String> = (0..40).map(|number| format!("pod-{number}.web.test")).collect();
    let port = closed_port().port();
    let records: Vec<(&str, Data)> = targets
        .iter()
        .flat_map(|t| [(SERVICE, Data::srv(0, 0, port, t)), (t.as_str(), HERE)])
        .collect();
    let names = NameServer::start(&records).await;
    names.set_mood(Mood::Curt);
    let world = over(&names, &format!("srv://{SERVICE}"), vec![]);
    world.until("40 backends", async || ids(&world).await.len() == 40).await;
    assert!(names.asked_by_tcp() > 0);
}

#[tokio::test]
async fn the_name_servers_of_the_settings_are_asked_for_plain_names_too() {
    let live = server(0, any_port());
    let port = live.address.port();
    let names = NameServer::start(&[("web.test", HERE)]).await;
    for backends in [format!("dns://web.test:{port}"), format!("http://web.test:{port}")] {
        let world = over(&names, &backends, vec![]);
        world.until_eligible(1).await;
        assert_eq!(world.spread(2).await, common::even(&["s0"], 2));
    }
    drop(live);
}
