//! Rounds over places that answer and places that do not.

use axum::{Json, Router, routing::get};
use serde_json::json;
use tokio::net::TcpListener;

use super::*;
use crate::admin::Origin;

/// The port of a proxy at 127.0.0.1, and nowhere else.
async fn proxy() -> u16 {
    let pools =
        json!({"proxy": {"name": "edge-1", "started_at": "2026-11-23T15:00:00Z"}, "pools": []});
    let router = Router::new()
        .route("/v1/pools", get(|| async { Json(pools) }))
        .route("/v1/events", get(|| async { Json(json!({"events": []})) }));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

fn poller() -> Poller {
    let url = "http://127.0.0.1:9901".parse().unwrap();
    Poller::new(Plan {
        urls: Vec::new(),
        api: AdminApi::new(url, Origin::AdminUrl).unwrap(),
        token: TokenSource::None,
        interval: Duration::from_millis(50),
        metrics: Metrics::new(&chassis::metrics::registry("dashboard")),
        carries: false,
        remembers: false,
    })
}

/// Who is shown after a round over these places, each with whether it answers.
async fn shown(poller: &mut Poller, found: &[Endpoint]) -> Vec<(String, bool)> {
    poller.round(found.to_vec()).await;
    let view = poller.publish(&Arc::default());
    view.standings.iter().map(|one| (one.name.clone(), one.answers())).collect()
}

#[tokio::test]
async fn a_family_of_a_name_that_leads_nowhere_is_no_proxy_that_is_away() {
    let port = proxy().await;
    let place = |host: &str, name: Option<&str>| Endpoint {
        url: format!("http://{host}:{port}").parse().unwrap(),
        host: name.map(str::to_owned),
    };
    let edge = || ("edge-1".to_owned(), true);
    let away = || (format!("[::1]:{port}"), false);
    let by_name = ["127.0.0.1", "[::1]"].map(|host| place(host, Some("proxy")));
    assert_eq!(shown(&mut poller(), &by_name).await, [edge()]);
    let by_themselves = ["127.0.0.1", "[::1]"].map(|host| place(host, None));
    assert_eq!(shown(&mut poller(), &by_themselves).await, [edge(), away()]);
    let mut poller = poller();
    assert_eq!(shown(&mut poller, &by_name[1..]).await, [away()], "somebody must be shown");
    // A place that has just been found is not waited for.
    let until = async {
        while shown(&mut poller, &by_name).await != [edge()] {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), until).await.expect("it is never left out");
}
