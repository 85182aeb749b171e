//! What users of other proxies have complained about for years, replayed over real sockets. Each
//! file is named after the complaint that it answers.
#![allow(clippy::unwrap_used, unreachable_pub)] // A failing helper panics at its line.

#[path = "../common/mod.rs"]
mod common;

mod load;
mod names;

mod b01_stale_dns;
mod b02_drain;
mod b03_rolling_updates;
mod b04_stale_keep_alive;
mod b06_slow_start;
mod b07_starvation;
mod b08_least_requests;
mod b10_lost_state;
mod b16_uneven_round_robin;
mod b17_retry_storms;
mod b18_unsafe_retries;
mod b25_blips;
mod overload;
