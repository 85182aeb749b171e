//! What names stand for: addresses and services.
//!
//! Addresses come from the system's resolver, which knows `/etc/hosts` and whatever else the
//! machine is set up with. It knows no SRV records, and asks no other name server than the
//! system's: for both there is a resolver of our own. It keeps no answers, because we ask anew
//! only to hear something new.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use hickory_resolver::{
    TokioResolver,
    config::{
        ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
        ResolverOpts,
    },
    lookup::Lookup,
    net::{DnsError, NetError, NoRecords, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{Name, RData, Record, RecordType},
    },
};

use super::srv::Service;

/// Of one look-up. A resolver may take 10 s and more over a silent name server; we rather say that
/// it is silent, and ask again.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Of one question to one name server, so that a second one is asked within [`TIMEOUT`].
const QUESTION_TIMEOUT: Duration = Duration::from_secs(2);

/// Targets that are looked up at once. A connection to a name server takes no more than 32
/// questions at a time, two for each target.
const TARGETS_AT_ONCE: usize = 16;

/// The resolvers.
#[derive(Debug)]
pub(super) struct Names {
    /// Whom to ask; if empty, those of the system.
    servers: Vec<SocketAddr>,
    // A std mutex: held for a copy, or to read the system's settings. Emptied after a failure, so that `/etc/resolv.conf` is read
    // again when it may have been its fault.
    own: Mutex<Option<Own>>,
}

struct Own(TokioResolver);

impl std::fmt::Debug for Own {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Own")
    }
}

impl Names {
    pub(super) fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers, own: Mutex::default() }
    }

    /// Every address of a host, each with the port.
    ///
    /// # Errors
    /// Why there are none.
    pub(super) async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let look_up = async {
            if self.servers.is_empty() || host.parse::<IpAddr>().is_ok() {
                let found = tokio::net::lookup_host((host, port)).await;
                return found.map(Iterator::collect).map_err(|error| system_reason(&error));
            }
            let name = Name::from_ascii(host).map_err(|error| error.to_string())?;
            let found = self.own()?.lookup_ip(name).await.map_err(|error| self.failed(&error))?;
            Ok(found.iter().map(|ip| SocketAddr::new(ip, port)).collect())
        };
        match tokio::time::timeout(TIMEOUT, look_up).await {
            Err(_) => Err(NO_ANSWER.to_owned()),
            Ok(Ok(addresses)) if Vec::is_empty(&addresses) => Err("it has no addresses".to_owned()),
            Ok(answer) => answer,
        }
        .map_err(|why| format!("the name {host} does not resolve ({why})"))
    }

    /// The SRV records of a name, each with its target's addresses.
    ///
    /// # Errors
    /// Why there are none.
    pub(super) async fn services(&self, name: &str) -> Result<Vec<Service>, String> {
        let look_up = async {
            let name = Name::from_ascii(name).map_err(|error| error.to_string())?;
            let answer = self.own()?.lookup(name, RecordType::SRV).await;
            answer.map_err(|error| self.failed(&error))
        };
        let answer = match tokio::time::timeout(TIMEOUT, look_up).await {
            Ok(answer) => answer,
            Err(_) => Err(NO_ANSWER.to_owned()),
        };
        let answer =
            answer.map_err(|why| format!("the SRV records of {name} cannot be had ({why})"))?;
        let services: Vec<_> =
            answer.answers().iter().filter_map(|record| self.service(record, &answer)).collect();
        Ok(stream::iter(services).buffered(TARGETS_AT_ONCE).collect().await)
    }

    fn service(
        &self,
        record: &Record,
        answer: &Lookup,
    ) -> Option<impl Future<Output = Service> + use<'_>> {
        let RData::SRV(srv) = &record.data else { return None };
        let (srv, told) = (srv.clone(), told_along(answer.additionals(), &srv.target));
        Some(async move {
            let addresses = match told {
                // "Not available at this domain" (RFC 2782).
                _ if srv.target.is_root() => Ok(Vec::new()),
                told if !told.is_empty() => Ok(told),
                _ => self.target_addresses(&srv.target).await,
            };
            let (priority, weight, port) = (srv.priority, srv.weight, srv.port);
            Service { priority, weight, target: host_name(&srv.target), port, addresses }
        })
    }

    async fn target_addresses(&self, target: &Name) -> Result<Vec<IpAddr>, String> {
        let look_up = async {
            let found = self.own()?.lookup_ip(target.clone()).await;
            found.map_err(|error| self.failed(&error))
        };
        let found = tokio::time::timeout(TIMEOUT, look_up).await;
        found
            .unwrap_or_else(|_| Err(NO_ANSWER.to_owned()))
            .map(|addresses| addresses.iter().collect())
            .map_err(|why| format!("the target {} does not resolve ({why})", host_name(target)))
    }

    /// Our own resolver.
    fn own(&self) -> Result<TokioResolver, String> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Own(resolver)) = own.as_ref() {
            return Ok(resolver.clone());
        }
        let resolver = resolver(&self.servers).map_err(|error| reason(&error))?;
        *own = Some(Own(resolver.clone()));
        Ok(resolver)
    }

    /// Gives the resolver up that failed, and says why it did.
    fn failed(&self, error: &NetError) -> String {
        *self.own.lock().unwrap_or_else(PoisonError::into_inner) = None;
        reason(error)
    }
}

