//! A proxy of ours in this process.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // Each test file uses a part; a failing helper panics.

use std::{
    net::{SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use chassis::shutdown::Stop;
use evenkeel_conformance::client;
use proxy::settings::Settings;
use stack::{Service, start_proxy};

/// Longer than anything that a test waits for takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Proxy {
    service: Service,
    pub admin: SocketAddr,
}

impl Proxy {
    /// Starts a proxy over these backends, which count as up without probes.
    pub fn over(backends: &[SocketAddr], variables: &[(&str, &str)]) -> Self {
        let urls: Vec<String> =
            backends.iter().map(|address| format!("http://{address}")).collect();
        let urls = urls.join(",");
        let mut all = vec![
            ("PROXY_BACKENDS", urls.as_str()),
            ("PROXY_PROBE", "off"),
            ("PROXY_STOP_QUIET", "100ms"),
            ("PROXY_LOG", "warn"),
        ];
        all.extend(variables);
        let listeners = proxy::Listeners { traffic: any_port(), admin: any_port() };
        let admin = listeners.admin.local_addr().unwrap();
        let service = start_proxy(listeners, Settings::from_variables(&all)).unwrap();
        let proxy = Self { service, admin };
        let line = format!("evenkeel_backend_up{{pool=\"default\",backend=\"{}\"}} 1", backends[0]);
        wait_for("the proxy to be ready", || proxy.metrics().contains(&line));
        proxy
    }

    pub fn address(&self) -> SocketAddr {
        self.service.address
    }

    /// What Prometheus would get.
    pub fn metrics(&self) -> String {
        let request = b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let got = client::exchange(self.admin, request, PATIENCE).unwrap();
        let (answers, _) = got.answers("GET");
        String::from_utf8(answers[0].body.clone()).unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.service.ask_to_stop(Stop::Prompt);
    }
}

fn any_port() -> TcpListener {
    chassis::net::bind("TEST_PORT", [127, 0, 0, 1].into(), 0).unwrap()
}

/// Waits for a condition.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
