//! A saved hour as it is read: no more of it than the largest one that is saved here.
//!
//! A number of two bytes becomes a sample of twenty-four. So lists are counted while they are
//! read, each backend's columns become its series before the next one's are read, and the picture
//! and the events, whose form is the admin API's, are measured before anything is made of them.

use std::{fmt, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};

use super::extent::Extent;
use crate::{
    export::FORMAT,
    history::{HOUR, STEP, Sample, Series},
    model::{self, Answer, Effective, Event},
    poll::Trouble,
    standing::{Counted, Last, Standing},
};

/// Twice what the page is made for.
const BACKENDS_MOST: usize = 1_000;
/// More than anybody has in front of the same backends.
const PROXIES_MOST: usize = 1_000;
/// Slots of one backend: as many as the dashboard itself has seen, with the one under way.
const SLOTS_MOST: usize = HOUR / STEP + 1;
/// Of the picture and the events. A backend has some fifty values in two or three objects, and
/// some more for each proxy that does not agree; its text is less than 200 bytes.
const EXTENT_MOST: Extent =
    Extent { values: 200 * BACKENDS_MOST, objects: 12 * BACKENDS_MOST, text: 2 * 1024 * 1024 };

#[derive(Deserialize)]
pub(super) struct File {
    #[serde(default)]
    pub(super) at: String,
    pub(super) picture: Answer,
    /// How old that is: it was made before, if nobody answered when it was saved.
    age_seconds: Option<f64>,
    /// Why nobody did.
    pub(super) trouble: Option<Trouble>,
    #[serde(default)]
    proxies: AtMost<Proxy, PROXIES_MOST>,
    /// Why not all events are there.
    pub(super) events_error: Option<String>,
    #[serde(default)]
    pub(super) events: Vec<Told>,
    #[serde(deserialize_with = "series::<_, HOUR>")]
    pub(super) totals: Series,
    #[serde(default)]
    backends: AtMost<One, BACKENDS_MOST>,
}

#[derive(Deserialize)]
pub(super) struct Told {
    pub(super) event: Event,
    #[serde(default)]
    pub(super) proxies: Vec<String>,
}

/// A proxy. Its own answer is as large as the picture, and only this is read of it.
#[derive(Deserialize)]
struct Proxy {
    name: String,
    answer: Option<Own>,
    /// How old that is.
    age_seconds: Option<f64>,
    /// Why there is no newer one.
    fault: Option<String>,
}

#[derive(Deserialize)]
struct Own {
    proxy: model::Proxy,
    pools: AtMost<OwnPool, BACKENDS_MOST>,
}

#[derive(Deserialize)]
struct OwnPool {
    #[serde(default)]
    traffic: OwnTraffic,
    backends: AtMost<OwnBackend, BACKENDS_MOST>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct OwnTraffic {
    requests_per_second: f64,
}

#[derive(Deserialize)]
struct OwnBackend {
    effective: Effective,
    eligible: Option<bool>,
    #[serde(default)]
    in_flight: u64,
}

/// The hour of one backend.
#[derive(Deserialize)]
pub(super) struct One {
    pub(super) pool: String,
    pub(super) id: String,
    #[serde(deserialize_with = "series::<_, SLOTS_MOST>")]
    pub(super) hour: Series,
}

/// What is looked at before the rest is read.
#[derive(Deserialize)]
struct Outline {
    format: String,
    #[serde(default)]
    at: Extent,
    picture: Extent,
    #[serde(default)]
    trouble: Extent,
    #[serde(default)]
    proxies: AtMost<OutlineProxy, PROXIES_MOST>,
    #[serde(default)]
    events_error: Extent,
    #[serde(default)]
    events: Extent,
}

#[derive(Deserialize)]
struct OutlineProxy {
    name: Extent,
    #[serde(default)]
    fault: Extent,
    answer: Option<OutlineAnswer>,
}

#[derive(Deserialize)]
struct OutlineAnswer {
    proxy: Extent,
}

impl OutlineProxy {
    fn extent(&self) -> Extent {
        let own = self.answer.as_ref().map(|answer| answer.proxy).unwrap_or_default();
        self.name.and(self.fault).and(own)
    }
}

impl File {
    /// Reads a file, or says why not.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let unreadable = |error: serde_json::Error| format!("This is not a saved hour: {error}.");
        let outline: Outline = serde_json::from_str(text).map_err(unreadable)?;
        if outline.format != FORMAT {
            let found = outline.format.chars().take(FORMAT.len()).collect::<String>();
            return Err(format!("This file is of the form {found:?}; this page reads {FORMAT:?}."));
        }
        let proxies = outline.proxies.0.iter().map(OutlineProxy::extent);
        let extent = proxies.fold(outline.picture, Extent::and);
        let trouble = outline.trouble.and(outline.events_error);
        let extent = extent.and(outline.events).and(outline.at).and(trouble);
        let is_too_much = extent.values > EXTENT_MOST.values
            || extent.objects > EXTENT_MOST.objects
            || extent.text > EXTENT_MOST.text;
        let too_much = || {
            format!(
                "This file tells more than this page can show, which is {BACKENDS_MOST} backends."
            )
        };
        if is_too_much {
            return Err(too_much());
        }
        let file: Self = serde_json::from_str(text).map_err(unreadable)?;
        let rows: usize = file.picture.pools.iter().map(|pool| 1 + pool.backends.len()).sum();
        if rows > BACKENDS_MOST + 1 { Err(too_much()) } else { Ok(file) }
    }

