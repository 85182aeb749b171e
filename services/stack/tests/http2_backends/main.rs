//! Backends of HTTP/2 (h2c).
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

#[path = "../common/mod.rs"]
mod common;

mod echo;
mod peer;

mod alone;
mod answers;
mod fields;
mod refusals;
mod requests;
mod sharing;
mod small_frames;
mod streams;
mod uploads;

use std::net::SocketAddr;

use common::World;

// Errors of RFC 9113 §7.
const PROTOCOL_ERROR: u32 = 1;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;

/// A proxy over these backends.
async fn over(backends: &[SocketAddr], variables: &[(&str, &str)]) -> World {
    let list: Vec<_> = backends.iter().map(|backend| format!("http://{backend}")).collect();
    let mut all = vec![("PROXY_BACKEND_PROTOCOL", "h2c"), ("PROXY_WORKERS", "1")];
    all.extend(variables);
    let world = World::over(&list.join(","), &all, vec![]);
    world.until_eligible(backends.len()).await;
    world
}
