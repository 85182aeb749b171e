//! The pods of a Service, as the Kubernetes API tells of them: a list, and from then on a watch.
//!
//! Beside DNS, which knows only who is ready, and that late, a watch tells of a change within
//! milliseconds, tells who is going away and serves still, and tells pods by their UIDs. When the
//! API server is away, the last good set stays, however long that takes.

mod api;
mod lines;
mod slices;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use balance::Found;
use serde::Deserialize;
use tokio::time::Instant;

pub(crate) use self::api::retry_after;
use self::{
    api::{Failure, Kind, Status},
    lines::{Came, Lines},
    slices::{Metadata, Slice},
};
use crate::{control::Control, settings::KubernetesApi, source::Service};

/// How long a watch is asked to last, at random, so that the watches of many proxies do not end in
/// step. Each end costs one question.
const WATCH_SECONDS: std::ops::Range<u64> = 240..300;

/// A server that has not ended a watch so long after its time has forgotten it.
const WATCH_LATE: Duration = Duration::from_secs(10);

/// A watch that ends sooner may do so again and again.
const WATCH_SHORTEST: Duration = Duration::from_secs(1);

/// The longest wait after a first failure; each further one doubles it.
const BACK_OFF_FIRST: Duration = Duration::from_millis(500);

/// The longest wait. An API server that is back is asked by all proxies within this time.
const BACK_OFF_MOST: Duration = Duration::from_secs(30);

/// All that is known of a Service's slices, and as of when.
#[derive(Debug)]
struct Known {
    slices: BTreeMap<String, Slice>,
    version: String,
}

#[derive(Debug, Deserialize)]
struct List {
    metadata: ListMetadata,
    #[serde(default)]
    items: Option<Vec<Slice>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMetadata {
    resource_version: String,
}

/// A line of a watch.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", content = "object", rename_all = "UPPERCASE")]
enum Event {
    Added(Slice),
    Modified(Slice),
    Deleted(Deleted),
    /// Nothing has changed up to this version.
    Bookmark(Bookmark),
    Error(Status),
}

#[derive(Debug, Deserialize)]
struct Deleted {
    metadata: Metadata,
}

#[derive(Debug, Deserialize)]
struct Bookmark {
    metadata: ListMetadata,
}

/// Follows a Service until the process ends.
pub(super) async fn run(control: Arc<Control>, service: Service, api: KubernetesApi) {
    let mut known: Option<Known> = None;
    let mut failures = 0;
    loop {
        let Some(as_of) = &mut known else {
            match list(&api, &service).await {
                // No end of trouble yet: the watch may fail each time.
                Ok(listed) => {
                    tell(&control, &service, &listed);
                    known = Some(listed);
                }
                Err(failure) => rest(&control, Some(&failure), &mut failures).await,
            }
            continue;
        };
        let start = Instant::now();
        let ended = watch(&control, &api, &service, as_of, &mut failures).await;
        let is_sound = start.elapsed() >= WATCH_SHORTEST;
        if is_sound {
            failures = 0;
        }
        match ended {
            Ok(()) if is_sound => {}
            Ok(()) => rest(&control, None, &mut failures).await,
            Err(failure) => {
                if failure.kind != Kind::NoAnswer {
                    known = None;
                }
                rest(&control, Some(&failure), &mut failures).await;
            }
        }
    }
}

/// Tells of a failure, if there is something to tell, and waits.
async fn rest(control: &Control, failure: Option<&Failure>, failures: &mut u32) {
    // To have fallen behind happens, and is no trouble.
    if let Some(failure) = failure.filter(|failure| failure.kind != Kind::Gone) {
        control.apply(|pool, now| pool.discovery_failed(&failure.why, now));
    }
    *failures += 1;
    let wanted = failure.and_then(|failure| failure.retry_after).unwrap_or_default();
    let wanted = wanted.min(BACK_OFF_MOST);
    tokio::time::sleep(wanted.max(back_off(*failures, fastrand::f64()))).await;
}

/// How long to wait after so many failures in a row, where `random` is from 0 to 1: from half of
/// the time to all of it. Never less, because an API server in trouble needs rest.
fn back_off(failures: u32, random: f64) -> Duration {
    let doubled = BACK_OFF_FIRST * 2_u32.saturating_pow(failures.saturating_sub(1).min(10));
    doubled.min(BACK_OFF_MOST).mul_f64(0.5 + random / 2.0)
}

fn path(service: &Service) -> String {
    let Service { name, namespace, .. } = service;
    format!(
        "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices\
         ?labelSelector=kubernetes.io%2Fservice-name%3D{name}"
    )
}

async fn list(api: &KubernetesApi, service: &Service) -> Result<Known, Failure> {
    listed(&api::get_all(api, &path(service)).await?)
}

fn listed(answer: &[u8]) -> Result<Known, Failure> {
    let list: List = serde_json::from_slice(answer).map_err(|error| garbled(&error))?;
    let slices = list.items.into_iter().flatten();
    let slices = slices.map(|slice| (slice.metadata.name.clone(), slice)).collect();
    Ok(Known { slices, version: list.metadata.resource_version })
}

/// Watches until the watch ends. What is known is then as of its end. Whatever it tells ends the row
/// of failures.
async fn watch(
    control: &Control,
    api: &KubernetesApi,
    service: &Service,
    known: &mut Known,
    failures: &mut u32,
) -> Result<(), Failure> {
    let seconds = fastrand::u64(WATCH_SECONDS);
    let path = format!(
        "{}&watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={}",
        path(service),
        known.version
    );
    let longest = Duration::from_secs(seconds) + WATCH_LATE;
    let mut lines = Lines::new(api::get(api, &path).await?, longest);
    // The server is there again, if it was not.
    tell(control, service, known);
    while let Came::Lines(lines) = lines.next().await? {
        for line in lines {
            let event = serde_json::from_str(&line).map_err(|error| garbled(&error))?;
            known.take_in(event)?;
        }
        *failures = 0;
        tell(control, service, known);
    }
    Ok(())
}

impl Known {
    fn take_in(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Added(slice) | Event::Modified(slice) => {
                self.version.clone_from(&slice.metadata.resource_version);
                self.slices.insert(slice.metadata.name.clone(), slice);
            }
            Event::Deleted(Deleted { metadata }) => {
                self.slices.remove(&metadata.name);
                self.version = metadata.resource_version;
            }
            Event::Bookmark(Bookmark { metadata }) => self.version = metadata.resource_version,
            Event::Error(status) => {
                let failure = api::refusal(status.code, &status.message);
                // Whatever it was, the watch is of no more use.
                let kind = if failure.kind == Kind::Gone { Kind::Gone } else { Kind::Garbled };
                return Err(Failure { kind, ..failure });
            }
        }
        Ok(())
    }
}

