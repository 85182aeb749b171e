//! Another policy while requests are under way: it holds at once, for everybody, and may end.

#![allow(clippy::unwrap_used)] // A helper that fails should panic at the line that was wrong.

mod common;

use balance::{Overridable, Policy, PolicyChange, PolicyPlan, Refused, Said, SaidAt, Time};
use common::{SECOND, World, counts};
use evenkeel_balance as balance;

const ALL: [&str; 3] = ["a", "b", "c"];

fn world() -> World {
    let mut world = World::with(&ALL);
    world.run(SECOND, &ALL);
    world
}

fn plan(policy: Policy) -> PolicyPlan {
    PolicyPlan { policy, hash_key: "path".into() }
}

fn change(world: &mut World, policy: Policy, ttl: Option<u32>) {
    let ttl = ttl.map(|seconds| SECOND * seconds);
    let reason = Some("one is slow".to_owned());
    let change = PolicyChange { plan: Some(plan(policy)), reason, ttl, ..Default::default() };
    world.pool.change_policy(change, world.now).unwrap();
}

#[test]
fn a_picker_goes_by_the_new_policy_at_its_next_pick_and_gives_no_ticket_up() {
    let mut world = world();
    let mut picker = world.pool.picker();
    let held: Vec<_> = (0..3).map(|_| picker.pick(None).unwrap()).collect();
    change(&mut world, Policy::First, None);
    let picked: Vec<String> =
        (0..5).map(|_| picker.pick(None).unwrap().member().id().to_string()).collect();
    assert_eq!(picked, ["a"; 5]);
    assert_eq!(&*picker.plan().hash_key, "path");
    let in_flight = |world: &World| -> u32 {
        world.pool.view().backends.iter().map(|backend| backend.member.in_flight()).sum()
    };
    assert_eq!(in_flight(&world), 3);
    drop(held);
    assert_eq!(in_flight(&world), 0);
}

#[test]
fn turns_are_exact_from_the_first_pick_after_coming_back_to_them() {
    let mut world = world();
    for others in [1, 2, 5] {
        change(&mut world, Policy::Random, None);
        world.picks(others);
        change(&mut world, Policy::RoundRobin, None);
        assert_eq!(world.picks(6), counts(&[("a", 2), ("b", 2), ("c", 2)]), "after {others}");
    }
}

#[test]
fn a_key_stays_with_its_backend_as_soon_as_the_policy_is_hash() {
    let mut world = world();
    let mut picker = world.pool.picker();
    change(&mut world, Policy::Hash, None);
    for key in 0..20 {
        let mut pick = || picker.pick(Some(key)).unwrap().member().generation();
        let first = pick();
        assert!((0..5).all(|_| pick() == first), "key {key}");
    }
}

#[test]
fn the_configured_policy_comes_back_when_the_time_is_over() {
    let mut world = world();
    change(&mut world, Policy::First, Some(60));
    assert_eq!(world.picks(4), counts(&[("a", 4)]));
    world.run(SECOND * 59, &ALL);
    assert_eq!(world.pool.view().plan, plan(Policy::First));
    world.run(SECOND, &ALL);
    let view = world.pool.view();
    assert_eq!((view.plan, view.wanted_plan), (view.configured_plan, Overridable::default()));
    assert_eq!(world.picks(3), counts(&[("a", 1), ("b", 1), ("c", 1)]));
    let told: Vec<_> = world.events.iter().filter(|text| text.contains("policy")).collect();
    assert_eq!(
        told,
        [
            "policy first (was round_robin): one is slow",
            "the configured policy round_robin again: the time set for a change is over",
        ]
    );
}

