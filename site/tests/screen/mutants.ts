// Builds the page once for each mistake of mutants.json, and runs the tests of the screen on it.
// Each mistake must turn a test red.
//
//     npm run mutants            all
//     npm run mutants -- ID …    some

import { spawn } from "node:child_process";
import { rmSync } from "node:fs";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";

import { MUTANTS, type Mutant } from "../../tools/mutant.ts";

const SITE = fileURLToPath(new URL("../..", import.meta.url));

function run(program: string, words: string[], env: Record<string, string>): Promise<[number, string]> {
  return new Promise((resolve) => {
    const path = `${SITE}node_modules/${program}`;
    const child = spawn(process.execPath, [path, ...words], {
      cwd: SITE,
      env: { ...process.env, NO_COLOR: "1", ...env },
    });
    let said = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (said += text));
    child.on("close", (code) => resolve([code ?? 1, said]));
  });
}

/** "" if a test turned red, or what went wrong. */
async function survives(mutant: Mutant): Promise<string> {
  const folder = `dist-mutant-${mutant.id}`;
  try {
    const [built, says] = await run("vite/bin/vite.js", ["build"], {
      SITE_MUTANT: mutant.id,
      SITE_DIST: folder,
    });
    if (built) return `cannot be built: ${says}`;
    const [status, tests] = await run(
      "vitest/vitest.mjs",
      ["run", "--project", "screen", "--bail", "1", mutant.tests ?? "machine"],
      { SITE_DIST: folder },
    );
    if (!status) return "every test passed";
    const failed = /FAIL\s+(.*)/.exec(tests)?.[1];
    if (!failed || !/Tests .*failed/.test(tests)) return `no test ran: ${tests}`;
    console.log(`✓ ${mutant.id}: ${failed.replace(/^\W*screen\W*tests\/screen\//, "").trim()}`);
    return "";
  } finally {
    rmSync(`${SITE}${folder}`, { recursive: true, force: true });
  }
}

const wanted = process.argv.slice(2);
const unknown = wanted.find((id) => !MUTANTS.some((mutant) => mutant.id === id));
if (unknown) {
  console.error(`error: no mutant ${unknown}: tests/screen/mutants.json lists them`);
  process.exit(2);
}
const queue = MUTANTS.filter(({ id }) => !wanted.length || wanted.includes(id));
const [total, left] = [queue.length, new Map<string, string>()];
await Promise.all(
  Array.from({ length: Math.min(4, availableParallelism()) }, async () => {
    for (let mutant = queue.shift(); mutant; mutant = queue.shift()) {
      const why = await survives(mutant);
      if (why) left.set(mutant.id, why);
    }
  }),
);
for (const [id, why] of left) console.error(`✗ ${id}: ${why}`);
console.log(`${total - left.size} of ${total} display mutants turn a test red`);
process.exit(left.size ? 1 : 0);
