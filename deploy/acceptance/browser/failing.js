// What breaks by itself: a server, and the proxy.

import { connect, createServer } from "node:net";

import { ALL_WELL, REBOUND, close, change, control, headline, mark, notReloaded, open, picture, row, rows, sees, totalRate } from "./browser.js";
import { axe } from "./reaching.js";
import { check, expect, heading, until } from "./report.js";
import * as stack from "./stack.js";

export async function killedServer() {
  heading("A killed server");
  await stack.allWell();
  const [, , victim] = stack.backends;
  const page = await open();
  await mark(page);
  await sees(page, 5, ALL_WELL);
  const load = stack.loadStart();
  // All three: what the page shows may be traffic of the scenario before.
  await until("each gets its third of the load", 10, async () =>
    Object.values(await rows(page)).every((one) => Math.abs(one.rate - 20) <= 2));
  await check("its row turns down, with a reason, and the first line names it", async () => {
    await stack.kill(victim);
    const { value, ms } = await until("the row shows it down", 10, async () => {
      const one = await row(page, victim);
      return one.state === "Down" && one.health === "Down" && one.healthReason && one;
    });
    await sees(page, 2, `2 of 3 serve: ${victim} is down`);
    return `"${value.healthReason}" after ${ms} ms`;
  });
  await picture(page, "one-down");
  await check("the others take its share", async () => {
    const others = stack.backends.filter((id) => id !== victim);
    const before = await Promise.all(others.map(stack.arrived));
    const { ms } = await until("60 requests each", 10, async () =>
      (await Promise.all(others.map(stack.arrived))).every((count, index) => count - before[index] >= 60));
    return `60 requests each in ${ms} ms`;
  });
  await check("started again on its port, it recovers by itself", async () => {
    stack.start(victim);
    const { ms } = await until("the row shows it serving", 10, async () => {
      const one = await row(page, victim);
      return one.state === "Serving" && one.health === "Up";
    });
    await sees(page, 2, ALL_WELL);
    await until("it gets traffic", 5, async () => await stack.arrived(victim) > 0);
    await notReloaded(page);
    return `after ${ms} ms`;
  });
  await check("no request failed meanwhile", async () => stack.clean(await stack.loadStop(load)));
  await close(page);
}

/** All of the last picture: what is drawn of it, its charts and its rows. */
const stale = (page) => page.locator(".traffic, .panels, #pools").evaluateAll((parts) =>
  parts.length === 3 && parts.every((part) => getComputedStyle(part).filter.includes("grayscale(1)")));
const greyHero = (page) => page.locator(".hero").evaluate((hero) => getComputedStyle(hero).filter.includes("grayscale(1)"));
/** What of a backend's own page is of the last picture and as green as ever. */
const greenParts = (page) => page.locator("main > :is(.columns, .panels, #opinions, #decisions)").evaluateAll((parts) =>
  (parts.length === 5 ? [] : [`${parts.length} parts`]).concat(parts.filter((part) => !getComputedStyle(part).filter.includes("grayscale(1)"))
    .map((part) => part.innerText.trim().slice(0, 40)).filter(Boolean)).join("; "));
const age = async (page) =>
  Number(/last picture, (\d+) s old/.exec(await page.locator("#notice").innerText().catch(() => ""))?.[1] ?? NaN);

