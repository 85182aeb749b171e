// Checks that print what they measured, and waits that are for a condition, never for time alone.

let failed = () => {};

/** Called with the sentence of each check that fails, for a picture of the moment. */
export function onFailure(handler) {
  failed = handler;
}

export function heading(text) {
  console.log(`\n== ${text}`);
}

/** Runs `body`, which throws if the sentence is not true and else returns what it measured. */
export async function check(sentence, body) {
  try {
    const measured = await body();
    console.log(`ok    ${sentence}${measured ? `: ${measured}` : ""}`);
  } catch (error) {
    const [first, ...more] = String(error?.stack ?? error).split("\n");
    console.log(`FAIL  ${sentence}: ${first}`);
    for (const line of more.slice(0, 12)) console.log(`      ${line}`);
    await failed(sentence);
  }
}

export function expect(truth, otherwise) {
  if (!truth) throw new Error(otherwise);
}

// For how long this process stood still, by a timer of its own. It does little itself, so that mostly the
// whole machine did.
const TICK = 20;
let lost = 0;
let due = performance.now() + TICK;

function tick() {
  const now = performance.now();
  lost += Math.max(0, now - due - TICK);
  due = now + TICK;
}
// No reason to go on for a suite that has come to its end.
setInterval(tick, TICK).unref();

function stoodStill() {
  // An answer may be read before the timer is heard that was late with it.
  tick();
  return lost;
}

/** Gives the way to ask for the milliseconds since, but those for which this process stood still. */
export function stopwatch() {
  const before = stoodStill();
  const start = performance.now();
  return () => Math.round(performance.now() - start - (stoodStill() - before));
}

/**
 * Asks `probe` again and again until it gives something true. Gives that and how long it took, by a
 * stopwatch: a limit is one for the product, not for a machine that does other work.
 */
export async function until(what, seconds, probe) {
  const took = stopwatch();
  let last;
  for (;;) {
    let value;
    try {
      value = await probe();
      last = value;
    } catch (error) {
      last = error.message;
    }
    const ms = took();
    if (value) return { value, ms };
    if (ms > seconds * 1000) throw new Error(`not within ${seconds} s: ${what} (last: ${JSON.stringify(last)})`);
    await new Promise((resolve) => setTimeout(resolve, 40));
  }
}
