// The page is whole without this file. It swaps what changed without touching what the reader
// has in hand (focus, open dialogs, half-filled fields), asks "sure?" in a dialog, and filters.
"use strict";

const $ = (id) => document.getElementById(id);

/** With a capital at its begin; a name such as localhost:8081 stays as it is. */
const sentence = (text) => (/^[a-z]+[ ,]/.test(text) ? text.charAt(0).toUpperCase() + text.slice(1) : text);

/* Changing one element into another of the same kind. */

function parse(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content.firstElementChild;
}

function morph(from, to) {
  if (from.nodeType !== to.nodeType || from.nodeName !== to.nodeName) {
    from.replaceWith(to.cloneNode(true));
    return;
  }
  if (from.nodeType !== Node.ELEMENT_NODE) {
    if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
    return;
  }
  for (const { name, value } of to.attributes) {
    // A field follows as long as nobody has typed something else into it.
    if (name === "value" && from.nodeName === "INPUT" && from.value === from.defaultValue) from.value = value;
    if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
  for (const { name } of [...from.attributes]) {
    // What the reader has opened stays open.
    if (!to.hasAttribute(name) && name !== "open") from.removeAttribute(name);
  }
  let at = from.firstChild;
  for (const child of [...to.childNodes]) {
    // What has an id is found by it, so that a list that grows at its head keeps its items.
    if (child.id && (!at || at.id !== child.id)) {
      const known = $(child.id);
      if (known && known.parentNode === from) from.insertBefore(known, at);
      else from.insertBefore(child.cloneNode(true), at);
      if (known && known.parentNode === from) morph(known, child);
      continue;
    }
    if (!at) {
      from.append(child.cloneNode(true));
      continue;
    }
    const next = at.nextSibling;
    morph(at, child);
    at = next;
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

/* Rows out of sight wait: of 500, the reader sees thirty. */

const waiting = new Map();
const inSight = new Set();
const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) {
      inSight.add(target.id);
      flush(target);
    } else {
      inSight.delete(target.id);
    }
  }
}, { rootMargin: "100px" });

function flush(row) {
  for (const cell of row.cells) {
    const html = waiting.get(cell.id);
    if (html === undefined) continue;
    waiting.delete(cell.id);
    morph(cell, parse(html));
  }
}

/* What waits for a row that has gone is of no use to another one of its name. */
function forget(row) {
  watcher.unobserve(row);
  inSight.delete(row.id);
  for (const id of [...waiting.keys()]) if (id.startsWith(`${row.id}-`)) waiting.delete(id);
}

function watchRows() {
  for (const row of document.querySelectorAll("#pools tbody > tr")) watcher.observe(row);
}

// Name, state and health are what the filter reads: these never wait.
const CELL = /^(b[0-9a-f]{16})-(\d+)$/;
function mayWait(id) {
  const [, row, index] = CELL.exec(id) ?? [];
  return row !== undefined && Number(index) > 2 && !inSight.has(row);
}

function apply(patch) {
  for (const { body, order, added } of patch.rows ?? []) {
    const rows = $(body);
    if (!rows) continue;
    const wanted = new Set(order);
    // Who sorted the rows keeps that order; what is new comes last.
    const keep = sorted ? [...rows.children].map((row) => row.id).filter((id) => wanted.has(id)) : [];
    const places = sorted ? [...new Set([...keep, ...order])] : order;
    for (const row of [...rows.children]) {
      if (wanted.has(row.id)) continue;
      row.remove();
      forget(row);
    }
    let at = rows.firstElementChild;
    for (const id of places) {
      if (at && at.id === id) {
        at = at.nextElementSibling;
      } else {
        const row = $(id) ?? parse(added[id] ?? "");
        if (row) rows.insertBefore(row, at);
      }
    }
  }
  if (patch.rows) watchRows();
  for (const [id, html] of Object.entries(patch.html ?? {})) {
    if (mayWait(id)) {
      waiting.set(id, html);
      continue;
    }
    waiting.delete(id);
    const now = $(id);
    const then = parse(html);
    // All of it is newer than what waits.
    if (id === "pools") waiting.clear();
    if (id === "pools" && then && sorted) keepOrder(then);
    if (now && then) morph(now, then);
    if (id === "pools") watchRows();
  }
  if (cursor) point();
  const title = $("headline")?.dataset.title;
  if (title) document.title = title;
  filter();
}

