//! The `evenkeel` binary: what `cargo run` starts.

use std::{io, process::ExitCode, time::Duration};

use chassis::{command, settings::Settings as _, shutdown};
use evenkeel_stack::{Stack, settings::Settings};

/// How often to look whether a service has ended by itself.
const LOOK_EVERY: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    match command::settings::<Settings>() {
        Ok(settings) => command::finish(Settings::PROGRAM, run(settings)),
        Err(code) => code,
    }
}

fn run(settings: Settings) -> io::Result<()> {
    let (trigger, shutdown) = shutdown::channel();
    trigger.on_signals_in_background()?;
    let stack = Stack::start(settings)?;
    greet(&stack);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let stop = runtime.block_on(async {
        tokio::select! {
            stop = shutdown.requested() => stop,
            () = one_ended(&stack) => shutdown::Stop::Prompt,
        }
    });
    stack.stop(stop)
}

async fn one_ended(stack: &Stack) {
    while !stack.has_ended() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[allow(clippy::print_stdout)] // What the person at the terminal came for.
fn greet(stack: &Stack) {
    let servers: Vec<String> = stack
        .servers
        .iter()
        .map(|server| format!("http://localhost:{}", server.address.port()))
        .collect();
    println!("Evenkeel {} is running; Ctrl-C stops it.", env!("CARGO_PKG_VERSION"));
    println!("  proxy      http://localhost:{}", stack.proxy.address.port());
    println!("  dashboard  http://localhost:{}", stack.dashboard.address.port());
    println!("  servers    {}", servers.join("  "));
    println!("  admin API  http://localhost:{}/v1/pools", stack.admin.port());
}
