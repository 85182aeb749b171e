use std::pin::pin;

use balance::{EXPIRED, Event, EventKind, Policy, Pool, ProbePlan};
use futures_util::poll;
use tempfile::TempDir;

use super::*;
use crate::{clock::Clock, control::POOL};

fn path(folder: &TempDir) -> PathBuf {
    folder.path().join("audit.log")
}

fn open(folder: &TempDir) -> Audit {
    Audit::open(path(folder).to_str()).unwrap()
}

fn entry(actor: &str) -> Entry {
    Entry {
        at: "2026-01-01T00:00:00Z".to_owned(),
        action: "changed".to_owned(),
        actor: actor.to_owned(),
        from: Some("127.0.0.1".to_owned()),
        role: "local".to_owned(),
        path: "/v1/pools/default/backends/a:1".to_owned(),
        status: 200,
        reason: None,
        forced: false,
        before: None,
        after: None,
        detail: None,
    }
}

fn actors(audit: &Audit) -> Vec<String> {
    audit.latest().into_iter().map(|entry| entry.actor).collect()
}

#[test]
fn what_was_written_is_read_by_the_next_process_also_after_half_a_line() {
    let folder = tempfile::tempdir().unwrap();
    open(&folder).add(entry("ada"));
    let mut file = OpenOptions::new().append(true).open(path(&folder)).unwrap();
    file.write_all(b"{\"at\": \"2026-").unwrap();
    open(&folder).add(entry("bob"));
    assert_eq!(actors(&open(&folder)), ["bob", "ada"]);
    let text = fs::read_to_string(path(&folder)).unwrap();
    assert_eq!(text.lines().count(), 3, "{text}");
}

#[test]
fn the_files_are_bounded_and_no_entry_of_the_last_thousand_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let audit = open(&folder);
    // Without waiting for the disk each time, as if others had written most of it.
    let filler = Entry { detail: Some("x".repeat(900)), ..entry("filler") };
    let mut line = serde_json::to_vec(&filler).unwrap();
    line.push(b'\n');
    drop(audit);
    fs::write(path(&folder), line.repeat(FILE_MOST as usize / line.len())).unwrap();
    let audit = open(&folder);
    (0..3)
        .for_each(|n| audit.add(Entry { detail: filler.detail.clone(), ..entry(&n.to_string()) }));
    for path in [path(&folder), older(&path(&folder))] {
        assert!(fs::metadata(path).unwrap().len() <= FILE_MOST);
    }
    let kept = actors(&open(&folder));
    assert_eq!(
        (kept.len(), &kept[..4]),
        (KEPT, ["2", "1", "0", "filler"].map(String::from).as_slice())
    );
}

#[test]
fn whoever_is_refused_pushes_no_change_out() {
    let folder = tempfile::tempdir().unwrap();
    let (audit, now) = (open(&folder), Instant::now());
    audit.add(entry("ada"));
    for n in 0..5_000 {
        let path = format!("/v1/{n}");
        let refused = Entry { action: "refused".to_owned(), path, ..entry("mallory") };
        audit.add_refused(refused, now);
    }
    let kept = actors(&open(&folder));
    assert!(kept.len() < 50 && kept.last().unwrap() == "ada", "{kept:?}");
    assert_eq!(kept.len() as u64 + audit.untold(), 5_001);
}

fn control() -> Arc<Control> {
    let pool = Pool::new("default", Policy::RoundRobin, ProbePlan::default(), 1);
    Control::new(pool, Clock::start(), None).0
}

fn happens(control: &Control, message: &str) {
    let (at, kind, message) = (control.clock.now(), EventKind::Admin, message.to_owned());
    control.events.add(POOL, Event { at, kind, backend: None, message, actor: None });
}

fn details(audit: &Audit) -> Vec<String> {
    audit.latest().into_iter().filter_map(|entry| entry.detail).collect()
}

#[tokio::test]
async fn an_end_while_the_process_was_down_has_its_line_too() {
    let (control, audit) = (control(), Arc::new(Audit::open(None).unwrap()));
    happens(&control, &format!("the policy is round_robin: {EXPIRED}"));
    assert!(poll!(pin!(follow(audit.clone(), control.clone()))).is_pending());
    let told: Vec<Entry> = audit.latest();
    let [entry] = &told[..] else { panic!("{told:?}") };
    assert_eq!((&*entry.action, &*entry.path), ("expired", "/v1/pools/default"));
}

#[tokio::test]
async fn an_end_has_its_line_however_many_other_events_come_before_anybody_looks() {
    let (control, audit) = (control(), Arc::new(Audit::open(None).unwrap()));
    let (first, second) = (format!("a is ready: {EXPIRED}"), format!("b is ready: {EXPIRED}"));
    let rush = || (0..3_000).for_each(|n| happens(&control, &n.to_string()));
    happens(&control, &first);
    rush();
    let mut following = pin!(follow(audit.clone(), control.clone()));
    assert!(poll!(following.as_mut()).is_pending());
    assert_eq!(details(&audit), [&*first]);
    happens(&control, &second);
    rush();
    assert!(poll!(following.as_mut()).is_pending());
    assert_eq!(details(&audit), [second, first]);
}

#[tokio::test]
async fn ends_that_are_more_than_the_log_holds_are_counted() {
    let (control, audit) = (control(), Arc::new(Audit::open(None).unwrap()));
    let ended = format!("a is ready: {EXPIRED}");
    (0..20_007).for_each(|_| happens(&control, &ended));
    let mut following = pin!(follow(audit.clone(), control.clone()));
    // Others have their turn now and then.
    for _ in 0..=20_007 / AT_ONCE {
        assert!(poll!(following.as_mut()).is_pending());
    }
    assert_eq!(details(&audit)[0], "7 more ended at once; which is not known");
}

#[test]
fn a_log_that_cannot_be_written_is_told_before_anything_else() {
    let error = Audit::open(Some("/does/not/exist/audit.log")).unwrap_err().to_string();
    assert!(error.contains("PROXY_AUDIT_LOG=/does/not/exist/audit.log"), "{error}");
}
