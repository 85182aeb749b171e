//! Who may change what, and what they are told.

#[path = "../support/mod.rs"]
mod support;

mod failed;
mod rights;
mod unseen;
mod without_script;

use support::{Dashboard, FakeAdmin, backend, pools};

const JSON: (&str, &str) = ("accept", "application/json");
const FORM: [(&str, &str); 2] = [("state", "drain"), ("reason", "update")];
const PATH: &str = "/backends/default/a:1";

async fn started(settings: &[(&str, &str)]) -> (FakeAdmin, Dashboard) {
    let admin = FakeAdmin::start(pools(&[backend("a:1"), backend("b:2")]));
    let dashboard = Dashboard::start(&admin.url(), settings).ready().await;
    (admin, dashboard)
}
