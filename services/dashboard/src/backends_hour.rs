//! What the proxies remember of all backends: for the file of the hour, and for the last minute in
//! the table of a dashboard that has just started.
//!
//! An hour of 500 backends is more than one answer of the admin API holds, so it is asked for in
//! parts. Each part is summed up over the proxies before the next one is asked for: all of it at
//! once would be hundreds of megabytes of histograms.

use std::collections::{BTreeMap, HashMap};

use futures_util::future::join_all;
use http::StatusCode;

use crate::{
    admin::Fault,
    history::{Sample, Series},
    hour::CLOCKS_EQUAL,
    remember::{ahead, unix_seconds},
    replica::Proxy,
    settings::TokenSource,
    slot::{HourAnswer, Slot},
};

/// Points of one answer: what the admin API gives at most.
const POINTS_MOST: usize = 20_000;
/// How often a part is asked for at half its length: proxies may remember many backends that left.
const HALVINGS: u32 = 4;

/// By pool and backend.
pub(crate) type ByBackend = HashMap<(String, String), Series>;

/// The last `seconds` of each of `count` backends in slots of `step` seconds. A proxy that does
/// not tell is left out; nothing if none does.
pub(crate) async fn last(
    proxies: &[Proxy],
    token: &TokenSource,
    (seconds, step): (u64, u64),
    count: usize,
) -> Option<ByBackend> {
    let now = unix_seconds();
    // The slot that is under way is the last one.
    let end = now / step * step + step;
    let begin = end - seconds / step * step;
    let mut slots = (POINTS_MOST / (count + 1)).max(1) as u64;
    let mut all = ByBackend::new();
    let (mut from, mut halvings) = (begin, 0);
    while from < end {
        let to = (from + slots * step).min(end);
        let parts =
            join_all(proxies.iter().map(|proxy| part(proxy, token, (from, to), step))).await;
        let is_too_much =
            |part: &Result<_, Fault>| matches!(part, Err(Fault::Status(StatusCode::BAD_REQUEST)));
        if slots > 1 && halvings < HALVINGS && parts.iter().any(is_too_much) {
            (slots, halvings) = (slots / 2, halvings + 1);
            continue;
        }
        let parts: Vec<Part> = parts.into_iter().filter_map(Result::ok).collect();
        if parts.is_empty() {
            return None;
        }
        let place = |second: u64| usize::try_from((second - begin) / step).ok();
        let length = usize::try_from((end - begin) / step).unwrap_or(0);
        for (key, second, sample) in sum_up(&parts, (from, to), step, now) {
            let series = all.entry(key).or_insert_with(|| Series {
                slots: vec![Sample::HOLE; length],
                step: step as usize,
                newest: (end - step) as f64,
            });
            if let Some(slot) = place(second).and_then(|place| series.slots.get_mut(place)) {
                *slot = sample;
            }
        }
        from = to;
    }
    Some(all)
}

/// What one proxy told of some slots, and what to add to its seconds to have ours.
struct Part {
    answer: HourAnswer,
    shift: i64,
}

async fn part(
    proxy: &Proxy,
    token: &TokenSource,
    (from, to): (u64, u64),
    step: u64,
) -> Result<Part, Fault> {
    let ahead = ahead(proxy).filter(|ahead| ahead.abs() >= CLOCKS_EQUAL).unwrap_or(0.0);
    // To whole slots: half a slot is less than one sees.
    let shift = (ahead / step as f64).round() as i64 * step as i64;
    let theirs = |second: u64| second.saturating_add_signed(-shift);
    let token = proxy.token_for_reading(token);
    let answer = proxy.api.all_histories((theirs(from), theirs(to)), step, token.as_ref()).await?;
    Ok(Part { answer, shift })
}

fn sum_up(
    parts: &[Part],
    (from, to): (u64, u64),
    step: u64,
    now: u64,
) -> impl Iterator<Item = ((String, String), u64, Sample)> {
    let mut slots: BTreeMap<(&str, &str, u64), Vec<Slot>> = BTreeMap::new();
    for Part { answer, shift } in parts.iter().filter(|part| part.answer.resolution_seconds == step)
    {
        for pool in &answer.pools {
            for backend in &pool.backends {
                for at in 0..backend.series.len() {
                    let second = (answer.from + at as u64 * step).saturating_add_signed(*shift);
                    let slot = backend.series.slot(at).filter(|_| (from..to).contains(&second));
                    if let Some(slot) = slot {
                        slots.entry((&pool.name, &backend.id, second)).or_default().push(slot);
                    }
                }
            }
        }
    }
    let samples: Vec<_> = slots
        .into_iter()
        .filter_map(|((pool, id, second), slots)| {
            // Of the second that is under way nothing is told yet.
            let seconds = now.saturating_sub(second + 1).clamp(1, step);
            let sample = Slot::sample(slots.iter(), seconds as f64)?;
            Some(((pool.to_owned(), id.to_owned()), second, sample))
        })
        .collect();
    samples.into_iter()
}