export async function killedProxy() {
  heading("A killed proxy");
  await stack.allWell();
  const page = await open();
  const dark = await open({ dark: true, width: 390, height: 844 });
  const own = await open({ to: `${stack.page}/backends/default/${stack.backends[0]}`, bypassCSP: true });
  await mark(page);
  await sees(page, 5, ALL_WELL);
  const load = stack.loadStart();
  await until("there is traffic to remember", 60, async () => Math.abs(await totalRate(page) - 60) <= 3);
  await stack.loadStop(load);
  const before = Object.keys(await rows(page)).join();

  await check("the page says that the proxy does not answer", async () => {
    await stack.kill("proxy");
    const { ms } = await until("a first line about the proxy", 5, async () => /proxy/i.test(await headline(page)));
    const notice = await page.locator("#notice [role=alert]").innerText();
    expect(notice.includes(stack.adminApi), `the notice does not tell the address: "${notice}"`);
    return `"${await headline(page)}", "${notice}" after ${ms} ms`;
  });
  await check("the last picture stays, greyed, and tells its age, which grows", async () => {
    expect(await stale(page), "the picture is not greyed");
    expect(Object.keys(await rows(page)).join() === before, "the rows went away");
    const { value } = await until("an age", 3, () => age(page));
    const { value: later, ms } = await until("a greater age", 4, async () => await age(page) > value && await age(page));
    return `${value} s, then ${later} s after ${ms} ms`;
  });
  await check("so does all of a backend's own page, with no serious finding by axe", async () => {
    await until("its own page is grey", 5, async () => !await greenParts(own) || Promise.reject(new Error(await greenParts(own))));
    expect(await greyHero(own), "its first line is green");
    await picture(own, "proxy-away-one-light-1400");
    return axe(own);
  });
  await check("a change is refused, and the page says that nothing was changed", async () => {
    await control(page, stack.backends[0], "Drain").click();
    await page.getByRole("button", { name: "Set to drain" }).click();
    const objection = page.locator("#confirm-error");
    await objection.waitFor();
    const text = await objection.innerText();
    expect(text.startsWith("Nothing was changed"), `it says "${text}"`);
    await page.getByRole("button", { name: "Cancel" }).click();
    return `"${text}"`;
  });
  await picture(page, "proxy-away-light-1400");
  await until("the other window knows, too", 5, () => stale(dark));
  await picture(dark, "proxy-away-dark-390");
  await check("started again, the proxy is found without a reload", async () => {
    stack.start("proxy");
    const { ms } = await sees(page, 10, ALL_WELL);
    expect(!await stale(page), "the picture is still greyed");
    expect(await page.locator("#notice").innerText() === "", "the notice is still there");
    await notReloaded(page);
    return `"${await headline(page)}" after ${ms} ms`;
  });
  await check("the controls work again", async () => {
    await change(page, stack.backends[0], "Drain");
    const { ms } = await until("the row shows it", 2, async () => (await row(page, stack.backends[0])).pressed === "Drain");
    await change(page, stack.backends[0], "Ready");
    await sees(page, 5, ALL_WELL);
    return `after ${ms} ms`;
  });
  await until("its own page is as green as ever", 5, async () => (await greenParts(own)).includes("; "));
  await close(page);
  await close(dark);
  await close(own);
}

/** From now on: when the page heard its feed last, by its own clock, and how often. */
const noteFeed = (page) => page.addInitScript(() => {
  window.timesHeardByTheSuite = 0;
  window.EventSource = class extends EventSource {
    constructor(...all) {
      super(...all);
      for (const name of ["beat", "patch"]) this.addEventListener(name, () => { window.heardByTheSuite = Date.now(); window.timesHeardByTheSuite += 1; });
    }
  };
});
/** For how long it has heard nothing, and what it says of that. Of one moment: an event may come between two. */
const silence = (page) => page.evaluate(() =>
  ({ ms: Date.now() - window.heardByTheSuite, says: document.getElementById("live").textContent }));

