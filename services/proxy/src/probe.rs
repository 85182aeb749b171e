//! Active health checks: the probes that the pool orders, over real sockets.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use balance::{ProbeOrder, ProbeResult};
use http::{StatusCode, header};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    connect::{ConnectError, connect},
    control::Control,
    error::io_source,
    settings::{BackendProtocol, Degrading, Probe, ProbeKind, Settings},
};

/// Probes so far, for the metrics.
#[derive(Debug, Default)]
pub(crate) struct ProbeCounts {
    pub(crate) passed: AtomicU64,
    pub(crate) failed: AtomicU64,
}

/// How probes are made and read.
#[derive(Clone, Debug)]
pub(crate) struct Probing {
    pub(crate) probe: Probe,
    pub(crate) degrading: Degrading,
    pub(crate) protocol: BackendProtocol,
}

impl Probing {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            probe: settings.probe.clone(),
            degrading: settings.degrading.clone(),
            protocol: settings.backend_protocol,
        }
    }
}

/// Makes probes as they are ordered, each in a task of its own, until the process ends.
pub(crate) async fn run(
    control: Arc<Control>,
    settings: Probing,
    counts: Arc<ProbeCounts>,
    mut orders: mpsc::UnboundedReceiver<ProbeOrder>,
) {
    let client = match http_client(&settings) {
        Ok(client) => client,
        Err(error) => return tracing::error!(%error, "probes cannot be made"),
    };
    let settings = Arc::new(settings);
    while let Some(order) = orders.recv().await {
        let (control, settings) = (Arc::clone(&control), Arc::clone(&settings));
        let (client, counts) = (client.clone(), Arc::clone(&counts));
        tokio::spawn(async move {
            let (result, degraded) = probe(&settings, &client, &order).await;
            let count = if result.passed { &counts.passed } else { &counts.failed };
            count.fetch_add(1, Ordering::Relaxed);
            control.apply(|pool, now| {
                if let Some(reason) = degraded {
                    pool.degraded(&order.id, order.generation, &reason, now);
                }
                pool.probe_finished(&order, result, now);
            });
        });
    }
}

