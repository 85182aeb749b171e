// Everybody reaches the page: by keyboard, without JavaScript, on a phone, with a screen reader.

import { ALL_WELL, axeSource, change, close, control, open, picture, row, rows, sees } from "./browser.js";
import { check, expect, heading, until } from "./report.js";
import * as stack from "./stack.js";

const [first, second] = stack.backends;
// More than there are stops on the page.
const TABS_MOST = 80;

const focused = (target) => target.evaluate((element) => element === document.activeElement);

async function tabTo(page, target, key = "Tab", pause = 0) {
  for (let count = 1; count <= TABS_MOST; count += 1) {
    await page.waitForTimeout(pause);
    await page.keyboard.press(key);
    if (await focused(target)) return count;
  }
  throw new Error(`not reached with ${TABS_MOST} times ${key}`);
}

export async function keyboard() {
  heading("By keyboard alone");
  await stack.allWell();
  const page = await open();
  await sees(page, 5, ALL_WELL);
  const drain = control(page, second, "Drain");
  const dialog = page.getByRole("dialog");
  await check("Tab reaches a control, and shows where it is", async () => {
    const count = await tabTo(page, drain);
    const outline = await drain.evaluate((element) => getComputedStyle(element).outline);
    expect(!/none|\b0px/.test(outline), `the outline is "${outline}"`);
    return `after ${count} stops, outline "${outline}"`;
  });
  await check("Enter opens the dialog, with the focus inside", async () => {
    await page.keyboard.press("Enter");
    await dialog.waitFor();
    const inside = await page.evaluate(() => document.activeElement.closest("dialog")?.id);
    expect(inside === "confirm", `the focus is in ${inside}`);
    return `on "${await page.evaluate(() => document.activeElement.textContent)}"`;
  });
  await check("Escape closes it, the focus returns and stays while the page goes on, and nothing changed", async () => {
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "hidden" });
    expect(await focused(drain), "the focus is elsewhere");
    // A probe's age changes at least once a second: the row was replaced under the focus.
    const was = await page.locator("#pools").innerText();
    await until("the page goes on", 5, async () => await page.locator("#pools").innerText() !== was);
    expect(await focused(drain), "the focus went away with an update");
    expect((await stack.backend(second)).admin === "ready", "it was changed");
  });
  await check("Enter, a reason and Enter again change the backend, and the focus returns", async () => {
    await page.keyboard.press("Enter");
    await dialog.waitFor();
    await tabTo(page, dialog.getByLabel("Reason"), "Shift+Tab");
    await page.keyboard.type("acceptance: by keyboard");
    await page.keyboard.press("Enter");
    await dialog.waitFor({ state: "hidden" });
    const { value, ms } = await until("the row shows it", 2, async () => {
      const one = await row(page, second);
      return one.pressed === "Drain" && one;
    });
    expect(value.intent.includes("acceptance: by keyboard"), `no reason in "${value.intent}"`);
    expect(await focused(drain), "the focus is elsewhere");
    return `"${value.intent}" after ${ms} ms`;
  });
  await check("and back again", async () => {
    await tabTo(page, control(page, second, "Ready"), "Shift+Tab");
    await page.keyboard.press("Enter");
    await dialog.waitFor();
    await page.keyboard.press("Enter");
    return `"${ALL_WELL}" after ${(await sees(page, 5, ALL_WELL)).ms} ms`;
  });
  await close(page);
}

