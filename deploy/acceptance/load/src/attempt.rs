//! One request on one connection, sent at most once.
//!
//! hyper's connection API rather than a client with a pool: a pool that sends again on a stale
//! connection would hide exactly the failures that we look for. The one exception is a kept
//! connection of which hyper proves that nothing was written to it; that is how every client must
//! treat a server that closes idle connections, and it is counted.

use std::io;

use http_body_util::{BodyExt, Empty};
use hyper::{
    Method, Request, Response, Uri,
    body::{Bytes, Incoming},
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

type Body = Empty<Bytes>;

/// A complete answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) served_by: Option<String>,
    pub(crate) bytes: u64,
}

/// Why there was no complete answer.
#[derive(Debug)]
pub(crate) enum Failure {
    Connect(io::Error),
    /// The connection ended before the head of an answer.
    Reset(hyper::Error),
    Timeout,
    /// The connection ended within the body.
    Truncated(hyper::Error),
    /// What came was not HTTP.
    Other(hyper::Error),
}

impl Failure {
    pub(crate) const KINDS: [&str; 5] = ["connect", "reset", "timeout", "truncated", "other"];

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Reset(_) => "reset",
            Self::Timeout => "timeout",
            Self::Truncated(_) => "truncated",
            Self::Other(_) => "other",
        }
    }

    fn before_head(error: hyper::Error) -> Self {
        if error.is_parse() { Self::Other(error) } else { Self::Reset(error) }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect(error) => write!(formatter, "connect: {error}"),
            Self::Timeout => write!(formatter, "timeout"),
            Self::Reset(error) | Self::Truncated(error) | Self::Other(error) => {
                write!(formatter, "{}: {error}", self.kind())?;
                let source = std::error::Error::source(error);
                source.map_or(Ok(()), |source| write!(formatter, " ({source})"))
            }
        }
    }
}

/// Where to send what.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) uri: Uri,
    pub(crate) method: Method,
    pub(crate) keep: bool,
}

/// A place for one connection to one target.
#[derive(Debug, Default)]
pub(crate) struct Slot(Option<SendRequest<Body>>);

/// What it took to get to an answer.
#[derive(Debug, Default)]
pub(crate) struct Effort {
    pub(crate) connections: u64,
    pub(crate) stale_reconnects: u64,
}

impl Slot {
    /// Sends one request. Dropping the future, as a timeout does, closes the connection.
    pub(crate) async fn attempt(
        &mut self,
        target: &Target,
        effort: &mut Effort,
    ) -> Result<Answer, Failure> {
        if let Some(mut sender) = self.0.take() {
            if sender.ready().await.is_ok() {
                match sender.try_send_request(target.request()).await {
                    Ok(response) => return self.receive(response, sender, target).await,
                    Err(mut error) => {
                        // A request that is given back was not begun to be written.
                        if error.take_message().is_none() {
                            return Err(Failure::before_head(error.into_error()));
                        }
                    }
                }
            }
            effort.stale_reconnects += 1;
        }
        let mut sender = target.connect().await?;
        effort.connections += 1;
        let response = sender.send_request(target.request()).await;
        self.receive(response.map_err(Failure::before_head)?, sender, target).await
    }

    async fn receive(
        &mut self,
        response: Response<Incoming>,
        sender: SendRequest<Body>,
        target: &Target,
    ) -> Result<Answer, Failure> {
        let (head, mut body) = response.into_parts();
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(Failure::Truncated)?;
            bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        let closes = head.headers.get_all(header::CONNECTION).iter().any(|value| {
            let value = value.to_str().unwrap_or_default();
            value.split(',').any(|token| token.trim().eq_ignore_ascii_case("close"))
        });
        if target.keep && !closes {
            self.0 = Some(sender);
        }
        let served_by = head.headers.get("x-served-by").and_then(|value| value.to_str().ok());
        let served_by = served_by.map(str::to_owned);
        Ok(Answer { status: head.status.as_u16(), served_by, bytes })
    }
}

impl Target {
    fn request(&self) -> Request<Body> {
        let mut request = Request::new(Empty::new());
        *request.method_mut() = self.method.clone();
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = Uri::try_from(path).unwrap_or_default();
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        if let Ok(host) = header::HeaderValue::from_str(authority) {
            request.headers_mut().insert(header::HOST, host);
        }
        if !self.keep {
            let close = header::HeaderValue::from_static("close");
            request.headers_mut().insert(header::CONNECTION, close);
        }
        request
    }

    async fn connect(&self) -> Result<SendRequest<Body>, Failure> {
        let host = self.uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = self.uri.port_u16().unwrap_or(80);
        let stream = TcpStream::connect((host, port)).await.map_err(Failure::Connect)?;
        stream.set_nodelay(true).map_err(Failure::Connect)?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(Failure::before_head)?;
        // How the connection ends is told to the request that is on it.
        tokio::spawn(connection);
        Ok(sender)
    }
}
