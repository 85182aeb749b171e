//! HTTP and gRPC probes: a question over a new connection, and what the answer says.

use std::{net::SocketAddr, time::Duration};

use balance::ProbeOrder;
use http::header;
use reqwest::{Client, RequestBuilder, Response};
use tokio::time::Instant;

use super::{Failure, reason, told};
use crate::{
    connect::{connect, is_off},
    error::io_source,
    settings::{BackendProtocol, Probe},
};

/// So much of a body is searched for the text that it must contain. Probes' answers are short; one
/// that is not must not cost memory.
const BODY_SEARCHED: usize = 64 * 1024;

/// So much of a body is shown with a failure: enough for a sentence.
const BODY_SHOWN: usize = 100;

/// So much of a body is kept with the last probe, whatever came of it: enough to tell the service's
/// own answer from the page of somebody else on its port.
const BODY_KEPT: usize = 64;

/// For so long it is waited for a body that nothing depends on.
pub(super) const BODY_SOON: Duration = Duration::from_millis(100);

/// A client that opens a connection for each probe: a kept one would say nothing about whether the
/// backend still accepts. It follows no redirect, which would probe somebody else.
pub(super) fn client(settings: &Probe, protocol: BackendProtocol) -> reqwest::Result<Client> {
    let client = Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(0)
        .redirect(reqwest::redirect::Policy::none())
        .timeout(settings.timeout)
        .user_agent(concat!("evenkeel-probe/", env!("CARGO_PKG_VERSION")));
    match protocol {
        BackendProtocol::Http1 => client.build(),
        BackendProtocol::Http2 => client.http2_prior_knowledge().build(),
    }
}

/// Asks for a path.
pub(super) async fn get(
    client: &Client,
    protocol: BackendProtocol,
    order: &ProbeOrder,
    path: &str,
    timeout: Duration,
) -> Result<Response, Failure> {
    let start = Instant::now();
    let address = address(order, timeout).await?;
    let mut request = client.get(format!("http://{address}{path}"));
    if protocol == BackendProtocol::Http1 {
        // In HTTP/2 it would contradict the target's own host.
        request = request.header(header::HOST, order.id.as_str());
    }
    send(request, &address, timeout, start).await
}

/// What an answer to [`get`] says, and as much of its body as was read for that.
pub(super) async fn judge(
    settings: &Probe,
    answer: &mut Response,
) -> (Result<String, String>, Vec<u8>) {
    let status = answer.status();
    let seen = format!("answered {}", status.as_u16());
    match &settings.body {
        _ if !settings.statuses.contains(status) => {
            let body = first_bytes(answer, BODY_SHOWN).await;
            (Err(format!("{seen}{}", shown(&body))), body)
        }
        None => (Ok(seen), Vec::new()),
        Some(text) => {
            let body = first_bytes(answer, BODY_SEARCHED).await;
            if body.windows(text.len()).any(|window| window == text.as_bytes()) {
                (Ok(format!("{seen} with {text:?}")), body)
            } else {
                (Err(format!("{seen} without {text:?}{}", shown(&body))), body)
            }
        }
    }
}

/// The beginning of a body of which so much has been read. Of one that has not been, only what
/// comes soon: the probe is over.
pub(super) async fn beginning(mut answer: Response, mut body: Vec<u8>) -> Vec<u8> {
    if body.is_empty()
        && let Ok(Ok(Some(chunk))) = tokio::time::timeout(BODY_SOON, answer.chunk()).await
    {
        body.extend(&chunk[..chunk.len().min(BODY_KEPT)]);
    }
    body.truncate(BODY_KEPT);
    body
}

/// Bytes of a body in characters that do no harm wherever they are shown: control characters and
/// the like are escaped, and so is the backslash.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for character in String::from_utf8_lossy(bytes).chars() {
        match character {
            '"' | '\'' => text.push(character),
            _ => text.extend(character.escape_debug()),
        }
    }
    text
}

