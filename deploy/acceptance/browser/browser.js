// The browser, the page as an operator reads it, and a watch over what it must never do.

import { createRequire } from "node:module";

import { expect, until } from "./report.js";
import * as stack from "./stack.js";

const modules = createRequire(`${process.env.MODULES}/`);
const { chromium } = modules("playwright-core");
export const axeSource = modules("axe-core").source;

/** A name that leads to this machine, as one that an attacker rebound would. */
export const REBOUND = "rebound.example";

let browser;

export async function launch() {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: [
      "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync", `--host-resolver-rules=MAP ${REBOUND} 127.0.0.1`,
    ],
  });
  return browser.version();
}

export async function quit() {
  await browser?.close();
}

/* What no page may do, whatever else is checked. */

const seen = { console: [], foreign: [], requests: 0 };

/** What the watch saw: complaints on the console, and requests to other hosts. */
export function watched() {
  return seen;
}

function watch(context) {
  context.on("request", (request) => {
    seen.requests += 1;
    const url = request.url();
    if (!url.startsWith("http://127.0.0.1:") && !url.startsWith("data:")) seen.foreign.push(url);
  });
  context.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) seen.console.push({ text: message.text(), url: message.location().url });
  });
  context.on("weberror", (error) => seen.console.push({ text: String(error.error()), url: "" }));
}

/** A window onto the page, watched unless it is there to do harm. */
export async function open({ width = 1400, height = 1000, dark = false, harmful = false, to = stack.page, ...more } = {}) {
  const context = await browser.newContext({
    viewport: { width, height }, colorScheme: dark ? "dark" : "light", ...more,
  });
  context.setDefaultTimeout(20000);
  if (!harmful) {
    watch(context);
    await context.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", (event) => {
        console.error(`Content-Security-Policy: ${event.violatedDirective} blocked ${event.blockedURI}`);
      });
    });
  }
  const page = await context.newPage();
  if (to) await page.goto(to);
  return page;
}

export const close = (page) => page.context().close();

/** Closes what a scenario that failed has left open. */
export async function closeAll() {
  await Promise.all(browser.contexts().map((context) => context.close()));
}

/** Pictures of what went wrong. */
export async function pictureAll(name) {
  const pages = browser?.contexts().flatMap((context) => context.pages()) ?? [];
  for (const [index, page] of pages.entries()) {
    await page.screenshot({ path: `${process.env.OUT}/failed-${name}-${index}.png`, timeout: 3000 }).catch(() => {});
  }
}

/* What the page costs. */

/** Seconds of processor time that the page's own process and the browser's have used. */
export async function cpuOf() {
  const session = await browser.newBrowserCDPSession();
  const { processInfo } = await session.send("SystemInfo.getProcessInfo");
  await session.detach();
  return processInfo.reduce((sum, { cpuTime }) => sum + cpuTime, 0);
}

/** Notes each move of what is in view that no input asked for, from now on. */
export const watchShifts = (page) => page.evaluate(() => {
  window.shiftsOfTheSuite?.observer.disconnect();
  const seen = { sum: 0, moved: new Set() };
  const within = ({ node }, selector) => (node?.nodeType === Node.TEXT_NODE ? node.parentElement : node)?.closest(selector);
  // A list whose newest line is its first moves its other lines within its own box, a number at its
  // cell's right edge begins further left with each digit, and the notice grows over the page's lower edge
  // when what it tells becomes longer.
  const isLine = (one) => within(one, "#events li, .log li, td.num, #notice");
  // The same goes for any text that ends where it ended and stays at its height, such as the word in the
  // page's upper corner that says how late it is.
  const hasGrown = ({ previousRect: was, currentRect: is }) => was.top === is.top && Math.abs(was.right - is.right) < 1;
  const isExpected = (one) => isLine(one) || within(one, "#live") && hasGrown(one);
  const note = (entries) => {
    for (const { value, sources, hadRecentInput } of entries) {
      // What was removed meanwhile has no node any more.
      if (hadRecentInput || sources.some(isExpected) && sources.every((one) => !one.node || isLine(one) || hasGrown(one))) continue;
      seen.sum += value;
      for (const { node, previousRect, currentRect } of sources) {
        if (!node) continue;
        const name = [node.parentElement?.id, node.localName ?? `"${node.nodeValue}"`, node.className?.baseVal ?? node.className, node.id].filter(Boolean).join(" ");
        seen.moved.add(`${name} ${["x", "y"].map((side) => (currentRect[side] - previousRect[side]).toFixed(0))}`);
      }
    }
  };
  seen.observer = new PerformanceObserver((list) => note(list.getEntries()));
  seen.observer.observe({ type: "layout-shift" });
  seen.flush = () => note(seen.observer.takeRecords());
  window.shiftsOfTheSuite = seen;
});
export const shiftOf = (page) => page.evaluate(async () => {
  // What was laid out by now is told with the next frame.
  await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
  window.shiftsOfTheSuite.flush();
  return window.shiftsOfTheSuite.sum;
});
/** What moved, for whoever has to mend it. */
export const movedBy = (page) => page.evaluate(() => [...window.shiftsOfTheSuite.moved].slice(0, 8).join("; "));

/* The page as an operator reads it. */

export const headline = (page) => page.locator("#headline").innerText();

/** The rows of the table by the backends' ids. */
export async function rows(page) {
  const list = await page.locator("#pools tbody tr").evaluateAll((rows) => rows.map((row) => {
    const text = (selector) => row.querySelector(selector)?.innerText.trim() ?? "";
    return {
        id: text("th.name .mono"),
      state: text("td.state .pill"),
      health: text("td.health strong"),
      healthReason: text("td.health small"),
      rate: Number(text("td.rate .value")),
      inFlight: Number(row.querySelector("td[data-label='In flight']").textContent),
      pressed: text("button[aria-pressed=true]"),
      intent: text("td.operator small"),
    };
  }));
  return Object.fromEntries(list.map((row) => [row.id, row]));
}

export const row = async (page, id) => (await rows(page))[id];
export const totalRate = async (page) => Number(await page.locator("#panel-rate .figure b").innerText());
export const control = (page, id, word) =>
  page.getByRole("form", { name: `Change ${id}`, exact: true }).getByRole("button", { name: word, exact: true });

export const ALL_WELL = `All ${stack.backends.length} backends serve`;
export const sees = (page, seconds, sentence) =>
  until(`the page says "${sentence}"`, seconds, async () => (await headline(page)) === sentence);

/** Changes a backend as an operator does, and waits for the dialog to close. */
export async function change(page, id, word, reason = "") {
  await control(page, id, word).click();
  const dialog = page.getByRole("dialog", { name: `Set ${id} to ${word.toLowerCase()}?` });
  await dialog.waitFor();
  if (reason) await dialog.getByLabel("Reason").fill(reason);
  await dialog.getByRole("button", { name: `Set to ${word.toLowerCase()}` }).click();
  await dialog.waitFor({ state: "hidden" });
}

/** Sets a mark in the page that a reload would wipe off. */
export const mark = (page) => page.evaluate(() => { window.markOfTheSuite = true; });
export async function notReloaded(page) {
  expect(await page.evaluate(() => window.markOfTheSuite === true), "the page was reloaded");
}

/** A picture of the whole page, where results of earlier changes lie over the middle. */
export async function picture(page, name) {
  await page.locator(".toast").evaluateAll((results) => results.forEach((result) => result.remove()));
  await page.screenshot({ path: `${process.env.OUT}/${name}.png`, fullPage: true, timeout: 60000 });
}
