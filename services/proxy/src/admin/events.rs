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
use utoipa::{IntoParams, ToSchema};

use super::{Admin, access, openapi::Reading};
use crate::events::NumberedEvent;

/// Between heartbeats: proxies commonly cut what is silent for 30 s or more.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The query of `GET /v1/events`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct After {
    /// Only events with a higher number
    #[param(value_type = Option<u64>)]
    after: Option<String>,
}

/// The timeline.
#[derive(Debug, Serialize, ToSchema)]
struct EventList {
    events: Vec<NumberedEvent>,
    /// The number of the newest event
    last_id: u64,
    /// Of the oldest one that is kept: events before it are forgotten
    oldest_id: Option<u64>,
}

/// What happened: as a list, or live
///
/// With `Accept: text/event-stream` server-sent events, from `Last-Event-ID` on, with a comment
/// every 15 s. Where events are forgotten that were not sent yet, a message named `gap` comes first.
/// It ends before an event that whoever reads may no longer read, because a token was replaced.
#[utoipa::path(
    get,
    path = "/v1/events",
    params(
        After,
        ("Last-Event-ID" = Option<u64>, Header, description = "The last event that was seen"),
    ),
    responses(
        (status = 200, content((EventList = "application/json"), (String = "text/event-stream"))),
        Reading,
    )
)]
pub(super) async fn events(
    State(admin): State<Admin>,
    Query(query): Query<After>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let last_seen = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let asked = query.after.as_deref().map(number).transpose()?;
    let after = last_seen.map(number).transpose()?.or(asked).unwrap_or(0);
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if accept.is_some_and(|accept| accept.contains("text/event-stream")) {
        return Ok(beating(live(admin, after, headers)));
    }
    let events = admin.control.events.after(after);
    let last_id = *admin.control.events.subscribe().borrow();
    let oldest_id = admin.control.events.oldest();
    Ok(Json(EventList { events, last_id, oldest_id }).into_response())
}

/// An event's number as the document says it: 64 bits with a sign, as most languages read them.
fn number(text: &str) -> Result<u64, Problem> {
    text.parse::<u64>().ok().filter(|id| *id <= i64::MAX as u64).ok_or_else(|| {
        Problem::new(StatusCode::BAD_REQUEST, "after: expected the number of an event")
    })
}

/// A stream that is never silent for long.
fn beating(events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Response {
    Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response()
}

/// All events to come, as long as `headers` may read: a token may be replaced meanwhile.
fn live(
    admin: Admin,
    after: u64,
    headers: HeaderMap,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let changes = admin.control.events.subscribe();
    let shutdown = admin.shutdown.clone();
    let begin = (admin, changes, after, headers);
    let batches = stream::unfold(begin, |(admin, mut changes, after, headers)| async move {
        loop {
            // Marked as seen first: what comes while we read is found in the next round.
            changes.borrow_and_update();
            let events = admin.control.events.after(after);
            if let Some(last) = events.last().map(|event| event.id) {
                let told = messages(after, events);
                let may_read = access::may_still_read(&admin, &headers);
                return may_read.then_some((told, (admin, changes, last, headers)));
            }
            changes.changed().await.ok()?;
        }
    });
    batches
        .flat_map(|messages| stream::iter(messages.into_iter().map(Ok)))
        // An endless answer must not hold up a stop.
        .take_until(async move { shutdown.requested().await })
}

/// The messages of events that were found after number `after`. Before them one of a gap, if there
/// were others that are forgotten: at the beginning, or because more came than are kept while the
/// reader took the ones before.
fn messages(after: u64, events: Vec<NumberedEvent>) -> Vec<Event> {
    let oldest = events.first().map(|event| event.id);
    let gap = oldest.filter(|oldest| after != 0 && after + 1 < *oldest).map(|oldest| {
        let missed = serde_json::json!({"after": after, "oldest_id": oldest});
        Event::default().event("gap").data(missed.to_string())
    });
    let events = events.into_iter().map(|event| {
        let json = serde_json::to_string(&event).unwrap_or_default();
        Event::default().id(event.id.to_string()).data(json)
    });
    gap.into_iter().chain(events).collect()
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::{clock::Clock, events::Events};

    #[tokio::test]
    async fn what_came_too_fast_for_a_reader_is_told_as_a_gap_at_any_time() {
        let clock = Clock::start();
        let events = Events::new(clock);
        let add = |count| {
            for _ in 0..count {
                let message = "x".to_owned();
                let (at, kind) = (clock.now(), balance::EventKind::Health);
                let event = balance::Event { at, kind, backend: None, message, actor: None };
                events.add("default", event);
            }
        };
        let before = *events.subscribe().borrow();
        add(3);
        let named = |after| {
            let told: Vec<String> = messages(after, events.after(after))
                .iter()
                .map(|event| format!("{event:?}"))
                .collect();
            (told.len(), told[0].contains("gap"))
        };
        assert_eq!(named(0), (3, false), "whoever has seen nothing misses nothing");
        assert_eq!(named(before + 1), (2, false));
        add(2_000);
        assert_eq!(named(before + 3), (1_001, true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_on_which_nothing_happens_has_a_comment_every_fifteen_seconds() {
        let quiet = stream::iter([Ok(Event::default().data("first"))]).chain(stream::pending());
        let mut body = beating(quiet).into_body().into_data_stream();
        let start = Instant::now();
        let mut seen = Vec::new();
        for _ in 0..3 {
            let text = String::from_utf8(body.next().await.unwrap().unwrap().to_vec()).unwrap();
            seen.push((text, start.elapsed().as_secs()));
        }
        let expected = [("data: first\n\n", 0), (":\n\n", 15), (":\n\n", 30)];
        assert_eq!(seen, expected.map(|(text, at)| (text.to_owned(), at)));
    }
}
