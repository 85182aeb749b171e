//! What follows an attempt that failed: which backend is tried next, when, and whether at all.

use std::time::Duration;

use balance::{Member, NoBackend, Policy, Ticket};
use http::{HeaderMap, HeaderValue, Method};
use tokio::time::Instant;

use crate::{
    back_off,
    body::Upload,
    error::Reason,
    multiplexed::NoStream,
    queue::{self, Waited},
    settings::ProbeKind,
    sticky::Visit,
    worker::{Grant, Worker},
};

/// Attempts of one request that may end without a connection, each on another backend. No backend
/// sees these, so they cost no retry; but a client must not wait for a whole pool to time out.
const CONNECT_ATTEMPTS_MAX: usize = 4;

/// Between two rounds of a request that everybody refuses. Probes and requests together take as many
/// refusals as `PROXY_PROBE_FALL` to find that a backend is down: some tenths of a second like this,
/// at a few connections that are refused.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// What this request has tried so far.
#[derive(Default)]
pub(crate) struct Tried {
    generations: Vec<u64>,
    /// The backend that it wants to go to first.
    visit: Visit,
    /// Whether the attempt that runs is there.
    is_visit: bool,
    without_connection: usize,
    /// When a kept connection failed, if that was the last failure: the next attempt must not meet
    /// another such.
    needs_new_connection: Option<Instant>,
    /// It has been sent again because a backend had not seen it.
    is_replayed: bool,
    /// That is what is done now: nobody is in trouble, and there is nothing to wait for.
    goes_at_once: bool,
    retries: u32,
    last: Option<Reason>,
    /// When all attempts together must have brought a response: from the first that was sent, and
    /// only where there is a limit for one.
    deadline: Option<Instant>,
    /// The attempt that runs is given up for one elsewhere, which is granted already.
    is_given_up: bool,
    /// What the next attempt costs, until there is one.
    grant: Option<Grant>,
    /// A backend may be asked again if there is no other: that it closed a kept connection says
    /// nothing of it, and where the other, for which it was given up, is gone meanwhile, it is
    /// better than none.
    may_repeat: bool,
    /// How long it has waited for its turn, or for anybody to serve it.
    waited: Waited,
}

impl Tried {
    /// Nothing so far.
    pub(crate) fn none(visit: Visit) -> Self {
        Self { visit, ..Self::default() }
    }

    /// A backend with room. While there is none, or for a short while none at all, the request waits
    /// in line.
    pub(crate) async fn pick(
        &mut self,
        worker: &Worker,
        key: Option<u64>,
    ) -> Result<Ticket, Reason> {
        if worker.picker.borrow().latest_policy() == Policy::LeastTime {
            worker.picker.borrow_mut().tell_time(worker.now());
        }
        let first = match self.last {
            None => self.pick_first(worker, key),
            Some(_) if self.without_connection >= CONNECT_ATTEMPTS_MAX => Err(NoBackend::AllTried),
            Some(_) => self.pick_other(worker, key),
        };
        let picked = match first {
            Err(NoBackend::AllFull | NoBackend::OthersFull | NoBackend::Awaited) => {
                self.wait(worker, key).await?
            }
            Err(NoBackend::AllTried) if self.may_be_served_soon(worker) => {
                self.waited.begin_for_anybody(Instant::now());
                self.forget();
                // Not in line: those behind it may find what it was refused.
                tokio::time::sleep(REFUSED_PAUSE).await;
                self.wait(worker, key).await?
            }
            picked => picked,
        };
        let ticket = picked.map_err(|none| match none {
            // What went wrong with the last one says more than that there is no other.
            NoBackend::AllTried => self.last.unwrap_or(Reason::NoBackend),
            NoBackend::NoneEligible
            | NoBackend::AllFull
            | NoBackend::OthersFull
            | NoBackend::Awaited => Reason::NoBackend,
        })?;
        self.is_visit = ticket.is_visit();
        if let Some(grant) = self.grant.take() {
            grant.spend();
        }
        Ok(ticket)
    }

