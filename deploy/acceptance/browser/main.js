// All scenarios in order, on one stack and in one browser. Each begins with all well, so that one
// that fails does not take the next with it.

import { changedMeanwhile, lateAnswer } from "./asking.js";
import { closeAll, launch, pictureAll, quit } from "./browser.js";
import { killedProxy, killedServer, leftTab, refusedFeed, silentDashboard, slowLink } from "./failing.js";
import { manners, otherOrigins } from "./guarding.js";
import { lastOne, looking, notReady } from "./operating.js";
import { steady, steadyDispute, steadyOne } from "./steady.js";
import { fullRows, sortedAnywhere } from "./table.js";
import { savedTrouble } from "./saved.js";
import { accessible, everyWidth, keyboard, withoutScript } from "./reaching.js";
import { calm, cheapUpdates, manySizes, oneBackend, overTime, severalProxies } from "./showing.js";
import { check, onFailure } from "./report.js";
import * as stack from "./stack.js";

const SCENARIOS = [looking, notReady, lastOne, lateAnswer, changedMeanwhile, killedServer, keyboard, withoutScript, everyWidth, killedProxy, silentDashboard, leftTab, slowLink, refusedFeed, accessible,
  oneBackend, overTime, manySizes, fullRows, sortedAnywhere, steady, steadyOne, steadyDispute, cheapUpdates, severalProxies, savedTrouble, calm, otherOrigins, manners];
// For work on one of them: ONLY=keyboard,manners.
const only = process.env.ONLY?.split(",");

async function stop() {
  await quit();
  await stack.stopAll();
}

for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, () => stop().finally(() => process.exit(1)));

/** Pictures of a failure are numbered in the order of failures. */
let number = 0;
onFailure(() => pictureAll(number += 1));
try {
  console.log(`Chromium ${await launch()}, the page at ${stack.page}`);
  for (const scenario of SCENARIOS) {
    if (only && !only.includes(scenario.name)) continue;
    try {
      await scenario();
    } catch (error) {
      await check(`the scenario ${scenario.name} comes to its end`, () => { throw error; });
      await closeAll();
      // What it has left running, frozen or set is nothing to the next.
      await check("the stack is well again", () => stack.allWell());
    }
  }
  console.log("\nall scenarios done");
} finally {
  await stop();
}
