//! A real dashboard, and a client that reads its page and its feed.

use std::{net::SocketAddr, time::Instant};

use chassis::{
    settings::load,
    shutdown::{self, Stop, Trigger},
};
use evenkeel_dashboard::Settings;
use http::HeaderMap;
use serde_json::Value;

use super::*;

pub struct Dashboard {
    pub address: SocketAddr,
    pub client: reqwest::Client,
    pub trigger: Trigger,
    pub task: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Dashboard {
    /// A dashboard that asks `admin` every 50 ms, with more settings.
    pub fn start(admin: &str, more: &[(&str, &str)]) -> Self {
        let mut env = vec![
            ("LOAD_BALANCER_ADMIN_URL", admin),
            ("DASHBOARD_INTERVAL", "50ms"),
            ("DASHBOARD_STOP_QUIET", "50ms"),
        ];
        env.extend_from_slice(more);
        let env = env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings = load::<Settings>(["evenkeel-dashboard".into()], env).unwrap().settings;
        let listener = bind(0);
        let address = listener.local_addr().unwrap();
        let (trigger, shutdown) = shutdown::channel();
        let task = tokio::spawn(evenkeel_dashboard::run(listener, settings, shutdown));
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self { address, client, trigger, task }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn get(&self, path: &str) -> reqwest::Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }

    pub async fn text(&self, path: &str) -> String {
        self.get(path).await.text().await.unwrap()
    }

    /// Reads `path` until it fits; panics with the last text.
    pub async fn text_with(&self, path: &str, fits: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let text = self.text(path).await;
            if fits(&text) {
                return text;
            }
            assert!(Instant::now() < end, "it never fitted: {text}");
            tokio::task::yield_now().await;
        }
    }

    /// The page once it has seen the proxy.
    pub async fn ready(self) -> Self {
        self.text_with("/api/state", |text| text.contains("\"answering\":true")).await;
        self
    }

    /// A form as a browser sends it from the page itself, changed by `more` headers.
    pub async fn post(
        &self,
        path: &str,
        form: &[(&str, &str)],
        more: &[(&'static str, &str)],
    ) -> reqwest::Response {
        let mut headers = HeaderMap::new();
        let origin = format!("http://{}", self.address);
        headers.insert("origin", origin.parse().unwrap());
        headers.insert("content-type", "application/x-www-form-urlencoded".parse().unwrap());
        for (name, value) in more {
            if value.is_empty() {
                headers.remove(*name);
            } else {
                headers.insert(*name, value.parse().unwrap());
            }
        }
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        self.client.post(self.url(path)).headers(headers).body(body).send().await.unwrap()
    }

    /// The page of a saved hour.
    pub async fn open(&self, file: &str) -> String {
        let part = "content-disposition: form-data; name=\"file\"";
        let answer = self
            .client
            .post(self.url("/open"))
            .header("origin", self.url(""))
            .header("content-type", "multipart/form-data; boundary=x")
            .body(format!("--x\r\n{part}\r\n\r\n{file}\r\n--x--\r\n"))
            .send()
            .await
            .unwrap();
        let status = answer.status();
        let page = answer.text().await.unwrap();
        assert_eq!(status, 200, "{page}");
        page
    }

    pub async fn live(&self) -> Live {
        let response = self.get("/live").await;
        assert_eq!(response.status(), 200);
        Live { response, buffer: String::new() }
    }

    pub fn stop(&self) {
        self.trigger.stop(Stop::Graceful);
    }
}

/// A live connection.
pub struct Live {
    response: reqwest::Response,
    buffer: String,
}

impl Live {
    /// The next patch; nothing at the end of the feed.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((event, rest)) = self.buffer.split_once("\n\n") {
                let data = event.lines().find_map(|line| line.strip_prefix("data: "));
                let patch = data.map(|data| serde_json::from_str(data).unwrap());
                self.buffer = rest.to_owned();
                if patch.is_some() {
                    return patch;
                }
                continue;
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk());
            let chunk = chunk.await.expect("the feed is silent").unwrap()?;
            self.buffer.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The first patch from now on that contains `text`.
    pub async fn until(&mut self, text: &str) -> Value {
        loop {
            let patch = self.next().await.expect("the feed ended");
            if patch.to_string().contains(text) {
                return patch;
            }
        }
    }
}