export async function silentDashboard() {
  heading("The dashboard falls silent");
  await stack.allWell();
  const page = await open({ to: null });
  // So that the page need not be waited for.
  await page.clock.install();
  await noteFeed(page);
  await page.goto(stack.page);
  const live = page.locator("#live");
  await sees(page, 5, ALL_WELL);
  await until("it is live", 10, async () => await live.innerText() === "Live");
  await check("a page that hears no heartbeat says that it is stale, for as long as that lasts", async () => {
    // Its time stands, so that none passes but what is told here.
    await until("its clock stands", 5, async () => {
      await page.clock.pauseAt(await page.evaluate(() => Date.now()) + 1_000);
      return true;
    });
    await stack.freeze("dashboard");
    // What was under way by then may still come, and begins the silence anew.
    const seen = [];
    await until("9 s of silence", 60, async () => {
      await page.clock.fastForward(500);
      seen.push(await silence(page));
      return seen.at(-1).ms >= 9_000;
    });
    const wrong = seen.filter(({ ms, says }) => ms <= 7_500 ? says !== "Live" : ms >= 9_000 && !/^Stale/.test(says));
    expect(!wrong.length, JSON.stringify(wrong));
    expect(seen.some(({ ms }) => ms > 6_000 && ms <= 7_500), `nothing was seen between 6 and 7.5 s: ${JSON.stringify(seen)}`);
    await page.clock.fastForward(9_000);
    const { ms, says } = await silence(page);
    expect(/^Stale/.test(says), says);
    return `"Live" after ${seen.findLast(({ says }) => says === "Live").ms} ms, "${says}" from ${seen.find(({ says }) => says !== "Live").ms} to ${ms} ms`;
  });
  await check("what it shows is grey meanwhile, as with a proxy that is away, and the first line too", async () => {
    expect(await stale(page), "the picture is not greyed");
    expect(await greyHero(page), "the first line is as green as ever");
    expect(await headline(page) === ALL_WELL, "the first line went away");
  });
  await picture(page, "dashboard-silent-light-1400");
  await check("and is live by itself when the dashboard goes on", async () => {
    await page.clock.resume();
    stack.thaw("dashboard");
    // It hears the dashboard before that has heard the proxy again.
    const { ms } = await until("it is live and not greyed", 10, async () =>
      await live.innerText() === "Live" && !await stale(page) && !await greyHero(page));
    return `after ${ms} ms`;
  });
  await close(page);
  // The browser notes on its console that the feed was cut off, which is what is wanted here.
  const other = await open({ harmful: true });
  const says = other.locator("#live");
  const own = await open({ harmful: true, to: `${stack.page}/backends/default/${stack.backends[0]}` });
  await until("it is live", 10, async () => await says.innerText() === "Live");
  await check("a page whose dashboard does not answer is greyed until it does", async () => {
    await stack.kill("dashboard");
    const { ms } = await until("it says so", 10, async () => /^The dashboard does not answer/.test(await says.innerText()));
    expect(await stale(other) && await greyHero(other), "it is not greyed");
    await until("so is a backend's own page", 5, async () => await greyHero(own) && !await greenParts(own));
    stack.start("dashboard");
    const { ms: back } = await until("it is live and not greyed", 20, async () =>
      await says.innerText() === "Live" && !await stale(other) && !await greyHero(other));
    return `after ${ms} ms, live again after ${back} ms`;
  });
  await close(other);
  await close(own);
}

/** Shows the tab or another one before it. Playwright keeps all tabs in sight, so this is what the page is told. */
const show = (page, shown) => page.evaluate((hidden) => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
  document.dispatchEvent(new Event("visibilitychange"));
}, !shown);

export async function leftTab() {
  heading("A tab that is left, and a machine that sleeps");
  await stack.allWell();
  const page = await open({ to: null });
  await page.clock.install();
  await page.goto(stack.page);
  const live = page.locator("#live");
  const isLive = () => until("it is live", 10, async () => await live.innerText() === "Live");
  const isGrey = async () => await stale(page) && await greyHero(page);
  await isLive();
  await sees(page, 5, ALL_WELL);
  await check("a tab that nobody sees does not call itself live, nor tell in its name what was so", async () => {
    const was = await page.title();
    await show(page, false);
    expect(/^3\/3/.test(was), `it was called "${was}"`);
    expect(await page.title() === "Evenkeel", `it is called "${await page.title()}"`);
    expect(await live.textContent() === "Paused", await live.textContent());
    return `"${was}", then "${await page.title()}"`;
  });
  await check("seen again, it is grey and not live until the dashboard has told something", async () => {
    await page.clock.fastForward(60_000);
    await stack.freeze("dashboard");
    await show(page, true);
    const says = [];
    for (let times = 0; times < 3; times += 1) {
      says.push(await live.innerText());
      expect(says.at(-1) !== "Live" && await isGrey(), `"${says.at(-1)}", ${await isGrey() ? "grey" : "green"}`);
      await page.clock.fastForward(3_000);
    }
    await page.screenshot({ path: `${process.env.OUT}/tab-again-light-1400.png` });
    stack.thaw("dashboard");
    const { ms } = await until("it is live, not greyed, and called by what is so", 10, async () =>
      await live.innerText() === "Live" && !await stale(page) && !await greyHero(page) && /^3\/3/.test(await page.title()));
    return `"${says.join('", "')}", live after ${ms} ms`;
  });
  await check("seen again after a moment, it does not turn grey", async () => {
    await stack.freeze("dashboard");
    await show(page, false);
    await show(page, true);
    const is = await live.innerText();
    const grey = await isGrey();
    stack.thaw("dashboard");
    expect(is === "Connecting …" && !grey, `"${is}", ${grey ? "grey" : "green"}`);
    await isLive();
  });
  const setClock = async (by) => page.clock.setSystemTime(await page.evaluate(() => Date.now()) + by);
  await check("a clock that is set forward makes nothing stale, and one that is set back hides no silence", async () => {
    await page.evaluate(() => {
      const says = window.saidToTheSuite = [];
      const live = document.getElementById("live");
      new MutationObserver(() => says.push(live.textContent)).observe(live, { childList: true, characterData: true, subtree: true });
    });
    await setClock(3_600_000);
    await page.waitForTimeout(2_000);
    await isLive();
    const said = await page.evaluate(() => window.saidToTheSuite);
    expect(!said.some((text) => /^Stale/.test(text)), said.join(", "));
    await setClock(-7_200_000);
    await stack.freeze("dashboard");
    await page.clock.fastForward(40_000);
    await until("it is stale", 5, async () => /^Stale/.test(await live.innerText()));
    expect(await isGrey(), "it is green");
    stack.thaw("dashboard");
    await isLive();
    return `said "${said.join('", "')}" when it was set forward`;
  });
  await check("a page before which the machine slept turns grey at once, though no time of its own passed", async () => {
    await stack.freeze("dashboard");
    await setClock(600_000);
    const { ms } = await until("it is not live", 5, async () => await live.innerText() === "Connecting …");
    expect(await isGrey(), "it is green");
    await page.clock.fastForward(40_000);
    await until("it is stale", 5, async () => /^Stale/.test(await live.innerText()));
    stack.thaw("dashboard");
    await isLive();
    return `after ${ms} ms`;
  });
  await close(page);
}

