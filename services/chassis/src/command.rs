//! The frame of each binary's `main`: read settings, do the small tasks, set up logging.

use std::{ffi::OsString, net::SocketAddr, process::ExitCode, time::Duration};

use crate::{
    settings::{self, Refusal, Settings, Task},
    telemetry,
};

/// Bad settings or a bad command line (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: u8 = 64;
/// A port is taken or a socket could not be opened (`EX_UNAVAILABLE` of sysexits.h).
pub const EXIT_UNAVAILABLE: u8 = 69;

/// How long `healthcheck` waits. Below the 3 s that Compose files and kubelets commonly allow.
const HEALTHCHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Reads the settings of this process and starts logging.
///
/// `--help`, `--version`, `--check`, `healthcheck` and mistakes end here.
///
/// # Errors
/// The code to exit with: 0 for a task that is done, [`EXIT_USAGE`] for mistakes.
#[allow(clippy::print_stderr, clippy::print_stdout)] // Answers for the person at the terminal.
pub fn settings<S: Settings>() -> Result<S, ExitCode> {
    let env = std::env::vars_os()
        .map(|(name, value)| (lossy(&name), lossy(&value)))
        .collect::<Vec<(String, String)>>();
    let loaded = match settings::load::<S>(std::env::args_os(), env) {
        Ok(loaded) => loaded,
        Err(Refusal::CommandLine(error)) => {
            // A closed pipe behind --help is no reason to fail.
            let _ = error.print();
            return Err(if error.use_stderr() { EXIT_USAGE.into() } else { ExitCode::SUCCESS });
        }
        Err(Refusal::Mistakes(mistakes)) => {
            for mistake in mistakes {
                eprintln!("{}: {mistake}", S::PROGRAM);
            }
            return Err(EXIT_USAGE.into());
        }
    };
    for warning in &loaded.warnings {
        eprintln!("{}: warning: {warning}", S::PROGRAM);
    }
    match loaded.task {
        Task::Run => {
            telemetry::init(loaded.settings.log());
            Ok(loaded.settings)
        }
        Task::Check => {
            println!("{}: the settings are good", S::PROGRAM);
            Err(ExitCode::SUCCESS)
        }
        Task::Healthcheck => Err(match ask_ready(loaded.settings.health_address()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("{}: not ready: {why}", S::PROGRAM);
                ExitCode::FAILURE
            }
        }),
    }
}

/// Turns the end of a service's run into an exit code, with one line on standard error.
#[allow(clippy::print_stderr)] // The last word of a process that cannot start.
pub fn finish<E: std::fmt::Display>(program: &str, result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{program}: {error}");
            EXIT_UNAVAILABLE.into()
        }
    }
}

fn lossy(text: &OsString) -> String {
    text.to_string_lossy().into_owned()
}

fn ask_ready(address: SocketAddr) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(HEALTHCHECK_TIMEOUT)
            .build()
            .map_err(|error| error.to_string())?;
        let answer = client.get(format!("http://{address}/readyz")).send().await;
        let answer = answer.map_err(|_| format!("no answer from {address}"))?;
        if answer.status().is_success() {
            return Ok(());
        }
        let status = answer.status();
        Err(format!("{status}: {}", answer.text().await.unwrap_or_default().trim()))
    })
}