/// A client that opens a connection for each probe: a kept one would say nothing about whether the
/// backend still accepts. It follows no redirect, which would probe somebody else.
fn http_client(settings: &Probing) -> reqwest::Result<reqwest::Client> {
    let builder = match settings.protocol {
        BackendProtocol::Http1 => reqwest::Client::builder(),
        BackendProtocol::Http2 => reqwest::Client::builder().http2_prior_knowledge(),
    };
    builder
        .no_proxy()
        .pool_max_idle_per_host(0)
        .redirect(reqwest::redirect::Policy::none())
        .timeout(settings.probe.timeout)
        .user_agent(concat!("evenkeel-probe/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Makes a probe. The reason is of a backend that asks to be spared.
async fn probe(
    settings: &Probing,
    client: &reqwest::Client,
    order: &ProbeOrder,
) -> (ProbeResult, Option<String>) {
    let (start, timeout) = (Instant::now(), settings.probe.timeout);
    let mut degraded = None;
    let result = match &settings.probe.kind {
        ProbeKind::Http(path) => match http(settings, client, order, path).await {
            Ok(mut answer) => {
                degraded = settings.degrading.take(answer.headers_mut());
                judge(answer.status())
            }
            Err(why) => Err(why),
        },
        ProbeKind::Tcp | ProbeKind::Off => tcp(&order.addresses, timeout).await,
    };
    let duration = start.elapsed();
    let (passed, detail) = match result {
        Ok(seen) => (true, format!("{seen}, {:.1} ms", duration.as_secs_f64() * 1e3)),
        Err(why) => (false, why),
    };
    (ProbeResult { passed, detail, duration }, degraded)
}

async fn tcp(addresses: &[SocketAddr], timeout: Duration) -> Result<String, String> {
    connect(addresses, timeout)
        .await
        .map(|_| "connected".to_owned())
        .map_err(|error| told(error, timeout))
}

async fn http(
    settings: &Probing,
    client: &reqwest::Client,
    order: &ProbeOrder,
    path: &str,
) -> Result<reqwest::Response, String> {
    let (start, timeout) = (Instant::now(), settings.probe.timeout);
    let address = match order.addresses[..] {
        [only] => only,
        // A configured name may have several addresses of which one works: `localhost` is both
        // 127.0.0.1 and ::1. The one that a request would get is asked.
        ref several => {
            let stream = connect(several, timeout).await.map_err(|error| told(error, timeout))?;
            stream.peer_addr().map_err(|error| reason(&error))?
        }
    };
    let mut request = client
        .get(format!("http://{address}{path}"))
        .timeout(timeout.saturating_sub(start.elapsed()));
    if settings.protocol == BackendProtocol::Http1 {
        // In HTTP/2 it would contradict the target's own host.
        request = request.header(header::HOST, order.id.as_str());
    }
    match request.send().await {
        Ok(answer) => Ok(answer),
        Err(error) if error.is_timeout() => Err(format!("no answer within {timeout:?}")),
        Err(error) => Err(source_reason(&error)),
    }
}

fn told(error: ConnectError, timeout: Duration) -> String {
    match error {
        ConnectError::Io(error) => reason(&error),
        ConnectError::Timeout => format!("no connection within {timeout:?}"),
    }
}

fn judge(status: StatusCode) -> Result<String, String> {
    if status.is_success() || status.is_redirection() {
        Ok(format!("answered {}", status.as_u16()))
    } else {
        Err(format!("answered {}", status.as_u16()))
    }
}

/// The system's reason at the root of a client error, or the error's own text.
fn source_reason(error: &reqwest::Error) -> String {
    io_source(error).map_or_else(|| "the answer was no HTTP response".to_owned(), reason)
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::HostUnreachable => "host unreachable".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use balance::BackendId;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn run_probe(kind: &str, address: SocketAddr) -> ProbeResult {
        probe_with_wish(kind, address).await.0
    }

    async fn probe_with_wish(kind: &str, address: SocketAddr) -> (ProbeResult, Option<String>) {
        let variables = [("PROXY_PROBE", kind), ("PROXY_PROBE_TIMEOUT", "200ms")];
        let settings = Probing::new(&Settings::from_variables(&variables));
        let id = BackendId::new(&address.to_string());
        let order = ProbeOrder { id, generation: 1, sequence: 1, addresses: vec![address] };
        probe(&settings, &http_client(&settings).unwrap(), &order).await
    }

    /// A server that answers each connection with `answer` and closes it.
    async fn server(answer: &'static str) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        address
    }

    fn closed_port() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    #[tokio::test]
    async fn a_tcp_probe_passes_when_a_connection_opens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let result = run_probe("tcp", listener.local_addr().unwrap()).await;
        assert!(result.passed && result.detail.starts_with("connected, "), "{result:?}");
        let result = run_probe("tcp", closed_port()).await;
        assert_eq!((result.passed, result.detail.as_str()), (false, "connection refused"));
    }

    #[tokio::test]
    async fn an_http_probe_passes_by_the_status() {
        let cases = [
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", true, "answered 200"),
            (
                "HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n",
                true,
                "answered 302",
            ),
            ("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", false, "answered 503"),
            ("garbage\r\n\r\n", false, "the answer was no HTTP response"),
        ];
        for (answer, passed, detail) in cases {
            let result = run_probe("http", server(answer).await).await;
            assert_eq!(result.passed, passed, "{answer}: {result:?}");
            assert!(result.detail.starts_with(detail), "{answer}: {result:?}");
        }
        assert_eq!(run_probe("http", closed_port()).await.detail, "connection refused");
    }

    #[tokio::test]
    async fn an_answer_to_a_probe_may_ask_to_spare_the_backend() {
        let answer =
            "HTTP/1.1 200 OK\r\nx-evenkeel-degraded: cold cache\r\ncontent-length: 0\r\n\r\n";
        let (result, degraded) = probe_with_wish("http", server(answer).await).await;
        assert!(result.passed);
        assert_eq!(degraded.as_deref(), Some("cold cache"));
    }

    #[tokio::test]
    async fn an_http_probe_of_several_addresses_gives_the_one_that_works_its_time() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 1024]).await;
                // Longer than an equal part of the time for each of five addresses.
                tokio::time::sleep(Duration::from_millis(300)).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            }
        });
        let variables = [("PROXY_PROBE", "http"), ("PROXY_PROBE_TIMEOUT", "1s")];
        let settings = Probing::new(&Settings::from_variables(&variables));
        let addresses = vec![address, closed_port(), closed_port(), closed_port(), closed_port()];
        let order =
            ProbeOrder { id: BackendId::new("many:80"), generation: 1, sequence: 1, addresses };
        let (result, _) = probe(&settings, &http_client(&settings).unwrap(), &order).await;
        assert!(result.passed && result.detail.starts_with("answered 200"), "{result:?}");
    }

    #[tokio::test]
    async fn an_http_probe_of_a_silent_server_fails_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let result = run_probe("http", listener.local_addr().unwrap()).await;
        assert_eq!((result.passed, result.detail.as_str()), (false, "no answer within 200ms"));
    }
}