export async function withoutScript() {
  heading("Without JavaScript");
  await stack.allWell();
  const page = await open({ javaScriptEnabled: false });
  await check("the page is whole and reloads itself", async () => {
    // The dashboard may not have heard yet that all is well, and the page may be on its way just now.
    await sees(page, 12, ALL_WELL);
    await until("three rows that serve", 12, async () => {
      const shown = Object.values(await rows(page));
      return shown.length === 3 && shown.every((one) => one.state === "Serving") || Promise.reject(new Error(JSON.stringify(shown)));
    });
    await until("a reload", 5, async () => await page.locator("noscript meta[http-equiv=refresh]").count() === 1);
    const was = await page.locator("#subline").innerText();
    const { ms } = await until("the uptime grows", 12, async () => await page.locator("#subline").innerText() !== was);
    return `"${await page.locator("#live").innerText()}", newer after ${ms} ms`;
  });
  await check("nothing is promised that needs a script", async () => {
    const shown = [];
    for (const to of ["/", `/backends/default/${first}`]) {
      await page.goto(stack.page + to);
      shown.push(...await page.getByText(/arrow keys|Connecting/).filter({ visible: true }).allInnerTexts());
    }
    expect(!shown.length, shown.join("; "));
    await page.goto(stack.page);
  });
  await check("a control works by form, and the result is shown, with the same window and order", async () => {
    await page.goto(`${stack.page}/?window=hour&sort=name-turned`);
    await control(page, first, "Not ready").click();
    await page.getByLabel("Reason").fill("acceptance: no script");
    await page.getByRole("button", { name: "Set to not ready" }).click();
    await page.waitForURL(/result=/);
    const result = await page.locator("#toasts").innerText();
    expect(result.includes(first) && result.includes("not ready"), `the result is "${result}"`);
    const { pathname, search } = new URL(page.url());
    expect(pathname === "/" && /^\?window=hour&sort=name-turned&result=\w+$/.test(search), page.url());
    const { value, ms } = await until("a reload shows it", 12, async () => {
      const one = await row(page, first);
      return one.state === "Not ready" && one;
    });
    expect(value.intent.includes("acceptance: no script"), `no reason in "${value.intent}"`);
    return `"${result}", "${value.intent}" after ${ms} ms`;
  });
  // As somebody does who looks where the focus is.
  const PAUSE = 300;
  await check("by keyboard alone, reloading is stopped, and stays so while a backend is changed", async () => {
    await stack.allWell();
    await page.goto(`${stack.page}/?window=hour`);
    const stops = await tabTo(page, page.getByRole("link", { name: "Stop reloading" }), "Tab", PAUSE);
    await page.keyboard.press("Enter");
    await page.waitForURL(/still=yes/);
    expect(await page.locator("noscript meta[http-equiv=refresh]").count() === 0, "it reloads itself");
    await page.screenshot({ path: `${process.env.OUT}/still-light-1400.png` });
    const more = await tabTo(page, control(page, second, "Drain"), "Tab", PAUSE);
    expect(more * PAUSE > 5000, `a control is reached with ${more} stops: a reload would not be seen`);
    await page.keyboard.press("Enter");
    await page.getByRole("button", { name: "Set to drain" }).focus();
    await page.keyboard.press("Enter");
    await page.waitForURL(/result=/);
    expect(/^\?window=hour&still=yes&result=/.test(new URL(page.url()).search), page.url());
    expect((await stack.backend(second)).admin === "drain", "it was not changed");
    return `after ${stops} stops, the control after ${more} more`;
  });
  await check("and on a backend's page and back, until it is to go on", async () => {
    const refresh = page.locator("noscript meta[http-equiv=refresh]");
    for (const [way, address] of [
      [page.locator("tbody th.name a").first(), /\/backends\/.*still=yes/],
      [page.getByRole("link", { name: "All backends" }), /\/\?.*still=yes/],
      [page.locator("thead th.weight a"), /\/\?.*sort=weight.*still=yes/],
    ]) {
      await way.click();
      await page.waitForURL(address);
      expect(await refresh.count() === 0, `${page.url()} reloads itself`);
    }
    await page.getByRole("link", { name: "Reload every 5 s" }).click();
    await page.waitForURL(/still=no/);
    expect(await refresh.count() === 1, "it does not reload itself");
    await page.locator("tbody th.name a").first().click();
    await page.waitForURL(/backends/);
    expect(await refresh.count() === 1 && !page.url().includes("still"), page.url());
    await page.goto(stack.page);
  });
  await check("a refusal asks again, with the way to insist", async () => {
    await stack.allWell();
    // What the page has not shown yet, it would not undo.
    await sees(page, 12, ALL_WELL);
    for (const id of [first, second]) await throughForm(page, id, "Not ready");
    const answer = await throughForm(page, stack.backends[2], "Drain");
    expect(answer.status() === 409, `answered with ${answer.status()}`);
    const text = await page.getByRole("alert").innerText();
    expect(await page.getByRole("button", { name: "Do it anyway" }).isVisible(), "no way to insist");
    await page.getByRole("link", { name: "Cancel" }).click();
    expect((await stack.backend(stack.backends[2])).admin === "ready", "it was changed");
    return `"${text}"`;
  });
  await check("and back again", async () => {
    for (const id of [first, second]) await throughForm(page, id, "Ready");
    return `"${ALL_WELL}" after ${(await sees(page, 12, ALL_WELL)).ms} ms`;
  });
  await close(page);
}

