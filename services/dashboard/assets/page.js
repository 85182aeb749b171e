// The page is whole without this file. It swaps what changed without touching what the reader
// has in hand (focus, open dialogs, half-filled fields), asks "sure?" in a dialog, and filters.
"use strict";

const $ = (id) => document.getElementById(id);

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
    if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
  for (const { name } of [...from.attributes]) {
    if (!to.hasAttribute(name)) from.removeAttribute(name);
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

function apply(patch) {
  for (const { body, order, added } of patch.rows ?? []) {
    const rows = $(body);
    if (!rows) continue;
    const wanted = new Set(order);
    for (const row of [...rows.children]) if (!wanted.has(row.id)) row.remove();
    let at = rows.firstElementChild;
    for (const id of order) {
      if (at && at.id === id) {
        at = at.nextElementSibling;
      } else {
        const row = $(id) ?? parse(added[id] ?? "");
        if (row) rows.insertBefore(row, at);
      }
    }
  }
  for (const [id, html] of Object.entries(patch.html ?? {})) {
    const now = $(id);
    const then = parse(html);
    if (now && then) morph(now, then);
  }
  const title = $("headline")?.dataset.title;
  if (title) document.title = title;
  filter();
}

/* The feed. A tab that nobody looks at needs none. */

let feed = null;
let retry = 0;
let late = 0;
let silence = 0;

// More than two heartbeats of the server: a connection that died without a word.
const SILENCE_MS = 35_000;

function state(name, text) {
  const live = $("live");
  if (live && (live.dataset.state !== name || live.textContent !== text)) {
    live.dataset.state = name;
    live.textContent = text;
  }
}

function connect() {
  disconnect();
  feed = new EventSource("/live");
  const alive = () => {
    clearTimeout(late);
    clearTimeout(silence);
    silence = setTimeout(connect, SILENCE_MS);
    state("on", "Live");
  };
  feed.addEventListener("beat", alive);
  feed.addEventListener("patch", (event) => {
    alive();
    apply(JSON.parse(event.data));
  });
  feed.onerror = () => {
    // Only trouble that lasts is worth a word.
    clearTimeout(late);
    late = setTimeout(() => state("lost", "The dashboard does not answer; trying again"), 2500);
    if (feed.readyState === EventSource.CLOSED) retry = setTimeout(connect, 4000);
  };
}

function disconnect() {
  clearTimeout(retry);
  clearTimeout(silence);
  feed?.close();
  feed = null;
}

/* The filter, where there are many backends. */

function filter() {
  const tools = $("tools");
  if (!tools) return;
  const total = Number($("freshness")?.dataset.total ?? 0);
  const many = total >= Number(tools.dataset.from);
  if (tools.hidden === many) tools.hidden = !many;
  const words = many ? $("filter").value.trim().toLowerCase().split(/\s+/).filter(Boolean) : [];
  const troubled = many && $("troubled").checked;
  let shown = 0;
  for (const row of document.querySelectorAll("#pools tbody > tr")) {
    const [name, status, health] = row.cells;
    const text = words.length ? [name, status, health].map((c) => c.textContent).join(" ").toLowerCase() : "";
    const serves = troubled && status.querySelector(".pill.good") !== null;
    const hide = serves || !words.every((word) => text.includes(word));
    if (row.hidden !== hide) row.hidden = hide;
    if (!hide) shown += 1;
  }
  $("no-match").hidden = shown > 0 || total === 0;
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

function ask(form, button) {
  const dialog = $("confirm");
  const fields = dialog.querySelector("form");
  fields.reset();
  fields.action = form.dataset.action;
  fields.elements.state.value = button.value;
  const word = button.textContent.toLowerCase();
  $("confirm-title").textContent = `Set ${form.dataset.id} to ${word}?`;
  $("confirm-do").textContent = `Set to ${word}`;
  for (const text of dialog.querySelectorAll(".explain")) text.hidden = text.dataset.state !== button.value;
  objection("", false);
  dialog.showModal();
  $("confirm-do").focus();
}

function objection(text, forcible) {
  $("confirm-error").textContent = text;
  $("confirm-error").hidden = !text;
  $("confirm-do").hidden = forcible;
  $("confirm-force").hidden = !forcible;
  if (forcible) $("confirm-cancel").focus();
}

async function send(form, button) {
  const data = new URLSearchParams(new FormData(form));
  if (button?.name) data.set(button.name, button.value);
  let problem;
  try {
    const answer = await fetch(form.action, {
      method: "POST",
      headers: { Accept: "application/json" },
      body: data,
    });
    const result = await answer.json();
    if (answer.ok) {
      $("confirm").close();
      toast(result.message, true);
      return;
    }
    problem = [result.detail ?? answer.statusText, answer.status === 409];
  } catch {
    problem = ["The dashboard did not answer. Whether the change was made is not known.", false];
  }
  const [text, forcible] = problem;
  // A sentence begins with a capital, a name such as localhost:8081 stays as it is.
  objection(/^[a-z]+[ ,]/.test(text) ? text.charAt(0).toUpperCase() + text.slice(1) : text, forcible);
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.matches("[data-change]") && event.submitter) {
    event.preventDefault();
    ask(form, event.submitter);
  } else if (form.parentElement?.id === "confirm") {
    event.preventDefault();
    const buttons = [...form.querySelectorAll("button")];
    if (buttons.some((button) => button.disabled)) return;
    for (const button of buttons) button.disabled = button.id !== "confirm-cancel";
    send(form, event.submitter).finally(() => {
      for (const button of buttons) button.disabled = false;
      // A button that was disabled lost the focus.
      if ($("confirm").open && !form.contains(document.activeElement)) $("confirm-cancel").focus();
    });
  }
});

if ($("pools")) {
  $("confirm-cancel").onclick = () => $("confirm").close();
  $("filter").addEventListener("input", filter);
  $("troubled").addEventListener("change", filter);
  filter();
  state("off", "Connecting …");
  connect();
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) disconnect();
    else if (!feed) connect();
  });
  // The address named a result that is shown by now; a reload need not name it again.
  if (location.search) history.replaceState(null, "", location.pathname);
}