/// Reads a watch that brings these bytes in pieces, until something in it is not valid. What is known
/// then, and the backends that are found in it; for the fuzz target.
pub(crate) fn read(bytes: &[u8], size: usize, service: &Service) -> (String, Vec<Found>) {
    let mut known = Known { slices: BTreeMap::new(), version: String::new() };
    let mut part = Vec::new();
    let whole = bytes.chunks(size).try_for_each(|piece| {
        lines::take_lines(&mut part, piece)?.iter().try_for_each(|line| {
            let event = serde_json::from_str(line).map_err(|error| garbled(&error))?;
            known.take_in(event)
        })
    });
    let found = slices::backends(known.slices.values(), service);
    (format!("{known:?} {whole:?} {found:?}"), found.unwrap_or_default())
}

/// Reads a list. The backends that are found in it, if it is valid; for the fuzz target.
pub(crate) fn read_list(bytes: &[u8], service: &Service) -> Option<Vec<Found>> {
    let known = listed(bytes).ok()?;
    Some(slices::backends(known.slices.values(), service).unwrap_or_default())
}

fn garbled(error: &serde_json::Error) -> Failure {
    let why = format!("the Kubernetes API server answers what is no EndpointSlice: {error}");
    Failure { kind: Kind::Garbled, ..Failure::new(why) }
}

fn tell(control: &Control, service: &Service, known: &Known) {
    match slices::backends(known.slices.values(), service) {
        Ok(found) => control.apply(|pool, now| pool.discovered(found, now)),
        Err(why) => control.apply(|pool, now| pool.discovery_failed(&why, now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_after_failures_double_up_to_a_limit_and_differ() {
        let millis = |failures, random| back_off(failures, random).as_millis();
        assert_eq!([1, 2, 3, 4].map(|n| millis(n, 1.0)), [500, 1000, 2000, 4000]);
        assert_eq!([1, 2, 3, 4].map(|n| millis(n, 0.0)), [250, 500, 1000, 2000]);
        assert_eq!([7, 100, u32::MAX].map(|n| millis(n, 1.0)), [30_000; 3]);
    }
}