async function throughForm(page, id, word) {
  await control(page, id, word).click();
  const answer = page.waitForResponse((response) => response.request().method() === "POST");
  await page.getByRole("button", { name: `Set to ${word.toLowerCase()}` }).click();
  await page.waitForLoadState();
  return answer;
}

/** What a reader of that page would have to scroll sideways for. */
export async function tooWide(page) {
  return page.evaluate(() => {
    const { scrollWidth, clientWidth } = document.documentElement;
    const scrolls = (element) => {
      for (let one = element.parentElement; one && one !== document.body; one = one.parentElement) {
        if (["auto", "scroll", "hidden", "clip"].includes(getComputedStyle(one).overflowX)) return true;
      }
      return false;
    };
    const wide = [...document.body.querySelectorAll("*")].filter((element) =>
      element.getBoundingClientRect().right > clientWidth + 1 && !scrolls(element));
    const told = wide.slice(0, 5).map((element) => `${element.localName}.${element.className}#${element.id}`);
    return scrollWidth > clientWidth || told.length ? `${scrollWidth} of ${clientWidth} px: ${told}` : "";
  });
}

/** Labels of the picture that lie on one another. */
export async function overlapping(page) {
  return page.locator("#map li").evaluateAll((items) => {
    const boxes = items.flatMap((item) => [...item.children]).map((one) => [one.textContent || one.className, one.getBoundingClientRect()]);
    const meet = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;
    const pairs = boxes.flatMap(([name, box], index) => boxes.slice(index + 1).filter(([, other]) => meet(box, other)).map(([other]) => `${name} / ${other}`));
    return pairs.slice(0, 5).join("; ");
  });
}

export async function axe(page) {
  const { violations, passes } = await page.evaluate(`${axeSource}; axe.run(document, { resultTypes: ["violations"] })`);
  const grave = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
  const told = grave.flatMap(({ id, nodes }) => nodes.slice(0, 4).map((node) =>
    `${id}: ${node.target} ${node.any[0]?.message ?? node.failureSummary}`));
  expect(!grave.length, `${grave.map(({ id, nodes }) => `${id} (${nodes.length})`)}\n${told.join("\n")}`);
  const minor = violations.map(({ id, impact }) => `${id} (${impact})`).join(", ");
  return `${passes.length} rules passed${minor ? `, of less weight: ${minor}` : ""}`;
}

// A phone of the narrowest kind, a phone, a tablet, small and common laptops.
const WIDTHS = [320, 390, 768, 1024, 1366, 1920];

