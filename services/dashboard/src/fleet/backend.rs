//! One backend, as several proxies see it.

use super::{add, newest};
use crate::{
    clocks::{Ahead, Clocks},
    ends,
    model::{Admin, Backend, Effective, Opinion},
    word::What,
};

pub(super) fn merge_backends<'a>(
    said: &[(&str, &Backend)],
    missing: impl Iterator<Item = &'a str>,
    clocks: &Clocks<'_>,
) -> Option<Backend> {
    let worst = |(_, backend): &&(&str, &Backend)| rank(backend.effective);
    let model = *said.iter().max_by_key(worst)?;
    let mut merged = model.1.clone();
    merged.ahead = Ahead::all(clocks.ahead(model.0));
    merged.last_said = What::OF_BACKENDS
        .map(|what| said.iter().filter_map(|(_, backend)| what.heard(backend)?.latest).max());
    let absent = missing.map(|name| Opinion {
        replica: name.to_owned(),
        known: false,
        effective: Effective::Unknown,
        health: model.1.health,
        admin: model.1.admin,
        reason: "is not in its pool".to_owned(),
    });
    let opinions: Vec<Opinion> =
        said.iter().map(|(name, backend)| opinion(name, backend)).chain(absent).collect();
    // Draining and drained differ by a request in flight or a visitor, which is no disagreement. Nor
    // is what each knows of the health in a maintenance: nobody probes meanwhile.
    let health = |one: &Opinion| (one.admin != Admin::Maint).then_some(one.health);
    let view = |one: &Opinion| (one.known, one.effective.settled(), health(one), one.admin);
    if opinions.windows(2).any(|pair| view(&pair[0]) != view(&pair[1])) {
        merged.opinions = opinions;
    }
    let (name, told) = of_state(said, model);
    merged.ahead.state = clocks.ahead(name);
    take_state(&mut merged, told);
    if let Some((name, told)) = newest_of(said, What::Weight, Backend::is_weighted) {
        merged.ahead.weight = clocks.ahead(name);
        take_weight(&mut merged, told);
    }
    if let Some((name, told)) = newest_of(said, What::Limit, Backend::is_limited) {
        merged.ahead.limit = clocks.ahead(name);
        take_limit(&mut merged, told);
    }
    let others = said.iter().filter(|(_, backend)| backend.max_in_flight != merged.max_in_flight);
    merged.other_limits =
        others.map(|(name, one)| ((*name).to_owned(), one.max_in_flight)).collect();
    let others = said.iter().filter(|(_, backend)| backend.weight != merged.weight);
    merged.other_weights = others.map(|(name, one)| ((*name).to_owned(), one.weight)).collect();
    merged.other_ends = ends::differing(said, &merged, clocks);
    merged.in_flight = said.iter().map(|(_, backend)| backend.in_flight).sum();
    merged.traffic = add(said.iter().map(|(_, backend)| &backend.traffic));
    Some(merged)
}

/// What an operator wants it to be.
fn take_state(merged: &mut Backend, told: &Backend) {
    merged.admin = told.admin;
    merged.admin_since.clone_from(&told.admin_since);
    merged.admin_reason.clone_from(&told.admin_reason);
    merged.admin_actor.clone_from(&told.admin_actor);
    merged.admin_forced = told.admin_forced;
    merged.admin_expires_at.clone_from(&told.admin_expires_at);
    merged.admin_reverts_to.clone_from(&told.admin_reverts_to);
    merged.admin_said_at.clone_from(&told.admin_said_at);
    merged.admin_standing_said_at.clone_from(&told.admin_standing_said_at);
    merged.deadline_at.clone_from(&told.deadline_at);
}

/// And what weight it is to have.
fn take_weight(merged: &mut Backend, told: &Backend) {
    merged.weight = told.weight;
    merged.configured_weight = told.configured_weight;
    merged.weight_wanted = told.weight_wanted;
    merged.weight_since.clone_from(&told.weight_since);
    merged.weight_reason.clone_from(&told.weight_reason);
    merged.weight_actor.clone_from(&told.weight_actor);
    merged.weight_forced = told.weight_forced;
    merged.weight_expires_at.clone_from(&told.weight_expires_at);
    merged.weight_reverts_to = told.weight_reverts_to;
    merged.weight_said_at.clone_from(&told.weight_said_at);
    merged.weight_standing_said_at.clone_from(&told.weight_standing_said_at);
}

/// And how many requests at once.
fn take_limit(merged: &mut Backend, told: &Backend) {
    merged.max_in_flight = told.max_in_flight;
    merged.configured_max_in_flight = told.configured_max_in_flight;
    merged.max_in_flight_wanted = told.max_in_flight_wanted;
    merged.max_in_flight_since.clone_from(&told.max_in_flight_since);
    merged.max_in_flight_reason.clone_from(&told.max_in_flight_reason);
    merged.max_in_flight_actor.clone_from(&told.max_in_flight_actor);
    merged.max_in_flight_expires_at.clone_from(&told.max_in_flight_expires_at);
    merged.max_in_flight_reverts_to = told.max_in_flight_reverts_to;
    merged.max_in_flight_said_at.clone_from(&told.max_in_flight_said_at);
    merged.max_in_flight_standing_said_at.clone_from(&told.max_in_flight_standing_said_at);
}

fn newest_of<'a>(
    all: &[(&'a str, &'a Backend)],
    what: What,
    is_set: fn(&Backend) -> bool,
) -> Option<(&'a str, &'a Backend)> {
    newest(all, is_set, |backend| what.heard(backend)?.in_force_said())
}

/// Whose words on the state are shown: an operator's, rather than those of a proxy that has not heard
/// them, and whatever `model` says if there are none.
fn of_state<'a>(
    said: &[(&'a str, &'a Backend)],
    model: (&'a str, &'a Backend),
) -> (&'a str, &'a Backend) {
    let told = newest_of(said, What::State, Backend::is_overridden).unwrap_or(model);
    if ends::deadline_then(told.1).is_some() {
        return told;
    }
    // An older proxy does not tell the deadline of what comes then; another one may.
    let same = |one: &Backend| {
        one.admin == told.1.admin && ends::state_then(one) == ends::state_then(told.1)
    };
    let more = said.iter().find(|(_, one)| same(one) && ends::deadline_then(one).is_some());
    more.copied().unwrap_or(told)
}

fn opinion(name: &str, backend: &Backend) -> Opinion {
    let reason = if backend.reasons.is_empty() {
        backend.health_reason.clone()
    } else {
        backend.reasons.join("; ")
    };
    Opinion {
        replica: name.to_owned(),
        known: true,
        effective: if backend.serves() { Effective::Serving } else { backend.effective },
        health: backend.health,
        admin: backend.admin,
        reason,
    }
}

/// How bad it is; the merged row shows the reasons of the worst.
fn rank(effective: Effective) -> u8 {
    match effective {
        Effective::Serving | Effective::Standby => 0,
        Effective::Degraded => 1,
        Effective::Checking | Effective::Unknown => 2,
        Effective::Draining | Effective::Drained | Effective::Terminating => 3,
        Effective::Maint => 4,
        Effective::Ejected => 5,
        Effective::Down => 6,
    }
}
