// Nobody else changes anything: pages of other origins in the operator's own browser.

import { createServer } from "node:http";

import { REBOUND, close, control, open, watched } from "./browser.js";
import { check, expect, heading, until } from "./report.js";
import * as stack from "./stack.js";

const [target] = stack.backends;
const path = `/backends/default/${target}`;
const form = `
  <form id="form" method="post" action="${stack.page}${path}"><input name="state" value="drain"></form>
  <iframe src="${stack.page}/"></iframe>`;

async function unchanged() {
  const { admin, admin_actor } = await stack.backend(target);
  expect(admin === "ready" && admin_actor === null, `${target} is ${admin} by ${admin_actor}`);
}

/** Sends from inside a page; what comes back is hidden from it, so the wire tells the status. */
async function statusOf(page, url, options) {
  const answer = page.waitForResponse((response) => response.url() === url && response.request().method() !== "OPTIONS", { timeout: 5000 });
  answer.catch(() => {});
  const sent = page.evaluate(([url, options]) => fetch(url, options).then(() => "sent", (error) => error.message), [url, options]);
  const outcome = await Promise.race([answer.then((response) => response.status()), sent.then(async (text) => text === "sent" ? (await answer).status() : text)]);
  await sent;
  return outcome;
}

export async function otherOrigins() {
  heading("Pages of other origins");
  await stack.allWell();
  // Restarted, so that no operator's action is on record.
  await stack.kill("proxy");
  await stack.allWell();
  const server = createServer((_, response) => {
    response.setHeader("Content-Type", "text/html");
    response.end(`<!doctype html><title>Another site</title>${form}`);
  });
  await new Promise((resolve) => server.listen(stack.foreign.port, "127.0.0.1", resolve));
  try {
    // Another port of the same host is same-site, but another origin; the name is another site.
    for (const [kind, host] of [["another port", "127.0.0.1"], ["another site", "localhost"]]) {
      await from(kind, `http://${host}:${stack.foreign.port}/`);
    }
    await rebound();
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

async function from(kind, address) {
  const page = await open({ harmful: true, to: address });
  await check(`${kind} cannot show the page in a frame`, async () => {
    const { value } = await until("the frame is settled", 5, () => {
      const frame = page.frames()[1];
      return frame?.url().startsWith("chrome-error:") && frame.url();
    });
    return value;
  });
  await check(`${kind} cannot change a backend by a script`, async () => {
    const body = { method: "POST", mode: "no-cors", credentials: "include", body: new URLSearchParams({ state: "drain" }).toString(),
      headers: { "Content-Type": "application/x-www-form-urlencoded" } };
    const status = await statusOf(page, `${stack.page}${path}`, body);
    expect(status === 403, `answered with ${status}`);
    await unchanged();
    return `answered with ${status}`;
  });
  await check(`${kind} cannot change a backend at the proxy's admin API`, async () => {
    const outcome = await statusOf(page, `${stack.adminApi}/v1/pools/default/backends/${target}`, {
      method: "PATCH", body: '{"state":"drain"}', headers: { "Content-Type": "application/json" },
    });
    expect(outcome === 403 || outcome === "Failed to fetch", `it ended with ${outcome}`);
    await unchanged();
    return `"${outcome}": the browser asked first and was not allowed`;
  });
  await check(`${kind} cannot read the page's data`, async () => {
    const text = await page.evaluate((url) => fetch(url).then((answer) => answer.text(), (error) => error.message), `${stack.page}/api/state`);
    expect(text === "Failed to fetch", `it read "${text.slice(0, 80)}"`);
    return `"${text}"`;
  });
  await check(`${kind} cannot change a backend by a form`, async () => {
    const answer = page.waitForResponse((response) => response.request().method() === "POST");
    await page.evaluate(() => document.getElementById("form").submit());
    const status = (await answer).status();
    expect(status === 403, `answered with ${status}`);
    await unchanged();
    return `answered with ${status}: "${(await page.locator("main p").first().innerText())}"`;
  });
  await close(page);
}

async function rebound() {
  const address = stack.page.replace("127.0.0.1", REBOUND);
  const page = await open({ harmful: true, to: address });
  await check("a foreign name that leads to this machine shows the page without its controls", async () => {
    expect(await control(page, target, "Drain").isDisabled(), "the controls can be used");
    return `"${await page.locator(".account").innerText()}"`;
  });
  await check("a foreign name that leads to this machine cannot change a backend", async () => {
    const status = await statusOf(page, `${address}${path}`, { method: "POST", body: "state=drain", headers: { "Content-Type": "application/x-www-form-urlencoded" } });
    expect(status === 403, `answered with ${status}`);
    await unchanged();
    return `answered with ${status}`;
  });
  await close(page);
}

// The browser itself notes each answer of 4xx and 5xx on the console. These were asked for: the
// last backend was refused with and without script and too late for its dialog, a change that would have
// undone another one unseen, a change while the proxy was away, and a file that is too large.
const REFUSALS = { 409: [4, "/backends/"], 502: [1, "/backends/"], 413: [1, "/open"] };

export async function manners() {
  heading("What the page did meanwhile");
  const { console: told, foreign, requests } = watched();
  await check("no error, no warning and no blocked content on the console", async () => {
    const counts = {};
    const rest = told.filter(({ text, url }) => {
      const [, status] = /^Failed to load resource: the server responded with a status of (\d+)/.exec(text) ?? [];
      const refused = status in REFUSALS && url.startsWith(`${stack.page}${REFUSALS[status][1]}`);
      if (refused) counts[status] = (counts[status] ?? 0) + 1;
      return !refused;
    });
    expect(!rest.length, rest.map(({ text, url }) => `${text} (${url})`).join("\n"));
    for (const [status, count] of Object.entries(counts)) expect(count <= REFUSALS[status][0], `${count} answers of ${status}`);
    return `only the browser's notes on refusals that were asked for: ${JSON.stringify(counts)}`;
  });
  await check("no request to another host", async () => {
    expect(!foreign.length, [...new Set(foreign)].join("\n"));
    return `${requests} requests, all to ${stack.page}`;
  });
}