/// Asks the health service that gRPC servers have by convention (grpc.health.v1, `Check`), and
/// gives what it says. The two messages have one field each, which takes no library to write:
/// a name (field 1, a string) and a status (field 1, an enumeration).
pub(super) async fn grpc(
    client: &Client,
    order: &ProbeOrder,
    service: &str,
    timeout: Duration,
) -> Result<String, Failure> {
    let start = Instant::now();
    let address = address(order, timeout).await?;
    let request = client
        .post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(question(service));
    let mut answer = send(request, &address, timeout, start).await?;
    if let Some(status) = answer.headers().get("grpc-status").filter(|status| *status != "0") {
        let status = String::from_utf8_lossy(status.as_bytes()).into_owned();
        return Err(format!("answered with grpc-status {status}").into());
    }
    if !answer.status().is_success() {
        return Err(format!("answered {}", answer.status().as_u16()).into());
    }
    let said = match serving_status(&first_bytes(&mut answer, BODY_SEARCHED).await) {
        Some(1) => Ok("answered SERVING".to_owned()),
        Some(2) => Err("answered NOT_SERVING".to_owned()),
        Some(3) => Err("answered SERVICE_UNKNOWN".to_owned()),
        Some(_) => Err("answered UNKNOWN".to_owned()),
        None => Err("the answer was no message of the health service".to_owned()),
    };
    said.map_err(Failure::from)
}

/// A `HealthCheckRequest`, framed: not compressed, its length, the message.
pub(crate) fn question(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.extend([0x0A, service.len() as u8]);
        message.extend(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend((message.len() as u32).to_be_bytes());
    framed.extend(message);
    framed
}

/// The status of a framed `HealthCheckResponse`; a field that is left out is 0.
pub(crate) fn serving_status(framed: &[u8]) -> Option<u8> {
    match framed {
        [0, 0, 0, 0, 0, ..] => Some(0),
        [0, 0, 0, 0, 2, 0x08, status, ..] if *status < 0x80 => Some(*status),
        _ => None,
    }
}

/// A configured name may have several addresses of which one works: `localhost` is both 127.0.0.1
/// and ::1. The one that a request would get is asked.
async fn address(order: &ProbeOrder, timeout: Duration) -> Result<SocketAddr, Failure> {
    match order.addresses[..] {
        [only] => Ok(only),
        ref several => {
            let stream = connect(several, timeout).await.map_err(|error| told(error, timeout))?;
            stream.peer_addr().map_err(|error| reason(&error))
        }
    }
}

async fn send(
    request: RequestBuilder,
    address: &SocketAddr,
    timeout: Duration,
    start: Instant,
) -> Result<Response, Failure> {
    match request.timeout(timeout.saturating_sub(start.elapsed())).send().await {
        Ok(answer) => Ok(answer),
        Err(error) if error.is_timeout() => Err(format!("no answer within {timeout:?}").into()),
        Err(error) => Err(source_reason(&error, address)),
    }
}

/// As much of a body as there is, up to a limit. One that breaks off is as long as it is.
async fn first_bytes(answer: &mut Response, most: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < most
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        body.extend(&chunk[..chunk.len().min(most - body.len())]);
    }
    body
}

/// The first words of a body, on one line, for people.
pub(crate) fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(BODY_SHOWN)]);
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || c.is_control()).collect();
    let line = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    if line.is_empty() { line } else { format!(": {line}") }
}

/// The system's reason at the root of a client error, or the error's own text.
fn source_reason(error: &reqwest::Error, address: &SocketAddr) -> Failure {
    match io_source(error) {
        Some(error) if is_off(address, error) => error.to_string().into(),
        Some(error) => reason(error),
        None => "the answer was no HTTP response".to_owned().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_the_health_service_are_written_and_read_byte_by_byte() {
        assert_eq!(question(""), [0, 0, 0, 0, 0]);
        assert_eq!(question("ab"), [0, 0, 0, 0, 4, 0x0A, 2, b'a', b'b']);
        assert_eq!(serving_status(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(serving_status(&[0, 0, 0, 0, 0]), Some(0));
        for wrong in [&[][..], &[0, 0], &[1, 0, 0, 0, 2, 8, 1], &[0, 0, 0, 0, 2, 9, 1]] {
            assert_eq!(serving_status(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_beginning_of_a_body_is_kept_in_printable_characters() {
        let body = "{\"ok\": 'ä'}\n\u{202e}\0\\".as_bytes();
        assert_eq!(printable(body), "{\"ok\": 'ä'}\\n\\u{202e}\\0\\\\");
        assert_eq!(printable(b"\xFF"), "\u{fffd}");
    }

    #[test]
    fn a_body_is_shown_as_one_short_line() {
        assert_eq!(shown(b"  no\n\tdatabase\0 "), ": no database");
        assert_eq!(shown(b""), "");
        assert_eq!(shown(&[b'x'; 500]).len(), BODY_SHOWN + 2);
    }
}
