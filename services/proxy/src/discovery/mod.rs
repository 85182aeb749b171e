//! Who the backends are: a list, every address of a name, or the targets of its SRV records,
//! looked up again and again; or the pods of a Service, which Kubernetes tells of.
//!
//! Names are looked up every 1 to 2 s whatever their TTL says: Docker's DNS answers with a
//! constant 600 s, and a recreated container has a new address at once. A look-up that fails or
//! comes back empty changes nothing; the pool keeps the last good set.

pub(crate) mod kubernetes;
pub(crate) mod names;
pub(crate) mod srv;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use balance::{BackendId, Found};

use self::names::Names;
use crate::{
    control::Control,
    settings::Discovering,
    source::{Source, StaticBackend},
};

/// Between two look-ups, at random, so that many proxies do not ask in step.
const INTERVAL: std::ops::Range<Duration> = Duration::from_secs(1)..Duration::from_secs(2);

/// Finds backends out until the process ends.
pub(crate) async fn run(control: Arc<Control>, discovering: Discovering) {
    let Discovering { source, name_servers, kubernetes } = discovering;
    if let (Source::Kubernetes(service), Some(api)) = (&source, kubernetes) {
        return kubernetes::run(control, service.clone(), api).await;
    }
    let (is_fixed, of_names) = (source.is_fixed(), Arc::new((source, Names::new(name_servers))));
    let look_up = || {
        let of_names = Arc::clone(&of_names);
        async move { look_up(&of_names.0, &of_names.1).await }
    };
    follow(control, is_fixed, look_up).await;
}

/// Looks up again and again, at random times and when the pool asks for it, because a connection
/// failed and its address may be stale. A set that is `is_fixed` is looked up once.
async fn follow<F>(control: Arc<Control>, is_fixed: bool, mut look_up: impl FnMut() -> F)
where
    F: Future<Output = Result<Vec<Found>, String>>,
{
    loop {
        match look_up().await {
            Ok(found) => control.apply(|pool, now| pool.discovered(found, now)),
            Err(why) => control.apply(|pool, now| pool.discovery_failed(&why, now)),
        }
        if is_fixed {
            return;
        }
        let spread = (INTERVAL.end - INTERVAL.start).mul_f64(fastrand::f64());
        tokio::select! {
            () = tokio::time::sleep(INTERVAL.start + spread) => {}
            () = control.discover.notified() => {}
        }
    }
}

impl Source {
    /// Whether it consists of IP addresses only, so that there is nothing to look up again.
    fn is_fixed(&self) -> bool {
        match self {
            Self::Static(backends) => {
                backends.iter().all(|backend| backend.host.parse::<std::net::IpAddr>().is_ok())
            }
            Self::Dns { .. } | Self::Srv { .. } | Self::Kubernetes(_) => false,
        }
    }
}

