//! The lines of a watch: one JSON document each, for as long as the watch lasts.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::api::{Failure, Kind};

/// Of a line. A slice has at most 1000 endpoints, each of at most some kilobytes.
const LINE_MOST: usize = 8 * 1024 * 1024;

/// What came of waiting for lines.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// All whole lines that have come so far.
    Lines(Vec<String>),
    /// The watch has ended, in good order or because the connection broke.
    End,
}

/// The lines of a watch's body.
#[derive(Debug)]
pub(super) struct Lines {
    body: Incoming,
    part: Vec<u8>,
    /// When the server should have ended the watch.
    end: Instant,
}

impl Lines {
    pub(super) fn new(body: Incoming, longest: Duration) -> Self {
        Self { body, part: Vec::new(), end: Instant::now() + longest }
    }

    /// Waits for lines. Several that came together are given together, so that a rollout of many
    /// pods is a few changes of the pool and not as many as it has steps.
    pub(super) async fn next(&mut self) -> Result<Came, Failure> {
        loop {
            let Ok(frame) = tokio::time::timeout_at(self.end, self.body.frame()).await else {
                return Ok(Came::End);
            };
            let Some(Ok(frame)) = frame else { return Ok(Came::End) };
            let Ok(data) = frame.into_data() else { continue };
            let lines = take_lines(&mut self.part, &data)?;
            if !lines.is_empty() {
                return Ok(Came::Lines(lines));
            }
        }
    }
}

pub(super) fn take_lines(part: &mut Vec<u8>, data: &[u8]) -> Result<Vec<String>, Failure> {
    part.extend_from_slice(data);
    let whole = part.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let rest = part.split_off(whole);
    let lines = std::mem::replace(part, rest);
    if part.len() > LINE_MOST {
        let why = "the Kubernetes API server sends a line without end";
        return Err(Failure { kind: Kind::Garbled, ..Failure::new(why) });
    }
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    Ok(lines.map(|line| String::from_utf8_lossy(line).into_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_whatever_the_pieces() {
        let text = b"{\"a\":1}\n\n{\"b\":2}\r\n{\"c\"";
        for size in 1..text.len() {
            let mut part = Vec::new();
            let pieces = text.chunks(size);
            let lines: Vec<String> =
                pieces.flat_map(|piece| take_lines(&mut part, piece).unwrap()).collect();
            let lines: Vec<&str> = lines.iter().map(|line| line.trim()).collect();
            assert_eq!(lines, ["{\"a\":1}", "{\"b\":2}"], "in pieces of {size}");
            assert_eq!(part, b"{\"c\"");
        }
    }

    #[test]
    fn a_line_without_end_is_given_up() {
        let (mut part, data) = (Vec::new(), vec![b'x'; LINE_MOST / 2 + 1]);
        take_lines(&mut part, &data).unwrap();
        assert!(take_lines(&mut part, &data).unwrap_err().why.contains("without end"));
    }
}
