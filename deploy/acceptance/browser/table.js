// The table at each size and width: what a row tells, and by what rows are put in order.

import { axe, overlapping, tooWide } from "./reaching.js";
import { close, open } from "./browser.js";
import { check, expect, heading, until } from "./report.js";
import * as stack from "./stack.js";

const WIDTHS = [1440, 1000, 390];
const COLUMNS = ["name", "state", "health", "probe", "rate", "share", "flight", "errors", "p50", "p95", "p99", "weight", "operator"];
// From how many backends rows are low, and how high they may be in a table.
const DENSE = 21;
const LOW = 48;

const all = (page, count) => until("all rows", 30, async () => (await page.locator("#pools tbody tr").count()) === count);

/** What is missing in rows, by their ids. */
const missing = (page) => page.locator("#pools tbody tr").evaluateAll((rows) => rows.flatMap((row) => {
  const shown = (selector) => {
    const one = row.querySelector(selector);
    const { width, height } = one?.getBoundingClientRect() ?? {};
    return one?.checkVisibility() && width > 0 && height > 8 ? one.textContent.trim() : "";
  };
  const reason = row.querySelector("td.health small");
  const rate = Number(shown("td.rate .value"));
  const share = shown("td.share");
  const faults = [
    !shown("td.state .pill") && "state",
    !shown("td.health strong") && "health",
    !shown("td.health small") && "the health's reason",
    reason?.title !== reason?.textContent && "the whole reason as a title",
    !/^\d+/.test(shown("td.weight")) && "weight",
    !shown("td.probe") && "last probe",
    !(/^(<0\.1|\d+(\.\d)?)%$/.test(share) && (rate === 0 || share !== "0%")) && `a share (${share} at ${rate}/s)`,
    ...["flight", "errors", "p50", "p95", "p99"].map((name) => !shown(`td.${name}`) && name),
    // A line for each where there is room for it.
    ...(row.closest(".dense") ? [] : ["rate", "p50", "p95", "p99"]).map((name) => {
      const { width = 0 } = row.querySelector(`td.${name} .spark path`)?.getBoundingClientRect() ?? {};
      return rate > 0 && width === 0 && `the line of ${name}`;
    }),
  ].filter(Boolean);
  return faults.length ? [`${row.querySelector("th").textContent}: ${faults.join(", ")}`] : [];
}));

export async function fullRows() {
  heading("What rows tell, at each size and width");
  for (const count of [1, 3, 50, 500]) {
    const fleet = await stack.fakes([{ count }]);
    const page = await open({ to: fleet.page, bypassCSP: true });
    await all(page, count);
    await until("traffic", 20, async () => /[1-9]/.test(await page.locator("#panel-rate b").innerText()));
    // Rows out of sight stay as the page came with them, which may have been before the first numbers.
    await page.reload();
    await all(page, count);
    for (const width of WIDTHS) {
      await page.setViewportSize({ width, height: 900 });
      await check(`${count} backends at ${width} px: each row tells state, reason, share, weight and the rest`, async () => {
        const { value } = await until("nothing missing", 10, async () => {
          const faults = await missing(page);
          return faults.length ? Promise.reject(new Error(`${faults.length} rows: ${faults.slice(0, 3).join("; ")}`)) : "nothing";
        });
        const height = await page.locator("#pools tbody tr").first().evaluate((row) => row.getBoundingClientRect().height);
        expect(count < DENSE || width < 1340 || height <= LOW, `rows are ${height} px high`);
        // One that was not laid out yet has the room that it will need: the page does not grow under the reader.
        const last = await page.locator("#pools tbody tr").last().evaluate((row) => row.getBoundingClientRect().height);
        expect(Math.abs(last - height) <= 4, `the last row is ${last} px high, the first one ${height}`);
        expect(!await tooWide(page), await tooWide(page));
        expect(!await overlapping(page), `in the picture: ${await overlapping(page)}`);
        return `${value} is missing, rows are ${height.toFixed(0)} px high`;
      });
      if (count === 50) await check(`${count} backends at ${width} px: no serious finding by axe`, () => axe(page));
      await page.screenshot({ path: `${process.env.OUT}/rows-${count}-${width}.png`, timeout: 60000 });
      await page.locator("#pools").evaluate((pools) => pools.scrollIntoView());
      await page.screenshot({ path: `${process.env.OUT}/rows-${count}-${width}-table.png`, timeout: 60000 });
      await page.evaluate(() => scrollTo(0, 0));
    }
    await close(page);
    await fleet.stop();
  }
}

/** What the rows of a column show, as one sees it. */
const shownIn = (page, column) => page.locator(`#pools tbody .${column}`).evaluateAll((cells) =>
  cells.map((cell) => (cell.querySelector(".mono, .pill, strong, .value") ?? cell).textContent.trim()));
