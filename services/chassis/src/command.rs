//! The frame of each binary's `main`: read settings, do the small tasks, set up logging.

use std::{
    ffi::OsString,
    process::ExitCode,
    time::{Duration, Instant},
};

use crate::{
    open_files,
    settings::{self, Healthcheck, Refusal, Settings, Task},
    telemetry,
};

/// Bad settings or a bad command line (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: u8 = 64;
/// A port is taken or a socket could not be opened (`EX_UNAVAILABLE` of sysexits.h).
pub const EXIT_UNAVAILABLE: u8 = 69;

/// How long `healthcheck` waits. Below the 3 s that Compose files and kubelets commonly allow.
const HEALTHCHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// Before `healthcheck --wait` asks again: soon enough for a person, seldom enough for a service.
const HEALTHCHECK_PAUSE: Duration = Duration::from_millis(500);

/// Reads the settings of this process and starts logging.
///
/// `--help`, `--version`, `--check`, `healthcheck` and mistakes end here.
///
/// # Errors
/// The code to exit with: 0 for a task that is done, [`EXIT_USAGE`] for mistakes.
#[allow(clippy::print_stderr, clippy::print_stdout)] // Answers for the person at the terminal.
pub fn settings<S: Settings>() -> Result<S, ExitCode> {
    let env = environment();
    let warnings = S::warnings(&env);
    let warn = || {
        for warning in &warnings {
            eprintln!("{}: warning: {warning}", S::PROGRAM);
        }
    };
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
            warn();
            return Err(EXIT_USAGE.into());
        }
    };
    warn();
    match loaded.task {
        Task::Run => {
            telemetry::init(loaded.settings.log());
            open_files::prepare();
            Ok(loaded.settings)
        }
        Task::Check => {
            println!("{}: the settings are good", S::PROGRAM);
            Err(ExitCode::SUCCESS)
        }
        Task::Healthcheck(Healthcheck { url, wait }) => {
            let own = || format!("http://{}/readyz", loaded.settings.health_address());
            Err(match ask_for(&url.map_or_else(own, Into::into), wait) {
                Ok(()) => ExitCode::SUCCESS,
                Err(why) => {
                    eprintln!("{}: not ready: {why}", S::PROGRAM);
                    ExitCode::FAILURE
                }
            })
        }
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

/// The variables of this process. What is not UTF-8 gets the sign for it, so that a value that
/// cannot be used is told and not passed over.
#[must_use]
pub fn environment() -> Vec<(String, String)> {
    let lossy = |text: OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value))).collect()
}

/// Whether `url` answers with success, now or within `wait`. The last answer tells why not.
fn ask_for(url: &str, wait: Duration) -> Result<(), String> {
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
        let deadline = Instant::now() + wait;
        loop {
            match ask(&client, url).await {
                Err(_) if Instant::now() + HEALTHCHECK_PAUSE <= deadline => {
                    tokio::time::sleep(HEALTHCHECK_PAUSE).await;
                }
                answer => return answer,
            }
        }
    })
}

async fn ask(client: &reqwest::Client, url: &str) -> Result<(), String> {
    let answer = client.get(url).send().await;
    let answer = answer.map_err(|error| format!("no answer from {url}: {}", root(&error)))?;
    if answer.status().is_success() {
        return Ok(());
    }
    let status = answer.status();
    Err(format!("{status}: {}", answer.text().await.unwrap_or_default().trim()))
}

/// The error at the bottom, which says what happened; those above say where.
fn root(error: &dyn std::error::Error) -> String {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root.to_string()
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpListener,
    };

    use super::*;

    /// What [`ask_for`] makes of a server that gives these answers one after the other, or of none.
    fn asked(answers: &[&'static str], wait: Duration) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/readyz", listener.local_addr().unwrap());
        let answers = answers.to_vec();
        let server = (!answers.is_empty()).then(|| {
            let listener = listener.try_clone().unwrap();
            std::thread::spawn(move || answers.into_iter().for_each(|text| answer(&listener, text)))
        });
        drop(listener);
        let result = ask_for(&url, wait);
        if let Some(thread) = server {
            thread.join().unwrap();
        }
        result
    }

    fn answer(listener: &TcpListener, answer: &str) {
        let (mut stream, _) = listener.accept().unwrap();
        // The end of the request's head, so that nothing unread resets the connection.
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        stream.write_all(answer.as_bytes()).unwrap();
    }

    const READY: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    const STOPPING: &str = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\
                            Content-Length: 9\r\n\r\nstopping\n";

    #[test]
    fn a_healthcheck_passes_on_success_only_and_says_why_it_failed() {
        let once = |answers| asked(answers, Duration::ZERO);
        assert_eq!(once(&[READY]), Ok(()));
        assert!(once(&[STOPPING]).unwrap_err().contains("stopping"));
        let refused = once(&[]).unwrap_err();
        assert!(refused.contains("no answer") && refused.contains("refused"), "{refused}");
    }

    #[test]
    fn a_healthcheck_that_waits_passes_once_the_service_is_ready() {
        assert_eq!(asked(&[STOPPING, STOPPING, READY], Duration::from_secs(60)), Ok(()));
    }

    #[test]
    fn a_healthcheck_waits_no_longer_than_it_was_told() {
        let refused = asked(&[STOPPING], HEALTHCHECK_PAUSE / 2).unwrap_err();
        assert!(refused.contains("stopping"), "{refused}");
    }
}
