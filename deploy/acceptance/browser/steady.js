// What changes moves nothing that is being read: neither what comes, nor what is said of it.

import { close, movedBy, open, shiftOf, watchShifts } from "./browser.js";
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

export async function steady() {
  heading("Nothing moves under the reader");
  for (const count of [3, 50, 500]) {
    const fleet = await stack.fakes([{ count, well: true }]);
    const all = await places(fleet, count);
    const { value: ids } = await until("ids", 5, () => all[0].page.locator("#pools tbody th.name .mono").allTextContents());
    const still = (what, change, shows) => check(`${count} backends: ${what}, and nothing moves`, async () => {
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