export async function everyWidth() {
  heading("On every screen");
  await stack.allWell();
  const load = stack.loadStart();
  const page = await open();
  await until("there is traffic", 60, async () => Math.abs((await rows(page))[first].rate - 20) <= 2);
  await change(page, second, "Not ready", "acceptance: a reason of some length, such as operators write at night");
  await until("the row shows it", 3, async () => (await row(page, second)).state === "Not ready");
  for (const width of WIDTHS) {
    await check(`nothing needs scrolling sideways at ${width} px`, async () => {
      await page.setViewportSize({ width, height: 844 });
      const wide = await tooWide(page);
      expect(!wide, wide);
    });
  }
  await page.setViewportSize({ width: 390, height: 844 });
  await picture(page, "one-not-ready-light-390");
  await check("the dialog fits a phone", async () => {
    await control(page, first, "Drain").click();
    await page.getByRole("dialog").waitFor();
    const { x, y, width, height } = await page.getByRole("dialog").boundingBox();
    expect(x >= 0 && y >= 0 && x + width <= 390 && y + height <= 844, JSON.stringify({ x, y, width, height }));
    await page.screenshot({ path: `${process.env.OUT}/dialog-light-390.png` });
    await page.keyboard.press("Escape");
    return `${width} x ${height} px`;
  });
  await change(page, second, "Ready");
  await sees(page, 5, ALL_WELL);
  await close(page);
  await check("a finger on a chart reads its values, until it touches something else", async () => {
    const phone = await open({ width: 390, height: 844, hasTouch: true });
    await sees(phone, 5, ALL_WELL);
    const plot = phone.locator("#panel-rate svg.plot");
    await plot.scrollIntoViewIfNeeded();
    const { x, y, width, height } = await plot.boundingBox();
    await phone.touchscreen.tap(x + width * 0.9, y + height / 2);
    const { value } = await until("values", 5, async () => {
      const text = await phone.locator("#readout").innerText();
      return /^\d\d:\d\d:\d\d UTC: /.test(text) && text;
    });
    expect(await phone.locator(".cursor").count() === 4, "one line through all charts");
    await phone.screenshot({ path: `${process.env.OUT}/touch-light-390.png` });
    await phone.touchscreen.tap(x + width / 2, 5);
    await until("the line goes", 5, async () => await phone.locator(".cursor").count() === 0);
    await close(phone);
    return `"${value}"`;
  });
  for (const dark of [false, true]) {
    for (const width of [1400, 390]) {
      const view = await open({ dark, width, height: width === 390 ? 844 : 1000 });
      await sees(view, 5, ALL_WELL);
      await picture(view, `well-${dark ? "dark" : "light"}-${width}`);
      await close(view);
    }
  }
  await stack.loadStop(load);
}

export async function accessible() {
  heading("Contrast, names and roles (axe-core: no serious or critical finding)");
  await stack.allWell();
  const load = stack.loadStart();
  // Its source is injected, which the page's policy rightly forbids.
  const views = [];
  for (const dark of [false, true]) {
    for (const width of [1400, 390]) {
      const page = await open({ dark, width, height: 900, bypassCSP: true });
      views.push([`${dark ? "dark" : "light"}, ${width} px`, page]);
    }
  }
  const each = async (state) => {
    for (const [name, page] of views) await check(`${state}, ${name}`, () => axe(page));
  };
  const [, page] = views[0];
  await until("there is traffic", 60, async () => Math.abs((await rows(page))[first].rate - 20) <= 2);
  await each("all is well");
  for (const [, one] of views) await control(one, first, "Drain").click();
  await each("the dialog");
  for (const [, one] of views) await one.keyboard.press("Escape");
  await change(page, second, "Not ready", "acceptance");
  await stack.kill(first);
  for (const [, one] of views) {
    await until("one is down and one not ready", 10, async () => (await row(one, first)).state === "Down" && (await row(one, second)).state === "Not ready");
  }
  await each("one down, one not ready");
  await stack.loadStop(load);
  // The dashboard tells a proxy that comes back what stands: what is set here must not come with it.
  await stack.allWell();
  await sees(page, 20, ALL_WELL);
  await stack.kill("proxy");
  for (const [, one] of views) await until("the page knows", 5, async () => (await one.locator("#notice").innerText()) !== "");
  await each("the proxy is away");
  for (const [, one] of views) await close(one);
  await stack.allWell();
  const question = await open({ bypassCSP: true, to: `${stack.page}/backends/default/${first}/change?state=drain` });
  await check("the question as a page of its own", () => axe(question));
  await question.goto(`${stack.page}/login`);
  await check("the sign-in", () => axe(question));
  await close(question);
}
