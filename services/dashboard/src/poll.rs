//! The one task that asks the proxies, and the view that everything on the page is made from.
//!
//! One view per round is published through a watch channel: a page or a live connection always
//! takes the newest, and a slow one cannot make anything pile up. Each proxy is asked by itself,
//! and one that is slow or away does not hold up the others. When none answers, the last good
//! picture stays in the view, together with what went wrong.

mod view;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chassis::{shutdown::Shutdown, wall};
use tokio::{
    sync::{Notify, watch},
    task::{JoinHandle, JoinSet},
    time::Instant,
};

pub(crate) use self::view::{Trouble, View};
use crate::{
    admin::{AdminApi, Fault},
    backends_hour, carry,
    family::Families,
    fleet,
    history::{History, SPARK_SECONDS, Said},
    hour::Hour,
    intent::Book,
    metrics::Metrics,
    model::Event,
    probes::ProbeLog,
    remember,
    replica::{Picture, Proxy, Replica},
    resolve::{self, Endpoint},
    settings::TokenSource,
    standing::Standing,
    timeline::Timeline,
};

/// Trouble shorter than this is not logged.
pub(crate) const LOG_AFTER: Duration = Duration::from_secs(2);
/// How long a round waits for the slowest proxy of those that answered before.
const PATIENCE: Duration = Duration::from_millis(250);
/// Seconds in a slot of the minute before the start: half of what is sent for one, and a line of
/// sixty pixels hardly tells.
const PREFILL_STEP: u64 = 2;
/// Between two looks at what a proxy remembers, which grows once a second.
const HEAR_EVERY: Duration = Duration::from_millis(900);

/// Where the newest view is.
#[derive(Clone)]
pub(crate) struct Views {
    receiver: watch::Receiver<Arc<View>>,
    hurry: Arc<Notify>,
}

impl Views {
    /// The newest view.
    pub(crate) fn newest(&self) -> Arc<View> {
        Arc::clone(&self.receiver.borrow())
    }

    /// A receiver of all views to come.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<View>> {
        self.receiver.clone()
    }

    /// Asks the proxies now: something was changed.
    pub(crate) fn hurry(&self) {
        self.hurry.notify_one();
    }
}

/// What polling needs to know.
pub(crate) struct Plan {
    pub(crate) urls: Vec<url::Url>,
    pub(crate) api: AdminApi,
    pub(crate) token: TokenSource,
    pub(crate) interval: Duration,
    pub(crate) metrics: Metrics,
    /// Whether proxies that missed a change are told of it; a mere reader changes nothing.
    pub(crate) carries: bool,
    /// Whether their hour is asked for: only charts need it.
    pub(crate) remembers: bool,
}

/// Starts polling. The task ends at a stop.
pub(crate) fn start(plan: Plan, shutdown: Shutdown) -> Views {
    let (sender, receiver) = watch::channel(Arc::new(View::new()));
    let hurry = Arc::new(Notify::new());
    let wake = Arc::clone(&hurry);
    let mut endpoints = resolve::start(plan.urls.clone(), shutdown.clone());
    let interval = plan.interval;
    let mut poller = Poller::new(plan);
    tokio::spawn(async move {
        let _ = endpoints.changed().await;
        while !shutdown.is_requested() {
            let next = Instant::now() + interval;
            let found = endpoints.borrow_and_update().clone();
            poller.round(found).await;
            sender.send_replace(Arc::new(poller.publish(&wake)));
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = wake.notified() => {}
                Ok(()) = endpoints.changed() => {}
                _ = shutdown.requested() => {}
            }
        }
    });
    Views { receiver, hurry }
}

/// A proxy that is asked at this moment, or waits for the next time.
struct Slot {
    endpoint: Endpoint,
    replica: Option<Box<Replica>>,
    proxy: Proxy,
    /// Since when its hour is being asked for, or was.
    hearing: Option<(Instant, JoinHandle<()>)>,
}

type Asked = (String, Box<Replica>, Vec<Event>);

struct Poller {
    plan: Plan,
    start: Instant,
    slots: BTreeMap<String, Slot>,
    families: Families,
    /// Keys of slots that nobody is shown.
    left_out: BTreeSet<String>,
    asking: JoinSet<Asked>,
    timeline: Timeline,
    book: Book,
    hour: Arc<Mutex<Hour>>,
    history: Arc<Mutex<History>>,
    probes: Arc<Mutex<ProbeLog>>,
    picture: Option<Arc<Picture>>,
    /// Whether the last minute was asked for: once, since from then on we see it ourselves.
    is_prefilled: bool,
}

