//! Every row, against our proxy.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use std::time::Duration;

use common::{Proxy, wait_for};
use evenkeel_conformance::{
    backend::Backend,
    backend_rows, forwarding_rows, http2_rows, request_rows,
    row::{Row, Target},
    upgrade_rows,
};

/// Longer than any row takes on a busy machine: all of them end with a closed connection.
const PATIENCE: Duration = Duration::from_secs(20);

fn all_hold(rows: &[Row], variables: &[(&str, &str)]) {
    let backend = Backend::start().unwrap();
    // The next request must meet the connections that the one before has left.
    let variables = [variables, &[("PROXY_WORKERS", "1")]].concat();
    let proxy = Proxy::over(&[backend.address], &variables);
    // Idle, or closed.
    let in_use = "evenkeel_connections{side=\"backend\",state=\"active\"} ";
    let until_put_back = || {
        wait_for("no connection to a backend to be in use", || {
            let metrics = proxy.metrics();
            metrics.lines().any(|line| line.strip_prefix(in_use) == Some("0"))
        });
    };
    let (proxy, backend, patience) = (proxy.address(), &backend, PATIENCE);
    let until_put_back = &until_put_back;
    let target = Target { proxy, http2: proxy, backend, patience, until_put_back };
    let wrong: Vec<String> = rows.iter().filter_map(|row| row.run(&target).err()).collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[test]
fn requests_that_could_be_read_in_two_ways_are_refused_and_reach_no_backend() {
    all_hold(&request_rows::rows(), &[]);
}

#[test]
fn backends_that_break_off_or_lie_spoil_no_answer_and_no_next_request() {
    all_hold(&backend_rows::rows(), &[]);
}

#[test]
fn backends_that_stop_are_given_up_and_the_next_request_is_served() {
    // Long enough that the next request is answered within it on a busy machine.
    let short = [("PROXY_RESPONSE_TIMEOUT", "2s"), ("PROXY_READ_TIMEOUT", "2s")];
    all_hold(&backend_rows::late_rows(), &short);
}

#[test]
fn what_is_forwarded_is_what_was_sent_but_for_what_a_proxy_must_change() {
    all_hold(&forwarding_rows::rows(), &[]);
}

#[test]
fn what_changes_to_another_protocol_is_what_both_ends_say_to_their_ends() {
    all_hold(&upgrade_rows::rows(), &[]);
}

#[test]
fn requests_of_http_2_that_are_none_are_refused_and_the_next_one_on_their_connection_is_served() {
    all_hold(&http2_rows::request_rows(), &[]);
}

#[test]
fn connections_of_http_2_that_are_none_are_ended_with_the_reason() {
    all_hold(&http2_rows::connection_rows(), &[]);
}

#[test]
fn what_is_forwarded_of_http_2_is_what_was_sent_but_for_what_a_proxy_must_change() {
    all_hold(&http2_rows::forwarding_rows(), &[]);
}
