//! Several proxies: one picture, and one change for all.

#[path = "../support/mod.rs"]
mod support;

mod carried;
mod changes;
mod events;
mod picture;

use serde_json::{Value, json};
use support::{Dashboard, FakeAdmin, pools};

const JSON: (&str, &str) = ("accept", "application/json");

/// A proxy of a name with these backends.
fn proxy(name: &str, backends: &[Value]) -> FakeAdmin {
    let mut answer = pools(backends);
    answer["proxy"]["name"] = json!(name);
    FakeAdmin::start(answer)
}

fn dashboard(proxies: &[&FakeAdmin]) -> Dashboard {
    let urls: Vec<String> = proxies.iter().map(|proxy| proxy.url()).collect();
    Dashboard::start(&urls.join(","), &[])
}
