//! Fewest requests first: traefik/traefik#1416 and #4380, cloudflare/pingora#144, apache/apisix#3086.

use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::common::World;

/// A request that is under way until it is dropped.
async fn hold(world: &World, under_way: u64) -> TcpStream {
    let mut stream = TcpStream::connect(world.proxy.address).await.unwrap();
    stream.write_all(b"GET /delay/60s HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    world
        .until("the request to be under way", async || {
            in_flight(world).await.iter().sum::<u64>() == under_way
        })
        .await;
    stream
}

async fn in_flight(world: &World) -> Vec<u64> {
    let mut counts = Vec::new();
    for index in 0..world.servers.len() {
        counts.push(world.backend(&world.id(index)).await["in_flight"].as_u64().unwrap());
    }
    counts
}

#[tokio::test]
async fn a_server_that_has_fewer_requests_gets_the_next_ones_whoever_sends_them() {
    let variables = [("PROXY_POLICY", "leastconn"), ("PROXY_WORKERS", "2")];
    let world = World::start(2, &variables).await;
    let mut held = Vec::new();
    for under_way in 1..=6 {
        let before = in_flight(&world).await;
        let stream = hold(&world, under_way).await;
        let after = in_flight(&world).await;
        let got = (0..2).find(|index| after[*index] > before[*index]).unwrap();
        held.push((got, stream));
    }
    assert_eq!(in_flight(&world).await, [3, 3], "equals take turns");
    held.retain(|(server, _)| *server == 0);
    world.until("one server to be idle", async || in_flight(&world).await == [3, 0]).await;
    for under_way in 4..=6 {
        held.push((1, hold(&world, under_way).await));
    }
    assert_eq!(in_flight(&world).await, [3, 3], "all three went to the idle one");
}