/* The feed. A tab that nobody looks at needs none. */

let feed = null;
let retry = 0;
let late = 0;
// When the feed was begun, broke or brought anything last, by a clock that nobody sets: by the time of
// day, one that is set back an hour would have a dead feed live for an hour.
let heard = 0;
// When the feed began by the server's like clock, told by ours: everything says how long after that it
// was made. So what came late on a slow link is known to be old, though no clock was compared.
let zero = Infinity;
// When what is shown was made; a page that is loaded was made before its first byte came.
let made = performance.getEntriesByType("navigation")[0]?.responseStart ?? performance.now();
// Whether what comes is too old to be called live.
let behind = false;
// How far the time of day is ahead of that clock, which stands while the machine sleeps.
let ahead = Date.now() - performance.now();

// More than two heartbeats of the server: a connection that died without a word.
const SILENCE_MS = 8_000;
// What is older is not shown as if it were of now to whoever comes back.
const FRESH_MS = 5_000;
// Who was behind is not before a whole update came in this time. One that takes as long follows it 2 s
// later, which is the pace of large pages, so that what is shown is never older than the above: a page
// whose link is just too slow does not say now this and now that.
const CAUGHT_UP_MS = 1_500;
// Two clocks that nobody sets drift apart by seconds in days. A feed that is behind for that reason only
// is not when it is begun anew; one on a slow link pays a whole picture for it, and not often.
const RENEW_MS = 600_000;
const TITLE = document.title;

// Beside the words, which are announced: this changes with all that comes.
const lag = Object.assign(document.createElement("span"), { ariaHidden: "true" });

/** Says how the page is fed; `way` is an element that leads on from there. */
function state(name, text, way) {
  const live = $("live");
  const told = text + (way?.textContent ?? "");
  if (live && (live.dataset.state !== name || live.textContent !== told)) {
    live.dataset.state = name;
    live.replaceChildren(text, ...(way ? [way] : []));
  }
}

function connect() {
  disconnect();
  heard = performance.now();
  zero = Infinity;
  behind = false;
  feed = new EventSource(`${$("main").dataset.feed}&parts`);
  let parts = "";
  // What comes at all was sent after the feed had begun.
  feed.onopen = () => { zero = heard = performance.now(); };
  feed.addEventListener("beat", (event) => shows(Number(event.data)));
  // On a slow link a large picture takes long: the feed is not dead, but what is shown is old.
  feed.addEventListener("part", (event) => {
    clearTimeout(late);
    heard = performance.now();
    parts += event.data;
    if (behind || heard - made > FRESH_MS) receiving();
  });
  feed.addEventListener("patch", (event) => {
    const patch = JSON.parse(parts + event.data);
    parts = "";
    shows(patch.made_ms);
    apply(patch);
  });
  feed.onerror = () => {
    // Another feed begins with a picture of its own.
    parts = "";
    // Only trouble that lasts is worth a word.
    clearTimeout(late);
    heard = performance.now();
    late = setTimeout(() => state("lost", "The dashboard does not answer; trying again"), 2500);
    if (feed.readyState === EventSource.CLOSED) {
      retry = setTimeout(connect, 4000);
      askWhy(feed);
    }
  };
}

/** All is shown that was known so long after the feed had begun. */
function shows(madeMs) {
  clearTimeout(late);
  heard = performance.now();
  zero = Math.min(zero, heard - madeMs);
  made = zero + madeMs;
  if (heard - made > (behind ? CAUGHT_UP_MS : FRESH_MS)) {
    receiving();
  } else {
    behind = false;
    state("on", "Live");
  }
}

/** What is shown is old, and newer things are on their way. */
function receiving() {
  behind = true;
  const seconds = Math.round((heard - made) / 1000);
  // Of before the machine slept, nobody knows.
  lag.textContent = Number.isFinite(seconds) ? `${seconds} s behind` : "";
  state("wait", "Receiving …", lag);
}

