// An hour that was saved as a file and is opened again: everything on it, and nothing that is not.

import { readFileSync, writeFileSync } from "node:fs";

import { axe, tooWide } from "./reaching.js";
import { close, headline, open, picture } from "./browser.js";
import { check, expect, heading, until } from "./report.js";
import * as stack from "./stack.js";

const READ = /^\d\d:\d\d:\d\d UTC: [\d.]+ requests\/s, [\d.–]+% failed, p50 [\d.–]+ ms/;
const path = `${process.env.OUT}/hour.json`;

async function send(page, file) {
  await page.goto(`${stack.page}/open`);
  await page.getByLabel("File").setInputFiles(file);
  await page.getByRole("button", { name: "Open" }).click();
}

async function openFile(page) {
  await send(page, path);
  await page.locator("#notice").getByText("from a file").waitFor();
}

async function save(live) {
  const download = live.waitForEvent("download");
  await live.getByRole("link", { name: "the hour as a file" }).click();
  await (await download).saveAs(path);
}

/** The values under the pointer, near the newest end: the proxy may have been started a moment ago. */
async function hover(page) {
  await page.locator("#panel-rate svg.plot").scrollIntoViewIfNeeded();
  const { value } = await until("values under the pointer", 10, async () => {
    const box = await page.locator("#panel-rate svg.plot").boundingBox();
    await page.mouse.move(box.x + box.width * (0.9715 - Math.random() * 0.008), box.y + box.height / 2);
    const text = await page.locator("#readout").innerText();
    return READ.test(text) && text;
  });
  return value;
}

/**
 * Whether the file has this rate of the backend, at that time or in the slot of a chart after it. What a backend
 * should have had cannot be told: the checks before this one have given it other weights and limits.
 */
function isOf(id, values) {
  const { hour } = JSON.parse(readFileSync(path, "utf8")).backends.find((one) => one.id === id);
  const [, time, rate] = /^(\S+) UTC: ([\d.]+) requests/.exec(values);
  const day = new Date(hour.newest_unix * 1000).toISOString().slice(0, 11);
  // A page near midnight tells a time of the day before.
  const at = [0, 86_400].map((ago) => Date.parse(`${day}${time}Z`) / 1000 - ago);
  const began = hour.newest_unix - (hour.rate.length - 1) * hour.step_seconds;
  return hour.rate.some((one, index) => {
    const after = at.map((second) => began + index * hour.step_seconds - second);
    return after.some((seconds) => Math.abs(seconds) <= 15) && one !== null && Math.abs(one - rate) <= 0.006 * one;
  });
}

/** From a page that is live and had traffic. */
export async function savedHour(live) {
  await check("the hour is one file, which the page opens again without a proxy", async () => {
    await save(live);
    expect(JSON.parse(readFileSync(path, "utf8")).format === "evenkeel-hour-1", "another format");
  });
  const page = await open({ bypassCSP: true });
  await openFile(page);
  await check("a file shows all rows, and offers nothing that it cannot do", async () => {
    expect((await page.locator("#pools tbody tr").count()) === 3, "not its rows");
    const text = await page.locator("main").innerText();
    expect(!/sign in/i.test(text), "it offers to sign in");
    const ways = await page.locator("main a").evaluateAll((links) => links.map((link) => link.getAttribute("href")));
    expect(ways.join() === "/", `ways out of the file: ${ways}`);
    expect((await page.locator("#pools .controls").count()) === 0, "it has controls");
    return `"${await headline(page)}"`;
  });
  await check("a file's charts tell their values under the pointer", async () => `"${await hover(page)}"`);
  await picture(page, "from-a-file");
  await check("a file's page has no serious finding by axe", () => axe(page));
  await check("rows of a file are sorted by a click", async () => {
    await page.getByRole("button", { name: "Weight", exact: true }).click();
    expect((await page.locator("th.weight").getAttribute("aria-sort")) === "descending", "not sorted");
    expect(await page.locator("#pools tbody tr").count() === 3, "rows are gone");
  });
  const [, second] = stack.backends;
  await check("a backend of a file has its own hour, with values under the pointer", async () => {
    const all = await page.locator("#panel-rate path.line").getAttribute("d");
    await page.getByRole("button", { name: second, exact: true }).click();
    await page.waitForFunction((id) => document.querySelector("#headline").textContent.startsWith(id), second);
    const own = await page.locator("#panel-rate path.line").getAttribute("d");
    expect(own && own !== all, "it is the hour of all backends");
    const values = await hover(page);
    expect(isOf(second, values), `the file has no such rate of ${second} near that time: ${values}`);
    return `"${await headline(page)}", "${values}"`;
  });
  await picture(page, "from-a-file-one-backend");
  await check("its page has no serious finding by axe", () => axe(page));
  await page.setViewportSize({ width: 390, height: 844 });
  await check("and fits a phone", async () => expect(!await tooWide(page), await tooWide(page)));
  await picture(page, "from-a-file-one-backend-390");
  await check("and it leads back to all of the file", async () => {
    await page.getByRole("button", { name: "All backends of the file" }).click();
    await page.locator("#pools tbody tr").first().waitFor();
    expect(!await tooWide(page), await tooWide(page));
  });
  await picture(page, "from-a-file-390");
  await close(page);
  const plain = await open({ javaScriptEnabled: false });
  await check("without JavaScript, too, a file is sorted and leads to its backends", async () => {
    await openFile(plain);
    await plain.getByRole("button", { name: "Requests/s" }).click();
    await plain.locator("th.rate[aria-sort=descending]").waitFor();
    await plain.getByRole("button", { name: second, exact: true }).click();
    await plain.locator("#facts").waitFor();
    expect((await headline(plain)).startsWith(second), await headline(plain));
  });
  await check("a file that is larger than any hour is refused in words", async () => {
    const large = `${process.env.OUT}/large.json`;
    writeFileSync(large, " ".repeat(40 * 1024 * 1024));
    await send(plain, large);
    await plain.getByText("larger than 16 MiB").waitFor();
  });
  await close(plain);
}

