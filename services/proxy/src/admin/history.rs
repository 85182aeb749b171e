//! `GET /v1/history`: the last hour as series, for charts and for whoever adds up several proxies.
//!
//! Slots begin at multiples of the resolution since 1970, so that the slots of two proxies are the
//! same ones and can be added without stretching.

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    Json,
    extract::{Query, State},
};
use chassis::problem::Problem;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Admin,
    openapi::{Finding, Reading},
};
use crate::{
    control::POOL,
    history::{SECONDS, Second, Snapshot},
    latency::Latency,
};

/// Slots times series of one answer: an hour of two backends and the pool at one second, or of
/// three hundred at a minute. With latencies that is 8 MiB of JSON at most.
const POINTS_MOST: usize = 20_000;

/// Resolutions that people think in; one of them is taken when none is asked for.
const RESOLUTIONS: [u64; 9] = [1, 2, 5, 10, 15, 30, 60, 300, 3600];

/// The query of `GET /v1/history`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Range {
    /// The first second, since 1970.
    from: Option<u64>,
    /// The second after the last one, since 1970.
    to: Option<u64>,
    /// Instead of `from`: so many seconds up to the end.
    seconds: Option<u64>,
    /// Seconds per slot.
    resolution: Option<u64>,
    /// Only this backend, and the pool.
    backend: Option<String>,
    /// `false` leaves the latencies out, which are most of an answer.
    latency: Option<bool>,
    /// `false` leaves the backends out: only the pool.
    backends: Option<bool>,
}

/// The series that were asked for.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HourAnswer {
    /// The proxy that saw all this.
    proxy: String,
    /// When it started; another value means another process.
    started_at: String,
    /// The first second of the first slot, since 1970.
    from: u64,
    /// Seconds per slot.
    resolution_seconds: u64,
    /// Slots in each series.
    slots: usize,
    /// The oldest second that is known, since 1970.
    oldest: Option<u64>,
    pools: Vec<PoolHour>,
}

#[derive(Debug, Serialize, ToSchema)]
struct PoolHour {
    name: &'static str,
    series: Series,
    backends: Vec<BackendHour>,
}

#[derive(Debug, Serialize, ToSchema)]
struct BackendHour {
    id: String,
    series: Series,
}

/// One value per slot; `null` where nobody looked or the backend was not there.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct Series {
    /// Requests that ended within the slot.
    requests: Vec<Option<u32>>,
    /// Those of them that failed.
    errors: Vec<Option<u32>>,
    /// The most that were in flight at once, looked at twice a second.
    in_flight: Vec<Option<u32>>,
    /// Durations; left out with `latency=false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<Vec<Option<Latency>>>,
}

/// The last hour by the second, or a part of it
///
/// Without a resolution, the finest is taken with which the answer has at most 20 000 points.
#[utoipa::path(
    get,
    path = "/v1/history",
    params(Range),
    responses(
        (status = 200, body = HourAnswer),
        Reading,
        Finding,
    )
)]
pub(super) async fn history(
    State(admin): State<Admin>,
    Query(range): Query<Range>,
) -> Result<Json<HourAnswer>, Problem> {
    let now = admin.control.clock.unix().as_secs();
    let snapshot = admin.history.snapshot();
    // An hour of a hundred backends is some hundred milliseconds of work: not on the thread that
    // also probes.
    tokio::task::spawn_blocking(move || answer(&admin, &range, now, &snapshot))
        .await
        .unwrap_or_else(|_| Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "try again")))
        .map(Json)
}

