//! A real server on a port of its own.
// Each test file uses its part, and a helper that fails should panic as its test would.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::{net::SocketAddr, time::Duration};

use chassis::{
    net,
    shutdown::{self, Stop, StopPlan, Trigger},
};
use evenkeel_server::Settings;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};

/// Far longer than anything here takes, so that a test that hangs says where.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Running {
    pub address: SocketAddr,
    pub client: reqwest::Client,
    trigger: Trigger,
    task: JoinHandle<std::io::Result<()>>,
}

/// Starts a server named `one`.
pub fn start(change: impl FnOnce(&mut Settings)) -> Running {
    let mut settings = Settings { name: "one".to_owned(), ..Settings::default() };
    change(&mut settings);
    let listener = net::bind("SERVER_PORT", [127, 0, 0, 1].into(), 0).unwrap();
    let address = listener.local_addr().unwrap();
    let (trigger, shutdown) = shutdown::channel();
    let task = tokio::spawn(evenkeel_server::run(listener, settings, shutdown));
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    Running { address, client, trigger, task }
}

/// A plan whose quiet phase ends only when the test is long over.
pub fn long_stop() -> StopPlan {
    StopPlan { quiet: PATIENCE, max: PATIENCE }
}

/// A plan without a quiet phase.
pub fn short_stop() -> StopPlan {
    StopPlan { quiet: Duration::ZERO, max: Duration::ZERO }
}

impl Running {
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn get(&self, path: &str) -> reqwest::Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }

    pub async fn json(&self, path: &str) -> serde_json::Value {
        self.get(path).await.json().await.unwrap()
    }

    pub async fn put(&self, path: &str, body: &'static str) -> reqwest::Response {
        self.client.put(self.url(path)).body(body).send().await.unwrap()
    }

    /// The value of a metric with its labels; 0 where the series is not there yet.
    pub async fn metric(&self, series: &str) -> f64 {
        let text = self.get("/metrics").await.text().await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{series} ")));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Asks again until a metric has a value.
    pub async fn metric_becomes(&self, series: &str, value: f64) {
        let wait = async {
            while self.metric(series).await != value {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{series}"));
    }

    pub fn stop(&self, stop: Stop) {
        self.trigger.stop(stop);
    }

    /// Waits for the end of a stop.
    pub async fn stopped(self) {
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
    }

    /// Sends bytes on a connection of their own, and gives what comes back until it is closed.
    pub async fn raw(&self, request: &str) -> (Vec<u8>, std::io::Result<()>) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
        (answer, read.map(drop))
    }
}

/// Checks that an answer is a problem document with this status and gives its sentence.
pub async fn problem(response: reqwest::Response, status: u16) -> String {
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: serde_json::Value = response.json().await.unwrap();
    assert_eq!(problem["status"], status);
    problem["detail"].as_str().unwrap().to_owned()
}
