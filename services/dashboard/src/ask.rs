//! Questions to the admin API beside those of each round: about one backend that somebody looks
//! at, or one request that somebody tries.

use chassis::secret::Secret;
use http::StatusCode;

use crate::{
    admin::{AdminApi, Change, Fault, Verdict},
    decision::{Decision, Decisions},
    predict::DryRun,
    slot::HourAnswer,
};

impl AdminApi {
    /// The newest decisions that picked a backend or passed it over.
    pub(crate) async fn decisions(
        &self,
        backend: &str,
        most: usize,
        token: Option<&Secret>,
    ) -> Result<Decisions, Fault> {
        let mut url = self.at(&["v1", "decisions"]);
        url.query_pairs_mut()
            .append_pair("considered", backend)
            .append_pair("limit", &most.to_string());
        self.read(url, token).await
    }

    /// How a request was decided, if that is recorded.
    pub(crate) async fn decision(
        &self,
        request_id: &str,
        token: Option<&Secret>,
    ) -> Result<Option<Decision>, Fault> {
        match self.read(self.at(&["v1", "decisions", request_id]), token).await {
            Ok(decision) => Ok(Some(decision)),
            Err(Fault::Status(StatusCode::NOT_FOUND)) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// What a change would do that is not made, or why it says nothing of it.
    pub(crate) async fn dry_run(
        &self,
        (pool, id): (&str, &str),
        change: &Change,
        token: Option<&Secret>,
    ) -> Result<Result<DryRun, String>, Fault> {
        let mut url = self.at(&["v1", "pools", pool, "backends", id]);
        url.set_query(Some("dry_run=true"));
        let told = self.answer(self.client().patch(url).json(change), token).await?;
        let unreadable = |error| Fault::NotAdminApi(format!("its answer cannot be read: {error}"));
        match told {
            Ok(body) => serde_json::from_slice(&body).map(Ok).map_err(unreadable),
            Err(refusal) => Ok(Err(refusal.detail)),
        }
    }

    /// What it remembers by the second from a second on, of one backend or of the pools without
    /// theirs; the whole hour without a second.
    pub(crate) async fn history(
        &self,
        from: Option<u64>,
        backend: Option<&str>,
        token: Option<&Secret>,
    ) -> Result<HourAnswer, Fault> {
        let mut url = self.at(&["v1", "history"]);
        let begin = from.map_or(("seconds", 3_600), |from| ("from", from));
        url.query_pairs_mut()
            .append_pair(begin.0, &begin.1.to_string())
            .append_pair("resolution", "1")
            .append_pair(
                if backend.is_some() { "backend" } else { "backends" },
                backend.unwrap_or("false"),
            );
        self.read(url, token).await
    }

    /// What it remembers of all backends from one second to another, in slots.
    pub(crate) async fn all_histories(
        &self,
        (from, to): (u64, u64),
        step: u64,
        token: Option<&Secret>,
    ) -> Result<HourAnswer, Fault> {
        let mut url = self.at(&["v1", "history"]);
        for (name, value) in [("from", from), ("to", to), ("resolution", step)] {
            url.query_pairs_mut().append_pair(name, &value.to_string());
        }
        self.read(url, token).await
    }

    /// Has the request with this id recorded for certain.
    pub(crate) async fn announce(
        &self,
        request_id: &str,
        token: Option<&Secret>,
    ) -> Result<Verdict, Fault> {
        let url = self.at(&["v1", "decisions", request_id]);
        self.told(self.client().put(url), token).await
    }
}
