//! `Idempotency-Key`: a change that is sent again because its answer was lost is carried out once.
//!
//! A change sets things to values, so that repeating it would leave the same state. But a `ttl`
//! would begin anew, the log would tell it twice, and with `If-Match` the repetition would be
//! refused for the very change that it repeats. So an answer of success is kept under its key and
//! given again. A refused change has changed nothing and may be judged anew.
//!
//! The table is not kept over a restart: a repetition is then carried out once more.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use chassis::problem::Problem;
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

/// Keys that are kept. Operators and their scripts make a few changes a minute.
const KEPT_MOST: usize = 1000;

/// How long: retries come within seconds, a pipeline's second run within minutes.
const KEPT_FOR: Duration = Duration::from_secs(10 * 60);

/// A UUID has 36 characters; nobody needs more than a few of them.
const KEY_LONGEST: usize = 128;

/// What a change was answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) etag: String,
    pub(super) body: Bytes,
}

/// The changes of the last minutes that had a key.
#[derive(Debug, Default)]
pub(crate) struct Idempotency(
    // A std mutex: held for a look-up, never across an await.
    Mutex<HashMap<String, Entry>>,
);

#[derive(Debug)]
struct Entry {
    /// Of the request, so that a key cannot answer another one.
    fingerprint: u64,
    since: Instant,
    /// None while it is carried out.
    answer: Option<Answer>,
}

/// What to do with a change.
#[derive(Debug)]
pub(super) enum Begin {
    /// Carry it out, and say how it went.
    Now(Guard),
    /// It was carried out before.
    Before(Answer),
}

/// A change that is being carried out. Dropped without an answer, its key is free again.
#[derive(Debug)]
pub(super) struct Guard {
    table: Arc<Idempotency>,
    key: Option<String>,
}

impl Guard {
    /// Keeps the answer for repetitions.
    pub(super) fn done(mut self, answer: &Answer) {
        let Some(key) = self.key.take() else { return };
        if let Some(entry) = self.table.lock().get_mut(&key) {
            entry.answer = Some(answer.clone());
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.table.lock().remove(&key);
        }
    }
}

impl Idempotency {
    /// Begins a change with the key that its headers have, if they do.
    ///
    /// # Errors
    /// 400 for a key that is none, 409 while the same change is being carried out, 422 for a key
    /// of another change.
    pub(super) fn begin(
        self: &Arc<Self>,
        headers: &HeaderMap,
        fingerprint: u64,
    ) -> Result<Begin, Problem> {
        let guard = |key| Begin::Now(Guard { table: Arc::clone(self), key });
        let Some(key) = headers.get("idempotency-key") else { return Ok(guard(None)) };
        let is_key = |key: &&str| {
            (1..=KEY_LONGEST).contains(&key.len())
                && key.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let Some(key) = key.to_str().ok().filter(is_key) else {
            let detail = format!("Idempotency-Key: expected 1 to {KEY_LONGEST} visible characters");
            return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
        };
        let now = Instant::now();
        let mut table = self.lock();
        table.retain(|_, entry| now - entry.since < KEPT_FOR);
        match table.get(key) {
            Some(entry) if entry.fingerprint != fingerprint => {
                let detail = "this Idempotency-Key was used for another change: take a new one";
                return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
            }
            Some(Entry { answer: Some(answer), .. }) => return Ok(Begin::Before(answer.clone())),
            Some(_) => {
                let detail = "the same change is being carried out right now: ask again shortly";
                return Err(Problem::new(StatusCode::CONFLICT, detail));
            }
            None => {}
        }
        if table.len() >= KEPT_MOST {
            let oldest = table.iter().min_by_key(|(_, entry)| entry.since);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                table.remove(&oldest);
            }
        }
        table.insert(key.to_owned(), Entry { fingerprint, since: now, answer: None });
        Ok(guard(Some(key.to_owned())))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyed(key: &str) -> HeaderMap {
        [("idempotency-key".parse().unwrap(), key.parse().unwrap())].into_iter().collect()
    }

    fn begin(table: &Arc<Idempotency>, key: &str, fingerprint: u64) -> Begin {
        table.begin(&keyed(key), fingerprint).unwrap()
    }

    fn guard(begin: Begin) -> Guard {
        let Begin::Now(guard) = begin else { panic!("it was there before: {begin:?}") };
        guard
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_given_again_for_ten_minutes() {
        let table = Arc::default();
        let answer = Answer { etag: "\"a\"".to_owned(), body: Bytes::from_static(b"{}") };
        guard(begin(&table, "k", 1)).done(&answer);
        assert!(matches!(begin(&table, "k", 1), Begin::Before(before) if before == answer));
        tokio::time::advance(KEPT_FOR).await;
        guard(begin(&table, "k", 1));
    }

    #[tokio::test]
    async fn a_key_belongs_to_one_change_and_a_failed_one_leaves_it_free() {
        let table: Arc<Idempotency> = Arc::default();
        let first = guard(begin(&table, "k", 1));
        assert_eq!(table.begin(&keyed("k"), 1).unwrap_err().status(), 409);
        assert_eq!(table.begin(&keyed("k"), 2).unwrap_err().status(), 422);
        drop(first);
        guard(begin(&table, "k", 2));
        for bad in ["", "a b", &"x".repeat(129)] {
            assert_eq!(table.begin(&keyed(bad), 1).unwrap_err().status(), 400);
        }
    }

    #[tokio::test]
    async fn the_table_is_bounded() {
        let table: Arc<Idempotency> = Arc::default();
        let answer = Answer { etag: String::new(), body: Bytes::new() };
        for key in 0..2 * KEPT_MOST {
            guard(begin(&table, &key.to_string(), 1)).done(&answer);
        }
        assert_eq!(table.lock().len(), KEPT_MOST);
    }
}
