//! Answers of a chosen delay, status, size or pace.
//!
//! Everything is made while it is sent, so that a gigabyte costs no more memory than a kilobyte,
//! and everything has a limit, so that a typing error does not occupy a connection for a day.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{FromRequestParts, Path, Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use chassis::{problem::Problem, units};
use futures_util::stream;
use http::{HeaderValue, StatusCode, header, request::Parts};
use serde::Deserialize;
use serde_json::json;

use crate::state::Server;

/// Longer than any timeout of a proxy that a test would wait for.
pub(crate) const DELAY_MAX: Duration = Duration::from_secs(5 * 60);
/// Enough to fill every buffer on the way many times over.
const SIZE_MAX: usize = 1 << 30;
/// More lines than anyone reads; with the pace at its shortest they take seconds.
const LINES_MAX: u32 = 100_000;
/// A stream may be this long in all, which is longer than any idle timeout on the way.
const STREAM_MAX: Duration = Duration::from_secs(10 * 60);
/// The pace of a stream when none is asked for: fast enough to watch.
const INTERVAL_DEFAULT: &str = "100ms";

/// What `/bytes` repeats: 64 bytes, so that each byte follows from its position.
const PATTERN: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-\n";
/// One write of `/bytes`: large enough to spare system calls, small enough for the cache.
const CHUNK: usize = 64 * 1024;
static CHUNK_BYTES: [u8; CHUNK] = repeat_pattern();

const fn repeat_pattern() -> [u8; CHUNK] {
    let mut chunk = [0; CHUNK];
    let mut index = 0;
    while index < CHUNK {
        chunk[index] = PATTERN[index % PATTERN.len()];
        index += 1;
    }
    chunk
}

/// The part of the path that says what is wanted.
pub(crate) struct Wanted(String);

impl<S: Send + Sync> FromRequestParts<S> for Wanted {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(text)| Self(text)).map_err(|rejection| bad(rejection.body_text()))
    }
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

/// `/delay/{duration}`: answers after a while.
pub(crate) async fn delay(
    State(server): State<Arc<Server>>,
    Wanted(text): Wanted,
) -> Result<Response, Problem> {
    let delay =
        units::duration(&text).ok().filter(|delay| *delay <= DELAY_MAX).ok_or_else(|| {
            let most = humantime::format_duration(DELAY_MAX);
            bad(format!("expected a delay of at most {most} such as /delay/250ms, not {text:?}"))
        })?;
    tokio::time::sleep(delay).await;
    let delay = humantime::format_duration(delay).to_string();
    Ok(Json(json!({ "name": server.name(), "delay": delay })).into_response())
}

/// `/status/{code}`: answers with a status.
pub(crate) async fn status(
    State(server): State<Arc<Server>>,
    Wanted(text): Wanted,
) -> Result<Response, Problem> {
    let status = units::whole(&text, 200, 599)
        .ok()
        .and_then(|code| StatusCode::from_u16(u16::try_from(code).ok()?).ok())
        .ok_or_else(|| bad(format!("expected a final status from 200 to 599, not {text:?}")))?;
    let no_body = [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED];
    if no_body.contains(&status) {
        return Ok(status.into_response());
    }
    let body = Json(json!({ "name": server.name(), "status": status.as_u16() }));
    Ok((status, body).into_response())
}

/// `/bytes/{size}`: that many bytes, with a `Content-Length`.
pub(crate) async fn bytes(Wanted(text): Wanted) -> Result<Response, Problem> {
    let size = units::size(&text).ok().filter(|size| *size <= SIZE_MAX).ok_or_else(|| {
        bad(format!("expected a size of at most 1GiB such as 1000 or 64KiB, not {text:?}"))
    })?;
    let chunks = stream::unfold(size, |left| async move {
        let chunk = Bytes::from_static(&CHUNK_BYTES[..left.min(CHUNK)]);
        (left > 0).then(|| (Ok::<_, Infallible>(chunk.clone()), left - chunk.len()))
    });
    let mut response = Response::new(Body::from_stream(chunks));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Ok(response)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pace {
    interval: Option<String>,
}

/// `/stream/{lines}?interval=100ms`: a line of JSON at once and one after each interval.
pub(crate) async fn stream(
    State(server): State<Arc<Server>>,
    Wanted(text): Wanted,
    pace: Result<Query<Pace>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(pace) = pace.map_err(|rejection| bad(rejection.body_text()))?;
    let lines = units::whole(&text, 0, LINES_MAX)
        .map_err(|expected| bad(format!("lines: expected {expected}, not {text:?}")))?;
    let interval = pace.interval.as_deref().unwrap_or(INTERVAL_DEFAULT);
    let interval = units::duration(interval)
        .map_err(|expected| bad(format!("interval: expected {expected}, not {interval:?}")))?;
    if interval.saturating_mul(lines) > STREAM_MAX {
        let most = humantime::format_duration(STREAM_MAX);
        return Err(bad(format!("{lines} lines at this interval take more than {most}")));
    }
    let chunks = stream::unfold((1, server), move |(line, server)| async move {
        if line > lines {
            return None;
        }
        if line > 1 {
            tokio::time::sleep(interval).await;
        }
        let text = json!({ "line": line, "of": lines, "name": server.name() });
        Some((Ok::<_, Infallible>(format!("{text}\n")), (line + 1, server)))
    });
    let content_type = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((content_type, Body::from_stream(chunks)).into_response())
}
