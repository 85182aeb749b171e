// A real stack in processes of its own, so that each can be killed and started again, with a
// load that never repeats a request and so shows each one that fails.

import { spawn } from "node:child_process";
import { appendFileSync, openSync, readFileSync, readdirSync, closeSync, writeFileSync } from "node:fs";

import { expect, until } from "./report.js";

const { BIN, OUT, PIDS, PORTS } = process.env;
const [proxyPort, adminPort, dashboardPort, foreignPort, fakePort, otherFakePort, fakePagePort, ...serverPorts] = PORTS.trim().split(" ").map(Number);

const at = (port) => `http://127.0.0.1:${port}`;
export const page = at(dashboardPort);
export const proxy = at(proxyPort);
export const adminApi = at(adminPort);
export const foreign = { port: foreignPort };
/** The backends by the ids that the page shows. */
export const backends = serverPorts.map((port) => `127.0.0.1:${port}`);

// Light, so that two cores have room for the browser; enough to be seen in each second.
const RATE = 60;

const here = ["--bind", "127.0.0.1"];
const commands = {
  proxy: ["evenkeel-proxy", ...here, "--port", proxyPort, "--admin-bind", "127.0.0.1", "--admin-port", adminPort,
    "--name", "acceptance", "--backends", backends.map((id) => `http://${id}`).join(",")],
  dashboard: ["evenkeel-dashboard", ...here, "--port", dashboardPort, "--load-balancer-url", proxy,
    "--load-balancer-admin-url", adminApi],
};
for (const [index, port] of serverPorts.entries()) {
  commands[backends[index]] = ["evenkeel-server", ...here, "--port", port, "--name", `server-${index + 1}`];
}
export const nameOf = (id) => `server-${backends.indexOf(id) + 1}`;

const running = new Map();

function run(name, [binary, ...args], stdout, more = {}) {
  const log = openSync(`${OUT}/${name.replace(/\W/g, "-")}.log`, "a");
  // What is set in the environment of whoever runs this must not reach the stack.
  const env = { PATH: process.env.PATH, ...more };
  const child = spawn(`${BIN}/${binary}`, args.map(String), { env, stdio: ["ignore", stdout ?? log, log] });
  closeSync(log);
  child.gone = new Promise((resolve) => child.once("close", resolve));
  if (child.pid) appendFileSync(PIDS, `${child.pid}\n`);
  running.set(name, child);
  child.once("close", () => running.get(name) === child && running.delete(name));
  return child;
}

export function start(name) {
  return run(name, commands[name]);
}

/** As the kernel or a crash would: without a word. */
export async function kill(name) {
  const child = running.get(name);
  child.kill("SIGKILL");
  await child.gone;
}

/** It neither answers nor goes, as on a machine that swaps, until it is thawed. */
export async function freeze(name) {
  const child = running.get(name);
  child.kill("SIGSTOP");
  // A signal is on its way for a while, and each thread stops by itself.
  const stateOf = (thread) => readFileSync(`/proc/${child.pid}/task/${thread}/stat`, "utf8").split(") ").at(-1)[0];
  await until(`${name} stands still`, 5, () => readdirSync(`/proc/${child.pid}/task`).every((thread) => stateOf(thread) === "T"));
}
export const thaw = (name) => running.get(name).kill("SIGCONT");

export async function stopAll() {
  const children = [...running.values()];
  for (const child of children) child.kill("SIGKILL");
  await Promise.all(children.map((child) => child.gone));
}

let madeUp = [];

/** A dashboard over admin APIs that are made up: of any size, and of any opinion; with more settings. */
export async function fakes(list, more = {}) {
  // A scenario that failed has left its own behind.
  await Promise.all(madeUp.map((child) => { child.kill("SIGKILL"); return child.gone; }));
  const ports = [fakePort, otherFakePort];
  const children = list.map(({ count, name = "edge-1", well = false, part = 1, down }, index) => {
    const env = { FAKE_ADMIN_PORT: ports[index], FAKE_ADMIN_NAME: name, FAKE_ADMIN_PART: part, ...(down === undefined ? {} : { FAKE_ADMIN_DOWN: down }) };
    return run(`fake-${name}`, ["examples/fake_admin", count, ...(well ? [] : ["--troubled"])], undefined, env);
  });
  const urls = list.map((_, index) => at(ports[index])).join(",");
  const begin = () => run("fake-dashboard", ["evenkeel-dashboard", ...here, "--port", fakePagePort,
    "--load-balancer-url", proxy, "--load-balancer-admin-url", urls], undefined, more);
  const dashboard = begin();
  const all = [...children, dashboard];
  madeUp = all;
  const shown = () => until("the made-up fleet is shown", 20, async () => {
    const state = await (await get(`${at(fakePagePort)}/api/state`)).json();
    return state.proxies.filter((one) => one.answering).length === list.length;
  });
  await shown();
  return {
    page: at(fakePagePort),
    dashboard,
    /** Another dashboard in its place, which knows nobody. */
    restart: async () => {
      const old = all.pop();
      old.kill("SIGKILL");
      await old.gone;
      all.push(begin());
      await shown();
    },
    /** Changes a backend behind the page's back. */
    change: async (index, id, body) => {
      const answer = await fetch(`${at(ports[index])}/v1/pools/default/backends/${id}`, {
        method: "PATCH", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
      });
      expect(answer.ok, `${id}: ${answer.status}`);
    },
    kill: async (index) => { children[index].kill("SIGKILL"); await children[index].gone; },
    stop: async () => { for (const child of all) child.kill("SIGKILL"); await Promise.all(all.map((child) => child.gone)); },
  };
}