#[test]
fn an_operator_can_go_back_to_the_configured_policy() {
    let mut world = world();
    change(&mut world, Policy::Hash, Some(60));
    change(&mut world, Policy::Hash, None);
    assert_eq!(world.pool.standing_policy().expires(), None);
    let back = PolicyChange { actor: Some("ann".to_owned()), ..Default::default() };
    world.pool.change_policy(back, world.now).unwrap();
    let wanted = world.pool.standing_policy().current();
    assert_eq!((&wanted.plan, world.pool.view().plan.policy), (&None, Policy::RoundRobin));
    let by = wanted.set.as_ref().unwrap().actor.as_deref();
    assert_eq!(by, Some("ann"), "that is somebody's word too");
    world.run(SECOND, &ALL);
    let told: Vec<_> = world.events.iter().filter(|text| text.contains("policy")).collect();
    assert_eq!(
        told,
        [
            "policy hash by path (was round_robin): one is slow",
            "still policy hash by path: one is slow",
            "the configured policy round_robin (was hash by path)",
        ]
    );
}

#[test]
fn what_stands_comes_back_when_what_was_put_on_top_of_it_is_over() {
    let mut world = world();
    change(&mut world, Policy::Hash, None);
    change(&mut world, Policy::First, Some(60));
    // A new override takes the place of the one before, not of what stands.
    change(&mut world, Policy::Random, Some(30));
    let policy = |world: &World| world.pool.view().plan.policy;
    assert_eq!(policy(&world), Policy::Random);
    world.run(SECOND * 31, &ALL);
    assert_eq!(policy(&world), Policy::Hash);
    let wanted = world.pool.standing_policy();
    let set = wanted.current().set.as_ref().unwrap();
    assert_eq!((set.reason.as_deref(), wanted.expires()), (Some("one is slow"), None));
    let told = world.events.iter().filter(|text| text.contains("again")).collect::<Vec<_>>();
    assert_eq!(told, ["policy hash by path again: the time set for a change is over"]);
    change(&mut world, Policy::First, Some(60));
    change(&mut world, Policy::LeastTime, None);
    world.run(SECOND * 61, &ALL);
    assert_eq!(policy(&world), Policy::LeastTime, "what is set for good replaces both");
}

#[test]
fn what_was_wanted_before_a_restart_is_taken_up_with_its_end() {
    let mut world = world();
    change(&mut world, Policy::LeastRequest, Some(60));
    let standing = world.pool.standing_policy().clone();
    let mut after = World::with(&ALL);
    after.pool.restore_policy(standing.clone(), Time::START);
    assert_eq!(after.pool.standing_policy(), &standing);
    after.run(SECOND * 61, &ALL);
    assert_eq!(after.pool.view().plan.policy, Policy::RoundRobin);
}

#[test]
fn an_older_word_does_not_replace_a_newer_one_and_goes_beneath_a_newer_override() {
    let mut world = world();
    let say = |world: &mut World, policy: Option<Policy>, ttl: Option<u32>, said_at: u64| {
        let (plan, ttl) = (policy.map(plan), ttl.map(|seconds| SECOND * seconds));
        let change =
            PolicyChange { plan, ttl, said_at: Some(SaidAt(said_at)), ..Default::default() };
        world.pool.change_policy(change, world.now)
    };
    let policy = |world: &World| world.pool.view().plan.policy;
    say(&mut world, Some(Policy::Hash), None, 20).unwrap();
    let before = format!("{:?}", world.pool.view());
    let refused = Err(Refused::Superseded { by: SaidAt(20) });
    assert_eq!(say(&mut world, Some(Policy::First), None, 19), refused);
    assert_eq!(say(&mut world, None, Some(60), 10), refused);
    assert_eq!(format!("{:?}", world.pool.view()), before, "a refused change changes nothing");
    // The configured one for a while, and what is said of what lies beneath it.
    say(&mut world, None, Some(60), 30).unwrap();
    assert_eq!(policy(&world), Policy::RoundRobin);
    say(&mut world, Some(Policy::LeastTime), None, 25).unwrap();
    assert_eq!(policy(&world), Policy::RoundRobin, "the override is newer");
    let said = Said { standing: Some(SaidAt(25)), latest: Some(SaidAt(30)) };
    assert_eq!(world.pool.standing_policy().said, said);
    world.run(SECOND * 61, &ALL);
    assert_eq!(policy(&world), Policy::LeastTime);
}
