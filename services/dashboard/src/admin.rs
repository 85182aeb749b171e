//! The client of the proxy's admin API.

use std::{error::Error, io, time::Duration};

use chassis::{secret::Secret, wall};
use http::{StatusCode, header};
use reqwest::{Client, RequestBuilder, Response};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use url::Url;

use crate::{
    hold::Hold,
    model::{Answer, Backend, EventsAnswer},
    resolve::Endpoint,
};

/// An admin API on the same network answers within milliseconds; a second is a dead host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// For the whole answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// More than ten times the answer for 500 backends; a wrong address may stream without end.
const BODY_MOST: usize = 16 * 1024 * 1024;

/// Which setting an address comes from: advice has to name the one that was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// LOAD_BALANCER_ADMIN_URL says it.
    AdminUrl,
    /// LOAD_BALANCER_URL with the usual port, for want of the other.
    Derived,
    /// LOAD_BALANCER_URL itself, where clients' requests go.
    Traffic,
}

/// Why the admin API gave no usable answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No connection.
    Unreachable(String),
    /// The connection broke while we waited for the answer.
    Broken(String),
    /// No answer in time.
    Timeout,
    /// An answer that the admin API would not give.
    NotAdminApi(String),
    /// It answered a read with another status than success.
    Status(StatusCode),
    /// The admin API wants a token for reading.
    ReadRefused,
    /// It does not take the token that it was shown.
    TokenRefused,
    /// It looks at no token of our address for so long.
    Limited(Duration),
}

impl Fault {
    /// The label in metrics.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Unreachable(_) | Self::Broken(_) => "unreachable",
            Self::Timeout => "timeout",
            Self::NotAdminApi(_) | Self::Status(_) => "not_admin_api",
            Self::ReadRefused | Self::TokenRefused | Self::Limited(_) => "refused",
        }
    }

    /// What happened, in a few words.
    pub(crate) fn headline(&self) -> &'static str {
        match self {
            Self::Unreachable(_) | Self::Broken(_) | Self::Timeout => "The proxy does not answer",
            Self::NotAdminApi(_) | Self::Status(_) => "The proxy's admin API is not there",
            Self::ReadRefused => "The proxy wants a token",
            Self::TokenRefused => "The proxy does not take the dashboard’s token",
            Self::Limited(_) => "The proxy looks at no token for a while",
        }
    }

    /// Whether the proxy cannot have heard of a request that ended so.
    pub(crate) fn is_unheard(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }

    /// What happened and what to do, in sentences. `url` is what did not answer, of `origin`.
    pub(crate) fn explain(&self, url: &Url, origin: Origin) -> String {
        self.explain_at(url.as_str().trim_end_matches('/'), origin)
    }

    fn explain_at(&self, url: &str, origin: Origin) -> String {
        match self {
            Self::Unreachable(why) => {
                let advice = match origin {
                    Origin::AdminUrl => {
                        "The address is what LOAD_BALANCER_ADMIN_URL says, which has to name the \
                         proxy's admin port."
                    }
                    Origin::Derived => {
                        "The address comes from LOAD_BALANCER_URL with port 9901; set \
                         LOAD_BALANCER_ADMIN_URL if the admin API is elsewhere."
                    }
                    Origin::Traffic => "The address comes from LOAD_BALANCER_URL.",
                };
                format!("Nothing answers at {url} ({why}). Is the proxy running? {advice}")
            }
            Self::Broken(why) => format!("The connection to {url} broke ({why})."),
            Self::Timeout => format!(
                "{url} did not answer within {} s. The proxy may be overloaded or unreachable.",
                TIMEOUT.as_secs()
            ),
            Self::NotAdminApi(what) if origin == Origin::Traffic => format!(
                "What answers at {url} cannot be read ({what}). The address comes from \
                 LOAD_BALANCER_URL."
            ),
            Self::NotAdminApi(what) => format!(
                "What answers at {url} does not look like Evenkeel's admin API ({what}). Set \
                 LOAD_BALANCER_ADMIN_URL to the address of the proxy's admin port, such as \
                 http://localhost:9901."
            ),
            Self::Status(status) => {
                Self::NotAdminApi(format!("it answered {status}")).explain_at(url, origin)
            }
            Self::ReadRefused => format!(
                "{url} wants a token for reading. Set LOAD_BALANCER_ADMIN_TOKEN or \
                 LOAD_BALANCER_ADMIN_TOKEN_FILE."
            ),
            Self::TokenRefused => format!(
                "LOAD_BALANCER_ADMIN_TOKEN, or what is in the file of \
                 LOAD_BALANCER_ADMIN_TOKEN_FILE, is not the token of the proxy at {url}. It is \
                 shown again after 2 s, then less and less often down to every 30 s, and at once \
                 when the file has another one."
            ),
            Self::Limited(wait) => format!(
                "Too many wrong tokens came to {url} from the dashboard's address, so that the \
                 proxy looks at none of them, the right one included. It is asked again after \
                 {} s.",
                wait.as_secs()
            ),
        }
    }
}

