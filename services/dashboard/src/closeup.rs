//! What the proxies are asked only about a backend that somebody looks at: of 500 backends, all
//! of it would be more than a dashboard can ask each second, and nobody reads it.
//!
//! A page or a feed of one backend says that it is looked at; whatever is known by then is shown,
//! and what is older than [`REFRESH`] is asked for anew meanwhile. Nobody waits for a slow proxy,
//! but for the very first answers a moment, for those who read without JavaScript.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chassis::secret::Secret;
use futures_util::future::join_all;
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};

use crate::{
    charts::Window,
    decision::Told,
    history::Series,
    hour::Hour,
    model::{Admin, Backend},
    poll::View,
    predict,
    remember::{self, unix_seconds},
    replica::Proxy,
    settings::TokenSource,
    wish::Wish,
};

/// How old what is shown may become: decisions are read, not watched.
const REFRESH: Duration = Duration::from_secs(2);
/// How long the first look waits: proxies answer within milliseconds.
const FIRST_WAIT: Duration = Duration::from_millis(600);
/// Backends that are looked at at the same time; one that nobody looked at for longest makes room.
const MOST: usize = 32;
/// Backends that the proxies are asked about at the same time: each is a handful of requests to every
/// proxy, and one that is slow holds them for seconds.
const ASKED_MOST: usize = 8;
/// Decisions shown of one backend; the list scrolls within its box.
const DECISIONS: usize = 25;

/// What is known of one backend beyond its row.
#[derive(Debug, Default)]
pub(crate) struct CloseUp {
    /// Newest first; `None` if nobody tells.
    pub(crate) decisions: Option<Vec<Told>>,
    /// The share of successes that proxies record.
    pub(crate) sampled_share: f64,
    /// What each state would do, by the proxies' own word.
    pub(crate) predictions: Vec<(Admin, String)>,
    /// Its hour. The same in all that is known of this backend, and always the newest.
    pub(crate) hour: Arc<Mutex<Hour>>,
}

impl CloseUp {
    /// Its traffic over a window, if all proxies that answer tell it.
    pub(crate) fn window(&self, view: &View, window: Window) -> Option<Series> {
        let hour = self.hour.lock().unwrap_or_else(PoisonError::into_inner);
        hour.is_known(view.answering()).then(|| hour.window(window, unix_seconds()))
    }
}

type Key = (String, String);

/// Those of the backends that are looked at.
pub(crate) struct CloseUps {
    token: TokenSource,
    asked: Arc<Semaphore>,
    // A std mutex: held to look one up, never across an await.
    kept: Mutex<HashMap<Key, Slot>>,
}

struct Slot {
    newest: watch::Sender<Option<Arc<CloseUp>>>,
    hour: Arc<Mutex<Hour>>,
    looked_at: Instant,
    asked: Option<Instant>,
}

impl CloseUps {
    /// None yet. `token` is for proxies that want one for reading.
    pub(crate) fn new(token: TokenSource) -> Self {
        Self { token, asked: Arc::new(Semaphore::new(ASKED_MOST)), kept: Mutex::default() }
    }

    /// What is known of a backend that somebody looks at now; nothing of one that the picture does not
    /// know, which anybody could make up.
    pub(crate) fn of(&self, view: &Arc<View>, pool: &str, id: &str) -> Option<Arc<CloseUp>> {
        self.look(view, pool, id)?.borrow().clone()
    }

    /// The same for somebody who comes just now, and waits a moment for the first answers.
    pub(crate) async fn first(
        &self,
        view: &Arc<View>,
        pool: &str,
        id: &str,
    ) -> Option<Arc<CloseUp>> {
        let mut newest = self.look(view, pool, id)?;
        let known = newest.wait_for(Option::is_some);
        tokio::time::timeout(FIRST_WAIT, known).await.ok()?.ok()?.clone()
    }

    fn look(
        &self,
        view: &Arc<View>,
        pool: &str,
        id: &str,
    ) -> Option<watch::Receiver<Option<Arc<CloseUp>>>> {
        view.picture.as_ref()?.answer.backend(pool, id)?;
        let (key, now) = ((pool.to_owned(), id.to_owned()), Instant::now());
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST && !kept.contains_key(&key) {
            let oldest = kept.iter().min_by_key(|(_, slot)| slot.looked_at);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                kept.remove(&oldest);
            }
        }
        let slot = kept.entry(key).or_insert_with(|| Slot {
            newest: watch::Sender::new(None),
            hour: Arc::default(),
            looked_at: now,
            asked: None,
        });
        slot.looked_at = now;
        let receiver = slot.newest.subscribe();
        let is_due = slot.asked.is_none_or(|asked| now - asked >= REFRESH);
        // While too many are asked about, what is known has to do: the next look asks.
        if is_due && let Ok(permit) = Arc::clone(&self.asked).try_acquire_owned() {
            slot.asked = Some(now);
            let (newest, hour) = (slot.newest.clone(), Arc::clone(&slot.hour));
            let (token, view) = (self.token.clone(), Arc::clone(view));
            let key = (pool.to_owned(), id.to_owned());
            tokio::spawn(async move {
                newest.send_replace(Some(Arc::new(ask(&view, token, key, hour).await)));
                drop(permit);
            });
        }
        Some(receiver)
    }
}

