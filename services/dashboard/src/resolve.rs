//! Where the proxies are: every address behind every URL of `LOAD_BALANCER_ADMIN_URL`.
//!
//! A name may stand for many proxies: a headless service, or a scaled one of Compose. Asking the
//! name would show a different one each time, so each address is asked by itself. `localhost` is
//! the exception: its two addresses are one machine.

use std::{collections::BTreeMap, io, net::SocketAddr, time::Duration};

use chassis::shutdown::Shutdown;
use tokio::sync::watch;
use url::{Host, Url};

/// Between look-ups: a new replica is seen about as soon as a cluster's own caches know it.
const EVERY: Duration = Duration::from_secs(2);
/// A resolver that takes longer is as good as down; the last set stays.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Proxies that are asked: each costs a connection and an answer twice a second.
const MOST: usize = 64;

/// One place to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// With the address in place of the name.
    pub(crate) url: Url,
    /// What to send as `Host`, if that is not the URL's own.
    pub(crate) host: Option<String>,
}

/// Looks the URLs up again and again until a stop. The first value is an empty set.
pub(crate) fn start(urls: Vec<Url>, shutdown: Shutdown) -> watch::Receiver<Vec<Endpoint>> {
    follow(urls, shutdown, |name, port| async move {
        tokio::net::lookup_host((name, port)).await.map(Iterator::collect)
    })
}

/// The same with anything that looks up the addresses of a name.
fn follow<L, F>(urls: Vec<Url>, shutdown: Shutdown, look_up: L) -> watch::Receiver<Vec<Endpoint>>
where
    L: Fn(String, u16) -> F + Send + Sync + 'static,
    F: Future<Output = io::Result<Vec<SocketAddr>>> + Send,
{
    let (sender, receiver) = watch::channel(Vec::new());
    tokio::spawn(async move {
        // By URL, so that one name that cannot be looked up keeps its last addresses.
        let mut known: BTreeMap<Url, Vec<SocketAddr>> = BTreeMap::new();
        loop {
            for url in &urls {
                match addresses(url, &look_up).await {
                    Ok(addresses) => drop(known.insert(url.clone(), addresses)),
                    Err(why) => tracing::debug!(%url, %why, "the look-up failed"),
                }
            }
            let found = endpoints(&urls, &known);
            sender.send_if_modified(|last| {
                let changed = *last != found;
                if changed {
                    *last = found;
                }
                changed
            });
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                _ = shutdown.requested() => return,
            }
        }
    });
    receiver
}

