//! A moment of trouble with DNS or health that takes the whole pool away, or lets in who was not
//! asked: envoyproxy/envoy#9927, #12076 and #28304, apache/apisix#13903, haproxy/haproxy#345 and #51,
//! istio/istio#20135.

use http::StatusCode;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    common::{
        World, even,
        name_server::{Mood, NameServer},
        raw::read_head,
        server,
    },
    load::Load,
    names::{self, at, ids},
};

#[tokio::test]
async fn a_name_server_in_trouble_costs_no_request_and_no_backend() {
    let first = at(25, 2, 0);
    let port = first.local_addr().unwrap().port();
    let servers = [server(0, first), server(1, at(25, 3, port)), server(2, at(25, 4, port))];
    let records = names::web(25, &[2, 3, 4]);
    let names = NameServer::start(&records).await;
    let world = names::world(&names, &format!("dns://web.test:{port}"), &[]);
    world.until_eligible(3).await;
    let who = async || {
        let mut all = Vec::new();
        for id in ids(&world).await {
            let backend = world.backend(&id).await;
            all.push((id, backend["generation"].clone(), backend["health_since"].clone()));
        }
        all
    };
    let before = who().await;
    let told = async |expected: &str| {
        let is_told = async || {
            let pool = world.admin_json("/v1/pools/default").await;
            pool["source"]["error"].as_str().unwrap_or("all is well").contains(expected)
        };
        world.until(expected, is_told).await;
        assert_eq!(who().await, before);
    };
    let load = Load::of_gets_and_posts(&world);
    for (code, expected) in
        [(2, "Server Failure"), (3, "knows no such name"), (0, "no such records")]
    {
        names.set_mood(Mood::Code(code));
        told(expected).await;
        load.more(&world, 20).await;
    }
    names.set_mood(Mood::Fine);
    told("all is well").await;
    load.more(&world, 20).await;
    assert_eq!(load.end().await.servers(), ["s0", "s1", "s2"]);
    assert_eq!(world.spread(30).await, even(&["s0", "s1", "s2"], 10));
    drop(servers);
}

#[tokio::test]
async fn one_that_dns_forgets_and_remembers_gets_nothing_before_it_has_passed_a_probe() {
    let first = at(25, 5, 0);
    let port = first.local_addr().unwrap().port();
    let good = server(0, first);
    let names = NameServer::start(&names::web(25, &[5, 6])).await;
    let second = server(1, at(25, 6, port));
    let world = names::world(&names, &format!("dns://web.test:{port}"), &[("PROXY_PROBE", "http")]);
    world.until_eligible(2).await;
    names.set(&names::web(25, &[5]));
    world.until("it to be forgotten", async || ids(&world).await.len() == 1).await;
    tokio::task::spawn_blocking(move || second.kill()).await.unwrap().unwrap();
    // What comes back takes connections and is not ready.
    let unready = tokio::net::TcpListener::from_std(at(25, 6, port)).unwrap();
    let (asked, mut questions) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = unready.accept().await {
            let _ = asked.send(read_head(&mut stream).await);
            let answer =
                b"HTTP/1.1 503 Not Ready\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = stream.write_all(answer).await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    });
    let load = Load::of_gets_and_posts(&world);
    names.set(&names::web(25, &[5, 6]));
    let id = format!("127.0.25.6:{port}");
    world.until("it to be found again", async || ids(&world).await.contains(&id)).await;
    world.until("it to be down", async || world.backend(&id).await["health"] == "down").await;
    load.more(&world, 20).await;
    assert_eq!(load.end().await.servers(), ["s0"]);
    let mut probes = 0;
    while let Ok(head) = questions.try_recv() {
        assert!(head.starts_with("GET /readyz "), "{head}");
        probes += 1;
    }
    assert!(probes > 0);
    drop(good);
}

#[tokio::test]
async fn when_all_fail_for_a_moment_at_least_half_of_them_stay_and_all_are_back_by_themselves() {
    const SERVERS: usize = 4;
    let world = World::start(SERVERS, &[("PROXY_EJECT_TIME", "300ms")]).await;
    let fail = async |share: &str| {
        for index in 0..SERVERS {
            let url = format!("http://{}/admin/faults", world.id(index));
            let request = world.client.put(url).json(&json!({"error_share": share}));
            assert_eq!(request.send().await.unwrap().status(), 200);
        }
    };
    let eligible = async || {
        world.admin_json("/v1/pools/default").await["counts"]["eligible"].as_u64().unwrap()
    };
    fail("100%").await;
    let withheld = async || {
        let text = world.client.get(world.admin_url("/metrics")).send().await.unwrap();
        let text = text.text().await.unwrap();
        let lines = text.lines().filter(|line| line.starts_with("evenkeel_ejections_withheld"));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>()
    };
    let is_capped = async || {
        for _ in 0..20 {
            let answer = world.client.get(world.url("/")).send().await.unwrap();
            // The servers' own answers: somebody is asked all the time.
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert!(answer.headers().contains_key("x-served-by"), "{answer:?}");
        }
        assert!(eligible().await >= SERVERS as u64 / 2);
        withheld().await > 0.0
    };
    world.until("failures for which nobody else goes", is_capped).await;
    fail("0%").await;
    world.until_eligible(SERVERS).await;
    assert_eq!(world.spread(20).await, even(&["s0", "s1", "s2", "s3"], 5));
}
