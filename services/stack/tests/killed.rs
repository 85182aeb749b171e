//! The dashboard and both of its proxies killed (SIGKILL) at random moments while an operator
//! changes things: what was answered as done stands on every proxy when all is quiet, and nothing
//! stands that nobody asked for. A guard is in play: taking a backend out has to be forced.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    time::Duration,
};

use chassis::settings::{Settings as _, load};
use common::{PATIENCE, any_port};
use evenkeel_stack::{start_dashboard, start_proxy};
use serde_json::Value;
use tempfile::TempDir;

/// So many deaths, of each service some.
const ROUNDS: u32 = 12;

/// Seeds of a normal run, which take some seconds each.
const SEEDS: u64 = 2;

/// Ports on which nobody listens, and nobody looks: without probes each of them counts as up.
const BACKENDS: [&str; 3] = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"];

/// The first is told states, of which those that take it out have to be forced. The second is told
/// weights, each another one, and the third limits of requests in flight, with a reason, and with or
/// without an end: of what is in force there at last it is known which change it was.
const STATES: usize = 0;
const WEIGHTS: usize = 1;

/// What is in force of a limit before anybody has said anything.
const NO_LIMIT: &str = "null";

/// Set where this program is to be a service rather than a test.
const ROLE: &str = "EVENKEEL_TEST_ROLE";

/// What the address of a service stands behind on its standard output.
const ADDRESS: &str = "it listens on ";

/// A service in a process that can be killed: this program once more. It ends with its standard
/// input, so that none is left when the test dies.
#[test]
fn a_service_in_a_process_of_its_own() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let variables = std::env::vars();
    let address = if role == "dashboard" {
        let settings = load(["evenkeel-dashboard".into()], variables).unwrap().settings;
        start_dashboard(any_port(), settings).unwrap().address
    } else {
        let settings = load::<proxy::settings::Settings>(
            [proxy::settings::Settings::PROGRAM.into()],
            variables,
        );
        let settings = settings.unwrap().settings;
        let listeners = proxy::Listeners::bind(&settings).unwrap();
        let admin = listeners.admin.local_addr().unwrap();
        start_proxy(listeners, settings).unwrap();
        admin
    };
    #[allow(clippy::print_stdout)] // Whoever started it reads there where it listens.
    {
        println!("\n{ADDRESS}{address}");
    }
    let _ = std::io::stdin().read(&mut [0]);
}

/// A service that is killed when it is dropped.
struct Process {
    /// None once somebody else ends it.
    child: Option<Child>,
    address: String,
}

impl Process {
    fn start(role: &str, variables: &[(&str, String)]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env_clear()
            .env(ROLE, role)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .args(["--exact", "a_service_in_a_process_of_its_own", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut lines = output.lines().map_while(Result::ok);
        let address = lines.find_map(|line| Some(line.strip_prefix(ADDRESS)?.to_owned()));
        let address = address.unwrap_or_else(|| panic!("the {role} did not start"));
        Self { child: Some(child), address }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            end(child);
        }
    }
}

fn end(child: &mut Child) {
    // SIGKILL: nothing in the process runs any more.
    let _ = child.kill();
    let _ = child.wait();
}

/// Two proxies and a dashboard, in this order.
struct Fleet {
    processes: Vec<Process>,
    folder: TempDir,
    client: reqwest::Client,
}

const DASHBOARD: usize = 2;

impl Fleet {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let mut fleet = Self { processes: Vec::new(), folder, client };
        for index in 0..=DASHBOARD {
            let process = fleet.process(index, "0");
            fleet.processes.push(process);
        }
        fleet
    }

    fn process(&self, index: usize, port: &str) -> Process {
        if index == DASHBOARD {
            let admin =
                self.processes[..DASHBOARD].iter().map(|one| format!("http://{}", one.address));
            let admin = admin.collect::<Vec<_>>().join(",");
            let interval = ("DASHBOARD_INTERVAL", "100ms".to_owned());
            return Process::start("dashboard", &[("LOAD_BALANCER_ADMIN_URL", admin), interval]);
        }
        // An address of its own: nobody else takes its port while it is dead.
        let bind = format!("127.0.91.{}", index + 1);
        let state = self.folder.path().join(format!("{index}.json"));
        Process::start(
            "proxy",
            &[
                ("PROXY_NAME", format!("edge-{index}")),
                ("PROXY_PORT", "0".to_owned()),
                ("PROXY_BIND", bind.clone()),
                ("PROXY_ADMIN_PORT", port.to_owned()),
                ("PROXY_ADMIN_BIND", bind),
                ("PROXY_WORKERS", "1".to_owned()),
                ("PROXY_BACKENDS", BACKENDS.map(|id| format!("http://{id}")).join(",")),
                ("PROXY_PROBE", "off".to_owned()),
                ("PROXY_FLOOR", BACKENDS.len().to_string()),
                ("PROXY_STATE_FILE", state.to_str().unwrap().to_owned()),
            ],
        )
    }

    fn restart(&mut self, index: usize) {
        let port = self.processes[index].address.rsplit(':').next().unwrap().to_owned();
        self.processes[index] = self.process(index, &port);
    }

