// What an operator does all day: look, take one out, bring it back, and not take the last one.

import { ALL_WELL, change, close, control, headline, mark, notReloaded, open, picture, row, rows, sees, totalRate } from "./browser.js";
import { check, expect, heading, stopwatch, until } from "./report.js";
import * as stack from "./stack.js";

const [first, second, third] = stack.backends;

export async function looking() {
  heading("Looking at the page");
  await stack.allWell();
  const page = await open();
  await mark(page);
  await check("all three backends are shown serving, and the first line says so", async () => {
    const { ms } = await sees(page, 5, ALL_WELL);
    const shown = await rows(page);
    expect(Object.keys(shown).sort().join() === [...stack.backends].sort().join(), `rows: ${Object.keys(shown)}`);
    for (const one of Object.values(shown)) expect(one.state === "Serving" && one.health === "Up", JSON.stringify(one));
    return `"${await headline(page)}" after ${ms} ms, title "${await page.title()}"`;
  });
  let load;
  await check("traffic that begins moves the numbers within 2 s, without a reload", async () => {
    const times = [];
    let value;
    // What is too slow is so each time; a busy machine has better moments, too.
    while (times.length < 3 && !times.some((ms) => ms <= 2000)) {
      if (load) stack.clean(await stack.loadStop(load));
      await until("there is no traffic", 20, async () => await totalRate(page) === 0);
      const before = await Promise.all(stack.backends.map(stack.arrived));
      load = stack.loadStart();
      let hasMoved = false;
      const begun = until("a server has a request", 20, async () =>
        (await Promise.all(stack.backends.map(stack.arrived))).some((count, index) => count > before[index])).then(() => hasMoved ? () => Infinity : stopwatch());
      const moved = until("the total of requests moves", 20, () => totalRate(page)).finally(() => { hasMoved = true; });
      const [took, total] = await Promise.all([begun, moved]);
      // Where a server tells later of its request than the page does, there is no telling how late that was.
      times.push(took());
      value = total.value;
    }
    expect(times.at(-1) <= 2000, `it took ${times.join(", then ")} ms`);
    await notReloaded(page);
    return `from 0 to ${value} per second after ${times.join(", then ")} ms`;
  });
  await check("each backend is shown with its third of the traffic", async () => {
    const { ms } = await until("60 requests per second in equal parts", 20, async () => {
      const rates = Object.values(await rows(page)).map((one) => one.rate);
      return Math.abs(await totalRate(page) - 60) <= 3 && rates.every((rate) => Math.abs(rate - 20) <= 1);
    });
    const rates = Object.values(await rows(page)).map((one) => one.rate).join(" + ");
    await notReloaded(page);
    return `${rates} = ${await totalRate(page)} per second after ${ms} ms`;
  });
  await check("no request failed meanwhile", async () => stack.clean(await stack.loadStop(load)));
  await close(page);
}