impl From<reqwest::Error> for Fault {
    fn from(error: reqwest::Error) -> Self {
        if error.is_timeout() && !error.is_connect() {
            return Self::Timeout;
        }
        let mut cause: &dyn Error = &error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        match cause.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => {
                Self::Unreachable("connection refused".to_owned())
            }
            _ if error.is_connect() => Self::Unreachable(cause.to_string()),
            Some(_) => Self::Broken(cause.to_string()),
            // It ended before the head of the answer, as with a proxy that dies.
            None if cause
                .downcast_ref::<hyper::Error>()
                .is_some_and(hyper::Error::is_incomplete_message) =>
            {
                Self::Broken(cause.to_string())
            }
            // hyper's other errors: something answered, but no HTTP that could be read.
            None => Self::NotAdminApi(cause.to_string()),
        }
    }
}

/// A change of one backend or, of the policy, of a pool, as the admin API takes it.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Change {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<&'static str>,
    /// Null is the configured one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) weight: Option<Option<u32>>,
    /// The same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_in_flight: Option<Option<u32>>,
    /// The same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hash_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ttl: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deadline: Option<String>,
    /// Not for proxies of before it, which refuse what they do not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) said_at: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) force: bool,
}

/// What the proxy said to a change.
pub(crate) enum Verdict {
    /// Done; with the reason if it would not outlive the proxy.
    Done(Option<String>),
    /// Refused, with its status and sentence.
    Refused(StatusCode, String),
    /// Refused because of a newer word; with when that was said, and the sentence.
    Superseded(u64, String),
    /// Refused because the backend is not as its tag says; with what it is now.
    Changed(Box<Backend>),
}

/// The admin API at one address.
#[derive(Clone, Debug)]
pub(crate) struct AdminApi {
    client: Client,
    url: Url,
    origin: Origin,
    /// The name that was looked up, for a reverse proxy in front.
    host: Option<String>,
    /// What it said of our token.
    hold: Hold,
}

