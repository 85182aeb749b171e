//! For targets that have sockets.

use std::sync::OnceLock;

use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
};

/// Rust's start-up has a process ignore SIGPIPE, which libFuzzer's, in whose place it is here, does not:
/// writing to a socket whose other side has gone would end the process.
pub fn ignore_broken_pipes() {
    static HEARS: OnceLock<Runtime> = OnceLock::new();
    let runtime = HEARS.get_or_init(|| Builder::new_current_thread().enable_io().build().unwrap());
    let _entered = runtime.enter();
    // Once there is a handler, it stays.
    drop(signal(SignalKind::pipe()).unwrap());
}
