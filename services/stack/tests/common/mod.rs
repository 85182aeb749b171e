//! Three lines to a running proxy with servers behind it, on ports that the system chooses.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // Each test file uses a part; a failing helper panics.

pub mod api_server;
pub mod bootstrap;
pub mod contract;
pub mod frames;
pub mod http2;
pub mod name_server;
pub mod page;
pub mod raw;

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

pub use chassis::net::closed_port;
use chassis::shutdown::Stop;
use evenkeel_stack::{Service, start_proxy, start_server};
use proxy::settings::Settings as ProxySettings;
use serde_json::Value;
use tokio::sync::OnceCell;

use contract::Contract;

/// Longer than anything that a test waits for takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct World {
    pub servers: Vec<Option<Service>>,
    pub proxy: Service,
    pub admin: SocketAddr,
    pub client: reqwest::Client,
    contract: OnceCell<Contract>,
}

/// An answer of the admin API that was held against the document.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The sentence of a problem.
    pub fn detail(&self) -> &str {
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.body["status"], self.status);
        self.body["detail"].as_str().unwrap()
    }
}

impl World {
    /// Starts `servers` servers named s0, s1 … and a proxy over them, and waits until all are up.
    pub async fn start(servers: usize, variables: &[(&str, &str)]) -> Self {
        let servers: Vec<Service> = (0..servers).map(|index| server(index, kept_port())).collect();
        let urls: Vec<String> =
            servers.iter().map(|server| format!("http://{}", server.address)).collect();
        let world = Self::over(&urls.join(","), variables, servers);
        world.until_eligible(world.servers.len()).await;
        world
    }

