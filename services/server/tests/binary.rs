//! The binary: exit codes and what it says at the terminal.

// A helper that fails should panic as its test would.
#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

fn server(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel-server"));
    command.env_clear().args(arguments).envs(variables.iter().copied());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn lines(output: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(output).lines().map(str::to_owned).collect()
}

/// A server that ends with its test.
struct Running {
    child: Child,
    port: String,
}

impl Running {
    fn start(variables: &[(&str, &str)]) -> Self {
        let mut child = server(&["--port", "0", "--bind", "127.0.0.1"], variables).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = log.next().unwrap().unwrap();
        // The rest of the log must go somewhere, or the server would wait for a reader.
        std::thread::spawn(move || log.for_each(drop));
        let address = line.rsplit("address=127.0.0.1:").next().unwrap();
        Self { child, port: address.trim().to_owned() }
    }

    fn healthcheck(&self) -> Output {
        let arguments = ["--port", &self.port, "--bind", "127.0.0.1", "healthcheck"];
        server(&arguments, &[]).output().unwrap()
    }

    fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn all_bad_settings_are_listed_before_any_port_opens() {
    let variables = [("SERVER_PORT", "http"), ("SERVER_STOP_QUIET", "2"), ("SERVER_FAULTS", "x")];
    let output = server(&["--name", "ü"], &variables).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    let lines = lines(&output.stderr);
    assert_eq!(lines.len(), 4, "{lines:?}");
    for (name, line) in
        ["SERVER_PORT", "SERVER_NAME", "SERVER_FAULTS", "SERVER_STOP_QUIET"].iter().zip(&lines)
    {
        assert!(line.contains(name) && line.contains("expected"), "{name}: {line}");
    }
}

#[test]
fn a_port_in_use_is_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = server(&["--bind", "127.0.0.1", "--port", &port], &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(69));
    let expected = format!(
        "evenkeel-server: SERVER_PORT: cannot listen on 127.0.0.1:{port}: the port is already in use"
    );
    assert_eq!(lines(&output.stderr), [expected]);
}

#[test]
fn check_version_and_help_end_without_serving() {
    let check = server(&["--check"], &[]).output().unwrap();
    assert_eq!(check.status.code(), Some(0));
    let check = server(&["--check", "--port", "70000"], &[]).output().unwrap();
    assert_eq!(check.status.code(), Some(64));
    let version = server(&["--version"], &[]).output().unwrap();
    assert_eq!(lines(&version.stdout), [format!("evenkeel-server {}", env!("CARGO_PKG_VERSION"))]);
    let help = server(&["--help"], &[]).output().unwrap();
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    for part in ["--fault-seed", "SERVER_ADMIN_TOKEN_FILE", "8081", "25s"] {
        assert!(help.contains(part), "{part} is missing in:\n{help}");
    }
}

#[test]
fn a_healthcheck_follows_readiness_and_a_terminated_server_leaves_with_zero() {
    let mut running = Running::start(&[("SERVER_STOP_QUIET", "0s"), ("SERVER_NAME", "two")]);
    assert_eq!(running.healthcheck().status.code(), Some(0));
    running.terminate();
    assert_eq!(running.child.wait().unwrap().code(), Some(0));
    let output = running.healthcheck();
    assert_eq!(output.status.code(), Some(1));
    assert!(lines(&output.stderr)[0].contains("not ready: no answer"));
}

#[test]
fn an_endless_stream_does_not_outlive_the_time_to_stop() {
    use std::io::{Read, Write};
    let mut running = Running::start(&[("SERVER_STOP_QUIET", "0s"), ("SERVER_STOP_MAX", "0s")]);
    let mut stream = std::net::TcpStream::connect(format!("127.0.0.1:{}", running.port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"GET /stream/600?interval=1s HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    stream.read_exact(&mut [0; 12]).unwrap();
    running.terminate();
    let mut rest = Vec::new();
    // The end may be a reset; a timeout would mean that the stream went on.
    if let Err(error) = stream.read_to_end(&mut rest) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    assert!(!rest.ends_with(b"0\r\n\r\n"), "a cut stream must not look complete");
    assert_eq!(running.child.wait().unwrap().code(), Some(0));
}