    /// How old the picture was.
    pub(super) fn age(&self) -> Duration {
        duration(self.age_seconds)
    }

    /// How it stood with each proxy.
    pub(super) fn standings(&self) -> Vec<Standing> {
        self.proxies.0.iter().map(Proxy::standing).collect()
    }

    pub(super) fn backends(&self) -> &[One] {
        &self.backends.0
    }
}

impl Proxy {
    fn standing(&self) -> Standing {
        let last = self.answer.as_ref().map(|answer| answer.last(duration(self.age_seconds)));
        Standing { name: self.name.clone(), fault: self.fault.clone(), last }
    }
}

impl Own {
    fn last(&self, age: Duration) -> Last {
        let pools = || self.pools.0.iter();
        let rate = pools().map(|pool| pool.traffic.requests_per_second).sum();
        let counted = pools().flat_map(|pool| &pool.backends.0).map(|one| Counted {
            effective: one.effective,
            serves: one.effective.serves(one.eligible),
            in_flight: one.in_flight,
        });
        Last::new(&self.proxy, rate, counted, age)
    }
}

/// An older file tells no ages: all in it answered.
fn duration(seconds: Option<f64>) -> Duration {
    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or_default()
}

#[derive(Deserialize)]
struct Columns<const MOST: usize> {
    step_seconds: usize,
    newest_unix: f64,
    rate: AtMost<Option<f32>, MOST>,
    error_share: AtMost<Option<f32>, MOST>,
    p50_ms: AtMost<Option<f32>, MOST>,
    p95_ms: AtMost<Option<f32>, MOST>,
    p99_ms: AtMost<Option<f32>, MOST>,
    in_flight: AtMost<Option<f32>, MOST>,
}

fn series<'de, D: Deserializer<'de>, const MOST: usize>(from: D) -> Result<Series, D::Error> {
    let columns = Columns::<MOST>::deserialize(from)?;
    let at = |column: &AtMost<Option<f32>, MOST>, index: usize| {
        column.0.get(index).copied().flatten().unwrap_or(f32::NAN)
    };
    let slots = (0..columns.rate.0.len()).map(|index| Sample {
        rate: at(&columns.rate, index),
        error_share: at(&columns.error_share, index),
        p50_ms: at(&columns.p50_ms, index),
        p95_ms: at(&columns.p95_ms, index),
        p99_ms: at(&columns.p99_ms, index),
        in_flight: at(&columns.in_flight, index),
    });
    Ok(Series {
        slots: slots.collect(),
        step: columns.step_seconds.clamp(1, 60),
        newest: columns.newest_unix,
    })
}

/// A list that is read no further than this.
struct AtMost<T, const MOST: usize>(Vec<T>);

