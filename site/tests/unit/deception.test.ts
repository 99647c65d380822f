// Marks and their score; the recorded losses of right programs against the page's own engine.

import { expect, test } from "vitest";

import { runOf } from "../../src/engine/training.ts";
import { PROGRAMS, REFERENCE, WRONG, dedent, end, marksOf, rightEnds, score } from "../../src/lib/deception.ts";
import { documents } from "../golden.ts";

const wrongs = PROGRAMS.flatMap(({ id }, i) => (id ? [i] : []));
const rights = PROGRAMS.flatMap(({ id }, i) => (id ? [] : [i]));

test("there are at least eight wrong programs, each rejected, among right ones", () => {
  expect(WRONG).toBeGreaterThanOrEqual(8);
  expect(rights.length).toBeGreaterThanOrEqual(3);
  for (const i of wrongs) {
    const { first, checks, losses } = PROGRAMS[i]!;
    expect(first!.passed).toBe(false);
    expect(checks!.some(({ passed }) => !passed)).toBe(true);
    expect(losses.length).toBe(500);
  }
});

test("the right programs are what this page's engine trains", () => {
  const text = documents().join("\n");
  for (const { seed, losses } of [REFERENCE, PROGRAMS[rights[0]!]!]) {
    const run = runOf({ recipe: "seed", numbers: {}, seed, heldOut: 0, own: "" }, text);
    const own = run.advance(500, Infinity).losses;
    expect(Math.max(...own.map((loss, i) => Math.abs(loss - losses[i]!)))).toBeLessThan(6e-6);
  }
});

test("no wrong program is a right one", () => {
  const text = documents().join("\n");
  for (const i of wrongs) {
    const { seed, losses } = PROGRAMS[i]!;
    const own = runOf({ recipe: "seed", numbers: {}, seed, heldOut: 0, own: "" }, text).advance(500, Infinity).losses;
    expect(Math.max(...own.map((loss, j) => Math.abs(loss - losses[j]!)))).toBeGreaterThan(1e-3);
  }
});

test("marks are counted against the truth and against chance", () => {
  const marks = new Set([wrongs[0]!, wrongs[1]!, rights[0]!]);
  expect(score(marks)).toEqual({ found: 2, unjust: 1, chance: (3 * WRONG) / PROGRAMS.length });
  expect(score(new Set())).toEqual({ found: 0, unjust: 0, chance: 0 });
  expect([...marksOf("C,A,Z,a,,")]).toEqual([0, 2]);
});

test("right programs end in a range, which has those of the recording", () => {
  const [low, high] = rightEnds();
  expect(end(REFERENCE.losses)).toBeGreaterThanOrEqual(low);
  for (const i of rights) expect(end(PROGRAMS[i]!.losses)).toBeLessThanOrEqual(high);
  expect(end(Array.from({ length: 100 }, (_, i) => i))).toBe(74.5);
});

test("code is shown without what all its lines begin with", () => {
  expect(dedent("\n    a\n      b\n\n    c\n  ")).toBe("a\n  b\n\nc");
  expect(dedent("")).toBe("");
});