fn answer(
    admin: &Admin,
    range: &Range,
    now: u64,
    snapshot: &Snapshot,
) -> Result<HourAnswer, Problem> {
    let numbers = match (&range.backend, range.backends) {
        (Some(_), Some(false)) => return Err(bad("give either backend or backends=false")),
        (None, Some(false)) => BTreeMap::new(),
        (None, _) => snapshot.backends.clone(),
        (Some(id), _) => match snapshot.backends.get(id) {
            Some(number) => [(id.clone(), *number)].into(),
            None => return Err(unknown(id, snapshot)),
        },
    };
    let plan = Plan::new(range, now, numbers.len() + 1)?;
    let mut series = fill(&plan, &numbers, snapshot, range.latency.unwrap_or(true));
    let pool = series.remove(&0).unwrap_or_else(|| Series::empty(0, false));
    let backends = numbers
        .into_iter()
        .filter_map(|(id, number)| Some(BackendHour { id, series: series.remove(&number)? }))
        .collect();
    Ok(HourAnswer {
        proxy: admin.settings.name.clone(),
        started_at: admin.control.clock.text(admin.control.clock.started()),
        from: plan.from,
        resolution_seconds: plan.resolution,
        slots: plan.slots,
        oldest: snapshot.frames.first().map(|frame| frame.second),
        pools: vec![PoolHour { name: POOL, series: pool, backends }],
    })
}

/// Which slots there are.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    from: u64,
    resolution: u64,
    slots: usize,
}

impl Plan {
    fn new(range: &Range, now: u64, series: usize) -> Result<Self, Problem> {
        // What the document says of the numbers: 64 bits with a sign, as most languages read them.
        if [range.from, range.to].into_iter().flatten().any(|second| second > i64::MAX as u64) {
            return Err(bad("from and to: expected seconds since 1970"));
        }
        let to = range.to.unwrap_or(now).min(now);
        let hour = SECONDS as u64;
        let from = match (range.from, range.seconds) {
            (Some(_), Some(_)) => return Err(bad("give either from or seconds")),
            (Some(from), None) => from.max(now.saturating_sub(hour)),
            (None, Some(seconds @ 1..=3600)) => to.saturating_sub(seconds),
            (None, Some(_)) => return Err(bad("seconds: expected 1 to 3600, an hour is kept")),
            (None, None) => to.saturating_sub(hour),
        };
        if range.resolution.is_some_and(|resolution| !(1..=hour).contains(&resolution)) {
            return Err(bad("resolution: expected 1 to 3600 seconds"));
        }
        let slots = |resolution: u64| {
            let first = from - from % resolution;
            to.saturating_sub(first).div_ceil(resolution) as usize
        };
        let fits = |resolution: &u64| slots(*resolution) * series <= POINTS_MOST;
        let best = RESOLUTIONS.into_iter().find(fits).unwrap_or(hour);
        let resolution = range.resolution.unwrap_or(best);
        if !fits(&resolution) {
            return Err(bad(format!(
                "{series} series of {} slots are too much for one answer: ask for a resolution of \
                 {best} seconds, for fewer seconds, or for one backend",
                slots(resolution)
            )));
        }
        Ok(Self { from: from - from % resolution, resolution, slots: slots(resolution) })
    }

    fn slot(&self, second: u64) -> Option<usize> {
        let slot = second.checked_sub(self.from)? / self.resolution;
        usize::try_from(slot).ok().filter(|slot| *slot < self.slots)
    }
}

impl Series {
    fn empty(slots: usize, with_latency: bool) -> Self {
        let nothing = vec![None; slots];
        Self {
            requests: nothing.clone(),
            errors: nothing.clone(),
            in_flight: nothing,
            latency: with_latency.then(|| vec![None; slots]),
        }
    }

    fn set(&mut self, slot: usize, sum: Second) {
        self.requests[slot] = Some(sum.requests);
        self.errors[slot] = Some(sum.errors);
        self.in_flight[slot] = Some(sum.in_flight);
        if let Some(latency) = &mut self.latency {
            latency[slot] = Some(sum.latency).filter(|latency| !latency.is_empty());
        }
    }
}