async fn look_up(source: &Source, names: &Names) -> Result<Vec<Found>, String> {
    match source {
        Source::Static(backends) => {
            let found = backends.iter().map(|backend| async {
                let StaticBackend { id, host, port, weight, tier } = backend;
                let addresses = names.addresses(host, *port).await;
                Found { weight: *weight, tier: *tier, ..Found::new(id.clone(), addresses) }
            });
            Ok(futures_util::future::join_all(found).await)
        }
        Source::Dns { name, port } => {
            let mut addresses = names.addresses(name, *port).await?;
            addresses.sort_unstable();
            addresses.dedup();
            let found = |address: SocketAddr| {
                Found::new(BackendId::new(&address.to_string()), Ok(vec![address]))
            };
            Ok(addresses.into_iter().map(found).collect())
        }
        Source::Srv { name } => srv::look_up(name, names).await,
        Source::Kubernetes(_) => Err("the Kubernetes API has no address".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use balance::{Policy, Pool, ProbePlan};
    use tokio::time::Instant;

    use super::*;
    use crate::{clock::Clock, settings::Settings};

    #[tokio::test]
    async fn every_address_of_a_name_is_a_backend() {
        let source = Source::Dns { name: "127.0.0.1".to_owned(), port: 81 };
        let found = look_up(&source, &Names::new(vec![])).await.unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].id.as_str(), "127.0.0.1:81");
    }

    #[tokio::test]
    async fn a_name_of_a_list_that_does_not_resolve_keeps_its_place_with_the_reason() {
        let backend = |host: &str| StaticBackend {
            id: BackendId::new(&format!("{host}:81")),
            host: host.to_owned(),
            port: 81,
            weight: 2,
            tier: 0,
        };
        let source = Source::Static(vec![backend("does-not-exist.invalid"), backend("127.0.0.1")]);
        let found = look_up(&source, &Names::new(vec![])).await.unwrap();
        let error = found[0].addresses.as_ref().unwrap_err();
        assert!(error.contains("does-not-exist.invalid does not resolve"), "{error}");
        assert_eq!(found[1].addresses, Ok(vec![([127, 0, 0, 1], 81).into()]));
    }

    #[test]
    fn only_names_are_looked_up_again() {
        let list = |text| Settings::from_variables(&[("PROXY_BACKENDS", text)]).discovering.source;
        assert!(list("http://127.0.0.1:1,http://[::1]:2").is_fixed());
        assert!(!list("http://127.0.0.1:1,http://localhost:2").is_fixed());
        assert!(!list("dns://server:1").is_fixed());
        assert!(!list("srv://_http._tcp.server").is_fixed());
    }

    fn control() -> Arc<Control> {
        let plan = ProbePlan { enabled: false, ..ProbePlan::default() };
        let pool = Pool::new("default", Policy::RoundRobin, plan, 1);
        Control::new(pool, Clock::start(), None).0
    }

    fn found(port: u16) -> Found {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Found::new(BackendId::new(&address.to_string()), Ok(vec![address]))
    }

    fn ids(control: &Control) -> Vec<String> {
        let backends = control.read(|pool| pool.view().backends);
        backends.iter().map(|backend| backend.id.to_string()).collect()
    }

    /// Plays answers one after the other, and gives who is in the pool after each.
    async fn play(answers: Vec<Result<Vec<Found>, String>>) -> Vec<Vec<String>> {
        let control = control();
        let (mut answers, mut seen) = (answers.into_iter(), Vec::new());
        let playing = follow(Arc::clone(&control), false, || {
            seen.push(ids(&control));
            let answer = answers.next();
            async {
                match answer {
                    Some(answer) => answer,
                    None => std::future::pending().await,
                }
            }
        });
        let _ = tokio::time::timeout(Duration::from_secs(60), playing).await;
        seen.split_off(1)
    }

    #[tokio::test(start_paused = true)]
    async fn failed_empty_and_flapping_answers_never_empty_the_pool() {
        let (one, two) = (vec!["127.0.0.1:1"], vec!["127.0.0.1:1", "127.0.0.1:2"]);
        let seen = play(vec![
            Ok(vec![found(1), found(2)]),
            Err("no answer".to_owned()),
            Ok(vec![]),
            Ok(vec![found(1)]),
            Ok(vec![]),
            Ok(vec![found(1), found(2)]),
        ])
        .await;
        assert_eq!(seen, [two.clone(), two.clone(), two.clone(), one.clone(), one, two]);
    }

    #[tokio::test(start_paused = true)]
    async fn looks_up_again_at_random_times_and_at_once_when_a_connection_failed() {
        let control = control();
        let mut times = Vec::new();
        let playing = follow(Arc::clone(&control), false, || {
            times.push(Instant::now());
            let count = times.len();
            if count == 20 {
                control.discover.notify_one();
            }
            async move {
                if count == 22 {
                    std::future::pending::<()>().await;
                }
                Ok(vec![found(1)])
            }
        });
        let _ = tokio::time::timeout(Duration::from_secs(60), playing).await;
        let mut waits: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(waits.len(), 21);
        assert_eq!(waits.remove(19), Duration::ZERO, "the one that was asked for");
        // The clock's timers may be late by a millisecond.
        let latest = INTERVAL.end + Duration::from_millis(1);
        assert!(waits.iter().all(|wait| *wait >= INTERVAL.start && *wait <= latest), "{waits:?}");
        waits.sort_unstable();
        waits.dedup();
        assert!(waits.len() > 10, "{waits:?}");
    }
}