/** A way to a port of this machine that brings no more than so many bytes a second back, from any moment on. */
async function linkTo(port) {
  let most = Infinity;
  const sockets = new Set();
  const relay = createServer((near) => {
    const far = connect(port, "127.0.0.1");
    let last = performance.now();
    // What is not read yet waits where it would on a real link: with whoever sends it.
    const turn = setInterval(() => {
      const now = performance.now();
      const piece = far.read(Math.min(far.readableLength, Math.ceil(most * (now - last) / 1000)) || undefined);
      last = now;
      if (piece) near.write(piece);
    }, 50);
    near.pipe(far);
    for (const [one, other] of [[near, far], [far, near]]) {
      sockets.add(one);
      one.on("error", () => {}).on("close", () => { clearInterval(turn); sockets.delete(one); other.destroy(); });
    }
  });
  await new Promise((resolve) => relay.listen(0, "127.0.0.1", resolve));
  return {
    page: `http://127.0.0.1:${relay.address().port}`,
    pace: (bytes) => { most = bytes; },
    end: () => { relay.close(); for (const socket of sockets) socket.destroy(); },
  };
}

export async function slowLink() {
  heading("Many backends on a slow link");
  const fleet = await stack.fakes([{ count: 500 }]);
  const link = await linkTo(Number(new URL(fleet.page).port));
  const page = await open({ to: null });
  await noteFeed(page);
  await page.goto(link.page);
  const live = page.locator("#live");
  const isLive = (seconds) => until("it is live", seconds, async () => await live.innerText() === "Live");
  await isLive(20);
  /** All that it says from now on, what it said last before something whole came twice, and how often that was. */
  const listen = () => page.evaluate(() => {
    const live = document.getElementById("live");
    window.saidToTheSuite?.observer.disconnect();
    const said = window.saidToTheSuite = { texts: [live.textContent], ofFirst: live.textContent, times: window.timesHeardByTheSuite };
    said.observer = new MutationObserver(() => {
      said.texts.push(live.textContent);
      if (window.timesHeardByTheSuite - said.times <= 1) said.ofFirst = live.textContent;
    });
    said.observer.observe(live, { childList: true, characterData: true, subtree: true });
  });
  const said = () => page.evaluate(() => {
    const { texts, ofFirst, times } = window.saidToTheSuite;
    return { texts, ofFirst, times: window.timesHeardByTheSuite - times };
  });
  await check("on a link that is too slow for its updates it is never called live, and says for how long it is behind", async () => {
    // They are more once there is a history to draw.
    link.pace(25_000);
    await until("it is behind", 60, async () => /^Receiving …/.test(await live.textContent()));
    await listen();
    await until("some updates came", 90, async () => (await said()).times >= 2);
    const { texts } = await said();
    expect(texts.every((text) => /^Receiving …\d+ s behind$/.test(text)), [...new Set(texts)].join(", "));
    expect(await stale(page) && await greyHero(page), "what is shown is not greyed");
    return `"${texts[0]}" to "${texts.at(-1)}"`;
  });
  await check("and is live again when the link is quick again", async () => {
    link.pace(Infinity);
    const { ms } = await until("it is live and not greyed", 30, async () =>
      await live.innerText() === "Live" && !await stale(page) && !await greyHero(page));
    return `after ${ms} ms`;
  });
  await check("a picture that takes longer than a feed may be silent is waited for, in grey", async () => {
    await show(page, false);
    // A megabit per second, of which the first picture is more than ten.
    link.pace(125_000);
    await listen();
    await show(page, true);
    // A link goes on while this process stands still, and so does the time that it takes.
    const start = performance.now();
    await until("it receives", 20, async () => /^Receiving …/.test(await live.textContent()));
    expect(await stale(page) && await greyHero(page), "what is shown meanwhile is not greyed");
    await until("the picture is there", 60, async () => (await said()).times > 0);
    const ms = Math.round(performance.now() - start);
    // An update may have come since, with which it is live.
    const { texts, ofFirst: behind } = await said();
    expect(ms > 8_000, `it took no longer than ${ms} ms`);
    expect(!texts.some((text) => /^Stale/.test(text)), texts.join(", "));
    expect(/^Receiving …\d+ s behind$/.test(behind), `it calls that "${behind}"`);
    link.pace(Infinity);
    await isLive(30);
    return `in ${ms} ms, "${behind}"`;
  });
  await close(page);
  link.end();
  await fleet.stop();
}

