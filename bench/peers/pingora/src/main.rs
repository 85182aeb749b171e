//! Pingora's round robin with health checks, as its documentation shows it.
//!
//! `bench-pingora THREADS PORT BACKEND-PORT...`

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use pingora::{
    lb::{LoadBalancer, health_check::TcpHealthCheck, selection::RoundRobin},
    prelude::*,
};

struct Balancer(Arc<LoadBalancer<RoundRobin>>);

#[async_trait]
impl ProxyHttp for Balancer {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        let Some(backend) = self.0.select(b"", 256) else {
            return Error::e_explain(HTTPStatus(503), "no backend");
        };
        Ok(Box::new(HttpPeer::new(backend, false, String::new())))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        _: &mut (),
    ) -> Result<()> {
        let client = session.client_addr().and_then(|address| address.as_inet());
        if let Some(client) = client {
            request.insert_header("x-forwarded-for", client.ip().to_string())?;
        }
        Ok(())
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (threads, port) = (&arguments[0], &arguments[1]);
    let mut conf = pingora::server::configuration::ServerConf::default();
    conf.threads = threads.parse().expect("a number of threads");
    conf.upstream_keepalive_pool_size = 1024;
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let backends = arguments[2..].iter().map(|port| format!("127.0.0.1:{port}"));
    let mut balancer = LoadBalancer::try_from_iter(backends).expect("addresses");
    balancer.set_health_check(TcpHealthCheck::new());
    balancer.health_check_frequency = Some(Duration::from_secs(2));
    let checks = background_service("checks", balancer);
    let mut proxy = http_proxy_service(&server.configuration, Balancer(checks.task()));
    proxy.add_tcp(&format!("127.0.0.1:{port}"));
    server.add_service(proxy);
    server.add_service(checks);
    server.run_forever()
}
