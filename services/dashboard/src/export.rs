//! The hour as one JSON file: to keep with an incident, to send to somebody, to open again later
//! on this page without any proxy.

use axum::{
    Json,
    extract::{Query, State},
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    App, backends_hour,
    charts::Window,
    history::{HOUR, Sample, Series},
    hour::SLOT,
    page::sorry,
    panels,
    replica::Proxy,
    timeline::Seen,
};

/// Tells our files from others, and this form from later ones.
pub(crate) const FORMAT: &str = "evenkeel-hour-1";

/// `GET /api/export`
pub(crate) async fn file(State(app): State<App>) -> Response {
    // One at a time: the proxies tell the hours of all their backends for it.
    let Ok(_permit) = app.export_permit.acquire().await else {
        return sorry(StatusCode::SERVICE_UNAVAILABLE, "The dashboard is stopping.");
    };
    let view = app.views.newest();
    if view.picture.is_none() {
        let told = "No proxy has answered yet: there is nothing to save. Try again when the page shows backends.";
        return sorry(StatusCode::SERVICE_UNAVAILABLE, told);
    }
    let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
    let pools = || view.picture.iter().flat_map(|picture| &picture.answer.pools);
    let proxies: Vec<Proxy> = view.answering().cloned().collect();
    let count = pools().map(|pool| pool.backends.len()).sum();
    let span = (HOUR as u64, SLOT as u64);
    let mut remembered =
        backends_hour::last(&proxies, &app.token, span, count).await.unwrap_or_default();
    let history = view.history();
    let mut backends = Vec::new();
    for pool in pools() {
        for backend in &pool.backends {
            let told = remembered.remove(&(pool.name.clone(), backend.id.clone()));
            let hour = columns(&told.unwrap_or_else(|| history.hour(&pool.name, &backend.id)));
            backends.push(json!({ "pool": pool.name, "id": backend.id, "hour": hour }));
        }
    }
    drop(history);
    let totals = columns(&view.all_totals());
    // Those that do not answer, too: their silence is part of what was to be seen.
    let proxies = view.proxies.iter().zip(&view.standings).map(|(proxy, standing)| {
        json!({
            "name": proxy.name,
            "answer": proxy.picture.as_ref().map(|picture| &picture.answer),
            "age_seconds": standing.last.as_ref().map(|last| last.age.as_secs_f64()),
            "fault": standing.fault,
        })
    });
    let body = json!({
        "format": FORMAT,
        "at": now,
        "load_balancer": &*app.url,
        "picture": view.picture.as_ref().map(|picture| &picture.answer),
        "age_seconds": view.age().as_secs_f64(),
        "trouble": view.trouble,
        "proxies": proxies.collect::<Vec<_>>(),
        "events_error": view.events_error,
        "events": view.events.iter().map(told).collect::<Vec<_>>(),
        "totals": totals,
        "backends": backends,
    });
    let name = format!("evenkeel-{}.json", now.replace(':', ""));
    let disposition = format!("attachment; filename=\"{name}\"");
    ([(header::CONTENT_DISPOSITION, disposition)], Json(body)).into_response()
}

/// Whose values are wanted.
#[derive(Default, Deserialize)]
pub(crate) struct SeriesQuery {
    window: Option<String>,
    pool: Option<String>,
    id: Option<String>,
}

/// `GET /api/series`: what the charts are drawn from, for the values under the pointer.
pub(crate) async fn series(State(app): State<App>, Query(query): Query<SeriesQuery>) -> Response {
    let window = Window::parse(query.window.as_deref());
    let view = app.views.newest();
    let series = match (&query.pool, &query.id) {
        (Some(pool), Some(id)) => {
            let told = app.closeups.of(&view, pool, id);
            let told = told.and_then(|closeup| closeup.window(&view, window));
            told.unwrap_or_else(|| view.history().backend_window(pool, id, window))
        }
        _ => view.totals(window),
    };
    Json(columns(&series.last(window.seconds(), panels::SLOTS))).into_response()
}

fn told(seen: &Seen) -> Value {
    json!({ "event": seen.event, "proxies": seen.proxies })
}

/// Column by column, which is half the size of slot by slot.
pub(crate) fn columns(series: &Series) -> Value {
    let column = |value: fn(&Sample) -> f32| -> Vec<Value> {
        series.slots.iter().map(|slot| rounded(value(slot))).collect()
    };
    json!({
        "step_seconds": series.step,
        "newest_unix": series.newest,
        "rate": column(|slot| slot.rate),
        "error_share": column(|slot| slot.error_share),
        "p50_ms": column(|slot| slot.p50_ms),
        "p95_ms": column(|slot| slot.p95_ms),
        "p99_ms": column(|slot| slot.p99_ms),
        "in_flight": column(|slot| slot.in_flight),
    })
}

/// Three digits after the point: more is noise. A hole is null.
fn rounded(value: f32) -> Value {
    if value.is_nan() { Value::Null } else { json!((f64::from(value) * 1e3).round() / 1e3) }
}
