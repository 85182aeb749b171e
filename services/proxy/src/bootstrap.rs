//! WebSockets that clients of HTTP/2 ask for (RFC 8441, "Bootstrapping WebSockets with HTTP/2").
//!
//! Such a client keeps its connection: a WebSocket gets one stream of it. What asks for that is a CONNECT
//! that names the protocol beside its target. A backend of HTTP/1 knows nothing of this, and is asked as
//! RFC 6455 has it, by a GET that wants to change to another protocol. The key that goes with it, to
//! which only a WebSocket's answer fits, is between the two sides of a connection, and so it is ours, and
//! so is looking at the answer (§5). From then on the stream carries what the connection to the backend
//! does (tunnel.rs).
//!
//! A stream may be asked for in the same way for other protocols. They are refused as CONNECT itself is
//! (RFC 9220 §3): what a backend of HTTP/1 has to be asked for them, each says for itself.

use std::rc::Rc;

use base64::{Engine, engine::general_purpose::STANDARD};
use h2::ext::Protocol;
use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, TE, UPGRADE},
    request, response,
};
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};

use crate::{
    body::ClientBody,
    client::Busy,
    error::Reason,
    headers::{self, names_upgrade},
};

/// What a server adds to the key before it takes the hash of both (RFC 6455 §1.3).
const ADDED_TO_KEY: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A WebSocket that a client of HTTP/2 asks for.
#[derive(Debug)]
pub(crate) struct Bootstrap {
    /// What the backend is sent, and has to know for its answer.
    key: HeaderValue,
    stream: Stream,
}

/// What is a client's side of a WebSocket once it has that.
#[derive(Debug)]
pub(crate) struct Stream {
    /// What it says.
    pub(crate) said: ClientBody,
    /// What tells its connection that it is used.
    pub(crate) busy: Rc<Busy>,
}

impl Bootstrap {
    /// Makes a CONNECT for a WebSocket the GET that a backend is to get, but for [`Self::ask`]. Leaves
    /// any other one as it is.
    ///
    /// # Errors
    /// It tells of a body, which a CONNECT does not have (RFC 9110 §9.3.6). With a GET a backend of HTTP/1
    /// would wait for that, and take the WebSocket's beginning for it.
    pub(crate) fn take(
        parts: &mut request::Parts,
        body: &mut ClientBody,
        busy: Option<&Rc<Busy>>,
    ) -> Result<Option<Box<Self>>, Reason> {
        let is_websocket =
            |protocol: &&Protocol| protocol.as_str().as_bytes().eq_ignore_ascii_case(b"websocket");
        let protocol = parts.extensions.get::<Protocol>().filter(is_websocket);
        let Some(busy) = protocol.and(busy).cloned() else { return Ok(None) };
        if parts.headers.contains_key(CONTENT_LENGTH) {
            return Err(Reason::BadRequest);
        }
        parts.method = Method::GET;
        let said = std::mem::replace(body, ClientBody::None);
        let key = STANDARD.encode(fastrand::u128(..).to_ne_bytes());
        let key = HeaderValue::try_from(key).map_err(|_| Reason::BadRequest)?;
        Ok(Some(Box::new(Self { key, stream: Stream { said, busy } })))
    }

    /// Asks a backend for it, in a request that is ready otherwise (RFC 6455 §4.1).
    pub(crate) fn ask(&self, headers: &mut HeaderMap) {
        let connection = if headers.contains_key(TE) { "upgrade, te" } else { "upgrade" };
        headers.insert(CONNECTION, HeaderValue::from_static(connection));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        // In the place of a client's own, which may have none (RFC 8441 §5).
        headers.insert(SEC_WEBSOCKET_KEY, self.key.clone());
    }

    /// Whether a 101 is the answer to that.
    pub(crate) fn is_answered(&self, headers: &HeaderMap) -> bool {
        is_answer(self.key.as_bytes(), headers)
    }

    /// Makes a 101 what tells a client of HTTP/2 that it has its WebSocket (RFC 8441 §5). Its side of that.
    pub(crate) fn finish(self, parts: &mut response::Parts) -> Stream {
        parts.status = StatusCode::OK;
        headers::prepare_bootstrapped(&mut parts.headers);
        self.stream
    }
}

/// Whether a 101 says that who sent it has the WebSocket that it was asked for with this key (RFC 6455
/// §4.1).
fn is_answer(key: &[u8], headers: &HeaderMap) -> bool {
    let mut accepts = headers.get_all(SEC_WEBSOCKET_ACCEPT).iter();
    let has_accepted = match (accepts.next(), accepts.next()) {
        (Some(accept), None) => accept.as_bytes() == accept_of(key).as_bytes(),
        _ => false,
    };
    has_accepted && headers::is_websocket(headers) && names_upgrade(headers)
}

/// What answers a key (RFC 6455 §4.2.2).
fn accept_of(key: &[u8]) -> String {
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key);
    context.update(ADDED_TO_KEY.as_bytes());
    STANDARD.encode(context.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those of the example in RFC 6455 §1.3.
    const KEY: &[u8] = b"dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPT: (&str, &str) = ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");

    #[test]
    fn only_what_fits_the_key_and_names_the_protocol_is_an_answer() {
        const UPGRADE: (&str, &str) = ("upgrade", "WebSocket");
        const CONNECTION: (&str, &str) = ("connection", "keep-alive, Upgrade");
        let cases = [
            (&[ACCEPT, UPGRADE, CONNECTION][..], true),
            (&[UPGRADE, CONNECTION], false),
            (&[("sec-websocket-accept", "c2FtcGxl"), UPGRADE, CONNECTION], false),
            (
                &[("sec-websocket-accept", "S3PPLMBITXAQ9KYGZZHZRBK+XOO="), UPGRADE, CONNECTION],
                false,
            ),
            (&[ACCEPT, ACCEPT, UPGRADE, CONNECTION], false),
            (&[ACCEPT, CONNECTION], false),
            (&[ACCEPT, ("upgrade", "h2c"), CONNECTION], false),
            (&[ACCEPT, UPGRADE], false),
            (&[ACCEPT, UPGRADE, ("connection", "close")], false),
        ];
        for (fields, expected) in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, HeaderValue::from_static(value));
            }
            assert_eq!(is_answer(KEY, &headers), expected, "{fields:?}");
        }
    }
}
