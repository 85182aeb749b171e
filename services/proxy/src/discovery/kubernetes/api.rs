//! Questions to the Kubernetes API server, one connection for each.
//!
//! The whole of what a watch needs is two GETs, a bearer token and a CA. The kube crate does that
//! and much more: it would add 65 crates to the proxy, a YAML and a JSONPath parser among them,
//! where TLS for the HTTP client that we have takes 8.

use std::{fs, path::Path, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

use crate::settings::KubernetesApi;

/// From the connection to the head of an answer. A watch is answered at once, too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// For the body of an answer that is not a watch.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Of such a body: some 100,000 endpoints.
const BODY_MOST: usize = 64 * 1024 * 1024;

/// Of an error's body, and of the sentence in it that is told.
const ERROR_MOST: usize = 64 * 1024;
const SENTENCE_MOST: usize = 300;

/// Of a token or a CA: some hundred certificates.
const FILE_MOST: u64 = 1024 * 1024;

/// A silent connection is asked so soon whether it is there still, and given up after three
/// unanswered questions: a watch may be silent for minutes, and must not outlive its server.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Failure {
    /// In words.
    pub(super) why: String,
    pub(super) kind: Kind,
    /// How long the server wants to be left alone.
    pub(super) retry_after: Option<Duration>,
}

/// What a failure means for what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing was learnt, and the same question may be asked again.
    NoAnswer,
    /// The version that was asked for is no longer kept: only a list helps.
    Gone,
    /// The answer makes no sense, so that what is known may be wrong.
    Garbled,
}

impl Failure {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), kind: Kind::NoAnswer, retry_after: None }
    }
}

/// What the server says when it refuses (`Status` of its API).
#[derive(Debug, Default, Deserialize)]
pub(super) struct Status {
    #[serde(default)]
    pub(super) message: String,
    #[serde(default)]
    pub(super) code: u16,
}

/// Asks for a path, and gives the answer's body if it is one of success.
pub(super) async fn get(api: &KubernetesApi, path: &str) -> Result<Incoming, Failure> {
    let answer = tokio::time::timeout(HEAD_TIMEOUT, ask(api, path)).await;
    let answer =
        answer.map_err(|_| Failure::new("the Kubernetes API server does not answer"))??;
    let (head, body) = answer.into_parts();
    if head.status == StatusCode::OK {
        return Ok(body);
    }
    let body = Limited::new(body, ERROR_MOST).collect();
    let body = tokio::time::timeout(HEAD_TIMEOUT, body).await;
    let status = match body {
        Ok(Ok(body)) => serde_json::from_slice::<Status>(&body.to_bytes()).unwrap_or_default(),
        _ => Status::default(),
    };
    let mut failure = refusal(head.status.as_u16(), &status.message);
    failure.retry_after = retry_after(&head.headers);
    Err(failure)
}

/// Asks for a path, and gives the whole body.
pub(super) async fn get_all(api: &KubernetesApi, path: &str) -> Result<Vec<u8>, Failure> {
    whole(get(api, path).await?).await
}

async fn whole(body: Incoming) -> Result<Vec<u8>, Failure> {
    let body = Limited::new(body, BODY_MOST).collect();
    match tokio::time::timeout(BODY_TIMEOUT, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes().to_vec()),
        Ok(Err(error)) => {
            Err(Failure::new(format!("the Kubernetes API server broke off: {error}")))
        }
        Err(_) => Err(Failure::new("the Kubernetes API server takes too long to answer")),
    }
}

/// A refusal in words.
pub(super) fn refusal(code: u16, message: &str) -> Failure {
    let message: String =
        message.chars().filter(|char| !char.is_control()).take(SENTENCE_MOST).collect();
    let advice = match code {
        401 => " (is the service account's token mounted?)",
        403 => " (its Role must allow get, list and watch of endpointslices)",
        _ => "",
    };
    let why = format!("the Kubernetes API server answers {code}: {message}{advice}");
    let kind = if code == 410 { Kind::Gone } else { Kind::NoAnswer };
    Failure { kind, ..Failure::new(why) }
}

pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

async fn ask(api: &KubernetesApi, path: &str) -> Result<http::Response<Incoming>, Failure> {
    let host = api.url.host_str().unwrap_or_default();
    let port = api.url.port_or_known_default().unwrap_or(443);
    let mut request = Request::get(path)
        .header(header::HOST, format!("{host}:{port}"))
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, concat!("evenkeel-proxy/", env!("CARGO_PKG_VERSION")));
    if let Some(path) = &api.token_file {
        // Read for each question: the kubelet writes a new one every hour.
        request = request.header(header::AUTHORIZATION, bearer(path)?);
    }
    let request = request.body(Empty::<bytes::Bytes>::new());
    let request = request.map_err(|error| Failure::new(error.to_string()))?;
    let unreachable = |error: std::io::Error| {
        Failure::new(format!("the Kubernetes API server at {host}:{port} is unreachable: {error}"))
    };
    let plain_host = host.trim_matches(['[', ']']);
    let stream = TcpStream::connect((plain_host, port)).await.map_err(unreachable)?;
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    socket2::SockRef::from(&stream)
        .set_tcp_keepalive(&keepalive.with_retries(3))
        .map_err(unreachable)?;
    if api.url.scheme() == "http" {
        return send(stream, request).await;
    }
    let name = ServerName::try_from(plain_host.to_owned())
        .map_err(|error| Failure::new(format!("{host} is no name for a certificate: {error}")))?;
    let connector = TlsConnector::from(Arc::new(tls(api)?));
    let stream = connector.connect(name, stream).await.map_err(unreachable)?;
    send(stream, request).await
}

