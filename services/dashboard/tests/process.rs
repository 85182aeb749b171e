//! The binary.

#![allow(clippy::unwrap_used)] // A failure should panic at the line that was wrong.

use std::{net::TcpListener, process::Command};

use chassis::net::closed_port;

fn dashboard() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel-dashboard"));
    command.env_clear();
    command
}

fn told(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn bad_settings_are_all_told_before_a_port_opens() {
    let mut command = dashboard();
    command.env("DASHBOARD_PORT", "http").env("DASHBOARD_INTERVAL", "often");
    let (code, text) = told(&mut command);
    assert_eq!(code, Some(64));
    assert!(text.contains("DASHBOARD_PORT=\"http\"") && text.contains("DASHBOARD_INTERVAL"));
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (code, text) = told(dashboard().args(["--bind", "127.0.0.1", "--port", &port]));
    assert_eq!(code, Some(69));
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("DASHBOARD_PORT") && text.contains("already in use"));
}

#[test]
fn healthcheck_says_that_nobody_answers() {
    let port = closed_port().port().to_string();
    let arguments = ["--bind", "127.0.0.1", "--port", &port, "healthcheck"];
    let (code, text) = told(dashboard().args(arguments));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("not ready: no answer from"), "{text}");
}

#[test]
fn check_and_help_answer_and_leave() {
    assert_eq!(told(dashboard().arg("--check")).0, Some(0));
    let help = dashboard().arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for part in ["--trusted-clients", "LOAD_BALANCER_ADMIN_TOKEN_FILE", "8090", "500ms"] {
        assert!(help.contains(part), "{part} is missing in:\n{help}");
    }
}

#[test]
fn text_is_told_once_where_nobody_looks_and_says_who_does_not_answer() {
    let url = format!("http://{}", closed_port());
    let output = dashboard().args(["--text", "--load-balancer-admin-url", &url]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(69));
    assert!(text.starts_with("The proxy does not answer\n"), "{text}");
    assert!(!text.contains('\x1b'), "plain where it is no terminal: {text:?}");
}