impl Poller {
    fn new(plan: Plan) -> Self {
        Self {
            plan,
            start: Instant::now(),
            slots: BTreeMap::new(),
            families: Families::default(),
            left_out: BTreeSet::new(),
            asking: JoinSet::new(),
            timeline: Timeline::default(),
            book: Book::default(),
            hour: Arc::default(),
            history: Arc::default(),
            probes: Arc::default(),
            picture: None,
            is_prefilled: false,
        }
    }

    /// Asks everybody who is not being asked already, and waits for those who answer.
    async fn round(&mut self, found: Vec<Endpoint>) {
        self.slots.retain(|key, _| found.iter().any(|endpoint| endpoint.url.as_str() == key));
        for endpoint in &found {
            let Plan { api, token, .. } = &self.plan;
            let key = endpoint.url.to_string();
            let slot = self.slots.entry(key.clone());
            let slot = slot.or_insert_with(|| Slot::new(endpoint, api, token));
            if let Some(mut replica) = slot.replica.take() {
                replica.is_left_out = self.left_out.contains(&key);
                self.asking.spawn(async move {
                    let events = replica.poll().await;
                    (key, replica, events)
                });
            }
        }
        let first = self
            .slots
            .values()
            .all(|slot| slot.proxy.picture.is_none() && slot.proxy.fault.is_none());
        let patience = if first { 8 * PATIENCE } else { PATIENCE };
        let end = Instant::now() + patience;
        // Whoever is away may take its time; but somebody must be heard.
        while self
            .slots
            .values()
            .any(|slot| slot.replica.is_none() && (first || slot.proxy.answers()))
        {
            match tokio::time::timeout_at(end, self.asking.join_next()).await {
                Ok(Some(Ok(asked))) => self.hear(asked),
                _ => break,
            }
        }
        while let Some(Ok(asked)) = self.asking.try_join_next() {
            self.hear(asked);
        }
        self.left_out = self.families.left_out(&found);
        self.name();
    }

    fn hear(&mut self, (key, replica, events): Asked) {
        let result = replica.fault.as_ref().map_or("ok", Fault::label);
        self.plan.metrics.polls.with_label_values(&[result]).inc();
        // One that left meanwhile is not asked again.
        let Some(slot) = self.slots.get_mut(&key) else { return };
        slot.proxy.picture.clone_from(&replica.picture);
        slot.proxy.fault.clone_from(&replica.fault);
        slot.proxy.events_fault.clone_from(&replica.events_fault);
        slot.proxy.reads_need_token = replica.reads_need_token;
        if slot.proxy.answers() {
            self.families.answered(&slot.endpoint);
        }
        if let Some(run) = slot.proxy.identity() {
            self.timeline.note(&run, &key, events);
        }
        slot.replica = Some(replica);
        let is_due = |(since, task): &(Instant, JoinHandle<()>)| {
            since.elapsed() >= HEAR_EVERY && task.is_finished()
        };
        if self.plan.remembers && slot.hearing.as_ref().is_none_or(is_due) {
            let (proxy, token) = (slot.proxy.clone(), self.plan.token.clone());
            let hour = Arc::clone(&self.hour);
            let task = tokio::spawn(async move {
                remember::refresh(&proxy, &hour, None, &token).await;
            });
            slot.hearing = Some((Instant::now(), task));
        }
    }

    /// Names that two proxies share tell nobody which is meant. One proxy at two addresses has one.
    fn name(&mut self) {
        let told = self
            .slots
            .values()
            .filter_map(|slot| Some((slot.proxy.own_name()?.to_owned(), slot.proxy.identity()?)));
        let told: BTreeSet<(String, String)> = told.collect();
        for Slot { proxy, .. } in self.slots.values_mut() {
            let own = proxy.own_name().filter(|name| {
                !name.is_empty() && told.iter().filter(|(other, _)| other == name).count() == 1
            });
            proxy.name = match own {
                Some(own) => own.to_owned(),
                None => proxy.address(),
            };
        }
    }

    /// Every proxy once, even if two addresses lead to it.
    fn proxies(&self) -> Vec<Proxy> {
        let mut proxies: Vec<Proxy> = Vec::new();
        let shown = self.slots.iter().filter(|(key, _)| !self.left_out.contains(*key));
        for (_, slot) in shown {
            let own = slot.proxy.identity();
            let twin = proxies.iter_mut().find(|other| own.is_some() && other.identity() == own);
            match twin {
                // Of two ways to it, the one that works.
                Some(twin) if !twin.answers() => *twin = slot.proxy.clone(),
                Some(_) => {}
                None => proxies.push(slot.proxy.clone()),
            }
        }
        proxies
    }

