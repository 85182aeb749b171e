//! A client of HTTP/2, frame by frame.
#![no_main]

use std::sync::OnceLock;

use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
};

libfuzzer_sys::fuzz_target!(init: ignore_broken_pipes(), |data: &[u8]| proxy::fuzzing::frames(data));

/// Rust's start-up has a process ignore SIGPIPE, which libFuzzer's, in whose place it is here, does not:
/// writing to a socket whose other side has gone would end the process.
fn ignore_broken_pipes() {
    static HEARS: OnceLock<Runtime> = OnceLock::new();
    let runtime = HEARS.get_or_init(|| Builder::new_current_thread().enable_io().build().unwrap());
    let _entered = runtime.enter();
    // Once there is a handler, it stays.
    drop(signal(SignalKind::pipe()).unwrap());
}
