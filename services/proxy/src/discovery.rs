//! Who the backends are: a list, or every address of a name, looked up again and again.
//!
//! Names are looked up every 1 to 2 s whatever their TTL says: Docker's DNS answers with a
//! constant 600 s, and a recreated container has a new address at once. A look-up that fails or
//! comes back empty changes nothing; the pool keeps the last good set.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use balance::{BackendId, Found};

use crate::{
    control::Control,
    source::{Source, StaticBackend},
};

/// Between two look-ups, at random, so that many proxies do not ask in step.
const INTERVAL: std::ops::Range<Duration> = Duration::from_secs(1)..Duration::from_secs(2);

/// Of one look-up. The system's resolver may take 10 s over a silent name server; we rather say
/// that it is silent, and ask again.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Looks backends up until the process ends.
pub(crate) async fn run(control: Arc<Control>, source: Source) {
    loop {
        match look_up(&source).await {
            Ok(found) => control.apply(|pool, now| pool.discovered(found, now)),
            Err(why) => control.apply(|pool, now| pool.discovery_failed(&why, now)),
        }
        if source.is_fixed() {
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
            Self::Dns { .. } => false,
        }
    }
}

async fn look_up(source: &Source) -> Result<Vec<Found>, String> {
    match source {
        Source::Static(backends) => {
            let found = backends.iter().map(|backend| async {
                let StaticBackend { id, host, port, weight } = backend;
                let addresses = resolve(host, *port).await;
                Found { id: id.clone(), addresses, weight: *weight, is_terminating: false }
            });
            Ok(futures_util::future::join_all(found).await)
        }
        Source::Dns { name, port } => {
            let mut addresses = resolve(name, *port).await?;
            addresses.sort_unstable();
            addresses.dedup();
            let found = |address: SocketAddr| Found {
                id: BackendId::new(&address.to_string()),
                addresses: Ok(vec![address]),
                weight: 1,
                is_terminating: false,
            };
            Ok(addresses.into_iter().map(found).collect())
        }
    }
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let failed = |why: &str| format!("the name {host} does not resolve ({why})");
    match tokio::time::timeout(TIMEOUT, tokio::net::lookup_host((host, port))).await {
        Err(_) => Err(failed("no answer from the name server")),
        Ok(Err(error)) => Err(failed(&lookup_reason(&error))),
        Ok(Ok(addresses)) => {
            let addresses: Vec<SocketAddr> = addresses.collect();
            if addresses.is_empty() { Err(failed("it has no addresses")) } else { Ok(addresses) }
        }
    }
}

/// The resolver's reason without the standard library's preamble.
fn lookup_reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.strip_prefix("failed to lookup address information: ").unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_address_of_a_name_is_a_backend() {
        let source = Source::Dns { name: "127.0.0.1".to_owned(), port: 81 };
        let found = look_up(&source).await.unwrap();
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
        };
        let source = Source::Static(vec![backend("does-not-exist.invalid"), backend("127.0.0.1")]);
        let found = look_up(&source).await.unwrap();
        let error = found[0].addresses.as_ref().unwrap_err();
        assert!(error.contains("does-not-exist.invalid does not resolve"), "{error}");
        assert_eq!(found[1].addresses, Ok(vec![([127, 0, 0, 1], 81).into()]));
    }

    #[test]
    fn only_names_are_looked_up_again() {
        let list = |text| Settings::from_variables(&[("PROXY_BACKENDS", text)]).source;
        assert!(list("http://127.0.0.1:1,http://[::1]:2").is_fixed());
        assert!(!list("http://127.0.0.1:1,http://localhost:2").is_fixed());
        assert!(!list("dns://server:1").is_fixed());
    }

    use crate::settings::Settings;
}