/* A feed that was refused does not tell why, but its address does to whoever asks in another way. */
async function askWhy(refused) {
  const end = new AbortController();
  try {
    const answer = await fetch(refused.url, { signal: end.signal });
    const { detail } = answer.ok ? {} : await answer.json();
    if (feed !== refused || !detail) return;
    clearTimeout(late);
    if (answer.status === 401) {
      state("lost", "You are signed out: ", Object.assign(document.createElement("a"), { href: "/login", textContent: "sign in" }));
    } else {
      state("lost", `${sentence(detail)}; trying again`);
    }
  } catch {
    // Whoever does not answer here either is told as that.
  } finally {
    // It may be a feed by now, and would take a place.
    end.abort();
  }
}

function disconnect() {
  clearTimeout(retry);
  clearTimeout(late);
  feed?.close();
  feed = null;
}

/** Whether the machine slept since the last look. A time of day that was set forward looks the same. */
function slept() {
  const was = ahead;
  ahead = Date.now() - performance.now();
  return ahead - was > FRESH_MS;
}

/** One that takes the connection and says nothing is as silent as one that stops. */
function listen() {
  if (slept()) {
    // What is shown may be hours old. Where only the clock was set, a new feed tells at once.
    made = -Infinity;
    if (feed) resume();
  } else if (feed && performance.now() - heard > SILENCE_MS) {
    state("lost", "Stale: the dashboard is silent; trying again");
    connect();
  } else if (feed && behind && performance.now() - zero > RENEW_MS) {
    connect();
  }
}

/** For a tab that nobody sees: its name must not say for hours what was so when it was left. */
function pause() {
  disconnect();
  state("off", "Paused");
  document.title = TITLE;
}

function resume() {
  state(performance.now() - made > FRESH_MS ? "wait" : "off", "Connecting …");
  connect();
}

/* The filter, where there are many backends. */

let filtered = false;

function filter() {
  const tools = $("tools");
  if (!tools) return;
  const total = Number($("freshness")?.dataset.total ?? 0);
  const many = total >= Number(tools.dataset.from);
  if (tools.hidden === many) tools.hidden = !many;
  // Most of the time nobody filters: no need to go through hundreds of rows.
  const wanted = many && ($("filter").value.trim() !== "" || $("troubled").checked);
  if (!wanted && !filtered) return;
  filtered = wanted;
  const words = many ? $("filter").value.trim().toLowerCase().split(/\s+/).filter(Boolean) : [];
  const troubled = many && $("troubled").checked;
  let shown = 0;
  for (const row of document.querySelectorAll("#pools tbody > tr")) {
    const [name, status, health] = row.cells;
    const text = words.length ? [name, status, health].map((c) => c.textContent).join(" ").toLowerCase() : "";
    const serves = troubled && status.querySelector(".pill.good") !== null && health.querySelector(".good") !== null;
    const hide = serves || !words.every((word) => text.includes(word));
    if (row.hidden !== hide) row.hidden = hide;
    if (!hide) shown += 1;
  }
  $("no-match").hidden = shown > 0 || total === 0;
}

/* Sorting, once and not for ever: rows that move under the eye cannot be read. */

let sorted = document.querySelector("#pools th[aria-sort]") !== null;

const number = (cell) => {
  const [, digits, unit] = /([\d.]+)([kM]?)/.exec(cell.querySelector(".value, .quiet, strong")?.textContent ?? cell.textContent) ?? [];
  return digits === undefined ? -1 : Number(digits) * ({ k: 1e3, M: 1e6 }[unit] ?? 1);
};
// A state's rank, and its word to keep those of the same state together.
const rank = (cell) => {
  const shown = cell.querySelector("[data-rank]");
  return [Number(shown?.dataset.rank ?? -1), shown?.textContent ?? ""];
};
const SECONDS = { s: 1, min: 60, h: 3600, days: 86400 };

/** What rows are ordered by, as in sort.rs: numbers by value, the rest by how much it wants attention. */
const worth = {
  name: (cell) => [0, cell.querySelector(".mono").textContent],
  state: rank,
  health: rank,
  probe: (cell) => {
    const [, count, unit] = /(\d+) (s|min|h|days)/.exec(cell.querySelector("time")?.textContent ?? "") ?? [];
    const age = count === undefined ? 0 : Number(count) * SECONDS[unit];
    return cell.querySelector("strong") ? [cell.querySelector(".bad") ? 1 : 0, age] : [-1, 0];
  },
  // Who has the higher rate has the greater share, and it has more digits.
  share: (cell) => [number(cell.parentElement.querySelector("td.rate")), ""],
  operator: (cell) => [cell.querySelector(".intent") ? 1 : 0, ""],
};