/** Seconds of processor time that a process has used. */
export function cpu({ pid }) {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1).split(" ");
  // Linux counts in hundredths of a second, whatever the kernel's own clock.
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

async function get(url) {
  // Most who ask do so once, and a busy machine takes its time; what hangs is still told.
  const answer = await fetch(url, { signal: AbortSignal.timeout(20_000) });
  expect(answer.ok, `${url} answered ${answer.status}`);
  return answer;
}

/** What the admin API says of the pool. */
export async function pool() {
  return (await (await get(`${adminApi}/v1/pools`)).json()).pools[0];
}

export async function backend(id) {
  return (await pool()).backends.find((one) => one.id === id);
}

/** Changes a backend behind the page's back. */
export async function change(id, body) {
  const answer = await fetch(`${adminApi}/v1/pools/default/backends/${id}`, {
    method: "PATCH", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  });
  expect(answer.ok, `${id}: ${answer.status} ${await answer.text()}`);
}

/** Undoes what was set and what a scenario that failed has left, starts what is not running, and waits until all is well. */
export async function allWell() {
  for (const child of running.values()) child.kill("SIGCONT");
  for (const load of loads) await loadEnd(load);
  for (const name of Object.keys(commands)) if (!running.has(name)) start(name);
  await until("the stack is up", 20, () => Promise.all([get(`${page}/readyz`), get(`${adminApi}/readyz`)]));
  for (const { id, admin, weight_wanted, max_in_flight_wanted } of (await pool()).backends) {
    if (admin !== "ready") await change(id, { state: "ready" });
    if (weight_wanted !== null) await change(id, { weight: null });
    if (max_in_flight_wanted !== null) await change(id, { max_in_flight: null });
  }
  await until("all backends are eligible", 20, async () => (await pool()).counts.eligible === backends.length);
}

/** Requests that a server has had, as it counts them itself: ended ones and ones in the making. */
export async function arrived(id) {
  const text = await (await get(`http://${id}/metrics`)).text();
  const values = text.matchAll(/^evenkeel_server_(?:requests_total\{.*\}|in_flight) (\d+)$/gm);
  return [...values].reduce((sum, [, value]) => sum + Number(value), 0);
}

const loads = new Set();

/** A load from now on. */
export function loadStart() {
  const file = `${OUT}/load-${performance.now().toFixed(0)}.json`;
  const out = openSync(file, "w");
  const child = run("load", ["evenkeel-load", "--url", `${proxy}/`, "--rate", RATE, "--concurrency", 4,
    "--duration", "10m", "--stop-file", `${file}.stop`], out);
  closeSync(out);
  const load = { child, file };
  loads.add(load);
  return load;
}

/** Ends a load and gives its result. By a file: a signal could come before the load can heed it. */
export async function loadStop(load) {
  await loadEnd(load);
  return JSON.parse(readFileSync(load.file, "utf8"));
}

async function loadEnd(load) {
  loads.delete(load);
  writeFileSync(`${load.file}.stop`, "");
  await load.child.gone;
}

/** Throws unless each request was answered with success; else says how many there were. */
export function clean(result) {
  const { sent, ok, not_ok, failed, latency_ms, served_by } = result;
  const servers = Object.entries(served_by).map(([name, count]) => `${name} ${count}`).sort().join(", ");
  const text = `${sent} sent, ${ok} ok, ${not_ok} other answers, ${failed} failed, p99 ${latency_ms.p99} ms (${servers})`;
  expect(ok > 0 && ok === sent && failed === 0 && not_ok === 0, `${text} ${JSON.stringify(result.failures)} ${JSON.stringify(result.examples)}`);
  return text;
}