    fn pick_first(&mut self, worker: &Worker, key: Option<u64>) -> Result<Ticket, NoBackend> {
        let mut picker = worker.picker.borrow_mut();
        let visited = self.visit.pick(&mut picker, || worker.now(), &worker.gauges.visits);
        visited.map_or_else(|| picker.pick(key), Ok)
    }

    fn pick_in_line(&mut self, worker: &Worker, key: Option<u64>) -> Result<Ticket, NoBackend> {
        if self.last.is_none()
            && let Some(ticket) =
                self.visit.pick_in_line(&mut worker.picker.borrow_mut(), || worker.now())
        {
            return Ok(ticket);
        }
        self.pick_other(worker, key)
    }

    /// Whether the backend of the attempt that runs may still get it, now that there is a connection.
    pub(crate) fn may_use(&self, worker: &Worker, member: &Member) -> bool {
        let mut picker = worker.picker.borrow_mut();
        picker.is_eligible(member) || (self.is_visit && picker.may_visit(member))
    }

    /// The cookie for a client whom this backend has served, if it needs one.
    pub(crate) fn cookie(
        &self,
        worker: &Worker,
        member: &Member,
        request: &HeaderMap,
    ) -> Option<HeaderValue> {
        let sticky = worker.sticky.as_ref().filter(|_| self.visit.needs_cookie(member))?;
        sticky.cookie(member, request)
    }

    /// Waits in line.
    async fn wait(
        &mut self,
        worker: &Worker,
        key: Option<u64>,
    ) -> Result<Result<Ticket, NoBackend>, Reason> {
        let mut waited = self.waited;
        let picked = queue::wait(worker, &mut waited, || self.pick_in_line(worker, key)).await;
        self.waited = waited;
        picked
    }

    /// Whether there was no connection to anybody just now: they are about to be found down, and
    /// requests then wait for them to come back. This one need not be the error that shows it, as
    /// long as others would wait now.
    fn may_be_served_soon(&self, worker: &Worker) -> bool {
        let wait = worker.settings.queue.last_resort;
        // Where connections time out, the time for another round has passed already.
        matches!(self.last, Some(Reason::ConnectRefused | Reason::ConnectFailed))
            // Without probes nobody is ever down.
            && worker.settings.probe.kind != ProbeKind::Off
            && worker.settings.queue.max > 0
            && self.waited.for_anybody().map_or(!wait.is_zero(), |waited| waited < wait)
    }

    /// What a backend did before it came back says nothing of it.
    fn forget(&mut self) {
        self.generations.clear();
        self.without_connection = 0;
    }

    fn pick_other(&mut self, worker: &Worker, key: Option<u64>) -> Result<Ticket, NoBackend> {
        let mut picker = worker.picker.borrow_mut();
        match picker.pick_other(key, &self.generations) {
            Err(NoBackend::Awaited) => {
                self.forget();
                Err(NoBackend::Awaited)
            }
            Err(NoBackend::AllTried | NoBackend::OthersFull) if self.may_repeat => {
                picker.pick_other(key, &[])
            }
            // Those who serve are as good as gone for this request: then whoever need not.
            Err(NoBackend::AllTried) => picker.pick_resort(&self.generations),
            other => other,
        }
    }

    /// Whether there is a backend with room that has not been tried. `member` is the latest one.
    fn has_other(&self, worker: &Worker, member: &Member) -> bool {
        let mut picker = worker.picker.borrow_mut();
        picker.plan(); // Candidates are those of the picker's latest look.
        picker.candidates().any(|(other, _)| {
            let is_tried = self.generations.contains(&other.generation());
            other.has_room() && !is_tried && other.generation() != member.generation()
        })
    }

    /// Decides whether an attempt that is slow is given up for another one, which is counted here
    /// and now. If it may not be, there is nothing to be gained by giving it up: to cut a request
    /// off that nobody else answers makes an error of what may be a success.
    pub(crate) fn give_up(&mut self, worker: &Worker, member: &Member) -> bool {
        if self.retries == worker.settings.retries || !self.has_other(worker, member) {
            return false;
        }
        self.grant = worker.take_retry();
        self.is_given_up = self.grant.is_some();
        self.retries += u32::from(self.is_given_up);
        self.is_given_up
    }

