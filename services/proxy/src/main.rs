//! The `evenkeel-proxy` binary.

use std::process::ExitCode;

use chassis::{command, settings::Settings as _, shutdown};
use evenkeel_proxy::{Listeners, run, settings::Settings};

/// A request costs some thirteen allocations, of which hyper's two buffers of 8 KiB are beyond what
/// glibc keeps ready per thread. This one takes them from lists of the thread's own, whatever their
/// size: a tenth less CPU per request. Without huge pages, which would take 8 MiB at the start.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