impl<T, const MOST: usize> Default for AtMost<T, MOST> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for AtMost<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(Self::default())
    }
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for AtMost<T, MOST> {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a list of at most {MOST}")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Self, A::Error> {
        while let Some(one) = list.next_element()? {
            if self.0.len() == MOST {
                return Err(A::Error::custom(format!("a list of more than {MOST}")));
            }
            self.0.push(one);
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(count: usize) -> String {
        let rate = vec!["1"; count].join(",");
        format!(
            r#"{{"step_seconds":5,"newest_unix":1,"rate":[{rate}],"error_share":[],"p50_ms":[],
            "p95_ms":[],"p99_ms":[],"in_flight":[]}}"#
        )
    }

    fn read(pools: &str, events: &str, hours: &[usize]) -> Result<File, String> {
        let one =
            |count: &usize| format!(r#"{{"pool":"default","id":"a","hour":{}}}"#, columns(*count));
        let hours = hours.iter().map(one).collect::<Vec<_>>().join(",");
        File::read(&format!(
            r#"{{"format":"{FORMAT}","picture":{{"proxy":{{"started_at":""}},"pools":{pools}}},
            "events":{events},"totals":{},"backends":[{hours}]}}"#,
            columns(HOUR)
        ))
    }

    #[test]
    fn as_many_slots_and_backends_as_are_saved_are_read_and_no_more() {
        let file = read("[]", "[]", &[SLOTS_MOST; BACKENDS_MOST]).unwrap();
        assert_eq!((file.totals.slots.len(), file.backends().len()), (HOUR, BACKENDS_MOST));
        let refused = |hours: &[usize]| read("[]", "[]", hours).err().unwrap();
        assert!(refused(&[SLOTS_MOST + 1]).contains("a list of more than 721"));
        assert!(refused(&[1; BACKENDS_MOST + 1]).contains("a list of more than 1000"));
    }

    #[test]
    fn a_picture_that_would_grow_beyond_a_thousand_backends_is_refused() {
        let pool = |backends: &[&str]| {
            format!(r#"[{{"name":"default","backends":[{}]}}]"#, backends.join(","))
        };
        assert!(read(&pool(&[r#"{"id":""}"#; BACKENDS_MOST]), "[]", &[]).is_ok());
        // A state of another type than ours is read as any JSON.
        let state = format!(r#"{{"id":"","health":[{}]}}"#, vec!["1"; 300_000].join(","));
        let text = format!(r#"{{"id":"{}"}}"#, "&".repeat(500_000));
        let proxies =
            format!(r#"[{{"event":{{"id":1}},"proxies":[{}]}}]"#, vec![r#""""#; 300_000].join(","));
        let cases = [
            (pool(&[r#"{"id":""}"#; BACKENDS_MOST + 1]), "[]"),
            (pool(&[r#"{"id":""}"#; 20_000]), "[]"),
            (pool(&[&state]), "[]"),
            (pool(&[&text]), "[]"),
            ("[]".to_owned(), &proxies),
        ];
        for (at, (pools, events)) in cases.iter().enumerate() {
            let refusal = read(pools, events, &[]).err();
            assert!(refusal.is_some_and(|why| why.contains("1000 backends")), "{at}");
        }
    }

    #[test]
    fn a_time_or_a_name_that_would_fill_the_page_is_refused() {
        let with = |at: &str, name: &str| {
            File::read(&format!(
                r#"{{"format":"{FORMAT}","at":"{at}","picture":{{"proxy":{{"started_at":""}},"pools":[]}},
                "proxies":[{{"name":"{name}","answer":{{"proxy":{{"started_at":""}},"pools":[]}}}}],
                "totals":{}}}"#,
                columns(HOUR)
            ))
        };
        assert!(with("2026-11-27T00:00:00Z", "edge-1").is_ok());
        for (at, name) in [(500_000, 1), (1, 500_000)] {
            let refusal = with(&"&".repeat(at), &"&".repeat(name)).err();
            assert!(refusal.is_some_and(|why| why.contains("tells more")), "{at} {name}");
        }
        // And what is told of proxies that did not answer.
        let refused = |more: &str| {
            let long = "&".repeat(500_000);
            let refusal = File::read(&format!(
                r#"{{"format":"{FORMAT}","picture":{{"proxy":{{"started_at":""}},"pools":[]}},
                "totals":{},{}}}"#,
                columns(HOUR),
                more.replace("LONG", &long)
            ));
            refusal.err().is_some_and(|why| why.contains("tells more"))
        };
        for more in [
            r#""trouble":{"headline":"LONG","explanation":""}"#,
            r#""events_error":"LONG""#,
            r#""proxies":[{"name":"a","answer":null,"fault":"LONG"}]"#,
            r#""proxies":[{"name":"a","answer":{"proxy":{"started_at":"","not_ready_reasons":["LONG"]},"pools":[]}}]"#,
        ] {
            assert!(refused(more), "{more}");
            assert!(!refused(&more.replace("LONG", "short")), "{more}");
        }
    }
}
