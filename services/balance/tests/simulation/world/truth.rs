//! What is really the case of the instances behind the names, whatever the pool has been told.

use std::time::Duration;

use super::World;
use crate::world::dice::Dice;

/// How an instance is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Well,
    /// Answers after seconds.
    Slow,
    /// Refuses connections.
    Dead,
    /// Takes connections and never answers.
    Hanging,
    /// Breaks off each request.
    Resetting,
    /// Answers so many per cent of the requests with an error.
    Failing(u64),
    /// Answers, and asks to be spared.
    Degraded,
}

impl Mode {
    const ALL: [Self; 11] = [
        Self::Well,
        Self::Well,
        Self::Well,
        Self::Well,
        Self::Slow,
        Self::Dead,
        Self::Hanging,
        Self::Resetting,
        Self::Failing(65),
        Self::Failing(20),
        Self::Degraded,
    ];

    /// Whether a connection opens, which is all that a TCP probe asks.
    pub(crate) fn passes_probes(self) -> bool {
        self != Self::Dead
    }

    fn name(self) -> &'static str {
        match self {
            Self::Well => "mode: well",
            Self::Slow => "mode: slow",
            Self::Dead => "mode: dead",
            Self::Hanging => "mode: hanging",
            Self::Resetting => "mode: resetting",
            Self::Failing(_) => "mode: failing",
            Self::Degraded => "mode: degraded",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Truth {
    /// No two have the same number.
    pub(crate) instance: u64,
    /// Few for many names, so that they are used again.
    pub(crate) address: u8,
    pub(crate) mode: Mode,
    /// Changes its mode all the time.
    pub(crate) flaps: bool,
    pub(crate) weight: u32,
    pub(crate) tier: u16,
    pub(crate) is_terminating: bool,
}

impl Truth {
    fn new(instance: u64, dice: &mut Dice) -> Self {
        Self {
            instance,
            address: dice.below(6) as u8,
            mode: dice.one_of(&Mode::ALL),
            flaps: dice.percent(10),
            weight: dice.one_of(&[1, 1, 1, 1, 2, 3, 0]),
            tier: dice.one_of(&[0, 0, 0, 0, 1, 1, 7]),
            is_terminating: false,
        }
    }
}

impl World {
    pub(crate) fn appear(&mut self, name: &str) {
        self.instances += 1;
        let mut truth = Truth::new(self.instances, &mut self.dice);
        if self.is_large {
            // So that many serve at a time.
            (truth.tier, truth.weight) = (0, truth.weight.max(1));
        }
        self.truth.insert(name.to_owned(), truth);
    }

    /// Something changes, and nobody tells the pool.
    pub(crate) fn change_mode(&mut self, name: &str) {
        let mode = self.dice.one_of(&Mode::ALL);
        self.truth.get_mut(name).unwrap().mode = mode;
        self.coverage.see(mode.name());
    }

    /// A trouble that all share, such as a database that is down; or the end of it.
    pub(crate) fn change_all_modes(&mut self) {
        let mode = self.dice.one_of(&Mode::ALL);
        for truth in self.truth.values_mut() {
            truth.mode = mode;
        }
        self.coverage.see(mode.name());
    }

    pub(crate) fn flap(&mut self) {
        let flapping: Vec<String> =
            self.truth.iter().filter(|(_, t)| t.flaps).map(|(name, _)| name.clone()).collect();
        for name in flapping {
            if self.dice.percent(20) {
                self.change_mode(&name);
            }
        }
    }

    pub(crate) fn move_or_leave(&mut self, name: &str) {
        match self.dice.below(3) {
            0 if self.truth.len() > 1 => {
                self.truth.remove(name);
                self.coverage.see("leaving");
            }
            1 => {
                let truth = self.truth.get_mut(name).unwrap();
                truth.is_terminating = !truth.is_terminating;
            }
            _ => {
                let name = format!("b{}", self.dice.below(10));
                self.appear(&name);
                self.coverage.see("arrival or move");
            }
        }
        if self.dice.percent(70) {
            self.discover();
        }
    }

    /// All move at once, as from blue to green: under their names, or under others.
    pub(crate) fn switch(&mut self) {
        self.blue = std::mem::take(&mut self.truth);
        let (names, keeps_names) = (self.blue.keys().cloned(), self.dice.percent(50));
        for name in names.collect::<Vec<_>>() {
            let other = format!("b{}", self.dice.below(10));
            self.appear(if keeps_names { &name } else { &other });
        }
        self.discover();
    }

    /// How long a request takes.
    pub(crate) fn latency(&mut self, mode: Mode) -> Duration {
        match mode {
            Mode::Slow => Duration::from_millis(500 + self.dice.below(8_000)),
            _ => Duration::from_millis(self.dice.below(40)),
        }
    }
}
