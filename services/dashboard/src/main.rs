//! The binary: settings, the port, signals, and then [`evenkeel_dashboard::run`].

use std::{error::Error, process::ExitCode};

use chassis::{command, net, settings::Settings as _, shutdown};
use evenkeel_dashboard::{Settings, run, text};

fn main() -> ExitCode {
    // Before any runtime exists: `healthcheck` brings its own.
    match command::settings::<Settings>() {
        Ok(settings) => command::finish(Settings::PROGRAM, start(settings)),
        Err(code) => code,
    }
}

fn start(settings: Settings) -> Result<(), Box<dyn Error>> {
    if settings.text {
        // Asking a few proxies needs no more than this thread.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (trigger, shutdown) = shutdown::channel();
        runtime.block_on(async {
            tokio::spawn(trigger.on_signals());
            text(settings, shutdown).await
        })?;
        return Ok(());
    }
    let listener = net::bind("DASHBOARD_PORT", settings.bind, settings.port)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (trigger, shutdown) = shutdown::channel();
    runtime.block_on(async {
        tokio::spawn(trigger.on_signals());
        run(listener, settings, shutdown).await
    })?;
    Ok(())
}
