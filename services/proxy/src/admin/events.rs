//! The timeline over HTTP: as a list, or live as server-sent events.

use std::{convert::Infallible, time::Duration};

use axum::{
    Json,
    extract::{Query, State},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use chassis::problem::Problem;
use futures_util::stream::{self, Stream, StreamExt};
use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};

use super::Admin;
use crate::events::NumberedEvent;

/// Between heartbeats: proxies commonly cut what is silent for 30 s or more.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The query of `GET /v1/events`.
#[derive(Debug, Deserialize)]
pub(super) struct After {
    after: Option<String>,
}

#[derive(Debug, Serialize)]
struct List {
    events: Vec<NumberedEvent>,
    last_id: u64,
}

/// `GET /v1/events`: with `Accept: text/event-stream` live, from `Last-Event-ID` on; otherwise the
/// events after `?after=ID`.
pub(super) async fn events(
    State(admin): State<Admin>,
    Query(query): Query<After>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let last_seen = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let after = match last_seen.or(query.after.as_deref()) {
        None => 0,
        Some(text) => text.parse().map_err(|_| {
            Problem::new(StatusCode::BAD_REQUEST, "after: expected the number of an event")
        })?,
    };
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if accept.is_some_and(|accept| accept.contains("text/event-stream")) {
        let live = Sse::new(live(admin, after));
        return Ok(live.keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response());
    }
    let events = admin.control.events.after(after);
    let last_id = *admin.control.events.subscribe().borrow();
    Ok(Json(List { events, last_id }).into_response())
}

fn live(admin: Admin, after: u64) -> impl Stream<Item = Result<Event, Infallible>> {
    let changes = admin.control.events.subscribe();
    let shutdown = admin.shutdown.clone();
    let batches =
        stream::unfold((admin, changes, after), |(admin, mut changes, after)| async move {
            loop {
                // Marked as seen first: what comes while we read is found in the next round.
                changes.borrow_and_update();
                let events = admin.control.events.after(after);
                if let Some(last) = events.last() {
                    let after = last.id;
                    return Some((events, (admin, changes, after)));
                }
                changes.changed().await.ok()?;
            }
        });
    batches
        .flat_map(stream::iter)
        .map(|event| {
            let json = serde_json::to_string(&event).unwrap_or_default();
            Ok(Event::default().id(event.id.to_string()).data(json))
        })
        // An endless answer must not hold up a stop.
        .take_until(async move { shutdown.requested().await })
}
