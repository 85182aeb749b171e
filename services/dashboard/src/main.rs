//! The binary: settings, the port, signals, and then [`evenkeel_dashboard::run`].

use std::process::ExitCode;

use chassis::{command, net, shutdown};
use evenkeel_dashboard::Settings;

#[tokio::main]
async fn main() -> ExitCode {
    let settings = match command::settings::<Settings>() {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    let listener = match net::bind("DASHBOARD_PORT", settings.bind, settings.port) {
        Ok(listener) => listener,
        Err(error) => return command::finish("evenkeel-dashboard", Err(error)),
    };
    let (trigger, shutdown) = shutdown::channel();
    tokio::spawn(trigger.on_signals());
    command::finish(
        "evenkeel-dashboard",
        evenkeel_dashboard::run(listener, settings, shutdown).await,
    )
}
