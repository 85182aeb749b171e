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

#[test]
fn a_first_port_that_the_servers_cannot_have_is_told_as_theirs() {
    let cases = [
        ("0", "a port that the proxy can be told before it is open"),
        ("65534", "a port that 2 others can follow"),
    ];
    for (port, expected) in cases {
        let told = format!("evenkeel: SERVER_PORT=\"{port}\": expected {expected}");
        assert_eq!(check(&[("SERVER_PORT", port)]), (64, vec![told]));
    }
}

#[test]
fn ports_that_the_parts_would_take_from_each_other_are_told_with_both_names() {
    let cases: [(&[(&str, &str)], &str); 8] = [
        (
            &[("PROXY_PORT", "8082")],
            "PROXY_PORT=\"8082\": expected a port other than SERVER_PORT's (8081 to 8083, \
             EVENKEEL_SERVERS of them)",
        ),
        (
            &[("PROXY_PORT", "8090")],
            "DASHBOARD_PORT=\"8090\": expected a port other than PROXY_PORT's (8090)",
        ),
        (
            &[("PROXY_ADMIN_PORT", "8080")],
            "PROXY_ADMIN_PORT=\"8080\": expected another port than PROXY_PORT",
        ),
        (
            &[("DASHBOARD_PORT", "9901")],
            "DASHBOARD_PORT=\"9901\": expected a port other than PROXY_ADMIN_PORT's (9901)",
        ),
        (
            &[("SERVER_PORT", "8078")],
            "PROXY_PORT=\"8080\": expected a port other than SERVER_PORT's (8078 to 8080, \
             EVENKEEL_SERVERS of them)",
        ),
        (
            &[("EVENKEEL_SERVERS", "10")],
            "DASHBOARD_PORT=\"8090\": expected a port other than SERVER_PORT's (8081 to 8090, \
             EVENKEEL_SERVERS of them)",
        ),
        (
            &[
                ("EVENKEEL_SERVERS", "1"),
                ("DASHBOARD_PORT", "8081"),
                ("PROXY_BACKENDS", "http://a:1"),
            ],
            "DASHBOARD_PORT=\"8081\": expected a port other than SERVER_PORT's (8081)",
        ),
        (
            // An address of the proxy's own is among all those that the dashboard listens on.
            &[
                ("PROXY_BIND", "127.0.0.1"),
                ("DASHBOARD_BIND", "0.0.0.0"),
                ("DASHBOARD_PORT", "8080"),
            ],
            "DASHBOARD_PORT=\"8080\": expected a port other than PROXY_PORT's (8080)",
        ),
    ];
    for (variables, expected) in cases {
        let told = (64, vec![format!("evenkeel: {expected}")]);
        assert_eq!(check(variables), told, "{variables:?}");
    }
}

#[test]
fn a_port_that_collides_is_told_beside_whatever_else_is_wrong() {
    let (code, told) = check(&[("PROXY_PORT", "8082"), ("PROXY_POLICY", "x"), ("SERVER_LOG", "?")]);
    assert_eq!(code, 64);
    for name in ["PROXY_PORT", "PROXY_POLICY", "SERVER_LOG"] {
        assert!(told.iter().any(|line| line.contains(&format!("{name}=\""))), "{name}: {told:?}");
    }
}

#[test]
fn parts_may_have_the_same_port_on_addresses_of_their_own_or_any_that_is_free() {
    let own: &[(&str, &str)] =
        &[("PROXY_BIND", "127.0.0.1"), ("DASHBOARD_BIND", "127.0.0.2"), ("DASHBOARD_PORT", "8080")];
    let free: &[(&str, &str)] =
        &[("PROXY_PORT", "0"), ("PROXY_ADMIN_PORT", "0"), ("DASHBOARD_PORT", "0")];
    for variables in [own, free] {
        assert_eq!(check(variables), (0, vec![]), "{variables:?}");
    }
}
