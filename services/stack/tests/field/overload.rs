//! More than the backends can take: what is over must not slow down what is not, nor outlast it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::AsyncWriteExt,
    net::TcpListener,
    sync::{Mutex, Semaphore},
    task::JoinSet,
};

use crate::common::{PATIENCE, World, raw::read_head};

/// A backend that answers a request only when it is let.
struct Gated {
    address: SocketAddr,
    gate: Arc<Semaphore>,
    /// The paths of the requests that have arrived, in order.
    arrived: Arc<Mutex<Vec<String>>>,
}

impl Gated {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (gate, arrived) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (let_in, seen) = (Arc::clone(&gate), Arc::clone(&arrived));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (let_in, seen) = (Arc::clone(&let_in), Arc::clone(&seen));
                tokio::spawn(async move {
                    loop {
                        let head = read_head(&mut stream).await;
                        let Some(path) = head.split(' ').nth(1) else { return };
                        seen.lock().await.push(path.to_owned());
                        let_in.acquire().await.unwrap().forget();
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                        if stream.write_all(answer).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, gate, arrived }
    }

    async fn world(&self, variables: &[(&str, &str)]) -> World {
        let mut all = vec![("PROXY_PROBE", "off"), ("PROXY_QUEUE_TIMEOUT", "1h")];
        all.retain(|(name, _)| !variables.iter().any(|(other, _)| other == name));
        all.extend(variables);
        let world = World::over(&format!("http://{}", self.address), &all, vec![]);
        world.until_eligible(1).await;
        world
    }

    async fn until_arrived(&self, world: &World, count: usize) {
        world.until("requests to arrive", async || self.arrived.lock().await.len() == count).await;
    }
}

async fn until_waiting(world: &World, count: usize) {
    let waiting = async || world.admin_json("/v1/pools/default").await["counts"]["waiting"].clone();
    world.until("requests to wait", async || waiting().await == count).await;
}

/// Sends requests, each once the one before has its place.
async fn send_in_order(world: &World, paths: std::ops::Range<usize>) -> JoinSet<u16> {
    let mut requests = JoinSet::new();
    for (waiting, number) in (1..).zip(paths) {
        let request = world.client.get(world.url(&format!("/{number}"))).send();
        requests.spawn(async move { request.await.unwrap().status().as_u16() });
        until_waiting(world, waiting).await;
    }
    requests
}

#[tokio::test]
async fn at_ten_times_the_capacity_each_slot_is_busy_and_the_excess_is_refused_at_once() {
    let backend = Gated::start().await;
    let variables = [("PROXY_MAX_IN_FLIGHT", "4"), ("PROXY_QUEUE_MAX", "4")];
    let world = backend.world(&variables).await;
    let mut requests = JoinSet::new();
    for _ in 0..40 {
        let request = world.client.get(world.url("/")).send();
        requests.spawn(async move { request.await.unwrap() });
    }
    // The backend lets none through: what is answered now was refused without waiting for it.
    for _ in 0..32 {
        let answer = requests.join_next().await.unwrap().unwrap();
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()["retry-after"], "1");
        let why = answer.headers()["proxy-status"].to_str().unwrap();
        assert!(why.contains("details=\"queue_full\""), "{why}");
    }
    backend.until_arrived(&world, 4).await;
    until_waiting(&world, 4).await;
    assert_eq!(world.backend(&backend.address.to_string()).await["in_flight"], 4);
    backend.gate.add_permits(40);
    while let Some(answer) = requests.join_next().await {
        assert_eq!(answer.unwrap().status(), 200, "what got a place is served");
    }
    let again = world.client.get(world.url("/")).send().await.unwrap();
    assert_eq!(again.status(), 200, "nothing of it is left");
    assert_eq!(backend.arrived.lock().await.len(), 9, "the backend never saw the excess");
    assert_eq!(world.metric("evenkeel_queue_duration_seconds_count").await, 4.0);
    assert_eq!(world.metric("evenkeel_queue_length").await, 0.0);
}

#[tokio::test]
async fn those_who_wait_are_served_in_order_and_one_who_leaves_costs_nobody_a_place() {
    let backend = Gated::start().await;
    let world = backend.world(&[("PROXY_MAX_IN_FLIGHT", "1"), ("PROXY_WORKERS", "2")]).await;
    let first = world.client.get(world.url("/first")).send();
    let first = tokio::spawn(async move { first.await.unwrap().status().as_u16() });
    backend.until_arrived(&world, 1).await;
    let mut leaving = send_in_order(&world, 0..1).await;
    let staying = world.client.get(world.url("/stays")).send();
    let staying = tokio::spawn(async move { staying.await.unwrap().status().as_u16() });
    until_waiting(&world, 2).await;
    leaving.abort_all();
    while leaving.join_next().await.is_some() {}
    until_waiting(&world, 1).await;
    let last = world.client.get(world.url("/last")).send();
    let last = tokio::spawn(async move { last.await.unwrap().status().as_u16() });
    until_waiting(&world, 2).await;
    for request in [first, staying, last] {
        backend.gate.add_permits(1);
        assert_eq!(request.await.unwrap(), 200);
    }
    assert_eq!(*backend.arrived.lock().await, ["/first", "/stays", "/last"]);
}

#[tokio::test]
async fn one_who_waits_in_vain_gets_a_503_in_time_and_a_larger_limit_lets_the_next_in() {
    let backend = Gated::start().await;
    let variables = [("PROXY_MAX_IN_FLIGHT", "1"), ("PROXY_QUEUE_TIMEOUT", "200ms")];
    let world = backend.world(&variables).await;
    let first = world.client.get(world.url("/first")).send();
    let first = tokio::spawn(async move { first.await.unwrap().status().as_u16() });
    backend.until_arrived(&world, 1).await;
    let second = world.client.get(world.url("/second")).timeout(PATIENCE).send().await.unwrap();
    assert_eq!(second.status(), 503);
    let why = second.headers()["proxy-status"].to_str().unwrap();
    assert!(why.contains("queue_timeout"), "{why}");
    let id = backend.address.to_string();
    let (status, answer) = world.patch(&id, serde_json::json!({"max_in_flight": 2})).await;
    assert_eq!((status, &answer["max_in_flight"]), (200, &2.into()));
    backend.gate.add_permits(2);
    let third = world.client.get(world.url("/third")).timeout(Duration::from_secs(20)).send();
    assert_eq!(third.await.unwrap().status(), 200);
    assert_eq!(first.await.unwrap(), 200);
}
