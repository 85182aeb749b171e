//! Tiers: backups, which serve only while the tiers above have too little.
//!
//! A backend stands on a rung of the ladder, which is how well it is, and in a tier, which is how
//! much it is wanted. The rung counts first: a backup that is up is better than a primary that
//! fails, asks to be spared or is going away, as with Envoy's priorities. Among those on the rung,
//! tiers are taken from the top until one has enough: as much of its weight can serve as the pool
//! asks for. By default that is whatever it has, so that backups serve only when nobody above can
//! (nginx, HAProxy): a backup may be a page that says sorry. With a share, backups of the same kind
//! join before the last primaries are overrun, and turns go by weight over all that serve.
//!
//! Rejected: spilling over by a factor (Envoy's overprovisioning), which says the same with two
//! numbers that nobody can add up; and spilling over by load, for which there is the queue.

use std::collections::BTreeMap;

use crate::{pool::STEPS, rung::Rung};

/// Where one backend stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stand {
    /// None if it may get nothing at all.
    pub(crate) rung: Option<Rung>,
    pub(crate) tier: u16,
    /// What it can do when it is well, also if it is out for the moment.
    pub(crate) weight: u32,
    /// The tenths of that which slow start lets it do.
    pub(crate) climbed: u32,
}

/// Who serves: those on the rung, in tiers down to this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Serving {
    pub(crate) rung: Rung,
    pub(crate) tier: u16,
}

impl Serving {
    /// Whoever serves of a pool, where a tier has enough if `least` of its weight can serve.
    pub(crate) fn of(stands: impl Iterator<Item = Stand> + Clone, least: f64) -> Self {
        let rung = stands.clone().filter_map(|stand| stand.rung).min().unwrap_or_default();
        let mut tiers: BTreeMap<u16, Capacity> = BTreeMap::new();
        for stand in stands {
            let capacity = tiers.entry(stand.tier).or_default();
            capacity.all += u64::from(stand.weight) * u64::from(STEPS);
            if stand.rung == Some(rung) {
                capacity.members += 1;
                capacity.serving += u64::from(stand.weight) * u64::from(stand.climbed);
            }
        }
        let mut serving = Self { rung, tier: 0 };
        for (tier, capacity) in tiers {
            if capacity.members > 0 {
                serving.tier = tier;
                if capacity.is_enough(least) {
                    break;
                }
            }
        }
        serving
    }

    /// Whether one who stands there serves.
    pub(crate) fn includes(self, rung: Option<Rung>, tier: u16) -> bool {
        rung == Some(self.rung) && tier <= self.tier
    }
}

/// What a tier has, in tenths of weights.
#[derive(Default)]
struct Capacity {
    all: u64,
    serving: u64,
    members: usize,
}

impl Capacity {
    fn is_enough(&self, least: f64) -> bool {
        /// Shares such as a third are not exact.
        const ROUNDING: f64 = 1e-9;
        self.serving as f64 >= least * self.all as f64 * (1.0 - ROUNDING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: Option<Rung> = Some(Rung::Up);
    const DEGRADED: Option<Rung> = Some(Rung::Degraded);
    const EJECTED: Option<Rung> = Some(Rung::Ejected);

    /// The rung and the lowest tier of backends with weight 1.
    fn serving(backends: &[(Option<Rung>, u16)], least: f64) -> (Rung, u16) {
        let stands = backends.iter().map(|(rung, tier)| Stand {
            rung: *rung,
            tier: *tier,
            weight: 1,
            climbed: STEPS,
        });
        let Serving { rung, tier } = Serving::of(stands, least);
        (rung, tier)
    }

    #[test]
    fn a_backup_serves_when_nobody_above_can() {
        assert_eq!(serving(&[(UP, 0), (UP, 0), (UP, 1)], 0.0), (Rung::Up, 0));
        assert_eq!(serving(&[(UP, 0), (None, 0), (UP, 1)], 0.0), (Rung::Up, 0));
        assert_eq!(serving(&[(None, 0), (None, 0), (UP, 1), (UP, 2)], 0.0), (Rung::Up, 1));
        assert_eq!(serving(&[(None, 0), (None, 1), (UP, 7)], 0.0), (Rung::Up, 7));
    }

    #[test]
    fn a_backup_joins_when_less_than_the_share_is_left() {
        let half_left = [(UP, 0), (UP, 0), (None, 0), (None, 0), (UP, 1), (UP, 2)];
        assert_eq!(serving(&half_left, 0.5), (Rung::Up, 0));
        assert_eq!(serving(&half_left, 0.51), (Rung::Up, 1));
        let little_left = [(UP, 0), (None, 0), (UP, 1), (None, 1), (None, 1), (UP, 2)];
        assert_eq!(serving(&little_left, 0.6), (Rung::Up, 2), "each tier has too little");
        let third = [(UP, 0), (None, 0), (None, 0), (UP, 1)];
        assert_eq!(serving(&third, 1.0 / 3.0), (Rung::Up, 0));
    }

    #[test]
    fn how_well_a_backend_is_counts_before_its_tier() {
        assert_eq!(serving(&[(DEGRADED, 0), (UP, 1)], 0.0), (Rung::Up, 1));
        assert_eq!(serving(&[(EJECTED, 0), (DEGRADED, 1)], 0.0), (Rung::Degraded, 1));
        assert_eq!(serving(&[(EJECTED, 0), (EJECTED, 1)], 0.0), (Rung::Ejected, 0));
        assert_eq!(serving(&[(None, 0), (None, 1)], 0.0), (Rung::Nobody, 0));
    }

    #[test]
    fn one_that_climbs_counts_for_what_it_may_do() {
        let stand = |tier, climbed| Stand { rung: UP, tier, weight: 4, climbed };
        let of = |climbed| Serving::of([stand(0, climbed), stand(1, STEPS)].into_iter(), 0.5).tier;
        assert_eq!((of(1), of(4), of(5)), (1, 1, 0));
    }
}
