//! The live feed: server-sent events with the parts of the page that changed.
//!
//! Nothing is queued for a client: each time it can take more, it gets the difference between
//! what it has and the newest view. A slow client sees fewer steps, not old ones.
//!
//! A script hears of an event when all of it has come, and of hundreds of rows the first one is more
//! than a megabyte: on a slow link that is as silent as a dead feed for longer than a page may trust
//! one. So the page has long ones sent in parts, which tell it nothing but that the feed lives.
//!
//! What is under way on such a link grows old there, more so where buffers on the way hold a lot. So
//! everything that is whole says how long after the feed began it was made, by a clock that nobody
//! sets: the page knows when the feed began, and so how old what it shows is.

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    extract::{ConnectInfo, Query, State},
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use chassis::{problem::Problem, shutdown::Shutdown};
use futures_util::stream;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::Instant};

use crate::{
    App,
    charts::Window,
    closeup::CloseUps,
    frame::{Frame, Patch},
    page::{self, Looks, Subject},
    permit::Gate,
    places::Place,
    poll::View,
};

/// Between two updates of a page with hundreds of rows: nobody reads them by the second, and the
/// browser then needs half of what once a second costs it.
const PACE: Duration = Duration::from_secs(2);
/// Rows from which it counts.
const ROWS_MANY: usize = 200;

/// Only a feed on which nothing changes has any. A page must not be green for long over one that died
/// without a word, and can tell after two of them; they are a few bytes each.
const HEARTBEAT: Duration = Duration::from_secs(3);

/// Longer events are sent in parts of this size: even 64 kbit/s bring one in half the time after which
/// a page gives up a silent feed.
const PART_BYTES: usize = 32 * 1024;

/// What is looked at.
#[derive(Default, Deserialize)]
pub(crate) struct FeedQuery {
    window: Option<String>,
    pool: Option<String>,
    id: Option<String>,
    /// There if whoever reads puts parts together, as the page does; the rest gets whole events.
    parts: Option<String>,
}

/// `GET /live`
pub(crate) async fn feed(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Query(query): Query<FeedQuery>,
    headers: HeaderMap,
) -> Response {
    let busy = |detail: &str| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
            .with_header(header::RETRY_AFTER, HeaderValue::from_static("5"))
            .into_response()
    };
    if app.shutdown.is_requested() {
        return busy("the dashboard is stopping");
    }
    let may_change = app.gate.standing(peer.ip(), &headers).is_ok();
    let is_known = may_change || app.gate.guards_reading();
    let place = match app.live_places.take((!is_known).then_some(peer.ip())) {
        Ok(place) => place,
        Err(why) => return busy(why),
    };
    let client = Client {
        looks: Looks {
            subject: match (query.pool, query.id) {
                (Some(pool), Some(id)) => Subject::Backend(pool, id),
                _ => Subject::All,
            },
            window: Window::parse(query.window.as_deref()),
            may_change,
        },
        url: app.url.to_string(),
        gate: Arc::clone(&app.gate),
        reader: (peer.ip(), headers),
        views: app.views.subscribe(),
        closeups: Arc::clone(&app.closeups),
        shutdown: app.shutdown.clone(),
        part_bytes: query.parts.map_or(usize::MAX, |_| PART_BYTES),
        parts: VecDeque::new(),
        has: None,
        began: Instant::now(),
        sent: Instant::now(),
        _place: place,
    };
    let events = stream::unfold(client, |mut client| async move {
        let began = client.began;
        let event = or_beat(client.next(), began).await?;
        Some((Ok::<_, Infallible>(event), client))
    });
    Sse::new(events).into_response()
}

/// The next event, or a beat where there is none for a while: an event and not a comment, so that the
/// script can tell a quiet feed from a dead one. It says that there was nothing newer at that time.
async fn or_beat(next: impl Future<Output = Option<Event>>, began: Instant) -> Option<Event> {
    match tokio::time::timeout(HEARTBEAT, next).await {
        Ok(event) => event,
        Err(_) => Some(Event::default().event("beat").data(millis_since(began).to_string())),
    }
}

fn millis_since(began: Instant) -> u64 {
    began.elapsed().as_millis().try_into().unwrap_or(u64::MAX)
}

/// A patch as it is sent.
#[derive(Serialize)]
struct Made<'a> {
    /// How long after the feed began.
    made_ms: u64,
    #[serde(flatten)]
    patch: Patch<'a>,
}

