//! Fields of which we read or write the values: how far a request may go, whose visitor it is, how long
//! a backend keeps connections, how long the Kubernetes API wants to be left alone.

use std::{net::SocketAddr, time::Duration};

use balance::{BackendId, Found, Policy, Pool, ProbePlan, Time};
use http::{
    HeaderMap, Method,
    header::{COOKIE, RETRY_AFTER},
};
use tokio::time::Instant;

use crate::{
    discovery::kubernetes::retry_after,
    idle_limit::IdleLimit,
    max_forwards::{self, Hop},
    settings,
    sticky::{Sticky, Visit, VisitCounts},
};

/// Reads them, with what must hold then.
pub(super) fn check(fields: &HeaderMap) {
    counts_down(fields.clone());
    finds_the_visit_that_is_there(fields);
    gives_a_cookie_that_is_taken(fields);
    waits_as_it_is_told(fields);
    shortens_a_limit(fields);
}

/// One less goes on, as a plain number, and nothing that is none.
fn counts_down(mut fields: HeaderMap) {
    let before: Vec<_> = fields.get_all("max-forwards").iter().cloned().collect();
    let hop = max_forwards::count_down(&Method::OPTIONS, &mut fields);
    let after: Vec<_> = fields.get_all("max-forwards").iter().collect();
    match (hop, &before[..]) {
        (Ok(Hop::Forward), []) => assert!(after.is_empty()),
        (Ok(hop), [before]) => {
            let digits = before.to_str().unwrap().trim_start_matches('0');
            // More than any machine counts.
            let number =
                digits.parse::<u128>().unwrap_or(if digits.is_empty() { 0 } else { u128::MAX });
            assert_eq!(hop == Hop::Answer, number == 0, "{before:?}");
            if hop == Hop::Forward {
                let left = after[0].to_str().unwrap().parse::<u64>().unwrap();
                assert_eq!((after.len(), u128::from(left)), (1, number.min(u64::MAX.into()) - 1));
            }
        }
        (Ok(_), _) => panic!("more than one number"),
        (Err(_), before) => assert!(!before.is_empty()),
    }
}

/// The first of the cookies that can be one of ours.
fn finds_the_visit_that_is_there(fields: &HeaderMap) {
    let ours =
        fields.get_all(COOKIE).iter().flat_map(|field| field.as_bytes().split(|b| *b == b';'));
    let tag = ours.filter_map(|cookie| tag_of(cookie.trim_ascii().strip_prefix(b"a=")?)).next();
    let visit = sticky().visit(fields, &VisitCounts::default());
    assert_eq!(visit, tag.map_or(Visit::First, Visit::Wanted));
}

fn sticky() -> Sticky {
    let ttl = Duration::ZERO;
    Sticky::new(&settings::Sticky { cookie: "a".to_owned(), secret: None, ttl, idle: ttl })
}

/// Six bits for each character, of which the last has two (RFC 4648 §5).
fn tag_of(text: &[u8]) -> Option<u128> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digit =
        |byte: &u8| DIGITS.iter().position(|digit| digit == byte).map(|value| value as u128);
    let [first @ .., last] = text else { return None };
    let last = digit(last).filter(|last| first.len() == 21 && last % 16 == 0)?;
    let tag = first.iter().try_fold(0, |tag: u128, byte| Some(tag << 6 | digit(byte)?))?;
    Some(tag << 2 | last >> 4)
}

/// The cookie that a client is given brings it back, and nothing else comes with it.
fn gives_a_cookie_that_is_taken(fields: &HeaderMap) {
    let Some(value) = fields.get(COOKIE) else { return };
    let tag = value.as_bytes().iter().fold(1, |tag: u128, byte| tag << 7 ^ u128::from(*byte));
    let plan = ProbePlan { enabled: false, ..ProbePlan::default() };
    let mut pool = Pool::new("fuzz", Policy::default(), plan, 1).with_tags(move |_| tag);
    let address = SocketAddr::from(([127, 0, 0, 1], 81));
    pool.discovered(vec![Found::new(BackendId::new("a"), Ok(vec![address]))], Time::START);
    let ticket = pool.picker().pick(None).unwrap();
    let cookie = sticky().cookie(ticket.member(), fields).unwrap();
    let parts: Vec<&str> = cookie.to_str().unwrap().split("; ").collect();
    let of_https: &[&str] = &["Path=/", "HttpOnly", "SameSite=Lax", "Secure"];
    assert!(parts[1..] == *of_https || parts[1..] == of_https[..3], "{parts:?}");
    let back = HeaderMap::from_iter([(COOKIE, parts[0].parse().unwrap())]);
    assert_eq!(sticky().visit(&back, &VisitCounts::default()), Visit::Wanted(tag));
}

/// A number of seconds, and nothing else.
fn waits_as_it_is_told(fields: &HeaderMap) {
    let told = fields.get(RETRY_AFTER).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let digits = told.as_deref().map(|told| told.strip_prefix('+').unwrap_or(told));
    let number = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let seconds = number.and_then(|number| number.parse::<u64>().ok());
    assert_eq!(retry_after(fields), seconds.map(Duration::from_secs));
}

fn shortens_a_limit(fields: &HeaderMap) {
    let (limit, configured) = (IdleLimit::default(), Duration::from_secs(4));
    limit.hear(fields);
    let is_told = fields.contains_key("keep-alive");
    let current = limit.current(configured, Instant::now());
    assert!(current == configured || (is_told && current < configured), "{current:?}");
}