impl AdminApi {
    /// A client for the API at `url`; those made from it share its connections.
    pub(crate) fn new(url: Url, origin: Origin) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .build()?;
        Ok(Self { client, url, origin, host: None, hold: Hold::default() })
    }

    /// The API at another place.
    pub(crate) fn at_endpoint(&self, endpoint: &Endpoint) -> Self {
        let Endpoint { url, host } = endpoint.clone();
        Self { client: self.client.clone(), url, origin: self.origin, host, hold: Hold::default() }
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// Why it gave no answer and what to do, in sentences.
    pub(crate) fn explain(&self, fault: &Fault) -> String {
        fault.explain(&self.url, self.origin)
    }

    /// Everything about pools and backends.
    pub(crate) async fn pools(&self, token: Option<&Secret>) -> Result<Answer, Fault> {
        self.read(self.at(&["v1", "pools"]), token).await
    }

    /// Events after `id`.
    pub(crate) async fn events(
        &self,
        id: u64,
        token: Option<&Secret>,
    ) -> Result<EventsAnswer, Fault> {
        let mut url = self.at(&["v1", "events"]);
        url.query_pairs_mut().append_pair("after", &id.to_string());
        self.read(url, token).await
    }

    /// Changes a backend, or without an id the pool itself, on behalf of `actor`.
    pub(crate) async fn change(
        &self,
        (pool, id): (&str, &str),
        change: &Change,
        token: Option<&Secret>,
        actor: &str,
    ) -> Result<Verdict, Fault> {
        self.told(self.patch((pool, id), change, actor), token).await
    }

    /// The same of a backend that still has this tag.
    pub(crate) async fn change_if(
        &self,
        tag: &str,
        key: (&str, &str),
        change: &Change,
        token: Option<&Secret>,
        actor: &str,
    ) -> Result<Verdict, Fault> {
        self.told(self.patch(key, change, actor).header(header::IF_MATCH, tag), token).await
    }

    fn patch(&self, (pool, id): (&str, &str), change: &Change, actor: &str) -> RequestBuilder {
        let url = match id {
            "" => self.at(&["v1", "pools", pool]),
            id => self.at(&["v1", "pools", pool, "backends", id]),
        };
        self.client.patch(url).header("x-evenkeel-actor", actor).json(change)
    }

    /// Asks for something to be done.
    pub(crate) async fn told(
        &self,
        request: RequestBuilder,
        token: Option<&Secret>,
    ) -> Result<Verdict, Fault> {
        Ok(match self.answer(request, token).await? {
            Ok(body) => {
                // An answer that cannot be read is one of an older proxy: the change is made.
                let made: Made = serde_json::from_slice(&body).unwrap_or_default();
                Verdict::Done(made.not_saved_reason)
            }
            Err(Refusal {
                status: StatusCode::PRECONDITION_FAILED, current: Some(now), ..
            }) => Verdict::Changed(now),
            Err(Refusal { status, detail, said_at, .. }) => {
                match said_at.as_deref().and_then(wall::parse) {
                    Some(said_at) => Verdict::Superseded(said_at, detail),
                    None => Verdict::Refused(status, detail),
                }
            }
        })
    }

    /// What something that is to be done is answered with, or its refusal.
    pub(crate) async fn answer(
        &self,
        request: RequestBuilder,
        token: Option<&Secret>,
    ) -> Result<Result<Vec<u8>, Refusal>, Fault> {
        let response = self.prepared(request, token).send().await?;
        let status = response.status();
        let body = body(response).await?;
        if status.is_success() {
            return Ok(Ok(body));
        }
        let refusal = serde_json::from_slice::<Refusal>(&body)
            .map_err(|_| Fault::NotAdminApi(format!("it answered {status} to a change")))?;
        Ok(Err(Refusal { status, ..refusal }))
    }

    pub(crate) async fn read<T: DeserializeOwned>(
        &self,
        url: Url,
        token: Option<&Secret>,
    ) -> Result<T, Fault> {
        self.hold.check(token)?;
        let request = self.client.get(url).header(header::ACCEPT, "application/json");
        let response = self.prepared(request, token).send().await?;
        let status = response.status();
        self.hold.note(token, status, response.headers())?;
        if !status.is_success() {
            return Err(Fault::Status(status));
        }
        let html = response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
        if html {
            return Err(Fault::NotAdminApi("it answered with a web page".to_owned()));
        }
        serde_json::from_slice(&body(response).await?)
            .map_err(|error| Fault::NotAdminApi(format!("its answer cannot be read: {error}")))
    }

    fn prepared(&self, request: RequestBuilder, token: Option<&Secret>) -> RequestBuilder {
        let request = match &self.host {
            Some(host) => request.header(header::HOST, host),
            None => request,
        };
        match token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn at(&self, segments: &[&str]) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.clear().extend(segments);
        }
        url
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Made {
    not_saved_reason: Option<String>,
}

/// Why something was refused.
#[derive(Deserialize)]
pub(crate) struct Refusal {
    #[serde(skip)]
    pub(crate) status: StatusCode,
    pub(crate) detail: String,
    /// When the newer word was said that stays.
    said_at: Option<String>,
    /// What a backend is that was changed since it had the tag that we know.
    current: Option<Box<Backend>>,
}

async fn body(mut response: Response) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > BODY_MOST {
            return Err(Fault::NotAdminApi("its answer does not end".to_owned()));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_names_the_setting_that_the_address_comes_from() {
        let url = Url::parse("http://edge:9901/").unwrap();
        let told =
            |origin| Fault::Unreachable("connection refused".to_owned()).explain(&url, origin);
        assert!(told(Origin::Derived).contains("comes from LOAD_BALANCER_URL with port 9901"));
        assert!(told(Origin::AdminUrl).contains("what LOAD_BALANCER_ADMIN_URL says"));
        assert!(!told(Origin::AdminUrl).contains("LOAD_BALANCER_URL"));
        assert!(!told(Origin::Traffic).contains("9901;"));
        let unread = Fault::NotAdminApi("it is no HTTP".to_owned()).explain(&url, Origin::Traffic);
        assert!(!unread.contains("admin"), "{unread}");
    }
}
