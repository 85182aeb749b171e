//! How long a connection to a backend may be idle before it is used no more.
//!
//! A backend closes connections that were idle for too long, and a request that is on its way in
//! that moment is lost; one that cannot be sent twice becomes a 502 (caddyserver/caddy#6452,
//! sozu-proxy/sozu#1442). The only cure is to let go first. So the limit of the settings is the
//! most; a backend that tells a shorter one in `Keep-Alive`, or that is seen to close sooner, gets
//! a shorter one, with room for a request on its way.

use std::{
    cell::Cell,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http::HeaderMap;
use tokio::time::Instant;

use crate::{stats::Gauges, upstream::LOOK_EVERY};

/// Of a backend's limit, what is used. The rest is for a request on its way, and for the moment
/// from which either side counts.
const USED: (u32, u32) = (3, 4);

/// Nobody's limit is shorter: a connection that is closed sooner after its last response was
/// closed for another reason, such as the end of a process.
const SHORTEST_OBSERVED: Duration = Duration::from_millis(100);

/// What was closed within this long has the same cause, such as the end of a process: closes are
/// found out one look after another.
const ONE_CAUSE: Duration = LOOK_EVERY.saturating_mul(2);

/// After this long without another close, twice as long is tried: what was taken for a limit may
/// have been a restart.
const DOUBLES_AFTER: Duration = Duration::from_secs(60);

/// What is known of one backend's limit.
#[derive(Debug, Default)]
pub(crate) struct IdleLimit {
    /// What it said last.
    told: Cell<Option<Duration>>,
    /// After how long it was seen to close, the shortest lately, and when.
    observed: Cell<Option<(Duration, Instant)>>,
    /// When it was last seen to close so soon that this may be a limit and may be none.
    suspected: Cell<Option<Instant>>,
}

impl IdleLimit {
    /// Takes note of `Keep-Alive: timeout=5` in a response.
    pub(crate) fn hear(&self, headers: &HeaderMap) {
        if let Some(value) = headers.get("keep-alive").and_then(|value| value.to_str().ok()) {
            self.told.set(timeout_of(value));
        }
    }

    /// Takes note that the backend closed a connection that had been idle for as long as `idle`, or
    /// for as long as `unseen` less.
    pub(crate) fn saw_close(&self, idle: Duration, unseen: Duration, now: Instant) {
        let least = idle.saturating_sub(unseen);
        if idle < SHORTEST_OBSERVED || (least < SHORTEST_OBSERVED && !self.suspect(now)) {
            return;
        }
        let limit = least.max(SHORTEST_OBSERVED);
        if self.observation(now).is_none_or(|known| limit <= known) {
            self.observed.set(Some((limit, now)));
        }
    }

    /// Whether a close that may be for any reason is one of several, as of a backend whose limit is
    /// little more than the time between two looks.
    fn suspect(&self, now: Instant) -> bool {
        let since = self.suspected.get().map(|at| now.duration_since(at));
        if since.is_none_or(|since| since >= ONE_CAUSE) {
            self.suspected.set(Some(now));
        }
        since.is_some_and(|since| (ONE_CAUSE..DOUBLES_AFTER).contains(&since))
    }

    /// For how long a connection may be idle, at most as long as `configured`.
    pub(crate) fn current(&self, configured: Duration, now: Instant) -> Duration {
        let known = [self.told.get(), self.observation(now)].into_iter().flatten();
        known.map(|limit| limit * USED.0 / USED.1).fold(configured, Duration::min)
    }

    fn observation(&self, now: Instant) -> Option<Duration> {
        let (idle, at) = self.observed.get()?;
        let doublings = now.duration_since(at).as_secs() / DOUBLES_AFTER.as_secs();
        let factor = u32::try_from(doublings).ok().and_then(|times| 1_u32.checked_shl(times))?;
        idle.checked_mul(factor)
    }
}

/// What a worker sees of connections to one backend that are idle.
#[derive(Debug)]
pub(crate) struct IdleWatch {
    pub(crate) limit: IdleLimit,
    /// When they were last looked at.
    looked: Cell<Instant>,
    gauges: Arc<Gauges>,
}

impl IdleWatch {
    pub(crate) fn new(gauges: &Arc<Gauges>) -> Self {
        let (limit, looked) = (IdleLimit::default(), Cell::new(Instant::now()));
        Self { limit, looked, gauges: Arc::clone(gauges) }
    }

    /// Takes note that all of them were looked at.
    pub(crate) fn looked(&self, now: Instant) {
        self.looked.set(now);
    }

    /// Takes note that the backend has closed one that is idle for as long as `age`. It may have done
    /// so right after the last look.
    pub(crate) fn saw_close(&self, age: Duration, now: Instant) {
        let unseen = now.duration_since(self.looked.get());
        self.limit.saw_close(age, unseen, now);
        self.gauges.backend_idle_closed.fetch_add(1, Ordering::Relaxed);
    }
}

/// The seconds of `timeout=5, max=1000`. Nobody's standard, but everybody's habit.
fn timeout_of(value: &str) -> Option<Duration> {
    value.split(',').find_map(|parameter| {
        let (name, seconds) = parameter.split_once('=')?;
        let is_timeout = name.trim().eq_ignore_ascii_case("timeout");
        let seconds =
            seconds.trim().trim_matches('"').parse::<u32>().ok().filter(|_| is_timeout)?;
        Some(Duration::from_secs(seconds.into()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIGURED: Duration = Duration::from_secs(4);

    fn heard(value: &'static str) -> Duration {
        let limit = IdleLimit::default();
        let mut headers = HeaderMap::new();
        headers.insert("keep-alive", http::HeaderValue::from_static(value));
        limit.hear(&headers);
        limit.current(CONFIGURED, Instant::now())
    }

    #[test]
    fn what_a_backend_tells_shortens_the_limit_and_never_lengthens_it() {
        let cases = [
            ("timeout=2", 1_500),
            ("max=100, Timeout = 2", 1_500),
            ("timeout=5", 3_750),
            ("timeout=60", 4_000),
            ("timeout=0", 0),
            ("timeout=-1", 4_000),
            ("timeout=soon", 4_000),
            ("timeout=99999999999", 4_000),
            ("max=2", 4_000),
        ];
        for (value, expected) in cases {
            assert_eq!(heard(value), Duration::from_millis(expected), "{value}");
        }
    }

    #[test]
    fn the_limit_stays_below_where_the_backend_was_seen_to_close() {
        let (limit, now) = (IdleLimit::default(), Instant::now());
        let seen = Duration::from_secs(1);
        limit.saw_close(seen, Duration::ZERO, now);
        assert_eq!(limit.current(CONFIGURED, now), Duration::from_millis(750));
        limit.saw_close(seen * 2, Duration::ZERO, now);
        assert_eq!(limit.current(CONFIGURED, now), Duration::from_millis(750));
        limit.saw_close(seen / 2, Duration::ZERO, now);
        assert_eq!(limit.current(CONFIGURED, now), Duration::from_millis(375));
    }

    #[test]
    fn a_close_right_after_a_response_is_no_limit() {
        let (limit, now) = (IdleLimit::default(), Instant::now());
        limit.saw_close(Duration::from_millis(20), Duration::ZERO, now);
        assert_eq!(limit.current(CONFIGURED, now), CONFIGURED);
    }

    #[test]
    fn what_was_not_seen_again_is_forgotten_step_by_step() {
        let (limit, now) = (IdleLimit::default(), Instant::now());
        limit.saw_close(Duration::from_secs(1), Duration::ZERO, now);
        let after = |minutes: u64| limit.current(CONFIGURED, now + DOUBLES_AFTER * minutes as u32);
        assert_eq!(after(1), Duration::from_millis(1_500));
        assert_eq!(after(2), Duration::from_millis(3_000));
        assert_eq!(after(3), CONFIGURED);
        assert_eq!(after(100), CONFIGURED);
        limit.saw_close(Duration::from_millis(1_800), Duration::ZERO, now + DOUBLES_AFTER);
        assert_eq!(after(1), Duration::from_millis(1_350), "seen anew");
    }

    /// The limit that is gone by after a backend with this one has closed so many connections, each a
    /// second after the one before and found out by looks that began at this phase.
    fn learned(limit: u64, phase: u64, closes: u32) -> u64 {
        let (idle_limit, start) = (IdleLimit::default(), Instant::now());
        let every = LOOK_EVERY.as_millis() as u64;
        for close in 1..=closes {
            // Looks are at phase, phase + 250 ms and so on after the response.
            let looks = limit.saturating_sub(phase).div_ceil(every);
            let (seen, before) =
                (phase + looks * every, (phase + looks * every).saturating_sub(every));
            let [idle, unseen] = [seen, seen - before].map(Duration::from_millis);
            idle_limit.saw_close(idle, unseen, start + Duration::from_secs(close.into()));
        }
        idle_limit.current(CONFIGURED, start + Duration::from_secs(closes.into())).as_millis()
            as u64
    }

    #[test]
    fn short_limits_are_learned_whenever_the_looks_are() {
        for limit in [110, 150, 200, 250, 300, 340, 349, 350, 400, 1_000] {
            for phase in (0..250).step_by(10) {
                let learned = learned(limit, phase, 2);
                assert!(learned < limit, "{limit} at {phase}: {learned}");
                assert!(learned >= 75, "{limit} at {phase}: {learned}");
            }
        }
    }

    #[test]
    fn one_end_of_a_process_is_no_short_limit_and_nor_are_two_far_apart() {
        let (limit, start) = (IdleLimit::default(), Instant::now());
        let millis = Duration::from_millis;
        // Connections of any short age, found out by two looks.
        for (idle, after) in [(120, 0), (180, 0), (249, 10), (200, 250), (340, 499)] {
            limit.saw_close(millis(idle), millis(250), start + millis(after));
        }
        limit.saw_close(millis(200), millis(250), start + DOUBLES_AFTER);
        assert_eq!(limit.current(CONFIGURED, start + DOUBLES_AFTER), CONFIGURED);
        limit.saw_close(millis(200), millis(250), start + DOUBLES_AFTER + ONE_CAUSE);
        assert_eq!(limit.current(CONFIGURED, start + DOUBLES_AFTER + ONE_CAUSE), millis(75));
    }
}
