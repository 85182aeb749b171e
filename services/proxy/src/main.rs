//! The `evenkeel-proxy` binary.

use std::process::ExitCode;

use chassis::{command, settings::Settings as _, shutdown};
use evenkeel_proxy::{Listeners, run, settings::Settings};

fn main() -> ExitCode {
    let settings = match command::settings::<Settings>() {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    let (trigger, shutdown) = shutdown::channel();
    command::finish(Settings::PROGRAM, start(settings, trigger, shutdown))
}

fn start(
    settings: Settings,
    trigger: shutdown::Trigger,
    shutdown: shutdown::Shutdown,
) -> Result<(), Box<dyn std::error::Error>> {
    let listeners = Listeners::bind(&settings)?;
    trigger.on_signals_in_background()?;
    Ok(run(listeners, settings, shutdown)?)
}