async fn addresses<L, F>(url: &Url, look_up: &L) -> Result<Vec<SocketAddr>, String>
where
    L: Fn(String, u16) -> F,
    F: Future<Output = io::Result<Vec<SocketAddr>>>,
{
    let Some(name) = looked_up(url) else { return Ok(Vec::new()) };
    let port = url.port_or_known_default().unwrap_or_default();
    let addresses = tokio::time::timeout(TIMEOUT, look_up(name.to_owned(), port)).await;
    let addresses = addresses.map_err(|_| "no answer".to_owned())?;
    let mut addresses = addresses.map_err(|error| error.to_string())?;
    if addresses.is_empty() {
        return Err("no address".to_owned());
    }
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

/// The name to look up, unless the URL is one place by itself.
fn looked_up(url: &Url) -> Option<&str> {
    match url.host()? {
        Host::Domain("localhost") | Host::Ipv4(_) | Host::Ipv6(_) => None,
        Host::Domain(name) => Some(name),
    }
}

fn endpoints(urls: &[Url], known: &BTreeMap<Url, Vec<SocketAddr>>) -> Vec<Endpoint> {
    let mut found: Vec<Endpoint> = Vec::new();
    for url in urls {
        let addresses = known.get(url).map(Vec::as_slice).unwrap_or_default();
        // A name that leads nowhere is asked by itself, so that its error is shown.
        let own = addresses.is_empty().then(|| Endpoint { url: url.clone(), host: None });
        let host = url.host_str().map(|name| match url.port() {
            Some(port) => format!("{name}:{port}"),
            None => name.to_owned(),
        });
        let each = addresses.iter().filter_map(|address| {
            let mut at = url.clone();
            at.set_ip_host(address.ip()).ok()?;
            Some(Endpoint { url: at, host: host.clone() })
        });
        for endpoint in own.into_iter().chain(each) {
            if found.len() < MOST && found.iter().all(|other| other.url != endpoint.url) {
                found.push(endpoint);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(texts: &[&str]) -> Vec<Url> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn each_address_of_a_name_is_a_place_of_its_own() {
        let list = urls(&["http://proxy:9901", "http://10.0.0.2:9901", "http://localhost:9901"]);
        let addresses = ["10.0.0.1:9901", "10.0.0.2:9901", "[fd00::1]:9901"];
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let found = endpoints(&list, &[(list[0].clone(), addresses)].into());
        let shown: Vec<&str> = found.iter().map(|one| one.url.as_str()).collect();
        let expected = [
            "http://10.0.0.1:9901/",
            "http://10.0.0.2:9901/",
            "http://[fd00::1]:9901/",
            "http://localhost:9901/",
        ];
        assert_eq!(shown, expected, "and none twice");
        assert_eq!(found[0].host.as_deref(), Some("proxy:9901"));
        assert_eq!(looked_up(&list[1]).or(looked_up(&list[2])), None);
    }

    /// What a resolver says, one after the other; the last is said again and again.
    fn says(all: Vec<Option<&'static [&'static str]>>) -> watch::Receiver<Vec<Endpoint>> {
        let said = std::sync::atomic::AtomicUsize::new(0);
        let (_trigger, shutdown) = chassis::shutdown::channel();
        follow(urls(&["http://proxy:9901"]), shutdown, move |name, port| {
            assert_eq!((&*name, port), ("proxy", 9901));
            let turn = said.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let now = all[turn.min(all.len() - 1)];
            async move {
                let now = now.ok_or(io::ErrorKind::NotFound)?;
                Ok(now.iter().map(|text| format!("{text}:9901").parse().unwrap()).collect())
            }
        })
    }

    async fn next(endpoints: &mut watch::Receiver<Vec<Endpoint>>) -> Vec<String> {
        endpoints.changed().await.unwrap();
        let found = endpoints.borrow_and_update().clone();
        found.iter().map(|one| one.url.host_str().unwrap().to_owned()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn replicas_that_come_and_go_are_found_by_their_name_within_seconds() {
        let one: &[&str] = &["127.0.0.1"];
        let two: &[&str] = &["127.0.0.2", "127.0.0.1"];
        let last: &[&str] = &["127.0.0.2"];
        let nobody: &[&str] = &[];
        let start = tokio::time::Instant::now();
        let mut endpoints =
            says(vec![Some(one), Some(two), None, Some(nobody), Some(last), Some(last)]);
        assert_eq!(next(&mut endpoints).await, ["127.0.0.1"]);
        assert_eq!(next(&mut endpoints).await, ["127.0.0.1", "127.0.0.2"]);
        assert_eq!(start.elapsed(), EVERY);
        // Neither a failure nor an empty answer takes away whom we know.
        assert_eq!(next(&mut endpoints).await, ["127.0.0.2"]);
        assert_eq!(start.elapsed(), EVERY * 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_resolver_that_says_nothing_takes_nobody_away() {
        let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = std::sync::Arc::clone(&asked);
        let (_trigger, shutdown) = chassis::shutdown::channel();
        let mut endpoints = follow(urls(&["http://proxy:9901"]), shutdown, move |_, port| {
            let turn = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            async move {
                if turn > 0 {
                    std::future::pending::<()>().await;
                }
                Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))])
            }
        });
        assert_eq!(next(&mut endpoints).await, ["127.0.0.1"]);
        let quiet = tokio::time::timeout(TIMEOUT * 5, endpoints.changed()).await;
        assert!(quiet.is_err() && asked.load(std::sync::atomic::Ordering::Relaxed) > 2);
    }

    #[test]
    fn a_name_that_leads_nowhere_is_asked_by_itself() {
        let list = urls(&["http://proxy.invalid:9901"]);
        let found = endpoints(&list, &BTreeMap::new());
        assert_eq!(found, [Endpoint { url: list[0].clone(), host: None }]);
    }

    #[test]
    fn a_name_of_a_thousand_addresses_is_bounded() {
        let list = urls(&["http://proxy:9901"]);
        let addresses = (0..1_000_u32).map(|n| SocketAddr::from((n.to_be_bytes(), 9901))).collect();
        assert_eq!(endpoints(&list, &[(list[0].clone(), addresses)].into()).len(), MOST);
    }
}
