//! Of what an operator has forced on proxies that would have refused it.

use super::*;

/// The same by force: what is in force, and what it lies on.
fn forced(mut answer: Answer, in_force: bool, below: bool) -> Answer {
    let backend = &mut answer.pools[0].backends[0];
    backend.admin_forced = in_force;
    if let Some(then) = &mut backend.admin_reverts_to {
        then.forced = below;
    }
    answer
}

/// Whether force is used to tell `c`, of all that it is told.
fn told_to_c(said: impl Fn(u64) -> Vec<(&'static str, Answer)>) -> Vec<bool> {
    tellings_to_c(said).iter().map(|telling| telling.force).collect()
}

#[test]
fn what_was_forced_is_carried_with_force_and_nothing_else_is() {
    for is_forced in [false, true] {
        let stands = |at| forced(knows(at, ("maint", 10, None), None, 10), is_forced, false);
        assert_eq!(told_to_c(|at| vec![("a", stands(at))]), [is_forced]);
    }
    let over = |at| knows(at, ("maint", 5, None), Some(("drain", 10, Some(300))), 10);
    for (in_force, below) in [(true, false), (false, true)] {
        let said = |at| vec![("a", forced(over(at), in_force, below))];
        assert_eq!(told_to_c(said), [in_force, below], "the override comes first");
    }
}

#[test]
fn a_proxy_that_does_not_tell_of_force_takes_it_from_nobodys_word() {
    let stands = |at| knows(at, ("maint", 10, None), None, 10);
    let over = |at| knows(at, ("ready", 5, None), Some(("drain", 10, Some(300))), 10);
    for knows in [&stands as &dyn Fn(u64) -> Answer, &over] {
        let said = |at| vec![("a", knows(at)), ("b", forced(knows(at), true, false))];
        assert!(told_to_c(said)[0]);
    }
}
