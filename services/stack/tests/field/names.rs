//! Services with a name: replicas at addresses of the loopback network, each test file in a part
//! of its own, and a proxy that asks the test's own name server.

use std::net::{Ipv4Addr, TcpListener};

use crate::common::{
    World,
    name_server::{Data, NameServer},
};

/// Listens at an address of a file's part of the loopback network.
pub fn at(part: u8, last: u8, port: u16) -> TcpListener {
    chassis::net::bind("TEST_PORT", Ipv4Addr::new(127, 0, part, last).into(), port).unwrap()
}

/// The records of `web.test` with these addresses.
pub fn web(part: u8, last: &[u8]) -> Vec<(&'static str, Data)> {
    let record = |last: &u8| ("web.test", Data::A(Ipv4Addr::new(127, 0, part, *last)));
    last.iter().map(record).collect()
}

/// A proxy that finds its backends by such a name server.
pub fn world(names: &NameServer, backends: &str, variables: &[(&str, &str)]) -> World {
    let address = names.address.to_string();
    let mut all = vec![("PROXY_NAME_SERVERS", address.as_str())];
    all.extend(variables);
    World::over(backends, &all, vec![])
}

/// The names of the pool's backends.
pub async fn ids(world: &World) -> Vec<String> {
    let pool = world.admin_json("/v1/pools/default").await;
    let backends = pool["backends"].as_array().unwrap();
    backends.iter().map(|backend| backend["id"].as_str().unwrap().to_owned()).collect()
}
