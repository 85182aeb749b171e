//! What time does to those that come back: slow start climbs with it, and ejections that it has not
//! forgiven make the next one longer. By the model's own clock.

use std::{collections::BTreeMap, time::Duration};

use super::{World, balance::*};

/// Steps from a tenth of the weight to all of it.
const STEPS: u32 = 10;

/// Who has been settled for how long, so that others had to climb.
#[derive(Debug, Default)]
pub(crate) struct Climbs {
    /// Since when all looks have found a generation settled.
    settled: BTreeMap<u64, Time>,
    /// When who is there or what is wanted of them changed last: between two looks anybody may have
    /// been settled or not.
    pub(crate) changed: Time,
}

impl World {
    /// Whoever climbs is as far as the time says: never less far, and no further as long as somebody
    /// else has been settled since it came up.
    pub(crate) fn check_climbs(&mut self, view: &PoolView) {
        let settled: Vec<u64> = view
            .backends
            .iter()
            .filter(|backend| self.is_settled(backend))
            .map(|backend| backend.member.generation())
            .collect();
        self.climbs.settled.retain(|generation, _| settled.contains(generation));
        for generation in settled {
            self.climbs.settled.entry(generation).or_insert(self.now);
        }
        for backend in &view.backends {
            let generation = backend.member.generation();
            let shadow = &self.shadow[&(backend.id.to_string(), generation)];
            // One that was missing from a look-up may be out still when it is up.
            let warm = shadow.warm_since.filter(|_| backend.health != Health::Ejected);
            let Some((since, is_sure)) = warm else { continue };
            let least = self.climbed_after(self.now.since(since));
            let climbed = backend.climbed_percent;
            assert!(climbed >= least, "{} has climbed to {climbed}, not {least}", backend.id);
            let mut others = self.climbs.settled.iter().filter(|(other, _)| **other != generation);
            let had_to = others.any(|(_, settled)| *settled < since);
            if had_to && is_sure && since > self.climbs.changed {
                assert_eq!(climbed, least, "{} has climbed too fast", backend.id);
                self.coverage.see_many("slow start climbs", u64::from(climbed < 100));
            }
        }
    }

    /// How far one has climbed so long after it came up, in per cent.
    fn climbed_after(&self, up: Duration) -> u32 {
        if self.slow_start.is_zero() {
            return 100;
        }
        let steps = up.div_duration_f64(self.slow_start / STEPS).floor() as u32;
        (steps + 1).min(STEPS) * 100 / STEPS
    }

    fn is_settled(&self, backend: &BackendView) -> bool {
        let shadow = &self.shadow[&(backend.id.to_string(), backend.member.generation())];
        let up = shadow.warm_since.map(|(since, _)| self.now.since(since));
        up.is_some_and(|up| up >= self.slow_start) && self.rung_of(backend) == Rung::Up
    }

    /// Each ejection lasts as long as those before it ask for that time has not forgiven.
    pub(crate) fn check_growth(&mut self, name: &str, generation: u64, text: &str) {
        let EjectionPlan { time, time_max, .. } = self.ejection;
        let Some(shadow) = self.shadow.get_mut(&(name.to_owned(), generation)) else { return };
        let since = self.now.since(shadow.back.unwrap_or(Time::START));
        let forgiven = since.div_duration_f64(time).floor() as u32;
        shadow.unforgiven = shadow.unforgiven.saturating_sub(forgiven) + 1;
        let expected = (time * shadow.unforgiven).min(time_max).as_secs_f64();
        let told = text.split_whitespace().nth(2).and_then(|word| word.parse::<f64>().ok());
        let told = told.unwrap_or_else(|| panic!("{text}"));
        // Whole seconds are told, of what is a tenth more or less.
        let is_due = (told - expected).abs() <= expected * 0.1 + 0.5;
        let count = shadow.unforgiven;
        assert!(is_due && told <= time_max.as_secs_f64(), "{name} is {text}, the {count}. time");
        self.coverage.see_many("ejected for longer", u64::from(count > 1));
    }
}
