//! The binary: exit codes and what it says at the terminal.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, Command, Output, Stdio},
};

use chassis::net::closed_port;

fn proxy(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel-proxy"));
    command.env_clear().args(arguments).envs(variables.iter().copied());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = proxy(arguments, variables).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// A proxy on ports that the system chooses, without backends; it ends with its test.
struct Running {
    child: Child,
    admin_port: String,
}

impl Running {
    fn start(backends: &str) -> Self {
        Self::start_with(backends, &[])
    }

    fn start_with(backends: &str, variables: &[(&str, &str)]) -> Self {
        let arguments =
            ["--port=0", "--admin-port=0", "--bind=127.0.0.1", "--admin-bind=127.0.0.1"];
        let mut variables = variables.to_vec();
        variables.extend([("PROXY_BACKENDS", backends), ("PROXY_STOP_QUIET", "10ms")]);
        let mut child = proxy(&arguments, &variables).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = log.next().unwrap().unwrap();
        // The rest of the log must go somewhere, or the proxy would wait for a reader.
        std::thread::spawn(move || log.for_each(drop));
        let port = line.split("admin_address=127.0.0.1:").nth(1).unwrap();
        let admin_port = port.split(' ').next().unwrap().to_owned();
        Self { child, admin_port }
    }

    fn healthcheck(&self) -> (i32, String) {
        let arguments = ["--admin-port", &self.admin_port, "--admin-bind=127.0.0.1", "healthcheck"];
        let (code, _, stderr) = run(&arguments, &[]);
        (code, stderr)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn all_bad_settings_are_told_before_any_port_opens() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let variables = [("PROXY_BACKENDS", "nonsense"), ("PROXY_PROBE_INTERVAL", "often")];
    let (code, _, stderr) =
        run(&["--port", &port, "--bind=127.0.0.1", "--probe", "magic"], &variables);
    assert_eq!(code, 64);
    let lines: Vec<&str> = stderr.lines().collect();
    assert_eq!(lines.len(), 3, "{stderr}");
    for name in ["PROXY_BACKENDS=\"nonsense\"", "PROXY_PROBE=\"magic\"", "PROXY_PROBE_INTERVAL"] {
        assert!(stderr.contains(name), "{name} is missing in:\n{stderr}");
    }
}

#[test]
fn an_unknown_flag_is_refused_with_the_usage() {
    let (code, _, stderr) = run(&["--prot", "1"], &[]);
    assert_eq!(code, 64);
    assert!(stderr.contains("--prot"), "{stderr}");
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for flag in ["--port", "--admin-port"] {
        let other = if flag == "--port" { "--admin-port=0" } else { "--port=0" };
        let (code, _, stderr) =
            run(&[flag, &port, other, "--bind=127.0.0.1", "--admin-bind=127.0.0.1"], &[]);
        assert_eq!(code, 69);
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains(&port) && stderr.contains("already in use"), "{stderr}");
    }
}

#[test]
fn check_says_whether_the_settings_are_good() {
    let (code, stdout, _) = run(&["--check"], &[]);
    assert_eq!(code, 0);
    assert!(stdout.contains("good"), "{stdout}");
    assert_eq!(run(&["--check", "--port=x"], &[]).0, 64);
}

#[test]
fn version_and_help_go_to_standard_output() {
    let (code, stdout, _) = run(&["--version"], &[]);
    assert_eq!((code, stdout.trim()), (0, concat!("evenkeel-proxy ", env!("CARGO_PKG_VERSION"))));
    let (code, stdout, _) = run(&["--help"], &[]);
    assert_eq!(code, 0);
    for part in ["--backends", "PROXY_BACKENDS", "--stop-quiet", "default: 2s", "healthcheck"] {
        assert!(stdout.contains(part), "{part} is missing in:\n{stdout}");
    }
}

#[test]
fn an_unknown_variable_is_a_warning_with_the_nearest_name() {
    let (code, _, stderr) = run(&["--check"], &[("PROXY_BACKEND", "http://a:1")]);
    assert_eq!(code, 0);
    assert!(stderr.contains("did you mean PROXY_BACKENDS?"), "{stderr}");
}

#[test]
fn the_health_check_tells_ready_from_not_ready_and_from_gone() {
    let running = Running::start(&format!("http://{}", closed_port()));
    let (code, stderr) = running.healthcheck();
    assert_eq!(code, 1);
    assert!(stderr.contains("no backend can take requests"), "{stderr}");

    let backend = TcpListener::bind("127.0.0.1:0").unwrap();
    let running = Running::start(&format!("http://{}", backend.local_addr().unwrap()));
    let mut result = running.healthcheck();
    for _ in 0..200 {
        if result.0 == 0 {
            break;
        }
        result = running.healthcheck();
    }
    assert_eq!(result.0, 0, "{}", result.1);
}

#[test]
fn a_termination_signal_ends_it_with_0() {
    let mut running = Running::start("http://127.0.0.1:1");
    let pid = running.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(running.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_token_file_is_made_at_the_start_and_only_then() {
    let path = std::env::temp_dir().join(format!("evenkeel-proxy-token-{}", std::process::id()));
    let file = path.to_str().unwrap();
    let variables = [("PROXY_ADMIN_TOKEN_FILE", file), ("PROXY_ADMIN_TOKEN_CREATE", "true")];
    assert_eq!(run(&["--check"], &variables).0, 0);
    assert!(!path.exists(), "a check writes nothing");
    let running = Running::start_with("http://127.0.0.1:1", &variables);
    let token = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(token.trim().len(), 48);
    drop(running);
}