async fn send<S>(
    stream: S,
    request: Request<Empty<bytes::Bytes>>,
) -> Result<http::Response<Incoming>, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broke = |error| Failure::new(format!("the Kubernetes API server broke off: {error}"));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broke)?;
    // It ends with the answer's body, whether that is read to its end or dropped.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(broke)
}

fn bearer(path: &str) -> Result<HeaderValue, Failure> {
    let token = read(path, "the token")?;
    let token = String::from_utf8_lossy(&token);
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim()))
        .map_err(|_| Failure::new(format!("the token in {path} is none")))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Read for each connection, so that a new CA holds without a restart.
fn tls(api: &KubernetesApi) -> Result<ClientConfig, Failure> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &api.ca_file {
        let pem = read(path, "the CA")?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let added = certificate.ok().and_then(|certificate| roots.add(certificate).ok());
            added.ok_or_else(|| Failure::new(format!("the CA in {path} has a bad certificate")))?;
        }
        if roots.is_empty() {
            return Err(Failure::new(format!("the CA in {path} has no certificate")));
        }
    }
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_root_certificates(roots).with_no_client_auth())
        .map_err(|error| Failure::new(error.to_string()))
}

fn read(path: &str, what: &str) -> Result<Vec<u8>, Failure> {
    let failed = |why: &str| Failure::new(format!("{what} in {path} cannot be read: {why}"));
    let length = fs::metadata(path).map_err(|error| failed(&error.to_string()))?.len();
    if length > FILE_MOST {
        return Err(failed("it is too long"));
    }
    fs::read(Path::new(path)).map_err(|error| failed(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        time::Instant,
    };
    use tokio_rustls::{
        TlsAcceptor,
        rustls::{ServerConfig, pki_types::PrivateKeyDer},
    };

    use super::*;

    /// A server with a certificate of its own, whose PEM is given too.
    async fn server() -> (u16, String) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(config));
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await;
            }
        });
        (port, cert.pem())
    }

    fn file(name: &str, content: &str) -> PathBuf {
        let name = format!("evenkeel-{name}-{}.pem", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    async fn asked(port: u16, ca_file: &Path) -> Result<Vec<u8>, String> {
        let url = url::Url::parse(&format!("https://127.0.0.1:{port}")).unwrap();
        let ca_file = Some(ca_file.to_str().unwrap().to_owned());
        let api = KubernetesApi { url, token_file: None, ca_file };
        get_all(&api, "/").await.map_err(|failure| failure.why)
    }

    #[tokio::test]
    async fn only_a_server_that_the_ca_vouches_for_is_asked() {
        let ((port, own), (_, other)) = (server().await, server().await);
        let ca = file("ca", &own);
        assert_eq!(asked(port, &ca).await, Ok(b"hi".to_vec()));
        // A new CA holds from the next question on.
        fs::write(&ca, &other).unwrap();
        let error = asked(port, &ca).await.unwrap_err();
        assert!(error.contains("certificate"), "{error}");
        fs::write(&ca, other + &own).unwrap();
        assert_eq!(asked(port, &ca).await, Ok(b"hi".to_vec()));
        fs::remove_file(&ca).unwrap();
    }

    fn api(address: std::net::SocketAddr) -> KubernetesApi {
        let url = url::Url::parse(&format!("http://{address}")).unwrap();
        KubernetesApi { url, token_file: None, ca_file: None }
    }

    fn is_about(start: Instant, expected: Duration) {
        // Timers go by the millisecond.
        let (after, late) = (start.elapsed(), expected + Duration::from_millis(4));
        assert!((expected..late).contains(&after), "{after:?} rather than {expected:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_says_nothing_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let start = Instant::now();
        let failure = get_all(&api(listener.local_addr().unwrap()), "/").await.unwrap_err();
        assert_eq!(failure.why, "the Kubernetes API server does not answer");
        is_about(start, HEAD_TIMEOUT);
    }

    #[tokio::test]
    async fn a_server_that_stops_in_the_middle_of_an_answer_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = api(listener.local_addr().unwrap());
        let begins = async {
            let mut stream = listener.accept().await.unwrap().0;
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nh").await.unwrap();
            stream
        };
        let (body, _stream) = tokio::join!(get(&api, "/"), begins);
        tokio::time::pause();
        let start = Instant::now();
        let failure = whole(body.unwrap()).await.unwrap_err();
        assert_eq!(failure.why, "the Kubernetes API server takes too long to answer");
        is_about(start, BODY_TIMEOUT);
    }

    #[tokio::test]
    async fn a_ca_file_that_holds_none_is_told() {
        let ca = file("no-ca", "");
        for (content, expected) in [
            ("", "has no certificate"),
            ("-----BEGIN CERTIFICATE-----\naGk=\n-----END CERTIFICATE-----\n", "bad certificate"),
        ] {
            fs::write(&ca, content).unwrap();
            // Whoever listens there: it is not asked.
            let (port, _) = server().await;
            let error = asked(port, &ca).await.unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        fs::remove_file(&ca).unwrap();
        let error = asked(1, &ca).await.unwrap_err();
        assert!(error.contains("unreachable"), "{error}");
    }

    #[test]
    fn refusals_are_told_in_one_sentence_of_limited_length() {
        let failure = refusal(403, &("no\n".to_owned() + &"x".repeat(9_000)));
        assert!(failure.why.starts_with("the Kubernetes API server answers 403: noxxx"));
        assert!(failure.why.ends_with("of endpointslices)") && failure.why.len() < 500);
        assert_eq!((refusal(410, "").kind, failure.kind), (Kind::Gone, Kind::NoAnswer));
    }
}