    /// When all attempts must be through, of which one is sent now.
    pub(crate) fn deadline(&mut self, now: Instant, limit: Duration) -> Instant {
        *self.deadline.get_or_insert(now + limit)
    }

    pub(crate) fn connections(&self) -> Connections {
        match self.needs_new_connection {
            Some(since) => Connections::New { since },
            None => Connections::Any,
        }
    }

    /// Waits as long as is good before a retry that is decided. It counts from then on, so that those
    /// that wait cannot add up unseen. A client that leaves ends the wait, as the future is dropped.
    pub(crate) async fn back_off(&self, worker: &Worker, member: &Member) {
        let earlier = self.retries + self.without_connection as u32 - 1;
        let is_elsewhere = self.has_other(worker, member);
        if self.goes_at_once || (!is_elsewhere && !self.may_repeat) {
            // There is nobody to wait for.
            return;
        }
        let settings = &worker.settings;
        let now = Instant::now();
        let left = self.deadline.map_or(settings.timeouts.response, |deadline| deadline - now);
        let bound = back_off::bound(settings.retry_backoff, earlier, is_elsewhere);
        if let Some(wait) = back_off::wait(bound, left, &mut fastrand::Rng::new()) {
            tokio::time::sleep(wait).await;
        }
    }

    /// Decides whether a failed attempt is followed by another one. Safe are only two cases: nothing
    /// was sent, or the request may be sent twice; then its `method` is given.
    ///
    /// What no backend saw costs no retry. What one refuses does, whatever it has done with it: it had
    /// the request, and a pool that refuses everything must not get it several times.
    pub(crate) async fn retry(
        &mut self,
        worker: &Worker,
        member: &Member,
        failed: &Failed,
        method: Option<&Method>,
    ) -> Result<(), Reason> {
        let reason = failed.reason;
        self.last = Some(reason);
        self.generations.push(member.generation());
        let is_given_up = std::mem::take(&mut self.is_given_up);
        let needs_new_connection = failed.on_kept_connection && !is_given_up;
        self.needs_new_connection = needs_new_connection.then(Instant::now);
        let is_unprocessed = failed.unprocessed.is_some() && method.is_some();
        self.may_repeat = failed.on_kept_connection || is_given_up || is_unprocessed;
        // Like a kept connection that has closed before anything was sent. Only once: on a new
        // connection it will hardly meet another goodbye.
        let is_replay = is_unprocessed && failed.on_kept_connection && !self.is_replayed;
        self.is_replayed |= is_replay;
        self.goes_at_once = is_replay;
        if failed.is_unsent || is_replay {
            self.without_connection += 1;
            let may = self.without_connection < CONNECT_ATTEMPTS_MAX
                || (self.may_be_served_soon(worker) && !self.has_other(worker, member));
            return if may { Ok(()) } else { Err(reason) };
        }
        if is_given_up && method.is_some() {
            return Ok(());
        }
        // Who answers what is no HTTP has answered, unless it was somebody else.
        let has_no_answer = (reason == Reason::ResetBeforeHeaders && !failed.is_malformed)
            || failed.may_be_anothers;
        let is_safe =
            is_unprocessed || (has_no_answer && method.is_some_and(Method::is_idempotent));
        if !is_safe || self.retries == worker.settings.retries {
            return Err(reason);
        }
        self.grant = Some(worker.may_retry(member).await.ok_or(reason)?);
        self.retries += 1;
        Ok(())
    }
}

/// Which connections an attempt may use.
#[derive(Clone, Copy)]
pub(crate) enum Connections {
    /// One that nobody has used; of those that requests share, one that was made since then.
    New { since: Instant },
    /// One that is idle, or a new one.
    Any,
}

impl Connections {
    /// Since when one must have been made.
    pub(crate) fn since(self) -> Option<Instant> {
        match self {
            Self::New { since } => Some(since),
            Self::Any { .. } => None,
        }
    }
}

