//! `evenkeel-server`: settings, a socket, signals, and [`evenkeel_server::run`] between them.

use std::{error::Error, process::ExitCode};

use chassis::{command, net, settings::Settings as _, shutdown};
use evenkeel_server::{Settings, run};

fn main() -> ExitCode {
    match command::settings::<Settings>() {
        Ok(settings) => command::finish(Settings::PROGRAM, start(settings)),
        Err(code) => code,
    }
}

fn start(settings: Settings) -> Result<(), Box<dyn Error>> {
    let listener = net::bind("SERVER_PORT", settings.bind, settings.port)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (trigger, shutdown) = shutdown::channel();
    runtime.block_on(async {
        tokio::select! {
            // Polled first, so that a signal is heard from the first moment on.
            biased;
            Err(error) = trigger.on_signals() => Err(error),
            result = run(listener, settings, shutdown) => result,
        }
    })?;
    Ok(())
}