export async function notReady() {
  heading("Taking a backend out and bringing it back");
  await stack.allWell();
  const page = await open();
  await mark(page);
  await sees(page, 5, ALL_WELL);
  let load = stack.loadStart();
  await until("each gets its third of the load", 10, async () =>
    Object.values(await rows(page)).every((one) => Math.abs(one.rate - 20) <= 2));

  await check("a backend that is set not ready shows it, the reason and who, within 2 s of the click", async () => {
    const took = stopwatch();
    await change(page, second, "Not ready", "acceptance: disk is full");
    const { value } = await until("the row shows the change", 2, async () => {
      const one = await row(page, second);
      return one.state === "Not ready" && one.pressed === "Not ready" && one;
    });
    const ms = took();
    expect(ms <= 2000, `it took ${ms} ms`);
    expect(value.intent.includes("acceptance: disk is full"), `no reason in "${value.intent}"`);
    expect(value.intent.includes("by dashboard, on this machine"), `not who in "${value.intent}"`);
    return `"${value.intent}" after ${ms} ms, the dialog included`;
  });
  await check("the first line names it", async () => {
    const sentence = `2 of 3 serve: ${second} is set not ready`;
    return `"${sentence}" after ${(await sees(page, 2, sentence)).ms} ms`;
  });
  await check("the list of events has it, with the actor", async () => {
    const item = page.locator("#events li", { hasText: second }).filter({ hasText: "by dashboard" }).first();
    await until("it is there", 2, () => item.isVisible());
    return `"${(await item.innerText()).replace(/\s+/g, " ")}"`;
  });
  await check("it gets no request any more, by its own count, while the others get theirs", async () => {
    // What was picked before the change may still be on its way for an instant.
    await until("nothing is in flight", 2, async () => (await row(page, second)).inFlight === 0);
    const [before, ...others] = await Promise.all([second, first, third].map(stack.arrived));
    await until("the others get 60 requests each", 10, async () =>
      (await Promise.all([first, third].map(stack.arrived))).every((count, index) => count - others[index] >= 60));
    const after = await stack.arrived(second);
    expect(after === before, `${after - before} requests arrived`);
    return `${before} before and after, others ${await stack.arrived(first) - others[0]} and ${await stack.arrived(third) - others[1]} more`;
  });
  await check("no request failed meanwhile", async () => stack.clean(await stack.loadStop(load)));
  // Alone, for its turns and another's of the same rate could fall into step.
  load = stack.loadStart();
  await check("a load that begins now is answered by the other two only", async () => {
    const before = await stack.arrived(first);
    await until("the first backend gets 60 requests", 10, async () => await stack.arrived(first) - before >= 60);
    const result = await stack.loadStop(load);
    load = stack.loadStart();
    const names = Object.keys(result.served_by).sort().join();
    expect(names === [first, third].map(stack.nameOf).join(), `served by ${names}`);
    return stack.clean(result);
  });
  await check("its requests per second go to 0 on the page", async () => {
    const { ms } = await until("a rate of 0", 15, async () => (await row(page, second)).rate === 0);
    return `after ${ms} ms more`;
  });
  await picture(page, "one-not-ready-light-1400");

  await check("set ready again, it serves", async () => {
    await change(page, second, "Ready");
    const shown = await until("the row shows it serving", 5, async () => {
      const one = await row(page, second);
      return one.state === "Serving" && one.pressed === "Ready" && one.intent === "";
    });
    await sees(page, 2, ALL_WELL);
    const { ms } = await until("it gets traffic", 5, async () => (await row(page, second)).rate > 0);
    await notReloaded(page);
    return `shown after ${shown.ms} ms, traffic on the page ${ms} ms later`;
  });
  await check("no request failed meanwhile", async () => stack.clean(await stack.loadStop(load)));
  await close(page);
}

export async function lastOne() {
  heading("The last usable backend");
  await stack.allWell();
  const page = await open();
  await sees(page, 5, ALL_WELL);
  const load = stack.loadStart();
  await check("two of three can be taken out", async () => {
    await change(page, first, "Not ready");
    await change(page, second, "Drain");
    const { ms } = await until("the first line counts one", 5, async () => (await headline(page)).startsWith("1 of 3 serve"));
    return `"${await headline(page)}" after ${ms} ms`;
  });
  await check("draining the last one is refused with 409 and the numbers", async () => {
    await control(page, third, "Drain").click();
    const answer = page.waitForResponse((response) => response.request().method() === "POST");
    await page.getByRole("button", { name: "Set to drain" }).click();
    expect((await answer).status() === 409, `answered with ${(await answer).status()}`);
    const objection = page.locator("#confirm-error");
    await objection.waitFor();
    const text = await objection.innerText();
    expect(/\b3\b/.test(text) && /\b(1|0|last|no)\b/.test(text), `no numbers in "${text}"`);
    expect(await page.getByRole("button", { name: "Do it anyway" }).isVisible(), "no way to insist");
    await picture(page, "last-one-refused");
    await page.getByRole("button", { name: "Cancel" }).click();
    return `"${text}"`;
  });
  await check("nothing changed by it", async () => {
    const known = await stack.backend(third);
    expect(known.admin === "ready" && known.eligible, JSON.stringify(known));
    const shown = await row(page, third);
    expect(shown.state === "Serving" && shown.pressed === "Ready", JSON.stringify(shown));
    const before = await stack.arrived(third);
    await until("it goes on serving", 5, async () => await stack.arrived(third) - before >= 60);
    return `${third} is ready, serving, and got 60 more requests`;
  });
  await check("no request failed meanwhile", async () => stack.clean(await stack.loadStop(load)));
  await check("the others come back by the page", async () => {
    await change(page, first, "Ready");
    await change(page, second, "Ready");
    return `"${ALL_WELL}" after ${(await sees(page, 5, ALL_WELL)).ms} ms`;
  });
  await close(page);
}