    /// Starts a proxy over any backends, and waits for nothing.
    pub fn over(backends: &str, variables: &[(&str, &str)], servers: Vec<Service>) -> Self {
        // A process is known by its name and when it started, to the millisecond.
        static WORLDS: AtomicUsize = AtomicUsize::new(1);
        let name = format!("proxy-{}", WORLDS.fetch_add(1, Ordering::Relaxed));
        let mut all = vec![
            ("PROXY_NAME", name.as_str()),
            ("PROXY_BACKENDS", backends),
            ("PROXY_STOP_QUIET", "300ms"),
            ("PROXY_PROBE_INTERVAL", "500ms"),
            ("PROXY_LOG", "warn"),
        ];
        all.retain(|(name, _)| !variables.iter().any(|(other, _)| other == name));
        all.extend(variables);
        let listeners = proxy::Listeners { traffic: any_port(), admin: any_port() };
        let admin = listeners.admin.local_addr().unwrap();
        let proxy = start_proxy(listeners, ProxySettings::from_variables(&all)).unwrap();
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let servers = servers.into_iter().map(Some).collect();
        Self { servers, proxy, admin, client, contract: OnceCell::new() }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.proxy.address)
    }

    pub fn admin_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.admin)
    }

    /// The id of the backend that server `index` is.
    pub fn id(&self, index: usize) -> String {
        self.servers[index].as_ref().unwrap().address.to_string()
    }

    /// Asks for `path` and tells who answered, with the status.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let answer = self.client.get(self.url(path)).send().await.unwrap();
        (answer.status().as_u16(), served_by(&answer))
    }

    /// Sends `count` requests one after the other and counts who answered.
    pub async fn spread(&self, count: usize) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for _ in 0..count {
            let (status, server) = self.get("/").await;
            assert_eq!(status, 200);
            *counts.entry(server).or_default() += 1;
        }
        counts
    }

    /// Asks the admin API, and holds its answer against its own document.
    pub async fn ask(&self, request: reqwest::RequestBuilder) -> Answer {
        let request = request.build().unwrap();
        let (method, path) = (request.method().to_string(), request.url().path().to_owned());
        let answer = self.client.execute(request).await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let kind = headers.get("content-type").map_or("", |kind| kind.to_str().unwrap()).to_owned();
        let body = answer.bytes().await.unwrap();
        self.contract().await.check(&method, &path, status, &kind, &body);
        Answer { status, headers, body: serde_json::from_slice(&body).unwrap_or_default() }
    }

    async fn contract(&self) -> &Contract {
        let load = async || {
            let answer = self.client.get(self.admin_url("/v1/openapi.json"));
            // Whichever token a test has set: the document is the same for all of them.
            let answer = answer.bearer_auth("correct-horse").send().await.unwrap();
            Contract::new(answer.json().await.unwrap())
        };
        self.contract.get_or_init(load).await
    }

    pub async fn admin_json(&self, path: &str) -> Value {
        self.ask(self.client.get(self.admin_url(path))).await.body
    }

    pub async fn backend(&self, id: &str) -> Value {
        self.admin_json(&format!("/v1/pools/default/backends/{id}")).await
    }

    /// The address of a backend in the admin API.
    pub fn backend_url(&self, id: &str) -> String {
        self.admin_url(&format!("/v1/pools/default/backends/{id}"))
    }

    /// Changes a backend and gives the status and the answer.
    pub async fn patch(&self, id: &str, change: Value) -> (u16, Value) {
        let answer = self.ask(self.client.patch(self.backend_url(id)).json(&change)).await;
        (answer.status, answer.body)
    }

    pub async fn until_eligible(&self, count: usize) {
        self.until("eligible backends", async || {
            self.admin_json("/v1/pools/default").await["counts"]["eligible"] == count
        })
        .await;
    }

    /// Waits for a condition.
    pub async fn until(&self, what: &str, condition: impl AsyncFnMut() -> bool) {
        if !wait_for(condition).await {
            let state = self.admin_json("/v1/pools").await;
            panic!("waited in vain for {what}: {state:#}");
        }
    }

    /// Waits for a condition when the proxy may be gone.
    pub async fn until_without_admin(&self, what: &str, condition: impl AsyncFnMut() -> bool) {
        assert!(wait_for(condition).await, "waited in vain for {what}");
    }

    /// Has the proxy's only worker (`PROXY_WORKERS=1`) do what it can, and this test: it answers something
    /// by itself.
    pub async fn turn(&self) {
        let ask = self.client.request(reqwest::Method::OPTIONS, self.url("/"));
        let answer = ask.header("max-forwards", "0").send().await.unwrap();
        assert_eq!(answer.status(), 204);
    }

    /// What `look` finds once nothing moves: once it has been the same for some turns, however slow
    /// those are. More of them would have to fall between two of the kernel's own attempts to move
    /// something on.
    pub async fn settled<T: PartialEq>(&self, mut look: impl AsyncFnMut() -> T) -> T {
        const TURNS: usize = 10;
        let wait = async {
            let (mut last, mut unchanged) = (look().await, 0);
            while unchanged < TURNS {
                self.turn().await;
                let now = look().await;
                unchanged = if now == last { unchanged + 1 } else { 0 };
                last = now;
            }
            last
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("it goes on and on")
    }

    pub async fn metric(&self, series: &str) -> f64 {
        let text = self.client.get(self.admin_url("/metrics")).send().await.unwrap();
        let text = text.text().await.unwrap();
        let line = text.lines().find(|line| line.starts_with(series));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let services = self.servers.iter().flatten().chain([&self.proxy]);
        services.for_each(|service| service.ask_to_stop(Stop::Prompt));
    }
}

pub async fn wait_for(mut condition: impl AsyncFnMut() -> bool) -> bool {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.is_ok()
}

pub fn any_port() -> TcpListener {
    chassis::net::bind("TEST_PORT", [127, 0, 0, 1].into(), 0).unwrap()
}

/// Listens on a port that nobody else is given while the test does not, such as once it killed what
/// listened.
pub fn kept_port() -> TcpListener {
    listen_on(closed_port())
}

/// Listens on a port that is kept, for the first time or again.
pub fn listen_on(address: SocketAddr) -> TcpListener {
    chassis::net::bind("TEST_PORT", address.ip(), address.port()).unwrap()
}

pub fn server(index: usize, listener: TcpListener) -> Service {
    let settings =
        server::Settings { name: format!("s{index}"), faults: true, ..server::Settings::default() };
    start_server(listener, settings).unwrap()
}

pub fn served_by(answer: &reqwest::Response) -> String {
    let value = answer.headers().get("x-served-by").and_then(|value| value.to_str().ok());
    value.unwrap_or("nobody").to_owned()
}

pub fn even(names: &[&str], count: usize) -> BTreeMap<String, usize> {
    names.iter().map(|name| ((*name).to_owned(), count)).collect()
}
