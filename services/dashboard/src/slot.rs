//! What proxies remember of a second or more, as `GET /v1/history` tells it, and how it adds up.

use serde::Deserialize;

use crate::{
    history::Sample,
    latency::{self, Latency},
};

/// The answer of `GET /v1/history`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct HourAnswer {
    /// The first second of the first slot, since 1970.
    pub(crate) from: u64,
    /// Seconds per slot.
    pub(crate) resolution_seconds: u64,
    pub(crate) pools: Vec<PoolHour>,
}

/// The hour of a pool.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct PoolHour {
    #[serde(default)]
    pub(crate) name: String,
    pub(crate) series: Columns,
    #[serde(default)]
    pub(crate) backends: Vec<BackendHour>,
}

/// The hour of a backend.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct BackendHour {
    pub(crate) id: String,
    pub(crate) series: Columns,
}

/// One value per slot; nothing where nobody looked.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Columns {
    requests: Vec<Option<u64>>,
    errors: Vec<Option<u64>>,
    in_flight: Vec<Option<u64>>,
    latency: Option<Vec<Option<Latency>>>,
}

/// What happened in a second or more.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Slot {
    requests: u64,
    errors: u64,
    in_flight: u64,
    latency: Option<Latency>,
}

impl Columns {
    /// How many slots there are.
    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }

    /// One slot; nothing if nobody looked.
    pub(crate) fn slot(&self, index: usize) -> Option<Slot> {
        let at = |column: &[Option<u64>]| column.get(index).copied().flatten().unwrap_or(0);
        let requests = (*self.requests.get(index)?)?;
        let latency = self.latency.as_ref().and_then(|all| all.get(index).cloned()).flatten();
        let (errors, in_flight) = (at(&self.errors), at(&self.in_flight));
        Some(Slot { requests, errors, in_flight, latency })
    }
}

impl Slot {
    /// What several pools or proxies had at the same time.
    pub(crate) fn sum<'a>(slots: impl Iterator<Item = &'a Self> + Clone) -> Self {
        let sum = |value: fn(&Self) -> u64| slots.clone().map(value).sum();
        // A slot without requests has no histogram, and none is missing.
        let busy = slots.clone().filter(|slot| slot.requests > 0 || slot.latency.is_some());
        Self {
            requests: sum(|slot| slot.requests),
            errors: sum(|slot| slot.errors),
            in_flight: sum(|slot| slot.in_flight),
            latency: latency::sum(busy.map(|slot| slot.latency.as_ref())),
        }
    }

    /// The same, over so many seconds, in numbers for a chart; nothing if nobody had anything.
    pub(crate) fn sample<'a>(
        slots: impl Iterator<Item = &'a Self> + Clone,
        seconds: f64,
    ) -> Option<Sample> {
        slots.clone().next()?;
        let Self { requests, errors, in_flight, latency } = Self::sum(slots);
        let (requests, errors) = (requests as f64, errors as f64);
        let percentile =
            |share| latency.as_ref().and_then(|sum| sum.percentile_ms(share)).unwrap_or(f64::NAN);
        Some(Sample {
            rate: (requests / seconds) as f32,
            error_share: if requests > 0.0 {
                (errors / requests).min(1.0) as f32
            } else {
                f32::NAN
            },
            p50_ms: percentile(0.5) as f32,
            p95_ms: percentile(0.95) as f32,
            p99_ms: percentile(0.99) as f32,
            in_flight: in_flight as f32,
        })
    }
}
