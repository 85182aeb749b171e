//! Faults to inject: which, and whom they strike.
//!
//! One draw per request decides among error, hang and reset, so that their shares add up and never
//! overlap; latency comes on top of whatever else happens. With a seed the same requests in the
//! same order meet the same fate, which makes a test of a balancer repeatable.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chassis::units;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::payload::DELAY_MAX;

/// Shares are sums of decimal fractions; this forgives their rounding and nothing else.
const ROUNDING: f64 = 1e-9;

/// The faults as people write them; what is left out does not happen.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Text {
    error_share: String,
    status: u16,
    latency: String,
    hang_share: String,
    reset_share: String,
}

impl Default for Text {
    fn default() -> Self {
        let never = || "0%".to_owned();
        Self {
            error_share: never(),
            status: StatusCode::SERVICE_UNAVAILABLE.as_u16(),
            latency: "0ms".to_owned(),
            hang_share: never(),
            reset_share: never(),
        }
    }
}

/// Valid faults.
#[derive(Debug)]
pub(crate) struct Plan {
    text: Text,
    status: StatusCode,
    latency: Duration,
    error: f64,
    hang: f64,
    reset: f64,
}

impl Plan {
    /// Valid faults from text.
    ///
    /// # Errors
    /// A sentence with everything that is wrong.
    pub(crate) fn parse(text: Text) -> Result<Self, String> {
        let mut mistakes = Vec::new();
        let mut share = |name: &str, value: &str| match units::share(value) {
            Ok(share) => share.get(),
            Err(expected) => {
                mistakes.push(format!("{name}: expected {expected}, not {value:?}"));
                0.0
            }
        };
        let error = share("error_share", &text.error_share);
        let hang = share("hang_share", &text.hang_share);
        let reset = share("reset_share", &text.reset_share);
        if error + hang + reset > 1.0 + ROUNDING {
            mistakes.push("the shares must not add up to more than 100%".to_owned());
        }
        let latency = units::duration(&text.latency).ok().filter(|latency| *latency <= DELAY_MAX);
        if latency.is_none() {
            let most = humantime::format_duration(DELAY_MAX);
            mistakes.push(format!(
                "latency: expected a duration of at most {most} such as 250ms, not {:?}",
                text.latency
            ));
        }
        let status = StatusCode::from_u16(text.status)
            .ok()
            .filter(|status| status.is_client_error() || status.is_server_error());
        if status.is_none() {
            mistakes.push(format!("status: expected 400 to 599, not {}", text.status));
        }
        match (latency, status) {
            (Some(latency), Some(status)) if mistakes.is_empty() => {
                Ok(Self { text, status, latency, error, hang, reset })
            }
            _ => Err(mistakes.join("; ")),
        }
    }

    /// What befalls the request that drew `draw`, a number from 0 to below 1.
    fn fate(&self, draw: f64) -> Strike {
        let fault = if draw < self.error {
            Some(Fault::Error(self.status))
        } else if draw < self.error + self.hang {
            Some(Fault::Hang)
        } else if draw < self.error + self.hang + self.reset {
            Some(Fault::Reset)
        } else {
            None
        };
        Strike { latency: self.latency, fault }
    }
}

/// What befalls one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Strike {
    pub(crate) latency: Duration,
    pub(crate) fault: Option<Fault>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Answer with this status.
    Error(StatusCode),
    /// Never answer.
    Hang,
    /// Cut the connection.
    Reset,
}

impl Fault {
    /// The label in metrics.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Error(_) => "error",
            Self::Hang => "hang",
            Self::Reset => "reset",
        }
    }
}

/// The faults of one server.
#[derive(Debug)]
pub(crate) struct Faults {
    allowed: bool,
    seed: Option<u64>,
    // Read by each request, written by hand: held for a few instructions, never over an await.
    plan: RwLock<Option<Plan>>,
    random: AtomicU64,
}

impl Faults {
    pub(crate) fn new(allowed: bool, seed: Option<u64>) -> Self {
        let random = AtomicU64::new(seed.unwrap_or_else(entropy));
        Self { allowed, seed, plan: RwLock::new(None), random }
    }

