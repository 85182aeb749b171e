//! Opens an hour that was saved as a file: the same page, without any proxy (`saved` has it).
//!
//! What is in the file is as little trusted as what proxies send: it is only shown. It must come
//! from our own form, so that no other site can show an operator a page of its making here.

use std::time::Duration;

use axum::{
    extract::{Multipart, State, multipart::MultipartError},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode};
use maud::html;
use serde::Deserialize;
use tokio::time::timeout;

use crate::{
    App,
    export::FORMAT,
    headline::capital,
    history::{History, Sample, Series},
    model::{Answer, Event},
    page::{small_page, sorry},
    poll::View,
    saved::{self, Saved},
    sort::Sort,
    timeline::Seen,
};

/// Twice the hour of 500 backends.
pub(crate) const FILE_MOST: usize = 32 * 1024 * 1024;

/// How long a file may take to come. Somebody is waiting for it, and all others wait meanwhile.
const UPLOAD_LONGEST: Duration = Duration::from_secs(60);

/// Where files are opened.
pub(crate) const PATH: &str = "/open";

#[derive(Deserialize)]
struct File {
    format: String,
    #[serde(default)]
    at: String,
    picture: Answer,
    #[serde(default)]
    events: Vec<Told>,
    totals: Columns,
    #[serde(default)]
    backends: Vec<One>,
}

#[derive(Deserialize)]
struct Told {
    event: Event,
    #[serde(default)]
    proxies: Vec<String>,
}

#[derive(Deserialize)]
struct One {
    pool: String,
    id: String,
    hour: Columns,
}

#[derive(Deserialize)]
struct Columns {
    step_seconds: usize,
    newest_unix: f64,
    rate: Vec<Option<f32>>,
    error_share: Vec<Option<f32>>,
    p50_ms: Vec<Option<f32>>,
    p95_ms: Vec<Option<f32>>,
    p99_ms: Vec<Option<f32>>,
    in_flight: Vec<Option<f32>>,
}

/// `GET /open`
pub(crate) async fn show() -> Response {
    let body = html! {
        p { "Shows an hour that was saved with “the hour as a file”, as the page showed it then. The file is only read; nothing is kept." }
        form method="post" action=(PATH) enctype="multipart/form-data" {
            label for="file" { "File" }
            input id="file" name="file" type="file" accept="application/json,.json" required;
            div.actions { a.button href="/" { "Back" } button.primary type="submit" { "Open" } }
        }
    };
    small_page(StatusCode::OK, "Open a saved hour", body)
}

/// `POST /open`
pub(crate) async fn open(State(app): State<App>, headers: HeaderMap, form: Multipart) -> Response {
    if let Err(problem) = app.gate.check_page(&headers) {
        return sorry(problem.status(), &capital(problem.detail()));
    }
    // One at a time: a file may take a hundred megabytes while it is read.
    let Ok(_permit) = app.open_permit.acquire().await else {
        return sorry(StatusCode::SERVICE_UNAVAILABLE, "The dashboard is stopping.");
    };
    let sent = match receive(form).await {
        Ok(sent) => sent,
        Err((status, why)) => return sorry(status, &why),
    };
    match serde_json::from_slice::<File>(&sent.file) {
        Ok(file) if file.format == FORMAT => page_of(file, &sent),
        Ok(file) => sorry(
            StatusCode::BAD_REQUEST,
            &format!("This file is of the form {:?}; this page reads {FORMAT:?}.", file.format),
        ),
        Err(error) => {
            sorry(StatusCode::BAD_REQUEST, &format!("This is not a saved hour: {error}."))
        }
    }
}

/// What the form sent: the file, and what of it is to be shown.
#[derive(Default)]
struct Sent {
    file: axum::body::Bytes,
    /// The name of a backend's row.
    backend: String,
    sort: String,
}

/// What the form sends, if it comes in time.
async fn receive(form: Multipart) -> Result<Sent, (StatusCode, String)> {
    match timeout(UPLOAD_LONGEST, upload(form)).await {
        Ok(Ok(sent)) => Ok(sent),
        Ok(Err(error)) => Err((error.status(), capital(&error.body_text()))),
        Err(_) => {
            let why = format!("The file did not come within {UPLOAD_LONGEST:?}.");
            Err((StatusCode::REQUEST_TIMEOUT, why))
        }
    }
}

async fn upload(mut form: Multipart) -> Result<Sent, MultipartError> {
    let mut sent = Sent::default();
    while let Some(field) = form.next_field().await? {
        match field.name() {
            Some("file") => sent.file = field.bytes().await?,
            Some("backend") => sent.backend = field.text().await?,
            Some("sort") => sent.sort = field.text().await?,
            _ => {}
        }
    }
    Ok(sent)
}

fn page_of(file: File, sent: &Sent) -> Response {
    let hours: Vec<((String, String), Series)> =
        file.backends.into_iter().map(|one| ((one.pool, one.id), one.hour.series())).collect();
    let history = History::saved(file.totals.series(), hours.iter().cloned());
    let seen = |(number, told): (usize, Told)| Seen {
        number: number as u64,
        event: told.event,
        proxies: told.proxies,
    };
    let events = file.events.into_iter().enumerate().map(seen).collect();
    let saved = Saved {
        view: View::saved(file.picture, events, history),
        at: &file.at,
        // It was read as JSON, which is UTF-8.
        text: str::from_utf8(&sent.file).unwrap_or_default(),
    };
    match saved.backend(&sent.backend) {
        Some((pool, backend)) => {
            let own = |((name, id), _): &&((String, String), Series)| {
                *name == pool.name && *id == backend.id
            };
            let hour = hours.iter().find(own).map(|(_, hour)| hour.clone()).unwrap_or_default();
            saved::backend_page(&saved, pool, backend, &hour)
        }
        None => saved::main_page(&saved, Sort::parse(Some(&sent.sort))),
    }
    .into_response()
}

impl Columns {
    fn series(&self) -> Series {
        let at = |column: &[Option<f32>], index: usize| {
            column.get(index).copied().flatten().unwrap_or(f32::NAN)
        };
        let slots = (0..self.rate.len().min(crate::history::HOUR)).map(|index| Sample {
            rate: at(&self.rate, index),
            error_share: at(&self.error_share, index),
            p50_ms: at(&self.p50_ms, index),
            p95_ms: at(&self.p95_ms, index),
            p99_ms: at(&self.p99_ms, index),
            in_flight: at(&self.in_flight, index),
        });
        Series {
            slots: slots.collect(),
            step: self.step_seconds.clamp(1, 60),
            newest: self.newest_unix,
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, extract::FromRequest};
    use futures_util::{StreamExt, stream};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_that_does_not_come_to_its_end_keeps_nobody_else_waiting_for_long() {
        let begun = "--x\r\ncontent-disposition: form-data; name=\"file\"\r\n\r\n{";
        let parts = stream::iter([Ok::<_, std::io::Error>(begun)]).chain(stream::pending());
        let request = http::Request::post(PATH)
            .header("content-type", "multipart/form-data; boundary=x")
            .body(Body::from_stream(parts));
        let form = Multipart::from_request(request.unwrap(), &()).await.unwrap();
        let start = tokio::time::Instant::now();
        let Err((status, why)) = receive(form).await else { panic!("it is not all there") };
        assert_eq!((status, start.elapsed()), (StatusCode::REQUEST_TIMEOUT, UPLOAD_LONGEST));
        assert!(why.contains("60s"), "{why}");
    }
}
