//! Names that a proxy looks up once, at its start: after a container was recreated all is 502 until
//! somebody restarts the proxy too (NginxProxyManager/nginx-proxy-manager#5603, langgenius/dify#40808
//! and #39155, bytedance/deer-flow#1516, open-nvr/open-nvr#256).

use crate::{
    common::{World, even, name_server::NameServer, server},
    load::Load,
    names::{self, at},
};

/// As a name in a list, which nginx looks up once, and as a name for all its addresses.
const SOURCES: [&str; 2] = ["http", "dns"];

#[tokio::test]
async fn a_container_that_is_recreated_at_another_address_is_found_without_a_restart() {
    for scheme in SOURCES {
        let listener = at(1, 2, 0);
        let port = listener.local_addr().unwrap().port();
        let names = NameServer::start(&names::web(1, &[2])).await;
        let first = server(0, listener);
        let world = names::world(&names, &format!("{scheme}://web.test:{port}"), &[]);
        world.until_eligible(1).await;
        assert_eq!(world.spread(2).await, even(&["s0"], 2));

        tokio::task::spawn_blocking(move || first.kill()).await.unwrap().unwrap();
        let second = server(1, at(1, 3, port));
        names.set(&names::web(1, &[3]));
        let found = async || world.get("/").await == (200, "s1".to_owned());
        world.until("the recreated one to serve", found).await;
        assert_eq!(world.spread(20).await, even(&["s1"], 20), "{scheme}: found for good");
        assert_eq!(addresses(&world).await, [format!("127.0.1.3:{port}")], "{scheme}");
        drop(second);
    }
}

#[tokio::test]
async fn a_name_that_moves_while_both_serve_is_followed_and_no_request_fails() {
    for scheme in SOURCES {
        let listener = at(1, 4, 0);
        let port = listener.local_addr().unwrap().port();
        // Its answers may be kept for an hour.
        let names = NameServer::start(&names::web(1, &[4])).await;
        let servers = [server(0, listener), server(1, at(1, 5, port))];
        let world = names::world(&names, &format!("{scheme}://web.test:{port}"), &[]);
        world.until_eligible(1).await;
        let load = Load::of_gets_and_posts(&world);
        load.more(&world, 20).await;
        names.set(&names::web(1, &[5]));
        let found = async || world.get("/").await == (200, "s1".to_owned());
        world.until("the new address to serve", found).await;
        load.more(&world, 20).await;
        assert_eq!(load.end().await.servers(), ["s0", "s1"], "{scheme}");
        assert_eq!(world.spread(20).await, even(&["s1"], 20), "{scheme}: the old one is left");
        drop(servers);
    }
}

async fn addresses(world: &World) -> Vec<String> {
    let pool = world.admin_json("/v1/pools/default").await;
    let backends = pool["backends"].as_array().unwrap().iter();
    let addresses = backends.flat_map(|backend| backend["addresses"].as_array().unwrap());
    addresses.map(|address| address.as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_name_in_a_list_that_moves_step_by_step_is_followed_by_connections_in_use() {
    for protocol in ["http1", "h2c"] {
        let listener = at(1, 6, 0);
        let port = listener.local_addr().unwrap().port();
        let names = NameServer::start(&names::web(1, &[6])).await;
        let servers = [server(0, listener), server(1, at(1, 7, port))];
        let variables = [("PROXY_BACKEND_PROTOCOL", protocol)];
        let world = names::world(&names, &format!("http://web.test:{port}"), &variables);
        world.until_eligible(1).await;
        let load = Load::of_gets_and_posts(&world);
        load.more(&world, 20).await;
        // Each answer shares an address with the one before: it is one backend all the time.
        names.set(&names::web(1, &[6, 7]));
        world.until("both", async || addresses(&world).await.len() == 2).await;
        names.set(&names::web(1, &[7]));
        world.until("one", async || addresses(&world).await.len() == 1).await;
        let found = async || world.get("/").await == (200, "s1".to_owned());
        world.until("the new address to serve", found).await;
        assert_eq!(world.spread(50).await, even(&["s1"], 50), "{protocol}: no way leads back");
        load.end().await;
        drop(servers);
    }
}
