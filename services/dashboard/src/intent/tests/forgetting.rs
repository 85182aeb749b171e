//! What the book leaves out in the end.

use super::*;

/// A proxy that has not found the backend, or has lost it.
fn without_it(at: u64) -> Answer {
    let mut answer = says(at, 0, "ready", at, None, None);
    answer.pools[0].backends.clear();
    answer
}

fn fresh(at: u64) -> Answer {
    says(at, 0, "ready", at - 1, None, None)
}

/// What is told of a drain when the backend comes back anew, after a time in which each minute was as
/// `meanwhile` says.
fn after(
    seconds: u64,
    meanwhile: impl Fn(u64) -> Vec<(&'static str, Answer)>,
) -> Vec<(String, Admin)> {
    let mut book = Book::default();
    run(&mut book, 20.0, &[("a", says(20, 0, "drain", 10, Some("ann"), None))]);
    let end = 20 + seconds;
    for at in (20..end).step_by(60).skip(1) {
        assert!(run(&mut book, at as f64, &meanwhile(at)).is_empty());
    }
    assert!(run(&mut book, end as f64, &[("a", fresh(end))]).is_empty(), "it settles");
    run(&mut book, (end + 3) as f64, &[("a", fresh(end + 3))])
}

#[test]
fn a_word_outlives_the_absence_of_its_backend_for_as_long_as_on_proxies() {
    let gone = |at| vec![("a", without_it(at))];
    assert_eq!(after(3_500, gone), [("a".to_owned(), Admin::Drain)]);
    assert_eq!(after(3_700, gone), [], "it is somebody else");
    let known_elsewhere = |at| vec![("a", without_it(at)), ("b", fresh(at)), ("c", fresh(at))];
    let mut book = Book::default();
    run(&mut book, 20.0, &[("a", says(20, 0, "drain", 10, Some("ann"), None))]);
    for at in (60..8_000).step_by(60) {
        run(&mut book, at as f64, &known_elsewhere(at));
    }
    assert_eq!(book.newest.len(), 1, "it is not gone");
}

#[test]
fn nobody_is_forgotten_while_no_proxy_answers() {
    assert_eq!(after(20_000, |_| Vec::new()), [("a".to_owned(), Admin::Drain)]);
}

#[test]
fn an_override_that_has_ended_is_forgotten_when_no_proxy_tells_of_it_any_more() {
    let told = |at| {
        let mut answer = knows(at, ("ready", 5, None), Some(("drain", 10, Some(30))), 10);
        answer.pools[0].backends[0].admin_standing_said_at = None;
        answer
    };
    let ended = |at| {
        let mut answer = knows(at, ("ready", 5, None), None, 10);
        answer.pools[0].backends[0].admin_standing_said_at = None;
        answer
    };
    let mut book = Book::default();
    run(&mut book, 20.0, &[("a", told(20))]);
    for at in (60..8_000).step_by(60) {
        assert!(run(&mut book, at as f64, &[("a", ended(at))]).is_empty());
    }
    assert_eq!(book.newest.len(), 1, "an older one may yet come, and is over");
    // It was started anew without a memory.
    for at in (8_000..12_000).step_by(60) {
        run(&mut book, at as f64, &[("a", knows_nothing(at))]);
    }
    assert_eq!(book.newest.len(), 0);
}

#[test]
fn of_too_much_the_newest_words_on_those_who_are_there_are_kept() {
    let drained = |id: String, since: u64| {
        let mut backend =
            says(40, 0, "drain", since, Some("ann"), None).pools[0].backends.remove(0);
        backend.id = id;
        backend
    };
    let mut answer = without_it(40);
    answer.pools[0].backends.push(drained("gone".to_owned(), 39));
    let mut book = Book::default();
    run(&mut book, 40.0, &[("a", answer.clone())]);
    answer.pools[0].backends =
        vec![drained("first".to_owned(), 10), drained("second".to_owned(), 11)];
    let pattern = drained(String::new(), 12);
    let more = (0..THINGS_MOST - 1).map(|n| Backend { id: n.to_string(), ..pattern.clone() });
    answer.pools[0].backends.extend(more);
    for at in [41.0, 42.0] {
        run(&mut book, at, &[("a", answer.clone())]);
        assert_eq!(book.newest.len(), THINGS_MOST);
        let knows = |id: &str| book.newest.keys().any(|(_, known, _)| known == id);
        assert!(!knows("gone") && !knows("first") && knows("second"), "at {at}");
    }
}
