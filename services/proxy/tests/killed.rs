//! The proxy killed (SIGKILL) at random moments while operators change things: what was confirmed
//! is there afterwards, and nothing is that nobody asked for.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use serde_json::{Value, json};

/// Enough to be hit between any two steps of a change; each round takes some 100 ms.
const ROUNDS: u32 = 12;

/// Changes under way when the proxy dies, at most.
const CHANGES: u32 = 200;

const BACKENDS: [&str; 3] = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"];

/// A proxy that is killed when it is dropped.
struct Proxy {
    /// None once somebody else ends it.
    child: Option<Child>,
    admin: String,
}

impl Proxy {
    fn start(folder: &Path) -> Self {
        let backends = BACKENDS.map(|backend| format!("http://{backend}")).join(",");
        let mut child = Command::new(env!("CARGO_BIN_EXE_evenkeel-proxy"))
            .env_clear()
            .args(["--port=0", "--admin-port=0", "--bind=127.0.0.1", "--admin-bind=127.0.0.1"])
            .args(["--workers=1", "--backends", &backends])
            .arg("--state-file")
            .arg(folder.join("state.json"))
            .arg("--audit-log")
            .arg(folder.join("audit.log"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = log.by_ref().map(Result::unwrap).find(|line| line.contains("admin_address="));
        let line = line.expect("the proxy tells its address");
        // The rest of the log must go somewhere, or the proxy would wait for a reader.
        std::thread::spawn(move || log.for_each(drop));
        let admin = line.split("admin_address=").nth(1).unwrap().split(' ').next().unwrap();
        Self { child: Some(child), admin: admin.to_owned() }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.admin)
    }
}

impl Drop for Proxy {
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

/// What is asked of a backend: the state, and a reason that tells this change from all others.
type Intent = (String, String);

/// What may stand for each backend: the last confirmed change, or one that was under way since.
#[derive(Default)]
struct Model {
    may_stand: [BTreeSet<Intent>; 3],
}

impl Model {
    fn check(&self, backend: usize, found: &Intent, seed: u64) {
        let may_stand = &self.may_stand[backend];
        assert!(
            may_stand.contains(found),
            "seed {seed}: {} has {found:?}, which is none of {may_stand:?}",
            BACKENDS[backend]
        );
    }
}

async fn standing(client: &reqwest::Client, proxy: &Proxy, backend: usize) -> Intent {
    let url = proxy.url(&format!("/v1/pools/default/backends/{}", BACKENDS[backend]));
    // Right after its start the proxy has looked nothing up yet.
    for _ in 0..2_000 {
        let body = client.get(&url).send().await.unwrap().bytes().await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        if let Some(state) = body["admin"].as_str() {
            return intent(state, body["admin_reason"].as_str().unwrap_or_default());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the proxy does not know {}", BACKENDS[backend]);
}

/// Of a backend that is ready there is nothing to keep, nor why.
fn intent(state: &str, reason: &str) -> Intent {
    let reason = if state == "ready" { "" } else { reason };
    (state.to_owned(), reason.to_owned())
}

#[tokio::test]
async fn a_killed_proxy_loses_no_override_and_invents_none() {
    let folder = tempfile::tempdir().unwrap();
    let seed = std::env::var("EVENKEEL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    let mut random = fastrand::Rng::with_seed(seed);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut model = Model::default();
    model.may_stand.iter_mut().for_each(|may| {
        may.insert(intent("ready", ""));
    });
    let mut confirmed: Vec<String> = Vec::new();
    for round in 0..ROUNDS {
        let mut proxy = Proxy::start(folder.path());
        // Found again: exactly what was confirmed, or the one change whose answer nobody got.
        for backend in 0..BACKENDS.len() {
            let found = standing(&client, &proxy, backend).await;
            model.check(backend, &found, seed);
            model.may_stand[backend] = [found].into();
        }
        let (kill_now, killed) = mpsc::channel::<()>();
        // From some change on, at any moment of the next few.
        let (fatal, wait) = (random.u32(0..6), Duration::from_micros(random.u64(0..10_000)));
        let mut child = proxy.child.take().unwrap();
        let killer = std::thread::spawn(move || {
            let _ = killed.recv();
            std::thread::sleep(wait);
            end(&mut child);
        });
        for change in 0..CHANGES {
            if change == fatal {
                kill_now.send(()).unwrap();
            }
            let backend = random.usize(0..BACKENDS.len());
            let state = ["drain", "maint", "ready"][random.usize(0..3)];
            let reason = format!("round {round} change {change}");
            let wanted = intent(state, &reason);
            model.may_stand[backend].insert(wanted.clone());
            let body = json!({"state": state, "reason": reason}).to_string();
            let url = proxy.url(&format!("/v1/pools/default/backends/{}", BACKENDS[backend]));
            let request = client.patch(url).header("content-type", "application/json").body(body);
            match request.send().await {
                Ok(answer) if answer.status() == 200 => {
                    confirmed.push(reason);
                    model.may_stand[backend] = [wanted].into();
                }
                Ok(answer) => panic!("seed {seed}: a change was answered {}", answer.status()),
                Err(_) => break,
            }
        }
        killer.join().unwrap();
    }
    let last = Proxy::start(folder.path());
    for backend in 0..BACKENDS.len() {
        model.check(backend, &standing(&client, &last, backend).await, seed);
    }
    assert!(confirmed.len() >= ROUNDS as usize, "the proxy died before anything happened");
    // Each confirmed change is in the audit log, whose last line of a killed process may be cut.
    let audit = std::fs::read_to_string(folder.path().join("audit.log")).unwrap();
    for reason in confirmed {
        let line = format!("\"reason\":\"{reason}\"");
        assert!(audit.contains(&line), "seed {seed}: {reason} is not in the audit log");
    }
}