function sort(link) {
  const head = link.closest("th");
  const table = head.closest("table");
  const by = worth[link.dataset.sort] ?? ((cell) => [number(cell), ""]);
  const down = head.ariaSort ? head.ariaSort === "ascending" : link.dataset.sort !== "name";
  for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  sorted = true;
  // Who goes on to another window takes the order along.
  const order = down === (link.dataset.sort !== "name") ? link.dataset.sort : `${link.dataset.sort}-turned`;
  for (const way of document.querySelectorAll(".windows a")) {
    const query = new URLSearchParams(way.search);
    query.set("sort", order);
    way.search = query;
  }
  const body = table.tBodies[0];
  const rows = [...body.rows];
  rows.forEach(flush);
  const keys = new Map(rows.map((row) => [row, by(row.cells[head.cellIndex])]));
  const compare = ([a, more], [b, other]) =>
    a - b || (typeof more === "number" ? more - other : more.localeCompare(other, undefined, { numeric: true }));
  rows.sort((a, b) => (down ? -1 : 1) * compare(keys.get(a), keys.get(b)));
  body.append(...rows);
}

/** Puts tables that came anew in the order of those that are shown, and says so in their headings. */
function keepOrder(pools) {
  const places = new Map([...document.querySelectorAll("#pools tbody > tr")].map((row, place) => [row.id, place]));
  const place = (row) => places.get(row.id) ?? places.size;
  for (const body of pools.querySelectorAll("tbody")) body.append(...[...body.rows].sort((a, b) => place(a) - place(b)));
  for (const head of document.querySelectorAll("#pools th[aria-sort]")) {
    pools.querySelector(`#${head.closest("section").id} th:nth-child(${head.cellIndex + 1})`)?.setAttribute("aria-sort", head.ariaSort);
  }
}

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("[data-sort]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  sort(link);
});

/* Values under the pointer: one line through all charts, and what they show at that time. */

let cursor = null;
let series = null;

const LEFT = 46;
const WIDTH = 300;
const ALL = 356;

// A file's page has its values with it.
const kept = $("series") && JSON.parse($("series").textContent);
const isHour = kept !== null || ($("main")?.dataset.feed ?? "").includes("window=hour");

async function fetchSeries() {
  if (kept) {
    series = kept;
    return;
  }
  const now = performance.now();
  if (series && now - series.at < 1000) return;
  series = { ...series, at: now };
  try {
    const query = $("main").dataset.feed.split("?")[1];
    const answer = await fetch(`/api/series?${query}`);
    if (answer.ok) series = { ...(await answer.json()), at: now };
  } catch {
    // The feed tells that the dashboard is away.
  }
}

const short = (value) => (value === null || value === undefined ? "–" : String(Number(value.toPrecision(3))));

/** Shows what is under the cursor; `aloud` where a key or a tap asked for it, and not a second that passed. */
async function point(aloud = false) {
  await fetchSeries();
  if (!cursor || !series?.rate) return;
  const { rate, error_share, p50_ms, p95_ms, p99_ms, in_flight, step_seconds, newest_unix } = series;
  const slots = (isHour ? 3600 : 300) / step_seconds;
  const ago = Math.round((1 - cursor.at) * slots);
  const index = rate.length - 1 - ago;
  for (const plot of document.querySelectorAll("svg.plot")) {
    let line = plot.querySelector(".cursor");
    if (!line) {
      line = document.createElementNS("http://www.w3.org/2000/svg", "line");
      line.setAttribute("class", "cursor");
      plot.append(line);
    }
    const x = LEFT + WIDTH * cursor.at;
    for (const [name, value] of [["x1", x], ["x2", x], ["y1", 10], ["y2", 102]]) line.setAttribute(name, value);
  }
  const time = new Date((newest_unix - ago * step_seconds) * 1000).toISOString().slice(11, 19);
  const share = error_share[index];
  const text = index < 0 || rate[index] === null && in_flight[index] === null
    ? `${time} UTC: nothing is known`
    : `${time} UTC: ${short(rate[index])} requests/s, ${share === null || share === undefined ? "–" : short(share * 100)}% failed, `
      + `p50 ${short(p50_ms[index])} ms, p95 ${short(p95_ms[index])} ms, p99 ${short(p99_ms[index])} ms, ${short(in_flight[index])} in flight`;
  if ($("readout").textContent !== text) $("readout").textContent = text;
  if (aloud) $("readout-aloud").textContent = text;
}