/// The series of the pool and of those backends, by number.
fn fill(
    plan: &Plan,
    numbers: &BTreeMap<String, u32>,
    snapshot: &Snapshot,
    with_latency: bool,
) -> BTreeMap<u32, Series> {
    let empty = Series::empty(plan.slots, with_latency);
    let mut series: BTreeMap<u32, Series> =
        numbers.values().chain([&0]).map(|number| (*number, empty.clone())).collect();
    let wanted: BTreeSet<u32> = series.keys().copied().collect();
    let mut sums: BTreeMap<u32, Second> = BTreeMap::new();
    let mut current = None;
    let mut finish = |slot: Option<usize>, sums: &mut BTreeMap<u32, Second>| {
        for (number, sum) in std::mem::take(sums) {
            if let (Some(slot), Some(series)) = (slot, series.get_mut(&number)) {
                series.set(slot, sum);
            }
        }
    };
    for frame in &snapshot.frames {
        let Some(slot) = plan.slot(frame.second) else { continue };
        if current != Some(slot) {
            finish(current, &mut sums);
            current = Some(slot);
        }
        for (number, second) in frame.records().filter(|(number, _)| wanted.contains(number)) {
            sums.entry(number).or_default().then(&second);
        }
    }
    finish(current, &mut sums);
    series
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

fn unknown(id: &str, snapshot: &Snapshot) -> Problem {
    let some: Vec<&str> = snapshot.backends.keys().take(5).map(String::as_str).collect();
    let known = if some.is_empty() { "none yet".to_owned() } else { some.join(", ") };
    let detail = format!("the last hour knows no backend {id:?}; it knows {known}");
    Problem::new(StatusCode::NOT_FOUND, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::History;

    fn range(query: &str) -> Range {
        let uri: http::Uri = format!("/?{query}").parse().unwrap();
        Query::try_from_uri(&uri).unwrap().0
    }

    #[test]
    fn the_resolution_follows_the_range_and_the_number_of_series() {
        let plan = |query, series| Plan::new(&range(query), 10_000, series);
        let cases = [
            ("", 3, 6_400, 1, 3_600),
            ("", 101, 6_390, 30, 121),
            ("seconds=61", 101, 9_939, 1, 61),
            ("from=9990", 3, 9_990, 1, 10),
            ("from=9991&to=9999&resolution=5", 3, 9_990, 5, 2),
            ("from=20000", 3, 20_000, 1, 0),
            ("from=0", 3, 6_400, 1, 3_600),
        ];
        for (query, series, from, resolution, slots) in cases {
            assert_eq!(plan(query, series).unwrap(), Plan { from, resolution, slots }, "{query}");
        }
        let refused = [
            ("seconds=0", "1 to 3600"),
            ("seconds=9&from=3", "either"),
            ("from=9223372036854775808", "seconds since 1970"),
            ("to=9223372036854775808", "seconds since 1970"),
            ("resolution=0", "1 to 3600"),
            ("resolution=1", "ask for a resolution of 30 seconds"),
        ];
        for (query, words) in refused {
            let problem = plan(query, 101).unwrap_err();
            assert!(problem.status() == 400 && problem.detail().contains(words), "{problem:?}");
        }
    }

    #[test]
    fn seconds_add_up_to_slots_and_absence_is_no_zero() {
        let history = History::new();
        let one = |id: &str, requests| {
            let second = Second { requests, in_flight: requests, ..Second::default() };
            BTreeMap::from([(id.to_owned(), second)])
        };
        for (second, id, requests) in [(10, "a", 1), (11, "a", 2), (16, "b", 4)] {
            history.record(2 * second + 1, one(id, requests));
        }
        let snapshot = history.snapshot();
        let plan = Plan { from: 5, resolution: 5, slots: 3 };
        let series = fill(&plan, &snapshot.backends, &snapshot, true);
        let of = |number: u32| series[&number].requests.clone();
        assert_eq!(of(0), [None, Some(3), Some(4)]);
        assert_eq!(of(snapshot.backends["a"]), [None, Some(3), None]);
        assert_eq!(of(snapshot.backends["b"]), [None, None, Some(4)]);
        assert_eq!(series[&0].in_flight, [None, Some(2), Some(4)]);
    }
}
