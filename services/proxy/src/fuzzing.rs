//! What the fuzz targets of `fuzz/` run: every place where bytes or fields from outside are read or
//! rewritten by code of ours, with what must hold afterwards.
//!
//! | what | where | target |
//! | --- | --- | --- |
//! | requests of clients of HTTP/1: heads, chunks with their extensions, trailers | `client/http1/head.rs`, `http1/framing.rs`, `http1/extension.rs`, `numbers.rs` | `connection` |
//! | what backends get of them | `headers.rs`, `headers/client.rs`, `forward.rs`, `http1/request.rs` | `connection`; of HTTP/2 `head` |
//! | `Max-Forwards`, cookies, `Keep-Alive`, `X-Forwarded-For`, hash keys | `max_forwards.rs`, `cookies.rs`, `sticky.rs`, `idle_limit.rs`, `headers/client.rs`, `hash_key.rs` | `head` |
//! | answers of backends of HTTP/1, and what clients of HTTP/1 get of them | `http1/response.rs`, `http1/framing.rs`, `headers.rs`, `settings/degraded.rs`, `client/http1/answer.rs`, `interim.rs` and `out.rs` there | `answer` |
//! | the same with sockets: interim responses, switches, cut answers, what follows; clients of HTTP/2 | `connection.rs`, `exchange.rs`, `body/response.rs`, `tunnel.rs`, `client/` | `backend` |
//! | answers of backends of HTTP/2 | `multiplexed.rs`, `http2.rs`, `headers.rs`, `client/` | `backend_frames`; their fields also `head` |
//! | frames of clients of HTTP/2 | `client/frames.rs`, `client/http2.rs`, `client/streams.rs` | `frames` |
//! | heads of HTTP/2 that are cut into frames | `http2/whole_heads.rs`, `heads.rs` and `frame_reader.rs` there | `cut_heads` |
//! | frames of WebSockets | `websocket.rs` | `websocket` |
//! | the Kubernetes API's slices, as a watch and as a list | `discovery/kubernetes/` | `watch` |
//! | its `Retry-After` | `discovery/kubernetes/api.rs` | `head` |
//! | name servers' SRV records | `discovery/srv.rs`, `discovery/names.rs` | `records` |
//! | answers to probes, those of gRPC among them | `probe/http.rs` | `probe` |
//! | the state file | `state_file.rs`, `state_file/content.rs`, `clock.rs` | `state` |
//! | `PROXY_BACKENDS` and `PROXY_HASH_KEY` | `source.rs`, `hash_key.rs` | `backends` |
//!
//! Not here: the admin API, whose document `deploy/acceptance/api` fuzzes; other settings, which are words
//! for the library that reads them; certificates, TLS and the addresses of names, which libraries read.
//!
//! It is always compiled, so that it cannot fall behind what it tests; nothing calls it but the
//! targets and the tests below, which run the targets' seeds.

#![allow(clippy::unwrap_used)] // A target fails by panicking.

mod answer;
mod backend;
mod backend_frames;
mod clients;
mod connection;
mod cut_heads;
mod fields;
mod forwarded;
mod frames;
mod head;
mod kept;
mod lines;
mod messages;
mod passed_on;
mod told;
mod websocket;
mod world;

pub use self::{
    answer::answer,
    backend::backend,
    backend_frames::backend_frames,
    connection::connection,
    cut_heads::cut_heads,
    frames::frames,
    head::head,
    kept::{backends, state},
    told::{probe, records, watch},
    websocket::websocket,
};

use crate::settings::Limits;

/// Small enough for a target to reach them.
const LIMITS: Limits = Limits {
    connections: 1,
    connections_per_client: 0,
    requests: 1,
    header_bytes: 8 * 1024,
    headers: 100,
    response_header_bytes: 8 * 1024,
    response_headers: 100,
    target_bytes: 8 * 1024,
    upload_rate: 0,
    download_rate: 0,
    buffered_bytes: usize::MAX,
};

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::PathBuf};

    type Target = fn(&[u8]);

    const TARGETS: [(&str, Target); 13] = [
        ("answer", super::answer),
        ("backend", super::backend),
        ("backend_frames", super::backend_frames),
        ("backends", super::backends),
        ("connection", super::connection),
        ("cut_heads", super::cut_heads),
        ("frames", super::frames),
        ("head", super::head),
        ("probe", super::probe),
        ("records", super::records),
        ("state", super::state),
        ("watch", super::watch),
        ("websocket", super::websocket),
    ];

    fn folder(name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz").join(name)
    }

    /// Runs a target on each of its seeds.
    fn on_seeds(name: &str) {
        let (_, target) = TARGETS.iter().find(|(of, _)| *of == name).unwrap();
        let seeds = fs::read_dir(folder("seeds").join(name)).unwrap();
        let seeds = seeds.map(|seed| fs::read(seed.unwrap().path()));
        let count = seeds.map(|seed| target(&seed.unwrap())).count();
        assert!(count > 3, "{count} seeds");
    }

    /// What `cargo fuzz` finds is what is run here, and what the table above has.
    #[test]
    fn each_target_has_its_program_its_seeds_and_its_row() {
        let names = |folder: PathBuf| -> BTreeSet<String> {
            let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
            entries.map(|name| name.to_str().unwrap().trim_end_matches(".rs").to_owned()).collect()
        };
        let targets: BTreeSet<String> =
            TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(names(folder("targets")), targets);
        assert_eq!(names(folder("seeds")), targets);
        let manifest = fs::read_to_string(folder("Cargo.toml")).unwrap();
        let table: Vec<&str> =
            include_str!("fuzzing.rs").lines().filter(|line| line.starts_with("//! | ")).collect();
        for name in targets {
            assert!(manifest.contains(&format!("path = \"targets/{name}.rs\"")), "{name}");
            assert!(table.iter().any(|row| row.contains(&format!("`{name}`"))), "{name}");
        }
    }

    #[test]
    fn the_seeds_of_answers_hold() {
        on_seeds("answer");
    }

    #[test]
    fn the_seeds_of_backends_hold() {
        on_seeds("backend");
    }

    #[test]
    fn the_seeds_of_backends_frames_hold() {
        on_seeds("backend_frames");
    }

    #[test]
    fn the_seeds_of_lists_of_backends_hold() {
        on_seeds("backends");
    }

    #[test]
    fn the_seeds_of_connections_hold() {
        on_seeds("connection");
    }

    #[test]
    fn the_seeds_of_heads_that_are_cut_hold() {
        on_seeds("cut_heads");
    }

    #[test]
    fn the_seeds_of_frames_hold() {
        on_seeds("frames");
    }

    #[test]
    fn the_seeds_of_heads_hold() {
        on_seeds("head");
    }

    #[test]
    fn the_seeds_of_probes_hold() {
        on_seeds("probe");
    }

    #[test]
    fn the_seeds_of_records_hold() {
        on_seeds("records");
    }

    #[test]
    fn the_seeds_of_state_files_hold() {
        on_seeds("state");
    }

    #[test]
    fn the_seeds_of_watches_hold() {
        on_seeds("watch");
    }

    #[test]
    fn the_seeds_of_websockets_hold() {
        on_seeds("websocket");
    }
}
