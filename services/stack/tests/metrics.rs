//! `docs/METRICS.md` against what the services serve.

#![allow(clippy::unwrap_used)] // A helper that fails should panic at the line that was wrong.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{World, page::Page};

const DOCS: &str = include_str!("../../../docs/METRICS.md");

/// Type and labels by name.
type Metrics = BTreeMap<String, (String, BTreeSet<String>)>;

/// The rows of the section whose title begins like this.
fn documented(section: &str) -> Metrics {
    let start = DOCS.find(&format!("## {section}")).unwrap();
    let lines = DOCS[start..].lines().skip(1).take_while(|line| !line.starts_with("## "));
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let name = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?;
        let labels = cells[3].split(", ").filter(|label| !label.is_empty()).map(str::to_owned);
        Some((name.to_owned(), (cells[2].to_owned(), labels.collect())))
    };
    lines.filter_map(row).collect()
}

/// Those of our own in an answer of `/metrics`.
fn served(text: &str) -> Metrics {
    let mut all = Metrics::new();
    for line in text.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').unwrap();
            all.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
        } else if !line.starts_with('#') {
            let (series, _) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end).filter(|family| all.contains_key(*family)));
            let labels = labels.split(',').filter_map(|label| Some(label.split_once('=')?.0));
            let labels = labels.filter(|label| *label != "le").map(str::to_owned);
            all.get_mut(family.unwrap_or(name)).unwrap().1.extend(labels);
        }
    }
    all.retain(|name, _| name.starts_with("evenkeel_") && name != "evenkeel_build_info");
    all
}

#[tokio::test]
async fn each_metric_is_documented_with_its_type_and_labels_and_each_documented_one_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state");
    let variables = [("PROXY_STATE_FILE", file.to_str().unwrap()), ("PROXY_MAX_IN_FLIGHT", "100")];
    let world = World::start(1, &variables).await;
    assert_eq!(world.get("/").await.0, 200);
    let text =
        async |url: String| world.client.get(url).send().await.unwrap().text().await.unwrap();
    let counted = async || world.metric("evenkeel_requests_total").await == 1.0;
    world.until("the request to be counted", counted).await;
    assert_eq!(served(&text(world.admin_url("/metrics")).await), documented("Proxy"));

    let server = world.servers[0].as_ref().unwrap().address;
    let mut expected = documented("Server");
    // Nothing is injected here.
    assert!(expected.remove("evenkeel_server_faults_total").is_some());
    assert_eq!(served(&text(format!("http://{server}/metrics")).await), expected);

    let page = Page::over(&[&world]).await;
    let change = format!("/backends/default/{}", world.id(0));
    assert_eq!(page.post(&change, "state=maint&force=true").await.0, 200);
    page.post("/login", "token=wrong").await;
    let text = page.until("/metrics", |text| text.contains("evenkeel_dashboard_polls_total")).await;
    assert_eq!(served(&text), documented("Dashboard"));
}
