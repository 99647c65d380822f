// Measures what the page promises of its speed and weight, and writes it into site/README.md:
//
//     uv run site/check --measure
//
// Nothing here can fail a test: a busy machine is slower.

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";

import { start, type Screen } from "./browser.ts";
import { DIST } from "./serve.ts";
import { weights } from "./weights.ts";

const README = new URL("../../README.md", import.meta.url);
const [FROM, TO] = ["<!-- measured -->\n", "<!-- /measured -->"];
const TIMES = 9;
const STEPS = 500;

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

/** Milliseconds from the request for the page until the first view is shown, in an empty browser. */
async function firstView(screen: Screen): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < TIMES; i++) {
    const context = await screen.browser.newContext();
    const page = await context.newPage();
    const begun = performance.now();
    await page.goto(screen.url, { waitUntil: "commit" });
    await page.locator("[data-settled=true]").first().waitFor();
    times.push(performance.now() - begun);
    await context.close();
  }
  return median(times);
}

/** Microseconds of a step of recipe seed in Chromium: a whole run by the page's own worker. */
async function step(screen: Screen): Promise<number> {
  const page = await screen.browser.newPage();
  await page.goto(screen.url);
  const worker = readdirSync(join(DIST, "assets")).find((name) => /^worker-.*\.js$/.test(name))!;
  const times = await page.evaluate(
    async ({ worker, times, steps }) => {
      const engine = new Worker(`assets/${worker}`, { type: "module" });
      let asked = 0;
      const ask = (name: string, ...args: unknown[]): Promise<unknown> =>
        new Promise((resolve) => {
          const id = ++asked;
          engine.addEventListener("message", ({ data }) => { if ((data as { id: number }).id === id) resolve(data); });
          engine.postMessage({ id, name, args });
        });
      const plan = { recipe: "seed", numbers: {}, seed: 42, heldOut: 0, own: "" };
      const found: number[] = [];
      for (let i = 0; i < times; i++) {
        await ask("begin", "measured", i, plan);
        const begun = performance.now();
        await ask("advance", "measured", i, steps, 1e9);
        found.push(((performance.now() - begun) * 1000) / steps);
      }
      engine.terminate();
      return found;
    },
    { worker, times: TIMES, steps: STEPS },
  );
  await page.close();
  return median(times);
}

const screen = await start();
try {
  const { first, all } = await weights(screen);
  const shown = await firstView(screen);
  const took = await step(screen);
  const kilobytes = (bytes: number): string => `${Math.round(bytes / 1000)} KB`;
  const day = new Date().toISOString().slice(0, 10);
  const machine = `${cpus()[0]!.model.trim()}, ${cpus().length} cores, Chromium ${screen.browser.version()}`;
  const text = `${day}, ${machine}, medians of ${TIMES}:

| | measured | asked for |
|---|---:|---:|
| first view, from the request until it is shown, on loopback | ${(shown / 1000).toFixed(2)} s | under 1 s |
| the first view as sent with gzip | ${kilobytes(first)} | at most 400 KB |
| everything as sent with gzip | ${kilobytes(all)} | at most 1,200 KB |
| a step of recipe \`seed\`, in a whole run of ${STEPS} | ${took.toFixed(0)} µs | at most 200 µs |
`;
  const readme = readFileSync(README, "utf8");
  const [before, after] = [readme.indexOf(FROM), readme.indexOf(TO)];
  if (before < 0 || after < before) throw new Error(`site/README.md has no lines ${FROM.trim()} and ${TO}`);
  writeFileSync(README, readme.slice(0, before + FROM.length) + text + readme.slice(after));
  console.log(text);
} finally {
  await screen.close();
}