    async fn json(&self, index: usize, path: &str) -> Option<Value> {
        let url = format!("http://{}{path}", self.processes[index].address);
        let body = self.client.get(url).send().await.ok()?.bytes().await.ok()?;
        serde_json::from_slice(&body).ok()
    }

    /// What a proxy knows to be wanted of a backend.
    async fn standing(&self, proxy: usize, backend: usize) -> Option<String> {
        let path = format!("/v1/pools/default/backends/{}", BACKENDS[backend]);
        let told = self.json(proxy, &path).await?;
        match backend {
            STATES => {
                let force = if told["admin_forced"] == true { "&force=true" } else { "" };
                Some(format!("{}{force}", told["admin"].as_str()?))
            }
            WEIGHTS => Some(told.get("weight_wanted")?.to_string()),
            _ if told.get("max_in_flight_wanted")?.is_null() => Some(NO_LIMIT.to_owned()),
            _ => {
                // Whoever said it is told still by a proxy to which it was carried.
                let actor = told["max_in_flight_actor"].as_str()?;
                assert!(actor.starts_with("dashboard, on this machine"), "{actor}");
                let end = told["max_in_flight_expires_at"].as_str().map(|_| "&ttl=1h");
                let limit = &told["max_in_flight_wanted"];
                let reason = told["max_in_flight_reason"].as_str()?;
                Some(format!("{limit}&reason={reason}{}", end.unwrap_or_default()))
            }
        }
    }

    /// Waits until the dashboard sees both proxies.
    async fn until_seen(&self) {
        let seen = async || {
            let state = self.json(DASHBOARD, "/api/state").await?;
            let proxies = state["proxies"].as_array()?;
            Some(proxies.iter().filter(|one| one["answering"] == true).count() == DASHBOARD)
        };
        assert!(common::wait_for(async || seen().await == Some(true)).await, "not all are seen");
    }

    /// Whether the dashboard says that it was done.
    async fn change(&self, backend: usize, wanted: &str) -> bool {
        let address = &self.processes[DASHBOARD].address;
        let what = ["state", "weight", "max_in_flight"][backend];
        let request = self
            .client
            .post(format!("http://{address}/backends/default/{}", BACKENDS[backend]))
            .header("origin", format!("http://{address}"))
            .header("accept", "application/json")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("{what}={wanted}"));
        request.send().await.is_ok_and(|answer| answer.status() == 200)
    }
}

#[tokio::test]
async fn a_killed_dashboard_or_proxy_loses_no_change_of_the_fleet_and_invents_none() {
    let one = std::env::var("EVENKEEL_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    for seed in one.map_or(1..=SEEDS, |seed| seed..=seed) {
        live_and_die(seed).await;
    }
}

/// The life of a fleet by the dice of a seed.
async fn live_and_die(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut fleet = Fleet::start();
    // What may stand: the last change that was answered as done, or one since without an answer.
    let mut may_stand = ["ready", "null", NO_LIMIT].map(|usual| BTreeSet::from([usual.to_owned()]));
    let mut number = 1;
    let mut done = 0;
    for _ in 0..ROUNDS {
        fleet.until_seen().await;
        let victim = random.usize(0..=DASHBOARD);
        let fatal = random.u32(0..4);
        let wait = Duration::from_micros(random.u64(0..15_000));
        // Some more while a proxy is away.
        for change in 0..=fatal + random.u32(0..2) {
            let at = random.usize(0..BACKENDS.len());
            number += 1;
            let wanted = match at {
                STATES => {
                    let states = ["drain&force=true", "maint&force=true", "ready"];
                    states[random.usize(0..3)].to_owned()
                }
                WEIGHTS => number.to_string(),
                _ => {
                    let end = ["", "&ttl=1h"][random.usize(0..2)];
                    format!("{number}&reason=why-{number}{end}")
                }
            };
            may_stand[at].insert(wanted.clone());
            let killer = (change == fatal).then(|| {
                let mut child = fleet.processes[victim].child.take().unwrap();
                std::thread::spawn(move || {
                    std::thread::sleep(wait);
                    end(&mut child);
                })
            });
            let answered = fleet.change(at, &wanted).await;
            if let Some(killer) = killer {
                killer.join().unwrap();
            }
            if answered {
                done += 1;
                may_stand[at] = [wanted].into();
            }
        }
        fleet.restart(victim);
    }
    assert!(done >= ROUNDS, "EVENKEEL_SEED={seed}: all was dead before anything happened");
    for (backend, may_stand) in may_stand.iter().enumerate() {
        let mut found = Default::default();
        let agreed = common::wait_for(async || {
            found = (fleet.standing(0, backend).await, fleet.standing(1, backend).await);
            found.0 == found.1 && found.0.as_ref().is_some_and(|found| may_stand.contains(found))
        });
        let agreed = agreed.await;
        assert!(agreed, "EVENKEEL_SEED={seed}: {}: {found:?}, of {may_stand:?}", BACKENDS[backend]);
    }
}
