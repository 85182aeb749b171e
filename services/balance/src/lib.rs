//! The pure balancing core: which backend gets the next request, and which may get none.
//!
//! It does no I/O, reads no clock, draws no entropy and writes no log. Events and the current
//! [`Time`] go into a [`Pool`]; [`Effect`]s and the next deadline come out. The same events give
//! the same run, so whole days can be simulated in a test.
//!
//! Two halves meet in one published snapshot. The [`Pool`] belongs to one thread that hears of
//! probes, discovery and operators. Each worker holds a [`Picker`], which answers from the
//! snapshot it knows with one shared counter and no lock, and hands out a [`Ticket`] per attempt.

mod admin;
mod backend;
mod budget;
mod degraded;
mod ejection;
mod entry;
mod events;
mod health;
mod intent;
mod load;
mod outcome;
mod pick;
mod plan;
mod policy;
mod pool;
mod queue;
mod random;
mod rung;
mod said;
mod schedule;
mod tier;
mod time;
mod tunnel;
mod view;
mod visits;
mod window;

pub use admin::{Admin, Change, MAX_IN_FLIGHT_MAX, Refused, Reset, WEIGHT_MAX};
pub use backend::{BackendId, Found, Member, hash_of};
pub use budget::RetryBudget;
pub use ejection::{EjectReason, EjectionPlan, Withheld};
pub use events::{Effect, Event, EventKind, ProbeOrder};
pub use health::{AttemptFailure, Health, ProbeAnswer, ProbePlan, ProbeResult};
pub use intent::{Numbered, Overridable, SetBy, StandingIntent, Stated};
pub use outcome::Outcome;
pub use pick::{NoBackend, NoVisit, Picker, Ticket};
pub use plan::{PolicyChange, PolicyPlan, WantedPlan};
pub use policy::Policy;
pub use pool::{EXPIRED, Pool};
pub use queue::{Place, Queue};
pub use rung::Rung;
pub use said::{Said, SaidAt};
pub use time::Time;
pub use tunnel::Tunnel;
pub use view::{BackendView, Effective, LastProbe, PoolView};