    /// Replaces the faults, and starts the sequence of draws again where it is seeded.
    pub(crate) fn set(&self, plan: Option<Plan>) {
        let mut current = self.plan.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(seed) = self.seed {
            self.random.store(seed, Ordering::Relaxed);
        }
        *current = plan;
    }

    pub(crate) fn allowed(&self) -> bool {
        self.allowed
    }

    /// The faults as they were written.
    pub(crate) fn text(&self) -> Text {
        let plan = self.plan.read().unwrap_or_else(PoisonError::into_inner);
        plan.as_ref().map(|plan| plan.text.clone()).unwrap_or_default()
    }

    /// What befalls the next request; `None` while there are no faults.
    pub(crate) fn strike(&self) -> Option<Strike> {
        if !self.allowed {
            return None;
        }
        let plan = self.plan.read().unwrap_or_else(PoisonError::into_inner);
        plan.as_ref().map(|plan| plan.fate(self.draw()))
    }

    /// A number from 0 to below 1: SplitMix64, whose whole state is one counter, so that threads
    /// draw without a lock.
    fn draw(&self) -> f64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut bits = self.random.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        // A double holds 53 bits exactly.
        (bits >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A random number; the standard library seeds its hash maps with the system's entropy.
pub(crate) fn entropy() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strikes(faults: &Faults, requests: usize) -> Vec<Option<Fault>> {
        (0..requests).map(|_| faults.strike().unwrap().fault).collect()
    }

    fn read(json: &str) -> Result<Plan, String> {
        Plan::parse(serde_json::from_str(json).unwrap())
    }

    fn plan(json: &str) -> Plan {
        read(json).unwrap()
    }

    #[test]
    fn each_fault_strikes_its_share() {
        let faults = Faults::new(true, Some(7));
        faults.set(Some(plan(
            r#"{"error_share":"20%","status":500,"hang_share":"10%","reset_share":"5%"}"#,
        )));
        let all = strikes(&faults, 10_000);
        let share = |wanted: Option<Fault>| {
            all.iter().filter(|fault| **fault == wanted).count() as f64 / all.len() as f64
        };
        // Three standard deviations of a share of 20 % among 10,000 are 1.2 %.
        let error = Fault::Error(StatusCode::INTERNAL_SERVER_ERROR);
        for (wanted, expected) in [
            (Some(error), 0.20),
            (Some(Fault::Hang), 0.10),
            (Some(Fault::Reset), 0.05),
            (None, 0.65),
        ] {
            assert!((share(wanted) - expected).abs() < 0.015, "{wanted:?}: {}", share(wanted));
        }
    }

    #[test]
    fn a_seed_repeats_the_same_faults_after_each_change() {
        let faults = Faults::new(true, Some(1));
        faults.set(Some(plan(r#"{"error_share":"50%"}"#)));
        let first = strikes(&faults, 100);
        faults.set(Some(plan(r#"{"error_share":"50%"}"#)));
        assert_eq!(strikes(&faults, 100), first);
        assert_ne!(strikes(&faults, 100), first);
    }

    #[test]
    fn shares_of_all_and_none_are_exact() {
        let faults = Faults::new(true, None);
        faults.set(Some(plan(r#"{"error_share":"70%","hang_share":"20%","reset_share":"10%"}"#)));
        assert!(strikes(&faults, 1000).iter().all(Option::is_some));
        faults.set(Some(plan(r#"{"latency":"5ms"}"#)));
        let strike = faults.strike().unwrap();
        assert_eq!(strike, Strike { latency: Duration::from_millis(5), fault: None });
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (json, part) in [
            (r#"{"error_share":"0.2"}"#, "error_share: expected a share"),
            (r#"{"error_share":"60%","reset_share":"50%"}"#, "more than 100%"),
            (r#"{"status":200}"#, "400 to 599"),
            (r#"{"latency":"6m"}"#, "at most 5m"),
            (r#"{"latency":"5","status":1}"#, "; status"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(part), "{json}: {error}");
        }
    }
}
