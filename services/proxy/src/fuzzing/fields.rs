//! Fields of which we read the values: how far a request may go, whose visitor it is, how long a
//! backend keeps connections.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, Method, header::COOKIE};
use tokio::time::Instant;

use crate::{
    idle_limit::IdleLimit,
    max_forwards::{self, Hop},
    settings,
    sticky::{Sticky, Visit, VisitCounts},
};

/// Reads them, with what must hold then.
pub(super) fn check(fields: &HeaderMap) {
    counts_down(fields.clone());
    finds_a_visit_that_is_there(fields);
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

/// A tag is one that somebody sent, as we write it.
fn finds_a_visit_that_is_there(fields: &HeaderMap) {
    let ttl = Duration::ZERO;
    let settings = settings::Sticky { cookie: "a".to_owned(), secret: None, ttl, idle: ttl };
    if let Visit::Wanted(tag) = Sticky::new(&settings).visit(fields, &VisitCounts::default()) {
        let cookie = format!("a={}", URL_SAFE_NO_PAD.encode(tag.to_be_bytes()));
        let has = |field: &[u8]| field.windows(cookie.len()).any(|part| part == cookie.as_bytes());
        assert!(fields.get_all(COOKIE).iter().any(|field| has(field.as_bytes())), "{cookie}");
    }
}

fn shortens_a_limit(fields: &HeaderMap) {
    let (limit, configured) = (IdleLimit::default(), Duration::from_secs(4));
    limit.hear(fields);
    let is_told = fields.contains_key("keep-alive");
    let current = limit.current(configured, Instant::now());
    assert!(current == configured || (is_told && current < configured), "{current:?}");
}
