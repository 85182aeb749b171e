// What changes moves nothing that is being read: neither what comes, nor what is said of it.

import { ALL_WELL, close, headline, movedBy, open, picture, sees, shiftOf, watchShifts } from "./browser.js";
import { check, expect, heading, until } from "./report.js";
import * as stack from "./stack.js";

const WIDTHS = [1440, 1000, 390];
// A single letter that moves by its own width is less than this; a row that grows by a line is not.
const STILL = 0.001;

// As it is in the document: far out of sight it is not drawn.
const stateOf = (page, index) => page.locator("#pools tbody tr").nth(index).locator("td.state .pill").textContent();

/** The page at each width, from its top and from the table's. */
async function places(fleet, count) {
  const all = [];
  for (const width of WIDTHS) {
    for (const at of ["top", "table"]) {
      const page = await open({ to: fleet.page, width, height: 900 });
      await until("all rows", 30, async () => (await page.locator("#pools tbody tr").count()) === count);
      if (at === "table") await page.locator("#pools table").evaluate((table) => table.scrollIntoView());
      const was = await page.locator("#panel-rate b").innerText();
      await until("it is live", 20, async () => await page.locator("#panel-rate b").innerText() !== was);
      await watchShifts(page);
      all.push({ name: `${width} px, at the ${at}`, page });
    }
  }
  return all;
}

/** What moved on any of the pages since the last time, where they all show what was done. */
function stillness(all) {
  return (sentence, change, shows) => check(`${sentence}, and nothing moves`, async () => {
    await change();
    for (const { name, page } of all) await until(`${name} shows it`, 20, () => shows(page));
    const moved = [];
    for (const { name, page } of all) {
      const shift = await shiftOf(page);
      if (shift >= STILL) moved.push(`${name}: ${shift.toFixed(4)} by ${await movedBy(page)}`);
      await watchShifts(page);
    }
    expect(!moved.length, moved.join("\n"));
    return `at ${WIDTHS.join(", ")} px`;
  });
}

/** The page of one backend at each width, from its top, its charts and its probes. */
async function placesOf(to) {
  const all = [];
  for (const width of WIDTHS) {
    for (const [at, selector] of [["top", null], ["charts", "#panel-rate"], ["probes", "#probes"]]) {
      const page = await open({ to, width, height: 900 });
      if (selector) await page.locator(selector).evaluate((one) => one.scrollIntoView());
      all.push({ name: `${width} px, at the ${at}`, page });
    }
  }
  return all;
}

/** The page of one backend that one of the proxies comes to see otherwise. */
export async function steadyDispute() {
  heading("Nothing moves under the reader when proxies disagree about a backend");
  const fleet = await stack.fakes(["edge-1", "edge-2"].map((name) => ({ count: 3, name, well: true })));
  const first = await open({ to: fleet.page });
  const { value: id } = await until("an id", 20, () => first.locator("#pools tbody th.name .mono").first().textContent());
  await close(first);
  const all = await placesOf(`${fleet.page}/backends/default/${id}`);
  for (const { page } of all) {
    await until("it is live", 20, async () => await page.locator("#live").innerText() === "Live");
    await until("something is predicted", 20, async () => /Then \d of 3 serve/.test(await page.locator(".predictions").innerText()));
    await watchShifts(page);
  }
  const still = stillness(all);
  const told = (page) => page.locator("#opinions").innerText();
  await still("one proxy comes to see it otherwise", () => fleet.change(1, id, { up: false }),
    async (page) => /edge-2\s+Down\s+connection refused/.test(await told(page)) && /on some proxies only/.test(await headline(page)));
  for (const { name, page } of all.filter((one) => one.name.endsWith("charts"))) {
    await page.screenshot({ path: `${process.env.OUT}/steady-dispute-${name.split(" ")[0]}.png` });
  }
  await still("they agree again", () => fleet.change(1, id, { up: true }), async (page) => !/disagree/.test(await told(page)));
  for (const { page } of all) await close(page);
  await fleet.stop();
}

