//! Active health checks: the probes that the pool orders, over real sockets.

mod http;

pub(crate) use self::http::{printable, question, serving_status, shown};

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use balance::{ProbeAnswer, ProbeOrder, ProbeResult};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    connect::{ConnectError, connect, is_own_fault},
    control::Control,
    settings::{BackendProtocol, Degrading, Probe, ProbeKind, Settings},
};

/// Probes so far, for the metrics.
#[derive(Debug, Default)]
pub(crate) struct ProbeCounts {
    pub(crate) passed: AtomicU64,
    pub(crate) failed: AtomicU64,
    /// Neither: the proxy could not make them.
    pub(crate) not_made: AtomicU64,
}

/// One line for so many probes that could not be made: with many backends they come in hundreds.
const TELL_EVERY: u64 = 100;

/// A probe that ends this much later than its timeout says nothing of the backend: the process, or all
/// of the machine, had no time for it. Timers are late by milliseconds otherwise.
const LATE: Duration = Duration::from_secs(1);

/// Why a probe did not pass.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    /// What is wrong with the backend.
    Backend(String),
    /// Why we could not ask it.
    Own(String),
}

impl From<String> for Failure {
    fn from(what: String) -> Self {
        Self::Backend(what)
    }
}

/// A probe that was made.
type Made = (ProbeResult, Option<String>);

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

    /// What a question is asked in. gRPC is always HTTP/2.
    fn protocol(&self) -> BackendProtocol {
        match self.probe.kind {
            ProbeKind::Grpc(_) => BackendProtocol::Http2,
            _ => self.protocol,
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
    let client = match http::client(&settings.probe, settings.protocol()) {
        Ok(client) => client,
        Err(error) => return tracing::error!(%error, "probes cannot be made"),
    };
    let settings = Arc::new(settings);
    while let Some(order) = orders.recv().await {
        let (control, settings) = (Arc::clone(&control), Arc::clone(&settings));
        let (client, counts) = (client.clone(), Arc::clone(&counts));
        tokio::spawn(async move {
            let (result, degraded) = match probe(&settings, &client, &order).await {
                Ok(made) => made,
                Err(why) => {
                    if counts.not_made.fetch_add(1, Ordering::Relaxed) % TELL_EVERY == 0 {
                        tracing::warn!(
                            why,
                            "probes cannot be made; what is known of backends stays"
                        );
                    }
                    return control.apply(|pool, now| pool.probe_not_made(&order, now));
                }
            };
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

/// Makes a probe. The reason is of a backend that asks to be spared.
///
/// # Errors
/// Why it could not be made, which is no fault of the backend's.
async fn probe(
    settings: &Probing,
    client: &reqwest::Client,
    order: &ProbeOrder,
) -> Result<Made, String> {
    let (start, timeout) = (Instant::now(), settings.probe.timeout);
    let (mut degraded, mut answered) = (None, None);
    let result = match &settings.probe.kind {
        ProbeKind::Http(path) => {
            match http::get(client, settings.protocol(), order, path, timeout).await {
                Ok(mut answer) => {
                    degraded = settings.degrading.take(answer.headers_mut());
                    let (judged, body) = http::judge(&settings.probe, &mut answer).await;
                    answered = Some((answer, body));
                    judged.map_err(Failure::from)
                }
                Err(why) => Err(why),
            }
        }
        ProbeKind::Grpc(service) => http::grpc(client, order, service, timeout).await,
        ProbeKind::Tcp | ProbeKind::Off => tcp(&order.addresses, timeout).await,
    };
    let duration = start.elapsed();
    let (passed, detail) = match result {
        Ok(seen) => (true, format!("{seen}, {:.1} ms", duration.as_secs_f64() * 1e3)),
        Err(Failure::Backend(_)) if duration > timeout + LATE => {
            return Err(format!("the proxy stood still for some of {duration:.1?}"));
        }
        Err(Failure::Backend(why)) => (false, why),
        Err(Failure::Own(why)) => return Err(why),
    };
    let answer = match answered {
        // It is read after the duration is taken: what is only shown makes no probe slower.
        Some((answer, body)) => Some(ProbeAnswer {
            code: answer.status().as_u16(),
            first_bytes: http::printable(&http::beginning(answer, body).await),
        }),
        None => None,
    };
    Ok((ProbeResult { passed, detail, duration, answer }, degraded))
}

async fn tcp(addresses: &[SocketAddr], timeout: Duration) -> Result<String, Failure> {
    connect(addresses, timeout)
        .await
        .map(|_| "connected".to_owned())
        .map_err(|error| told(error, timeout))
}

fn told(error: ConnectError, timeout: Duration) -> Failure {
    match error {
        ConnectError::Io(error) => reason(&error),
        ConnectError::Timeout => format!("no connection within {timeout:?}").into(),
    }
}

fn reason(error: &io::Error) -> Failure {
    if is_own_fault(error) {
        return Failure::Own(error.to_string());
    }
    Failure::Backend(match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::HostUnreachable => "host unreachable".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".to_owned(),
        _ => error.to_string(),
    })
}

#[cfg(test)]
mod tests;
