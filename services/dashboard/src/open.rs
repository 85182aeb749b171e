//! Opens an hour that was saved as a file: the same page, without any proxy (`saved` has it).
//!
//! What is in the file is as little trusted as what proxies send: it is only shown. It must come
//! from our own form, so that no other site can show an operator a page of its making here.
//!
//! Anybody may send one who may read. So what becomes of a file is bounded (`file`), one is in
//! memory at a time, and the page, which carries the file, is written while it is sent.

mod extent;
mod file;

use std::{io, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, Multipart, Request, State, multipart::MultipartError},
    response::{Html, IntoResponse, Response},
};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, StatusCode, header};
use maud::{Markup, html};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::timeout,
};

use self::file::{File, Told};
use crate::{
    App,
    headline::capital,
    history::History,
    page::{small_page, sorry},
    poll::View,
    saved::{self, Saved},
    sort::Sort,
    timeline::Seen,
};

/// Twice the hour of 500 backends, which is 7 MiB, and some room.
pub(crate) const FILE_MOST: usize = 16 * 1024 * 1024;

/// How long a file may take to come. Somebody is waiting for it, and all others wait meanwhile.
const UPLOAD_LONGEST: Duration = Duration::from_secs(60);

/// How long the page of it may take to go, for the same reason.
const PAGE_LONGEST: Duration = Duration::from_secs(60);

/// Bytes of the file that are written on the page at a time.
const PIECE: usize = 64 * 1024;

/// Where files are opened.
pub(crate) const PATH: &str = "/open";

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
pub(crate) async fn open(State(app): State<App>, request: Request) -> Response {
    if let Err(problem) = app.gate.check_page(request.headers()) {
        return sorry(problem.status(), &capital(problem.detail()));
    }
    if length(request.headers()) > FILE_MOST {
        let _ = timeout(UPLOAD_LONGEST, discard(request.into_body())).await;
        return too_large();
    }
    let form = match Multipart::from_request(request, &()).await {
        Ok(form) => form,
        Err(no_form) => return sorry(no_form.status(), &capital(&no_form.body_text())),
    };
    // One at a time: a file may take many megabytes while it is read.
    let Ok(permit) = Arc::clone(&app.open_permit).acquire_owned().await else {
        return sorry(StatusCode::SERVICE_UNAVAILABLE, "The dashboard is stopping.");
    };
    let sent = match receive(form).await {
        Ok(sent) => sent,
        Err((StatusCode::PAYLOAD_TOO_LARGE, _)) => return too_large(),
        Err((status, why)) => return sorry(status, &why),
    };
    let page = str::from_utf8(&sent.file)
        .map_err(|_| "This is not a saved hour: it is not text.".to_owned())
        .and_then(File::read)
        .map(|file| page_of(file, &sent));
    match page {
        Ok(page) => with_file(&page, sent.file, permit),
        Err(why) => sorry(StatusCode::BAD_REQUEST, &why),
    }
}

fn too_large() -> Response {
    let most = FILE_MOST / 1024 / 1024;
    let why = format!("The file is larger than {most} MiB, the most that is opened here.");
    sorry(StatusCode::PAYLOAD_TOO_LARGE, &why)
}

/// The bytes that are announced.
fn length(headers: &HeaderMap) -> usize {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    length.and_then(|length| length.parse().ok()).unwrap_or(0)
}

/// Takes what is sent and keeps nothing: a browser that is cut off while it sends shows no answer.
async fn discard(body: Body) {
    let mut parts = body.into_data_stream();
    while let Some(Ok(_)) = parts.next().await {}
}

/// What the form sent: the file, and what of it is to be shown.
#[derive(Default)]
struct Sent {
    file: Bytes,
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

fn page_of(file: File, sent: &Sent) -> Markup {
    let hours = || file.backends().iter();
    let recent = hours().map(|one| ((one.pool.clone(), one.id.clone()), &one.hour));
    let history = History::saved(&file.totals, recent);
    let seen = |(number, told): (usize, &Told)| Seen {
        number: number as u64,
        event: told.event.clone(),
        proxies: told.proxies.clone(),
    };
    let events = file.events.iter().enumerate().map(seen).collect();
    let view = View::saved(file.picture.clone(), file.standings(), events, history);
    let mut view = view.in_trouble(file.trouble.clone(), file.age());
    view.events_error.clone_from(&file.events_error);
    let saved = Saved { view, at: &file.at };
    match saved.backend(&sent.backend) {
        Some((pool, backend)) => {
            let own = hours().find(|one| one.pool == pool.name && one.id == backend.id);
            let hour = own.map(|one| one.hour.clone()).unwrap_or_default();
            saved::backend_page(&saved, pool, backend, &hour)
        }
        None => saved::main_page(&saved, Sort::parse(Some(&sent.sort))),
    }
}

/// The page with the file in its place. Whoever takes it too slowly gets no whole one, because the
/// next file waits for it.
fn with_file(page: &Markup, file: Bytes, permit: OwnedSemaphorePermit) -> Response {
    let (before, after) = page.0.split_once(saved::FILE).unwrap_or((&page.0, ""));
    let (before, after) = (before.to_owned(), after.to_owned());
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let whole = write(&sender, (before, file, after));
        if timeout(PAGE_LONGEST, whole).await.is_err() {
            drop(permit);
            let _ = sender.send(Err(io::ErrorKind::TimedOut.into())).await;
        }
    });
    let parts =
        stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
    Html(Body::from_stream(parts)).into_response()
}

async fn write(
    sender: &mpsc::Sender<Result<Bytes, io::Error>>,
    (before, file, after): (String, Bytes, String),
) {
    // Who has left takes nothing more.
    let _ = sender.send(Ok(before.into())).await;
    for piece in file.chunks(PIECE) {
        if sender.send(Ok(escaped(piece))).await.is_err() {
            return;
        }
    }
    let _ = sender.send(Ok(after.into())).await;
}

/// As it is written within a `textarea`.
fn escaped(text: &[u8]) -> Bytes {
    let mut written = Vec::with_capacity(text.len());
    for byte in text {
        match byte {
            b'&' => written.extend_from_slice(b"&amp;"),
            b'<' => written.extend_from_slice(b"&lt;"),
            other => written.push(*other),
        }
    }
    written.into()
}

#[cfg(test)]
mod tests {
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

    #[tokio::test(start_paused = true)]
    async fn a_page_that_is_not_taken_keeps_nobody_else_waiting_for_long() {
        let permits = Arc::new(tokio::sync::Semaphore::new(1));
        let permit = Arc::clone(&permits).acquire_owned().await.unwrap();
        let page = maud::PreEscaped(format!("<textarea>{}</textarea>", saved::FILE));
        let answer = with_file(&page, vec![b'<'; 10 * PIECE].into(), permit);
        let mut body = answer.into_body().into_data_stream();
        assert_eq!(body.next().await.unwrap().unwrap(), "<textarea>");
        let start = tokio::time::Instant::now();
        let _next = permits.acquire().await.unwrap();
        assert_eq!(start.elapsed(), PAGE_LONGEST);
        let rest: Vec<_> = body.collect().await;
        assert!(rest.last().unwrap().is_err(), "what was cut off must not look whole");
    }
}