/** The page of one backend, on a stack that probes, predicts and remembers. */
export async function steadyOne() {
  heading("Nothing moves under the reader of a backend's page");
  await stack.allWell();
  const load = stack.loadStart();
  const first = await open();
  await sees(first, 20, ALL_WELL);
  await close(first);
  const [id] = stack.backends;
  const all = await placesOf(`${stack.page}/backends/default/${id}`);
  // From here on there is something in each of its parts.
  for (const { page } of all) {
    await until("all parts are filled", 60, async () => /Then \d of 3 serve; its [\d.]+\/s/.test(await page.locator(".predictions").innerText())
      && await page.locator("#probes li").count() > 0 && await page.locator("#decisions li").count() > 0);
    await watchShifts(page);
  }
  const still = stillness(all);
  const says = (pattern) => async (page) => pattern.test(await page.locator("main").innerText());
  const probes = (page) => page.locator("#probes li").count();
  const before = await Promise.all(all.map(({ page }) => probes(page)));
  await still("probes, decisions and numbers come", () => {}, async (page) =>
    await probes(page) >= Math.min(20, before[all.findIndex((one) => one.page === page)] + 3));
  await still("it is drained for a while, with a reason", () => stack.change(id, { state: "drain", ttl: "10m", reason: "a reason of some length, such as operators write at night" }),
    says(/a reason of some length/));
  await still("it is ready again", () => stack.change(id, { state: "ready" }), async (page) => /serves/.test(await headline(page)));
  await still("its weight is set", () => stack.change(id, { weight: 3, reason: "three times the cores" }), says(/three times the cores/));
  await still("its limit is set", () => stack.change(id, { max_in_flight: 9, reason: "it swaps" }), says(/it swaps/));
  await still("both are taken back", () => stack.change(id, { weight: null, max_in_flight: null }),
    async (page) => !/three times the cores|it swaps/.test(await page.locator("#controls").innerText()));
  await still("it goes down", () => stack.kill(id), async (page) => /down/.test(await headline(page)));
  await still("it comes back", () => { stack.start(id); }, async (page) => /serves/.test(await headline(page)));
  await stack.loadStop(load);
  for (const { name, page } of all.filter((one) => one.name.endsWith("top"))) await picture(page, `steady-one-${name.split(" ")[0]}`);
  await still("the proxy is away and a notice comes", () => stack.kill("proxy"), async (page) => await page.locator("#notice .banner").isVisible());
  for (const { page } of all) await close(page);
  await stack.allWell();
}

export async function steady() {
  heading("Nothing moves under the reader");
  for (const count of [3, 50, 500]) {
    const fleet = await stack.fakes([{ count, well: true }]);
    const all = await places(fleet, count);
    const { value: ids } = await until("ids", 5, () => all[0].page.locator("#pools tbody th.name .mono").allTextContents());
    const of = stillness(all);
    const still = (what, ...more) => of(`${count} backends: ${what}`, ...more);
    await still("a backend goes down", () => fleet.change(0, ids[0], { up: false }),
      async (page) => await stateOf(page, 0) === "Down");
    await still("one is drained, with a reason", () => fleet.change(0, ids[1], { state: "drain", reason: "a reason of some length, such as operators write at night" }),
      async (page) => await stateOf(page, 1) !== "Serving");
    await still("an override with an end comes", () => fleet.change(0, ids[2], { state: "ready", ttl: "10m", reason: "until the new disk is there" }),
      async (page) => (await page.locator("#overrides").innerText()).includes("until the new disk is there"));
    await still("one comes back", () => fleet.change(0, ids[0], { up: true }),
      async (page) => await stateOf(page, 0) === "Serving");
    await still("the proxy is away and a notice comes", () => fleet.kill(0),
      async (page) => await page.locator("#notice .banner").count() > 0 && await page.locator("#notice .banner").isVisible());
    for (const { name, page } of all.filter((one) => one.name.endsWith("top"))) {
      await page.screenshot({ path: `${process.env.OUT}/steady-${count}-${name.split(" ")[0]}.png`, timeout: 60000 });
    }
    for (const { page } of all) await close(page);
    await fleet.stop();
  }
}