/** Feeds as scripts open them, from elsewhere by what they say of it; gives the way to end them all. */
async function feeds(count) {
  const end = new AbortController();
  const headers = { "X-Forwarded-For": "192.0.2.1" };
  const all = await Promise.all(Array.from({ length: count }, () => fetch(`${stack.page}/live`, { headers, signal: end.signal })));
  return { statuses: all.map(({ status }) => status), end: () => end.abort() };
}

export async function refusedFeed() {
  heading("A page that is fed no longer");
  const token = "acceptance-token-for-reading";
  const fleet = await stack.fakes([{ count: 2, well: true }], { DASHBOARD_READ_TOKEN: token });
  // Under a foreign name nobody is on this machine. The browser notes each refusal on its console.
  const foreign = (address) => address.replace("127.0.0.1", REBOUND);
  const page = await open({ harmful: true, to: foreign(fleet.page) });
  const live = page.locator("#live");
  const says = (text, seconds = 10) => until(`it says "${text}"`, seconds, async () => await live.textContent() === text);
  const signIn = async () => {
    await page.getByLabel("Token").fill(token);
    await page.getByRole("button", { name: "Sign in" }).click();
    await says("Live");
  };
  await signIn();
  await check("a reader whom the dashboard forgot is told so, for as long as that lasts, and may sign in", async () => {
    await fleet.restart();
    const { ms } = await says("You are signed out: sign in", 20);
    expect(await stale(page) && await greyHero(page), "the picture is not greyed");
    const seen = [];
    for (let times = 0; times < 24; times += 1) {
      seen.push(await live.textContent());
      await page.waitForTimeout(250);
    }
    expect(seen.every((text) => text === seen[0]), [...new Set(seen)].join(", "));
    await page.screenshot({ path: `${process.env.OUT}/signed-out-light-1400.png` });
    await live.getByRole("link", { name: "sign in" }).click();
    await signIn();
    return `"${seen[0]}" ${ms} ms after the dashboard came back`;
  });
  await close(page);
  await fleet.stop();
  await stack.allWell();
  await check("who opens many feeds elsewhere takes none from operators, and is told why there are no more", async () => {
    const { statuses, end } = await feeds(30);
    const page = await open({ harmful: true, to: foreign(stack.page) });
    const operator = await open();
    try {
      expect(statuses.includes(503), `all of 30 were opened: ${statuses}`);
      await until("the operator's page is live", 10, async () => await operator.locator("#live").innerText() === "Live");
      const told = page.locator("#live");
      const { value } = await until("a reason", 10, async () => /^Too many pages/.test(await told.innerText()) && told.innerText());
      end();
      const { ms } = await until("it is live", 10, async () => await told.innerText() === "Live");
      return `"${value}", live ${ms} ms after the others ended`;
    } finally {
      end();
      await close(page);
      await close(operator);
    }
  });
}
