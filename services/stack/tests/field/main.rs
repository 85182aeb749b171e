//! What users of other proxies have complained about for years, replayed over real sockets. Each
//! file is named after the complaint that it answers.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

#[path = "../common/mod.rs"]
mod common;

mod b02_drain;
mod b04_stale_keep_alive;
mod b08_least_requests;
mod b17_retry_storms;
mod b18_unsafe_retries;
mod overload;
