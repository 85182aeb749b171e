//! Opens an hour that was saved as a file: the same page, without any proxy.
//!
//! What is in the file is as little trusted as what proxies send: it is only shown. It must come
//! from our own form, so that no other site can show an operator a page of its making here.

use axum::{
    extract::{Multipart, State, multipart::MultipartError},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode};
use maud::html;
use serde::Deserialize;

use crate::{
    App,
    charts::Window,
    export::FORMAT,
    headline::capital,
    history::{History, Sample, Series},
    model::{Answer, Event},
    page::{self, Looks, Subject, small_page, sorry},
    poll::View,
    timeline::Seen,
};

/// Twice the hour of 500 backends.
pub(crate) const FILE_MOST: usize = 32 * 1024 * 1024;

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
        form method="post" action="/open" enctype="multipart/form-data" {
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
    let bytes = match upload(form).await {
        Ok(bytes) => bytes,
        Err(error) => return sorry(error.status(), &capital(&error.body_text())),
    };
    match serde_json::from_slice::<File>(&bytes) {
        Ok(file) if file.format == FORMAT => page_of(file),
        Ok(file) => sorry(
            StatusCode::BAD_REQUEST,
            &format!("This file is of the form {:?}; this page reads {FORMAT:?}.", file.format),
        ),
        Err(error) => {
            sorry(StatusCode::BAD_REQUEST, &format!("This is not a saved hour: {error}."))
        }
    }
}

async fn upload(mut form: Multipart) -> Result<axum::body::Bytes, MultipartError> {
    while let Some(field) = form.next_field().await? {
        if field.name() == Some("file") {
            return field.bytes().await;
        }
    }
    Ok(axum::body::Bytes::new())
}

fn page_of(file: File) -> Response {
    let backends = file.backends.into_iter().map(|one| ((one.pool, one.id), one.hour.series()));
    let history = History::saved(file.totals.series(), backends);
    let seen = |(number, told): (usize, Told)| Seen {
        number: number as u64,
        event: told.event,
        proxies: told.proxies,
    };
    let events = file.events.into_iter().enumerate().map(seen).collect();
    let view = View::saved(file.picture, events, history);
    let looks = Looks { subject: Subject::All, window: Window::Hour, may_change: false };
    let frame = page::frame(&view, "a file", &looks, None);
    page::saved_page(&frame, &file.at).into_response()
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