function pointAt(at, aloud) {
  cursor = { at: Math.min(1, Math.max(0, at)) };
  point(aloud);
}

function pointAway() {
  cursor = null;
  for (const line of document.querySelectorAll(".cursor")) line.remove();
}

function follow(event, aloud) {
  const plot = event.target.closest?.("svg.plot");
  if (!plot) return;
  const box = plot.getBoundingClientRect();
  pointAt(((event.clientX - box.left) / box.width * ALL - LEFT) / WIDTH, aloud);
}

// A finger that is moved scrolls, and one that is lifted leaves the chart: it points where it touched.
const isFinger = (event) => event.pointerType === "touch";
document.addEventListener("pointerdown", (event) => follow(event, true));
document.addEventListener("pointermove", (event) => { if (!isFinger(event)) follow(event); });
document.addEventListener("click", (event) => {
  if (cursor && isFinger(event) && !event.target.closest?.("svg.plot")) pointAway();
});
document.addEventListener("pointerout", (event) => {
  if (!isFinger(event) && event.target.closest?.("svg.plot") && !event.relatedTarget?.closest?.("svg.plot")) pointAway();
});
document.addEventListener("keydown", (event) => {
  if (!document.activeElement?.matches("svg.plot")) return;
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (step) {
    event.preventDefault();
    pointAt((cursor?.at ?? 1) + step * (event.shiftKey ? 0.1 : 1 / 60), true);
  } else if (event.key === "Escape") {
    pointAway();
  }
});
// Whoever moves on by the keyboard leaves the charts as a pointer does.
document.addEventListener("focusout", (event) => {
  if (event.target.matches("svg.plot") && !event.relatedTarget?.closest?.("svg.plot")) pointAway();
});

/* A request to try. */

async function tryIt(form) {
  const result = $("try-result");
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    const answer = await fetch(form.action, { method: "POST", headers: { Accept: "application/json" }, body: new URLSearchParams(new FormData(form)) });
    const told = await answer.json();
    if (answer.ok) morph(result, parse(told.html));
    else result.textContent = told.detail ?? answer.statusText;
  } catch {
    result.textContent = "The dashboard did not answer.";
  }
  button.disabled = false;
}

/* Changes. */

function toast(text, good) {
  // One good result at a time; bad ones stay until they are dismissed.
  for (const old of document.querySelectorAll(".toast.good")) old.remove();
  const box = document.createElement("p");
  box.className = `toast ${good ? "good" : "bad"}`;
  box.append(Object.assign(document.createElement("span"), { textContent: text }));
  const close = Object.assign(document.createElement("button"), { type: "button", textContent: "×" });
  close.setAttribute("aria-label", "Dismiss");
  close.onclick = () => box.remove();
  box.append(close);
  $("toasts").append(box);
  if (good) setTimeout(() => box.remove(), 6000);
}

/** Which question was asked last: what comes of an earlier one is no part of its dialog. */
let question = 0;

function ask(form, button) {
  const dialog = $("confirm");
  const fields = dialog.querySelector("form");
  fields.reset();
  allow(fields);
  fields.action = form.dataset.action;
  const { name: field, value } = button.name ? button : form.querySelector("input");
  for (const name of ["state", "weight", "max_in_flight"]) fields.elements[name].value = name === field ? value : "";
  fields.elements.seen.value = form.elements.seen.value;
  const number = field === "weight" ? `weight ${value}` : Number(value) ? `at most ${value} in flight` : "no limit of requests in flight";
  const word = field === "state" ? button.textContent.toLowerCase() : button.dataset.words ?? number;
  $("confirm-title").textContent = `Set ${form.dataset.id} to ${word}?`;
  $("confirm-do").textContent = `Set to ${word}`;
  for (const text of dialog.querySelectorAll("[data-explains]")) text.hidden = text.dataset.explains !== (field === "state" ? value : field);
  objection("", false);
  question += 1;
  foresee(fields);
  dialog.showModal();
  $("confirm-do").focus();
}

