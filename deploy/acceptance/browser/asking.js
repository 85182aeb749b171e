// The question "sure?" of one backend, and what must have no part in it.

import { ALL_WELL, close, control, open, row, sees } from "./browser.js";
import { check, expect, heading, until } from "./report.js";
import * as stack from "./stack.js";

const [first, second, third] = stack.backends;

/** Has each change of a page wait on its way, until it is let go. */
async function hold(page) {
  const waiting = [];
  await page.route("**/backends/**", (route) => {
    if (route.request().method() === "POST") waiting.push(route);
    else route.continue();
  });
  return async () => {
    const { value: route } = await until("a change is on its way", 5, () => waiting.shift());
    const answer = page.waitForResponse((response) => response.request() === route.request());
    await route.continue();
    return (await answer).status();
  };
}

/** Sends a change, and closes its dialog before the answer. */
async function leave(page, id, word) {
  await control(page, id, word).click();
  await page.getByRole("button", { name: `Set to ${word.toLowerCase()}` }).click();
  await page.keyboard.press("Escape");
}

export async function lateAnswer() {
  heading("An answer that comes after its dialog was closed");
  await stack.allWell();
  const page = await open();
  await sees(page, 5, ALL_WELL);
  const letGo = await hold(page);
  for (const id of [first, second]) await stack.change(id, { state: "maint" });
  await until("one is left", 5, async () => (await row(page, second)).state === "Not ready");
  const dialog = page.getByRole("dialog");
  const isOfFirst = async (word) => {
    expect(await dialog.locator("h2").innerText() === `Set ${first} to ${word}?`, await dialog.innerText());
    expect(!await dialog.getByRole("alert").isVisible(), await dialog.innerText());
    expect(!await dialog.getByRole("button", { name: "Do it anyway" }).isVisible(), "it can be forced");
    expect(await dialog.getByRole("button", { name: `Set to ${word}` }).isEnabled(), "it cannot be answered");
  };
  await check("a refusal is told beside the dialog of another backend, which cannot be forced by it", async () => {
    await leave(page, third, "Drain");
    await control(page, first, "Ready").click();
    const status = await letGo();
    expect(status === 409, `answered with ${status}`);
    const told = page.locator(".toast.bad");
    await told.waitFor();
    await isOfFirst("ready");
    await page.screenshot({ path: `${process.env.OUT}/late-answer-light-1400.png` });
    const text = await told.locator("span").innerText();
    expect(text.startsWith(`Set ${third} to drain? ${third} stays as it is`), text);
    return `"${text}"`;
  });
  await check("and the question that is open does what it says, to its own backend", async () => {
    await dialog.getByRole("button", { name: "Set to ready" }).click();
    await letGo();
    await dialog.waitFor({ state: "hidden" });
    const is = await Promise.all([first, third].map(stack.backend));
    expect(is.every(({ admin }) => admin === "ready"), JSON.stringify(is.map(({ admin }) => admin)));
  });
  await check("a change that is made does not close the dialog of another backend", async () => {
    await leave(page, second, "Ready");
    await control(page, first, "Drain").click();
    const status = await letGo();
    expect(status === 200, `answered with ${status}`);
    await page.locator(".toast.good", { hasText: second }).waitFor();
    await isOfFirst("drain");
    await page.keyboard.press("Escape");
  });
  await close(page);
}

export async function changedMeanwhile() {
  heading("A backend that somebody else changes while its dialog is open");
  await stack.allWell();
  const page = await open();
  await sees(page, 5, ALL_WELL);
  const dialog = page.getByRole("dialog");
  await check("what another operator did is told with who and why, and is not undone unseen", async () => {
    await control(page, first, "Drain").click();
    await dialog.getByLabel("Reason").fill("an update");
    await stack.change(first, { state: "maint", reason: "a new disk" });
    const answer = page.waitForResponse((response) => response.request().method() === "POST");
    await dialog.getByRole("button", { name: "Set to drain" }).click();
    expect((await answer).status() === 409, `answered with ${(await answer).status()}`);
    const told = dialog.getByRole("alert");
    await told.waitFor();
    const text = await told.innerText();
    expect(/was changed meanwhile, and is set to not ready by .*: “a new disk”/.test(text), text);
    expect((await stack.backend(first)).admin === "maint", "it was changed");
    await page.screenshot({ path: `${process.env.OUT}/changed-meanwhile-light-1400.png` });
    return `"${text}"`;
  });
  await check("who has seen it may do it anyway, without force and with the reason of before", async () => {
    const request = page.waitForRequest((request) => request.method() === "POST");
    await dialog.getByRole("button", { name: "Do it anyway" }).click();
    const sent = new URLSearchParams((await request).postData());
    await dialog.waitFor({ state: "hidden" });
    const { admin, admin_reason } = await stack.backend(first);
    expect(admin === "drain" && admin_reason === "an update", `${admin}, ${admin_reason}`);
    expect(!sent.has("force"), `sent ${sent}`);
  });
  await check("the page's own changes one after the other are never in each other's way", async () => {
    for (const word of ["Ready", "Drain", "Not ready", "Ready"]) {
      await control(page, first, word).click();
      await dialog.getByRole("button", { name: `Set to ${word.toLowerCase()}` }).click();
      await dialog.waitFor({ state: "hidden" });
      await until("the row shows it", 5, async () => (await row(page, first)).pressed === word);
    }
  });
  await check("nor are they on a page that does not show the one before yet", async () => {
    // As where it is behind: what the feed brings stays out of the page.
    await page.evaluate(() => disconnect());
    for (const word of ["Drain", "Not ready", "Ready"]) {
      await control(page, first, word).click();
      const answer = page.waitForResponse((response) => response.request().method() === "POST");
      await dialog.getByRole("button", { name: `Set to ${word.toLowerCase()}` }).click();
      expect((await answer).status() === 200, `${word} was answered with ${(await answer).status()}`);
      await dialog.waitFor({ state: "hidden" });
    }
    expect((await stack.backend(first)).admin === "ready", "it is not ready");
  });
  await close(page);
}
