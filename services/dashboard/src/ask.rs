//! Questions to the admin API beside those of each round: about one backend that somebody looks
//! at, or one request that somebody tries.

use chassis::secret::Secret;
use http::StatusCode;

use crate::{
    admin::{AdminApi, Fault, Verdict},
    decision::{Decision, Decisions},
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
