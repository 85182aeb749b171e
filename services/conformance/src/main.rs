//! Runs the rows against nginx and HAProxy and prints where they differ from what our tests ask of
//! ours: `cargo run -p evenkeel-conformance [nginx] [haproxy]`, with those that bench/install has brought
//! or else Debian's packages.
#![allow(clippy::print_stdout)] // The table is what the program is for.

use std::{io, time::Duration};

use evenkeel_conformance::{
    backend::Backend,
    backend_rows, forwarding_rows, http2_rows,
    peers::Kind,
    request_rows,
    row::{Check, Row, Target, Want},
    upgrade_rows,
};

/// How long a client waits for more when the peer keeps its connection open. Longer than the
/// peers' limits of time where a row is about those.
const PATIENCE: Duration = Duration::from_millis(700);
const LATE_PATIENCE: Duration = Duration::from_secs(4);

/// What a peer may take to put a connection back whose answer its client has.
const PUT_BACK: Duration = Duration::from_millis(50);

/// What ours does.
const SAME: &str = "same";

fn main() -> io::Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let is_wanted =
        |kind: &Kind| wanted.is_empty() || wanted.iter().any(|name| name == kind.program());
    let kinds: Vec<Kind> = [Kind::Nginx, Kind::Haproxy].into_iter().filter(is_wanted).collect();
    let backend_rows = [backend_rows::rows(), backend_rows::late_rows()].concat();
    // Each with the RFC of which its sections are.
    let groups = [
        ("Requests", 9112, request_rows::rows(), PATIENCE),
        ("Backends", 9112, backend_rows, LATE_PATIENCE),
        ("Forwarding", 9110, forwarding_rows::rows(), PATIENCE),
        ("Other protocols", 9110, upgrade_rows::rows(), PATIENCE),
        ("Requests of HTTP/2", 9113, http2_rows::request_rows(), PATIENCE),
        ("Connections of HTTP/2", 9113, http2_rows::connection_rows(), PATIENCE),
        ("Forwarding of HTTP/2", 9113, http2_rows::forwarding_rows(), PATIENCE),
    ];
    let versions: io::Result<Vec<String>> = kinds.iter().map(|kind| kind.version()).collect();
    let versions = versions?;
    println!("# Where others differ\n");
    println!(
        "Made by `cargo run -p evenkeel-conformance`, with Debian's {}. The rows are those that `cargo test`\n\
         holds ours to; sections are of a table's RFC unless another is named. Only rows that somebody answers\n\
         otherwise are shown. Not each is a fault: the RFCs leave some choices, and ours is the strict one.",
        versions.join(" and ")
    );
    for (title, rfc, rows, patience) in groups {
        let columns: io::Result<Vec<Vec<String>>> =
            kinds.iter().map(|kind| column(*kind, &rows, patience)).collect();
        print_group(&format!("{title}, RFC {rfc}"), &rows, &versions, &columns?);
    }
    Ok(())
}

/// What a peer does with each row.
fn column(kind: Kind, rows: &[Row], patience: Duration) -> io::Result<Vec<String>> {
    let backend = Backend::start()?;
    let peer = kind.start(backend.address)?;
    // Nobody says when a peer has put a connection back.
    let until_put_back = || std::thread::sleep(PUT_BACK);
    let (proxy, http2, backend) = (peer.address, peer.http2, &backend);
    let target = Target { proxy, http2, backend, patience, until_put_back: &until_put_back };
    rows.iter()
        .map(|row| {
            let observed = row.observe(&target)?;
            Ok(match row.judge(&observed) {
                Ok(()) => SAME.to_owned(),
                Err(why) => why
                    .strip_prefix(Check::FAILED)
                    .map_or(observed.to_string(), |check| format!("not {check}")),
            })
        })
        .collect()
}

fn print_group(title: &str, rows: &[Row], versions: &[String], columns: &[Vec<String>]) {
    let differing: Vec<usize> =
        (0..rows.len()).filter(|row| columns.iter().any(|column| column[*row] != SAME)).collect();
    println!("\n## {title}: {} of {} rows\n", differing.len(), rows.len());
    println!("| row | section | ours | {} |", versions.join(" | "));
    println!("| --- | --- | --- |{}", " --- |".repeat(versions.len()));
    for index in differing {
        let row = &rows[index];
        let cells: Vec<&str> = columns.iter().map(|column| column[index].as_str()).collect();
        println!("| {} | {} | {} | {} |", row.name, row.rfc, wanted(&row.want), cells.join(" | "));
    }
}

/// What ours does, in a few words.
fn wanted(want: &Want) -> String {
    let list = |statuses: &[u16]| statuses.iter().map(u16::to_string).collect::<Vec<_>>().join(" ");
    match want {
        Want::Refused(status) => status.to_string(),
        Want::Malformed => "400, or reset: PROTOCOL_ERROR".to_owned(),
        Want::Ended(codes) => format!("ended: {}", codes.join(" or ")),
        Want::Broken => "400, nothing whole at the backend".to_owned(),
        Want::Served(statuses, _) => list(statuses),
        Want::Switched(_) => "101".to_owned(),
        Want::Failed(statuses) => list(statuses),
        Want::Cut => "cut".to_owned(),
        Want::Clean(_) => "the answer alone".to_owned(),
    }
}
