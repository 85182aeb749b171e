//! Clients that ask on and on while something happens, and what they got.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use reqwest::Method;
use tokio::task::JoinHandle;

use crate::common::{World, served_by};

/// As many as find each other's connections in use, and few enough for a busy machine.
const CLIENTS: usize = 4;

/// Requests of each kind in turn, without a pause.
pub struct Load {
    is_over: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Tally>>,
}

/// What clients got.
#[derive(Debug, Default, PartialEq)]
pub struct Tally {
    /// Answers with 200, by who gave them.
    pub served: BTreeMap<String, usize>,
    /// All that was not answered with 200.
    pub failed: Vec<String>,
}

impl Load {
    /// Requests that may be sent twice.
    pub fn of_gets(world: &World) -> Self {
        Self::start(world, &[(Method::GET, "/")])
    }

    /// Requests of which half may not be sent twice.
    pub fn of_gets_and_posts(world: &World) -> Self {
        Self::start(world, &[(Method::GET, "/"), (Method::POST, "/echo")])
    }

    fn start(world: &World, kinds: &'static [(Method, &'static str)]) -> Self {
        let (is_over, answered) = <(Arc<AtomicBool>, Arc<AtomicUsize>)>::default();
        let client = |_| {
            let (client, base) = (world.client.clone(), world.url(""));
            let (is_over, answered) = (Arc::clone(&is_over), Arc::clone(&answered));
            tokio::spawn(async move {
                let mut tally = Tally::default();
                for (method, path) in kinds.iter().cycle() {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    let request = client.request(method.clone(), format!("{base}{path}"));
                    let body = if *method == Method::POST { "once" } else { "" };
                    tally.note(request.body(body).send().await).await;
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                tally
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self { is_over, answered, clients }
    }

    /// Waits until so many more requests were answered.
    pub async fn more(&self, world: &World, count: usize) {
        let goal = self.answered.load(Ordering::Relaxed) + count;
        let is_reached = async || self.answered.load(Ordering::Relaxed) >= goal;
        world.until("the load to go on", is_reached).await;
    }

    /// Ends it with the requests that are under way.
    pub async fn end(self) -> Tally {
        self.is_over.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        for client in self.clients {
            let Tally { served, failed } = client.await.unwrap();
            for (server, count) in served {
                *all.served.entry(server).or_default() += count;
            }
            all.failed.extend(failed);
        }
        all
    }
}

impl Tally {
    async fn note(&mut self, answer: reqwest::Result<reqwest::Response>) {
        let end = async {
            let answer = answer?;
            let (status, server) = (answer.status(), served_by(&answer));
            answer.bytes().await.map(|_| (status, server))
        };
        match end.await {
            Ok((status, server)) if status == 200 => *self.served.entry(server).or_default() += 1,
            Ok((status, server)) => self.failed.push(format!("{status} by {server}")),
            Err(error) => self.failed.push(format!("{error:?}")),
        }
    }

    /// Who served, when no request failed.
    #[track_caller]
    pub fn servers(&self) -> Vec<&str> {
        assert!(self.failed.is_empty(), "{} failed: {:?}", self.failed.len(), self.failed);
        self.served.keys().map(String::as_str).collect()
    }
}
