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

/** Asks `probe` again and again until it gives something true. Gives that and how long it took. */
export async function until(what, seconds, probe) {
  const start = performance.now();
  let last;
  for (;;) {
    let value;
    try {
      value = await probe();
      last = value;
    } catch (error) {
      last = error.message;
    }
    const ms = Math.round(performance.now() - start);
    if (value) return { value, ms };
    if (ms > seconds * 1000) throw new Error(`not within ${seconds} s: ${what} (last: ${JSON.stringify(last)})`);
    await new Promise((resolve) => setTimeout(resolve, 40));
  }
}
