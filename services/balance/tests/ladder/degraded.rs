//! Backends that ask to be spared.

use evenkeel_balance::{Effective, Health};

use crate::{
    BOTH,
    common::{SECOND, counts},
    degrade, health, world,
};

#[test]
fn a_backend_that_asks_to_be_spared_gets_nothing_while_others_serve() {
    let mut world = world();
    degrade(&mut world, "a");
    assert_eq!(
        (health(&world, "a"), world.effective("a")),
        (Health::Degraded, Effective::Degraded)
    );
    assert_eq!(world.picks(10), counts(&[("b", 10)]));
    let backend = world.pool.view().backends.remove(0);
    assert_eq!(backend.reasons, ["degraded: cold cache"]);
    assert_eq!(backend.health_until, Some(world.now + SECOND * 10));
}

#[test]
fn being_degraded_ends_by_itself_unless_it_is_said_again() {
    let mut world = world();
    degrade(&mut world, "a");
    world.run(SECOND * 9, &BOTH);
    degrade(&mut world, "a");
    world.run(SECOND * 9, &BOTH);
    assert_eq!(health(&world, "a"), Health::Degraded);
    world.run(SECOND * 2, &BOTH);
    assert_eq!(health(&world, "a"), Health::Up);
    let told: Vec<_> = world.events.iter().filter(|text| text.contains("degraded")).collect();
    assert_eq!(told, ["degraded: cold cache", "no longer degraded"]);
}

#[test]
fn responses_that_say_it_all_the_time_are_told_once() {
    let mut world = world();
    let mut picker = world.pool.picker();
    let member = std::sync::Arc::clone(picker.pick(None).unwrap().member());
    assert!(member.ask_to_spare());
    world.pool.degraded(member.id(), member.generation(), "", world.now);
    for _ in 0..30 {
        assert!(!member.ask_to_spare(), "the pool looks itself");
        world.run(SECOND, &BOTH);
    }
    assert_eq!(health(&world, member.id().as_str()), Health::Degraded);
    world.run(SECOND * 21, &BOTH);
    assert_eq!(health(&world, member.id().as_str()), Health::Up);
    assert!(member.ask_to_spare(), "this is news again");
}
