//! The `evenkeel` binary: what it says of the variables of all its parts.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

use std::{ffi::OsStr, process::Command};

use chassis::settings::Mistakes;
use evenkeel_stack::settings::Settings;

/// The exit code of `evenkeel --check` and the lines on standard error.
fn check<V: AsRef<OsStr>>(variables: &[(&str, V)]) -> (i32, Vec<String>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    let variables = variables.iter().map(|(name, value)| (*name, value.as_ref()));
    let output = command.env_clear().arg("--check").envs(variables).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), told.lines().map(str::to_owned).collect())
}

#[test]
fn the_mistakes_of_all_parts_are_told_at_once() {
    let names = ["EVENKEEL_SERVERS", "SERVER_PORT", "PROXY_PORT", "DASHBOARD_PORT"];
    let (code, told) = check(&names.map(|name| (name, "x")));
    assert_eq!((code, told.len()), (64, names.len()), "{told:?}");
    for (line, name) in told.iter().zip(names) {
        assert!(line.starts_with(&format!("evenkeel: {name}=\"x\": expected ")), "{line}");
    }
}

#[test]
fn a_variable_that_no_part_reads_is_a_warning_with_the_nearest_name() {
    let cases = [
        ("EVENKEEL_SERVRES", "EVENKEEL_SERVERS"),
        ("SERVER_NAM", "SERVER_NAME"),
        ("PROXY_BACKNDS", "PROXY_BACKENDS"),
        ("DASHBOARD_PRT", "DASHBOARD_PORT"),
        ("LOAD_BALANCER_ULR", "LOAD_BALANCER_URL"),
    ];
    let (code, told) = check(&cases.map(|(name, _)| (name, "x")));
    assert_eq!((code, told.len()), (0, cases.len()), "{told:?}");
    for (line, (name, nearest)) in told.iter().zip(cases) {
        assert!(
            line.contains(name) && line.ends_with(&format!("did you mean {nearest}?")),
            "{line}"
        );
    }
}

#[cfg(unix)]
#[test]
fn a_value_that_is_not_utf_8_is_told_and_not_passed_over() {
    use std::os::unix::ffi::OsStrExt;

    let (code, told) = check(&[("PROXY_PORT", OsStr::from_bytes(b"\xff"))]);
    assert_eq!((code, told.len()), (64, 1), "{told:?}");
    assert!(told[0].starts_with("evenkeel: PROXY_PORT="), "{told:?}");
}

#[test]
fn a_service_link_is_explained_once() {
    let (code, told) = check(&[("PROXY_PORT", "tcp://10.0.0.1:8080")]);
    assert_eq!((code, told.len()), (64, 1), "{told:?}");
    assert_eq!(told[0].matches("enableServiceLinks").count(), 1, "{told:?}");
}

#[test]
fn an_empty_variable_counts_as_not_set_and_the_parts_still_fit_each_other() {
    let variables = [("SERVER_PORT", "9001"), ("SERVER_NAME", ""), ("PROXY_BACKENDS", "")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let settings = Settings::from_variables(2, variables, &mut Mistakes::default()).unwrap();
    let backends = format!("{:?}", settings.proxy.discovering.source);
    assert!(
        backends.contains("localhost:9001") && backends.contains("localhost:9002"),
        "{backends}"
    );
    assert_eq!([0, 1].map(|index| settings.servers[index].name.as_str()), ["server-1", "server-2"]);
}