/** Of a fleet of which first one proxy and then nobody answers. */
export async function savedTrouble() {
  heading("An hour that was saved while proxies were away");
  await stack.allWell();
  const fleet = await stack.fakes([{ count: 3, name: "edge-1", well: true }, { count: 3, name: "edge-2", well: true }]);
  const live = await open({ to: fleet.page });
  const page = await open({ bypassCSP: true });
  const opened = async (sentence) => {
    await until(`the page says "${sentence}"`, 10, async () => (await headline(live)).includes(sentence));
    await save(live);
    await openFile(page);
    expect((await headline(page)) === (await headline(live)), `"${await headline(page)}", it was "${await headline(live)}"`);
    return `"${await headline(page)}"`;
  };
  await check("a proxy that was away is away in the file, with its age and the reason", async () => {
    await fleet.kill(1);
    const told = await opened("1 of 2 proxies does not answer");
    const own = await page.locator("#proxies li").filter({ hasText: "Away" }).innerText();
    expect(own.includes("edge-2") && /last heard \d+ s ago/.test(own) && /connection/i.test(own), own);
    expect((await page.locator("#map .from li").count()) === 2, "the picture does not show both proxies");
    expect((await page.locator("#map .from li.away").innerText()).includes("edge-2"), "the picture shows it as well");
    return told;
  });
  await picture(page, "from-a-file-one-away");
  await check("what happened on another day than the picture's is told with the day", async () => {
    const file = JSON.parse(readFileSync(path, "utf8"));
    const { event } = file.events.at(-1);
    const before = new Date(Date.parse(event.at) - 3 * 86_400_000);
    event.at = before.toISOString();
    writeFileSync(path, JSON.stringify(file));
    await openFile(page);
    const day = `${before.getUTCDate()} ${before.toLocaleString("en", { month: "short", timeZone: "UTC" })} `;
    const times = (await page.locator("#events time").allTextContents()).map((time) => time.replaceAll("\u00a0", " "));
    expect(times.at(-1).startsWith(day) && !times.slice(0, -1).some((time) => time.startsWith(day)), times.join());
    await page.locator("#events").screenshot({ path: `${process.env.OUT}/events-of-two-days.png` });
    return `"${times.at(-1)}"`;
  });
  await check("where nobody answered the file is as grey as the page was, and says why and since when", async () => {
    await fleet.kill(0);
    const told = await opened("No proxy answers");
    expect((await page.locator("#freshness").getAttribute("data-stale")) === "true", "it looks like a picture of then");
    const notice = await page.locator("#notice").innerText();
    expect(/None of 2 proxies answers/.test(notice) && /The last picture was \d+ s old/.test(notice), notice);
    return told;
  });
  await picture(page, "from-a-file-nobody-answers");
  await check("and so is the page of a backend, whose events could not be read either", async () => {
    const file = JSON.parse(readFileSync(path, "utf8"));
    file.events_error = "The connection to http://127.0.0.1:9901 broke (Connection reset by peer).";
    writeFileSync(path, JSON.stringify(file));
    await openFile(page);
    await page.locator("#pools tbody th.name button").first().click();
    await page.locator("#facts").waitFor();
    expect(/None of 2 proxies answers/.test(await page.locator("#notice").innerText()), "it does not say so");
    expect(await page.locator("#events > .banner").isVisible(), "it does not say so of its events");
    return axe(page);
  });
  await picture(page, "from-a-file-no-events");
  await page.setViewportSize({ width: 390, height: 844 });
  await check("which fits a phone", async () => expect(!await tooWide(page), await tooWide(page)));
  await close(page);
  await close(live);
  await fleet.stop();
}