/// One connected page.
struct Client {
    looks: Looks,
    url: String,
    gate: Arc<Gate>,
    /// Who reads, and by what.
    reader: (IpAddr, HeaderMap),
    views: watch::Receiver<Arc<View>>,
    closeups: Arc<CloseUps>,
    shutdown: Shutdown,
    /// At most so many of a patch are sent at once.
    part_bytes: usize,
    /// What is still to be sent of the newest patch.
    parts: VecDeque<Event>,
    /// What the page shows when it has all of that.
    has: Option<Arc<Frame>>,
    began: Instant,
    /// When it was sent something.
    sent: Instant,
    _place: Place,
}

impl Client {
    /// The next difference; the end of the feed at a stop, and when whoever reads may no longer. What
    /// was waited for is not lost if the wait is given up.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if self.shutdown.is_requested() {
                return None;
            }
            if let Some(part) = self.parts.pop_front() {
                self.sent = Instant::now();
                return Some(part);
            }
            if self.has.as_ref().is_some_and(|frame| frame.rows() >= ROWS_MANY) {
                tokio::select! {
                    () = tokio::time::sleep_until(self.sent + PACE) => {}
                    _ = self.shutdown.requested() => return None,
                }
            }
            // A session ends, and a token is replaced: a page that is open for days ends with it.
            self.gate.check_reading(self.reader.0, &self.reader.1).ok()?;
            let view = Arc::clone(&self.views.borrow_and_update());
            let closeup = match &self.looks.subject {
                Subject::Backend(pool, id) => self.closeups.of(&view, pool, id),
                Subject::All => None,
            };
            let frame = page::frame(&view, &self.url, &self.looks, closeup.as_deref());
            let made_ms = millis_since(self.began);
            let json = frame
                .patch_since(self.has.as_deref())
                .and_then(|patch| serde_json::to_string(&Made { made_ms, patch }).ok());
            self.has = Some(frame);
            if let Some(json) = json {
                self.parts = in_parts(&json, self.part_bytes);
                continue;
            }
            tokio::select! {
                changed = self.views.changed() => changed.ok()?,
                _ = self.shutdown.requested() => return None,
            }
        }
    }
}

/// A patch as events: its text up to the last one's is in those named `part` before it.
fn in_parts(json: &str, bytes_most: usize) -> VecDeque<Event> {
    let mut parts = VecDeque::new();
    let mut rest = json;
    while rest.len() > bytes_most {
        let mut end = bytes_most;
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let (part, more) = rest.split_at(end);
        parts.push_back(Event::default().event("part").data(part));
        rest = more;
    }
    parts.push_back(Event::default().event("patch").data(rest));
    parts
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;
    use crate::assets::SCRIPT;

    #[tokio::test]
    async fn parts_end_between_characters_and_give_the_whole_text_together() {
        let json = r#"{"html":{"a":" – – …"}}"#;
        for bytes_most in 4..=json.len() {
            let events = in_parts(json, bytes_most).into_iter().map(Ok::<_, Infallible>);
            let answer = Sse::new(stream::iter(events)).into_response();
            let text = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
            let text = String::from_utf8(text.to_vec()).unwrap();
            let events: Vec<&str> = text.split_terminator("\n\n").collect();
            let (last, parts) = events.split_last().unwrap();
            let mut whole = String::new();
            for part in parts {
                let part = part.strip_prefix("event: part\ndata: ").unwrap();
                assert!(part.len() <= bytes_most, "{part}");
                whole += part;
            }
            whole += last.strip_prefix("event: patch\ndata: ").unwrap();
            assert_eq!(whole, json);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_feed_without_news_beats_often_enough_for_the_page() {
        let start = Instant::now();
        let beats = stream::unfold((), move |()| async move {
            let event = or_beat(std::future::pending(), start).await?;
            Some((Ok::<_, Infallible>(event), ()))
        });
        let mut body = Sse::new(beats).into_response().into_body().into_data_stream();
        for beats in 1..=3 {
            let sent = body.next().await.unwrap().unwrap();
            let at = beats * HEARTBEAT.as_millis();
            assert_eq!(sent, format!("event: beat\ndata: {at}\n\n"), "it tells how old it is");
            assert_eq!(start.elapsed().as_millis(), at);
        }
        // One may be late; and nobody is to trust for longer what is dead.
        let script = SCRIPT.content;
        let told = script.split("SILENCE_MS = ").nth(1).and_then(|rest| rest.split(';').next());
        let patience: u128 = told.unwrap().replace('_', "").parse().unwrap();
        assert!(patience > 2 * HEARTBEAT.as_millis() && patience <= 10_000, "{patience} ms");
    }
}