async fn ask(view: &View, token: TokenSource, (pool, id): Key, hour: Arc<Mutex<Hour>>) -> CloseUp {
    let answers = view.answering().map(async |proxy: &Proxy| {
        let read: Option<Secret> = proxy.token_for_reading(&token);
        let (decisions, ()) = tokio::join!(
            proxy.api.decisions(&id, DECISIONS, read.as_ref()),
            remember::refresh(proxy, &hour, Some((&pool, &id)), &token),
        );
        (proxy, decisions)
    });
    let found = view.picture.as_ref().and_then(|picture| picture.answer.backend(&pool, &id));
    let (answers, predictions) =
        tokio::join!(join_all(answers), predictions(view, &token, &pool, found));
    let mut closeup = CloseUp { hour: Arc::clone(&hour), predictions, ..CloseUp::default() };
    for (proxy, answer) in answers {
        let Ok(answer) = answer else { continue };
        closeup.sampled_share = closeup.sampled_share.max(answer.sampled_share);
        let told = answer
            .decisions
            .into_iter()
            .map(|decision| Told { proxy: proxy.name.clone(), decision });
        closeup.decisions.get_or_insert_default().extend(told);
    }
    if let Some(decisions) = &mut closeup.decisions {
        decisions.sort_by(|a, b| b.decision.at.cmp(&a.decision.at));
        decisions.truncate(DECISIONS);
    }
    closeup
}

/// What each state would do to a backend that is there.
async fn predictions(
    view: &View,
    token: &TokenSource,
    pool: &str,
    backend: Option<&Backend>,
) -> Vec<(Admin, String)> {
    let Some(backend) = backend else { return Vec::new() };
    // The present one too: it may be another one when this is shown.
    let states = [Admin::Ready, Admin::Drain, Admin::Maint].map(async |state| {
        (state, predict::ask(view, token, pool, backend, &Wish::State(state)).await)
    });
    join_all(states).await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::history::History;

    /// Nobody is there to be asked: whatever is asked for is known once other tasks had their turn.
    fn view(backends: usize) -> Arc<View> {
        let backends: Vec<_> = (0..backends).map(|n| json!({"id": n.to_string()})).collect();
        let pools = json!([{"name": "default", "backends": backends}]);
        let answer = json!({"proxy": {"started_at": ""}, "pools": pools});
        Arc::new(View::saved(
            serde_json::from_value(answer).unwrap(),
            Vec::new(),
            Vec::new(),
            History::default(),
        ))
    }

    fn asked(closeups: &CloseUps) -> usize {
        closeups.kept.lock().unwrap().values().filter(|slot| slot.asked.is_some()).count()
    }

    #[tokio::test]
    async fn nobody_is_asked_about_a_backend_that_is_made_up() {
        let (view, closeups) = (view(1), CloseUps::new(TokenSource::None));
        assert!(closeups.first(&view, "default", "made up").await.is_none());
        assert!(closeups.first(&view, "made up", "0").await.is_none());
        assert_eq!(closeups.kept.lock().unwrap().len(), 0, "it takes no other one's place");
        assert!(closeups.first(&view, "default", "0").await.is_some());
    }

    #[tokio::test]
    async fn proxies_are_asked_about_a_few_backends_at_a_time_and_about_the_others_later() {
        let (view, closeups) = (view(ASKED_MOST + 3), CloseUps::new(TokenSource::None));
        let look_at_all = || {
            (0..ASKED_MOST + 3).for_each(|n| drop(closeups.of(&view, "default", &n.to_string())))
        };
        look_at_all();
        assert_eq!(asked(&closeups), ASKED_MOST);
        look_at_all();
        assert_eq!(asked(&closeups), ASKED_MOST, "none of them has answered yet");
        tokio::task::yield_now().await;
        look_at_all();
        assert_eq!(asked(&closeups), ASKED_MOST + 3);
    }
}