/// What a backend of HTTP/2 says of a request that it has not begun with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unprocessed {
    /// It has not even looked at it: it said goodbye to a connection that had served, as at the end
    /// of a process, or takes fewer requests at once since a moment ago.
    Unseen,
    /// It had it, and does not want it.
    Refused,
}

impl Unprocessed {
    /// Whether that says nothing of the backend.
    pub(crate) fn is_unseen(self) -> bool {
        self == Self::Unseen
    }
}

/// An attempt that brought no response.
pub(crate) struct Failed {
    pub(crate) reason: Reason,
    /// Whether nothing of the request was sent.
    pub(crate) is_unsent: bool,
    /// Whether it may be the connection's end rather than the backend's doing: it had served other
    /// requests before.
    pub(crate) on_kept_connection: bool,
    /// Whether the backend says that it has done nothing with the request.
    pub(crate) unprocessed: Option<Unprocessed>,
    /// Whether another request, which this one has waited for, tells the pool of it.
    pub(crate) is_told: bool,
    /// Whether the client kept the backend waiting, which has limits of time of its own.
    pub(crate) was_awaited: bool,
    /// Whether it may be the answer to another request that ended the connection of both.
    pub(crate) may_be_anothers: bool,
    /// Whether the backend says that the request is malformed, as 400 does in HTTP/1: another would say
    /// the same, and who sends such requests must not have backends ejected. Not if it has answered
    /// nobody there: one that says so of all requests fails.
    pub(crate) is_malformed: bool,
}

impl Failed {
    pub(crate) fn unsent(reason: Reason) -> Self {
        Self { is_unsent: true, ..Self::sent(reason, false) }
    }

    pub(crate) fn without_stream(why: NoStream) -> Self {
        match why {
            NoStream::Failed(reason) => Self::unsent(reason),
            NoStream::WaitedInVain => {
                Self { is_told: true, ..Self::unsent(Reason::ConnectTimeout) }
            }
        }
    }

    pub(crate) fn sent(reason: Reason, on_kept_connection: bool) -> Self {
        Self {
            reason,
            is_unsent: false,
            on_kept_connection,
            unprocessed: None,
            is_told: false,
            was_awaited: false,
            may_be_anothers: false,
            is_malformed: false,
        }
    }

    /// The same of a request with a body, of which the backend could have had something since `start`.
    pub(crate) fn during(self, upload: Option<&Upload>, start: Instant) -> Self {
        Self { was_awaited: upload.is_some_and(|upload| upload.was_awaited(start)), ..self }
    }

    /// Whether it says nothing of its backend: it is told already, or is for what the request is, or
    /// the backend has closed a connection that it had kept, or on which it waited for the client, which is
    /// its right.
    pub(crate) fn says_nothing(&self) -> bool {
        self.is_told
            || self.is_malformed
            || ((self.was_awaited || self.on_kept_connection)
                && self.reason == Reason::ResetBeforeHeaders)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_all_attempts_begins_with_the_first() {
        let (mut tried, start, limit) = (Tried::default(), Instant::now(), Duration::from_secs(30));
        assert_eq!(tried.deadline(start, limit), start + limit);
        assert_eq!(tried.deadline(start + limit / 2, limit), start + limit);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reset_says_nothing_of_a_backend_that_a_client_kept_waiting() {
        let upload = Upload::begun();
        let since =
            |start, reason| Failed::sent(reason, false).during(Some(&upload), start).says_nothing();
        let start = Instant::now();
        let says_nothing = |reason| since(start, reason);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(!says_nothing(Reason::ResetBeforeHeaders), "it is the backend's turn");
        upload.took(1);
        upload.wait();
        assert!(!says_nothing(Reason::ResetBeforeHeaders), "not for long");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(says_nothing(Reason::ResetBeforeHeaders) && !says_nothing(Reason::ProtocolError));
        assert!(!since(Instant::now(), Reason::ResetBeforeHeaders), "the attempt began just now");
    }
}