const falling = (list) => list.every((one, index) => index === 0 || one <= list[index - 1]);

export async function sortedAnywhere() {
  heading("Rows in any order, on any screen");
  const fleet = await stack.fakes([{ count: 50 }]);
  const page = await open({ to: fleet.page });
  page.setDefaultTimeout(5000);
  await all(page, 50);
  for (const width of WIDTHS) {
    await page.setViewportSize({ width, height: 900 });
    await check(`at ${width} px each column sorts by a click, and says so to screen readers`, async () => {
      for (const column of COLUMNS) {
        await page.locator(`thead th.${column} [data-sort]`).click();
        const told = await page.locator(`thead th.${column}`).getAttribute("aria-sort");
        expect(told === (column === "name" ? "ascending" : "descending"), `${column}: ${told}`);
        expect((await page.locator("thead th[aria-sort]").count()) === 1, `${column}: two columns say so`);
      }
      await page.locator("thead th.weight [data-sort]").click();
      const weights = (await shownIn(page, "weight")).map(Number);
      expect(falling(weights) && weights[0] > weights.at(-1), `weights: ${weights}`);
      await page.locator("thead th.health [data-sort]").click();
      const health = await shownIn(page, "health");
      const kinds = health.filter((one, index) => one !== health[index - 1]);
      expect(kinds[0] !== "Up" && kinds.at(-1) === "Up" && new Set(kinds).size === kinds.length, `health: ${kinds}`);
      return `weights from ${weights[0]} to ${weights.at(-1)}, health ${kinds.join(", ")}`;
    });
    await page.screenshot({ path: `${process.env.OUT}/sorted-${width}.png`, timeout: 60000 });
  }
  await check("and by the keyboard, both ways", async () => {
    await page.locator("thead th.weight [data-sort]").focus();
    await page.keyboard.press("Enter");
    await page.keyboard.press("Enter");
    const weights = (await shownIn(page, "weight")).map(Number);
    expect(falling([...weights].reverse()), `weights: ${weights}`);
    expect((await page.locator("thead th.weight").getAttribute("aria-sort")) === "ascending", "not told");
  });
  await check("and the order outlives a feed that begins anew", async () => {
    const order = () => page.locator("#pools tbody th.name .mono").allTextContents();
    const was = (await order()).join();
    const heads = await page.locator("thead tr").innerHTML();
    await page.evaluate(() => {
      // Its first message is the whole page.
      window.messagesOfTheSuite = 0;
      connect();
      feed.addEventListener("patch", () => { window.messagesOfTheSuite += 1; });
    });
    await until("the page goes on", 20, () => page.evaluate(() => window.messagesOfTheSuite >= 2));
    expect((await order()).join() === was, `now ${(await order()).slice(0, 5)}`);
    expect(await page.locator("thead tr").innerHTML() === heads, "the heading says something else");
  });
  await check("and nothing that waited for a row to come into sight is newer than that", async () => {
    const cell = await page.evaluate(() => {
      scrollTo(0, 0);
      const row = document.querySelector("#pools tbody > tr:last-child");
      const cell = row.cells[row.cells.length - 1];
      apply({ html: { [cell.id]: `<td id="${cell.id}">of old</td>` } });
      if (!waiting.has(cell.id)) return "the last row is in sight";
      window.messagesOfTheSuite = 0;
      connect();
      feed.addEventListener("patch", () => { window.messagesOfTheSuite += 1; });
      return cell.id;
    });
    await until("the page goes on", 20, () => page.evaluate(() => window.messagesOfTheSuite >= 1));
    await page.evaluate((id) => document.getElementById(id).scrollIntoView(), cell);
    await until("the row is in sight", 5, () => page.evaluate((id) => inSight.has(document.getElementById(id).parentNode.id), cell));
    const text = await page.evaluate((id) => document.getElementById(id).innerText, cell);
    expect(!text.includes("of old"), `it says "${text}"`);
  });
  await close(page);
  const plain = await open({ to: fleet.page, width: 390, javaScriptEnabled: false });
  await check("and without JavaScript on a phone, where the order outlives a reload", async () => {
    await plain.locator("thead th.weight [data-sort]").click();
    await plain.waitForURL(/sort=weight/);
    const weights = (await shownIn(plain, "weight")).map(Number);
    expect(weights.length === 50 && falling(weights), `weights: ${weights}`);
    await plain.reload();
    expect((await plain.locator("thead th.weight").getAttribute("aria-sort")) === "descending", "not told");
  });
  await close(plain);
  await fleet.stop();
}
