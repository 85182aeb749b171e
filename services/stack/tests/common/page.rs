//! A dashboard over the proxies of several worlds.

use std::collections::BTreeMap;

use chassis::{settings::load, shutdown::Stop};
use evenkeel_stack::{Service, start_dashboard};
use serde_json::Value;

use super::{PATIENCE, World, any_port};

/// A dashboard over proxies.
pub struct Page {
    service: Service,
    client: reqwest::Client,
}

impl Page {
    /// Starts one, and waits until it has seen all of them.
    pub async fn over(worlds: &[&World]) -> Self {
        Self::with(worlds, &[]).await
    }

    /// The same with more settings.
    pub async fn with(worlds: &[&World], more: &[(&'static str, &str)]) -> Self {
        let admin: Vec<String> = worlds.iter().map(|world| world.admin_url("")).collect();
        let mut variables = BTreeMap::from([
            ("LOAD_BALANCER_URL", worlds[0].url("")),
            ("LOAD_BALANCER_ADMIN_URL", admin.join(",")),
            ("DASHBOARD_INTERVAL", "50ms".to_owned()),
        ]);
        variables.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value));
        let settings = load(["evenkeel-dashboard".into()], variables).unwrap().settings;
        let service = start_dashboard(any_port(), settings).unwrap();
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let page = Self { service, client };
        page.until("/api/state", |state| {
            let state: Value = serde_json::from_str(state).unwrap();
            let proxies = state["proxies"].as_array().unwrap();
            proxies.iter().filter(|proxy| proxy["answering"] == true).count() == worlds.len()
        })
        .await;
        page
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.service.address)
    }

    /// Reads `path` until it fits.
    pub async fn until(&self, path: &str, fits: impl Fn(&str) -> bool) -> String {
        let mut text = String::new();
        let wait = async {
            loop {
                text = self.client.get(self.url(path)).send().await.unwrap().text().await.unwrap();
                if fits(&text) {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, wait).await;
        assert!(found.is_ok(), "it never fitted: {text}");
        text
    }

    /// Sends a form as the page itself does, and gives the status and the answer.
    pub async fn post(&self, path: &str, form: &str) -> (u16, String) {
        let request = self
            .client
            .post(self.url(path))
            .header("origin", self.url(""))
            .header("accept", "application/json")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.to_owned());
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.service.ask_to_stop(Stop::Prompt);
    }
}