    fn publish(&mut self, wake: &Arc<Notify>) -> View {
        let proxies = self.proxies();
        let answering: Vec<(&Proxy, &Arc<Picture>)> = proxies
            .iter()
            .filter(|proxy| proxy.answers())
            .filter_map(|proxy| Some((proxy, proxy.picture.as_ref()?)))
            .collect();
        let said: Vec<_> = answering
            .iter()
            .map(|(proxy, picture)| (proxy.name.as_str(), &picture.answer))
            .collect();
        if let Some(answer) = fleet::merge(&said) {
            let at = answering.iter().map(|(_, picture)| picture.at).min().unwrap_or(self.start);
            self.picture = Some(Arc::new(Picture { answer, at }));
        }
        let runs = proxies.iter().filter_map(|proxy| Some((proxy.identity()?, &*proxy.name)));
        self.timeline.name(runs);
        let now = self.start.elapsed().as_secs_f64();
        self.record(now, &answering);
        if !said.is_empty() {
            self.probes.lock().unwrap_or_else(PoisonError::into_inner).note(&said);
        }
        if self.plan.remembers && !said.is_empty() && !self.is_prefilled {
            self.is_prefilled = true;
            self.prefill(&proxies);
        }
        if self.plan.carries {
            let orders = self.book.note(now, &said);
            carry::out(orders, &proxies, &self.plan.token, &self.plan.metrics, wake);
        }
        let trouble = answering.is_empty().then(|| trouble(&proxies)).flatten();
        let events_error =
            proxies.iter().find_map(|proxy| Some(proxy.api.explain(proxy.events_fault.as_ref()?)));
        let at = Instant::now();
        View {
            picture: self.picture.clone(),
            trouble,
            standings: proxies.iter().map(|proxy| Standing::of(proxy, at)).collect(),
            at,
            events: self.timeline.seen(),
            events_error,
            hour: Arc::clone(&self.hour),
            history: Arc::clone(&self.history),
            probes: Arc::clone(&self.probes),
            proxies,
            is_saved: false,
            frames: Mutex::default(),
        }
    }

    /// Has the table begin with what proxies remember of the last minute.
    fn prefill(&self, proxies: &[Proxy]) {
        let proxies: Vec<Proxy> = proxies.iter().filter(|one| one.answers()).cloned().collect();
        let (token, history) = (self.plan.token.clone(), Arc::clone(&self.history));
        let answer = self.picture.as_ref().map(|picture| &picture.answer);
        let count = answer.map_or(0, |answer| answer.pools.iter().map(|p| p.backends.len()).sum());
        tokio::spawn(async move {
            let span = (SPARK_SECONDS as u64, PREFILL_STEP);
            if let Some(told) = backends_hour::last(&proxies, &token, span, count).await {
                history.lock().unwrap_or_else(PoisonError::into_inner).prefill(&told);
            }
        });
    }

    fn record(&self, now: f64, answering: &[(&Proxy, &Arc<Picture>)]) {
        let said: Vec<Said<'_>> = answering
            .iter()
            .filter_map(|(proxy, picture)| {
                let at = picture.at.saturating_duration_since(self.start).as_secs_f64();
                Some(Said { run: proxy.identity()?, at, answer: &picture.answer })
            })
            .collect();
        let merged = self.picture.as_ref().map(|picture| &picture.answer);
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.record(now, wall::now().as_secs_f64(), &said, merged);
    }
}

impl Slot {
    fn new(endpoint: &Endpoint, api: &AdminApi, token: &TokenSource) -> Self {
        let api = api.at_endpoint(endpoint);
        let replica = Some(Box::new(Replica::new(api.clone(), token.clone())));
        Self { endpoint: endpoint.clone(), replica, proxy: Proxy::new(api), hearing: None }
    }
}

/// Why nobody answers; nothing as long as nobody was asked.
fn trouble(proxies: &[Proxy]) -> Option<Trouble> {
    let faults: Vec<(&Proxy, &Fault)> =
        proxies.iter().filter_map(|proxy| Some((proxy, proxy.fault.as_ref()?))).collect();
    let (first, fault) = faults.first()?;
    let explanation = first.api.explain(fault);
    if faults.len() == 1 {
        return Some(Trouble { headline: fault.headline().to_owned(), explanation });
    }
    let explanation = format!("None of {} proxies answers. {explanation}", faults.len());
    Some(Trouble { headline: "No proxy answers".to_owned(), explanation })
}

#[cfg(test)]
mod tests;