const NO_ANSWER: &str = "no answer from the name server";

fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let mut builder = match servers {
        [] => TokioResolver::builder_tokio()?,
        servers => {
            let servers = servers.iter().map(|server| {
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
                let connections = connections.map(|mut connection| {
                    connection.port = server.port();
                    connection
                });
                // What one name server does not know, the next may.
                NameServerConfig::new(server.ip(), false, connections.into())
            });
            let config = ResolverConfig::from_name_servers(servers.collect());
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
    };
    let ResolverOpts { timeout, attempts, edns0, cache_size, ip_strategy, use_hosts_file, .. } =
        builder.options_mut();
    (*timeout, *attempts) = (QUESTION_TIMEOUT, 1);
    // More than 512 bytes by UDP: a dozen records do not fit otherwise, and each look-up would
    // cost a second one by TCP.
    *edns0 = true;
    *cache_size = 0;
    // Many networks of containers have no IPv6, and there it would be tried in vain first.
    *ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    *use_hosts_file = ResolveHosts::Always;
    builder.build()
}

/// The addresses of a host that an answer tells beside what was asked for.
pub(crate) fn told_along(records: &[Record], host: &Name) -> Vec<IpAddr> {
    let of_host = records.iter().filter(|record| record.name == *host);
    let mut addresses: Vec<IpAddr> = of_host.filter_map(|record| record.data.ip_addr()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// A name as people write hosts: in lower case, without the dot at its end.
pub(crate) fn host_name(name: &Name) -> String {
    name.to_lowercase().to_ascii().trim_end_matches('.').to_owned()
}

/// The system's reason without the standard library's preamble.
fn system_reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.strip_prefix("failed to lookup address information: ").unwrap_or(&text).to_owned()
}

/// Our own resolver's reason, in few words.
fn reason(error: &NetError) -> String {
    match error {
        NetError::Timeout => NO_ANSWER.to_owned(),
        NetError::Dns(DnsError::NoRecordsFound(NoRecords { response_code, .. })) => {
            match response_code {
                ResponseCode::NXDomain => "the name server knows no such name".to_owned(),
                ResponseCode::NoError => "it has no such records".to_owned(),
                code => format!("the name server answers: {code}"),
            }
        }
        NetError::Dns(DnsError::ResponseCode(code)) => format!("the name server answers: {code}"),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        net::{TcpListener, UdpSocket},
        time::Instant,
    };

    use super::*;

    /// A name server that says nothing, neither over UDP nor over TCP.
    struct Silent {
        udp: UdpSocket,
        _tcp: TcpListener,
    }

    impl Silent {
        async fn start() -> Self {
            loop {
                let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                // Somebody else may have that port of TCP.
                if let Ok(_tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                    return Self { udp, _tcp };
                }
            }
        }

        fn was_asked(&self) -> bool {
            self.udp.try_recv(&mut [0; 512]).is_ok()
        }
    }

    /// Two are asked at a time, over UDP and then over TCP.
    #[tokio::test(start_paused = true)]
    async fn a_look_up_at_silent_name_servers_ends_and_asks_the_next_ones_before() {
        for (count, expected) in
            [(1, 2 * QUESTION_TIMEOUT), (2, 2 * QUESTION_TIMEOUT), (4, TIMEOUT)]
        {
            for is_service in [false, true] {
                let servers = stream::iter(0..count).then(|_| Silent::start());
                let servers: Vec<Silent> = servers.collect().await;
                let addresses = servers.iter().map(|server| server.udp.local_addr().unwrap());
                let names = Names::new(addresses.collect());
                let start = Instant::now();
                let why = match is_service {
                    true => names.services("_http._tcp.shop.example").await.unwrap_err(),
                    false => names.addresses("shop.example", 80).await.unwrap_err(),
                };
                assert!(why.ends_with("(no answer from the name server)"), "{why}");
                assert_eq!(start.elapsed(), expected, "{count}: {why}");
                assert!(servers.iter().all(Silent::was_asked), "{count}: {why}");
            }
        }
    }
}