/** Asks what the change would do that the dialog is about. */
function foresee(form) {
  const own = question;
  const effect = (text) => { if (own === question) $("confirm-effect").textContent = text; };
  effect("Asking what it would do …");
  const wish = ["state", "weight", "max_in_flight"].map((name) => [name, form.elements[name].value]);
  fetch(`${form.action}/effect?${new URLSearchParams(wish)}`)
    .then((answer) => answer.json())
    .then((told) => effect(told.effect ?? told.detail ?? ""))
    .catch(() => effect("What it would do is not known: the dashboard does not answer."));
}

function objection(text, forcible) {
  $("confirm-error").textContent = text;
  $("confirm-error").hidden = !text;
  $("confirm-do").hidden = forcible;
  $("confirm-force").hidden = !forcible;
  if (forcible) $("confirm-cancel").focus();
}

/** Lets the buttons be used, or, of a change that is under way, only the way out. */
function allow(form, isUnderWay = false) {
  for (const button of form.querySelectorAll("button")) button.disabled = isUnderWay && button.id !== "confirm-cancel";
}

/** Whoever made a change need not wait for the page to show it: to undo it at once is not to undo it unseen. */
function sees(action, data, seen) {
  const field = ["state", "weight", "max_in_flight"].find((name) => data.get(name));
  for (const form of document.querySelectorAll(`[data-change]:has([name="${field}"])`)) {
    const known = form.elements.seen;
    if (form.dataset.action === action && Number(known.value) < Number(seen)) known.value = seen;
  }
}

async function send(form, button) {
  const data = new URLSearchParams(new FormData(form));
  if (button?.name) data.set(button.name, button.value);
  // Whoever closes the dialog meanwhile may ask about another backend in it.
  const own = question;
  const action = form.getAttribute("action");
  const asked = $("confirm-title").textContent;
  const isOpen = () => own === question && $("confirm").open;
  allow(form, true);
  let problem;
  try {
    const answer = await fetch(form.action, {
      method: "POST",
      headers: { Accept: "application/json" },
      body: data,
    });
    const result = await answer.json();
    if (answer.ok) {
      if (isOpen()) $("confirm").close();
      sees(action, data, result.seen);
      toast(result.message, true);
      return;
    }
    problem = [result.detail ?? answer.statusText, answer.status === 409 && !result.unseen, result];
  } catch {
    problem = ["The dashboard did not answer. Whether the change was made is not known.", false, {}];
  }
  const [text, forcible, { seen, unseen }] = problem;
  // Some proxies have made it, or may have.
  if (seen && !unseen) sees(action, data, seen);
  if (!isOpen()) {
    toast(`${asked} ${sentence(text)}`, false);
    return;
  }
  allow(form);
  objection(sentence(text), forcible);
  // What was said meanwhile may be undone by whoever has seen it, if the guard lets them.
  if (seen) form.elements.seen.value = seen;
  if (unseen) {
    $("confirm-do").textContent = "Do it anyway";
    foresee(form);
  }
  // A button that was disabled lost the focus.
  if (!form.contains(document.activeElement)) $("confirm-cancel").focus();
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.matches("[data-change]") && event.submitter) {
    event.preventDefault();
    ask(form, event.submitter);
  } else if (form.matches("[data-try]")) {
    event.preventDefault();
    tryIt(form);
  } else if (form.parentElement?.id === "confirm") {
    event.preventDefault();
    if ([...form.querySelectorAll("button")].some((button) => button.disabled)) return;
    send(form, event.submitter);
  }
});

$("filter")?.addEventListener("input", filter);
$("troubled")?.addEventListener("change", filter);
filter();
if ($("main")?.dataset.feed) {
  $("confirm-cancel").onclick = () => $("confirm").close();
  watchRows();
  const look = () => {
    if (document.hidden) {
      pause();
    } else if (!feed) {
      listen();
      resume();
    }
  };
  look();
  document.addEventListener("visibilitychange", look);
  setInterval(listen, 500);
  // The address named a result that is shown by now; a reload need not name it again.
  const query = new URLSearchParams(location.search);
  if (query.has("result")) {
    query.delete("result");
    history.replaceState(null, "", `${location.pathname}${query.size ? `?${query}` : ""}`);
  }
}
