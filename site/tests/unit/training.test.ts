// A run of the page against the lab's: the same split, losses, held-out loss and names.

import { createHash } from "node:crypto";

import { expect, test } from "vitest";

import { readCheckpoint } from "../../src/engine/checkpoint.ts";
import { RECIPES } from "../../src/engine/config.ts";
import { digest, parse, split } from "../../src/engine/documents.ts";
import { sha256 } from "../../src/engine/sha256.ts";
import { runOf, type Plan } from "../../src/engine/training.ts";
import { ngramLoss } from "../../src/engine/yardsticks.ts";
import { forkAt, planOf, unfork, words } from "../../src/lib/plan.ts";
import { smooth } from "../../src/lib/smooth.ts";
import { GOLDEN, HELD_OUT, documents } from "../golden.ts";

const TEXT = documents().join("\n");
const PLAN: Plan = { recipe: "seed", numbers: {}, seed: 42, heldOut: 0.1, own: "" };
const SMALL: Partial<Plan["numbers"]> = { n_embd: 8, steps: 40 };

function whole(plan: Plan, text = TEXT): ReturnType<typeof runOf> {
  const run = runOf(plan, text);
  run.advance(Infinity, Infinity);
  return run;
}

test("a run with held-out names has the lab's losses, held-out losses and names", async () => {
  const run = runOf(PLAN, TEXT);
  const { losses } = run.advance(500, Infinity);
  losses.forEach((loss, i) => {
    expect(Math.abs(loss - HELD_OUT.losses[i]!)).toBeLessThan(1e-10);
  });
  for (const [step, loss] of Object.entries(HELD_OUT.held_out)) {
    expect(await run.heldOutLoss(Number(step))).toBeCloseTo(loss, 9);
  }
  expect(run.look(500).names.map(({ name }) => name)).toEqual(HELD_OUT.names);
});

test("a run on all names is 01's", () => {
  const run = runOf({ ...PLAN, heldOut: 0 }, TEXT);
  const { losses } = run.advance(500, Infinity);
  expect(Math.max(...losses.map((x, i) => Math.abs(x - GOLDEN.losses[i]!)))).toBeLessThan(1e-10);
  const names = run.look(500).names.map(({ name, inData }) => ({ name, in_data: inData }));
  expect(names).toEqual(GOLDEN.names);
});

test("what is shown of a step is what training had there", () => {
  const plan = { ...PLAN, numbers: SMALL };
  const run = whole(plan);
  const short = runOf(plan, TEXT);
  short.advance(17, Infinity);
  expect(run.look(17)).toEqual(short.look(17));
  expect(run.look(0).tensors.every(({ moved }) => moved === 0)).toBe(true);
  expect(run.look(40).tensors.every(({ moved }) => moved > 0)).toBe(true);
});

test("training in parts is training at once", () => {
  const plan = { ...PLAN, numbers: SMALL };
  const parts = runOf(plan, TEXT);
  for (let step = 0; step < 40; step += 3) parts.advance(step, Infinity);
  parts.advance(40, Infinity);
  expect(parts.model.weights).toEqual(whole(plan).model.weights);
});

test("a run stops at a loss that is not finite, and names step and value", () => {
  const run = runOf({ ...PLAN, numbers: SMALL }, TEXT);
  run.advance(5, Infinity);
  const { offset } = run.model.table.find(({ name }) => name === "layer0.mlp_fc1")!;
  run.model.weights.fill(1e200, offset, offset + 64); // its square is infinite
  const { losses, broken } = run.advance(40, Infinity);
  expect(broken!.step).toBeLessThanOrEqual(7);
  expect(broken!.value).toMatch(/NaN|Infinity/);
  expect(losses.length).toBe(broken!.step - 5);
  expect(run.advance(40, Infinity).losses).toEqual([]);
});

test("own names have their own letters", () => {
  const run = whole({ ...PLAN, numbers: SMALL, own: "x" }, "zoé\nÅsa\n\n zoé \nana\nava\n");
  expect(run.tokenizer.letters.join("")).toBe("ansvzoÅé".split("").sort().join(""));
  expect(run.docs.length + run.heldOut.length).toBe(5);
});

test("names that cannot be trained on are refused in a sentence", () => {
  expect(() => parse("\n")).toThrow("These are 0 name(s) with 0 different letter(s)");
  expect(() => parse("aa\naa")).toThrow("with 1 different letter(s)");
  expect(() => parse("a\0\nb")).toThrow("This is no text");
  expect(() => runOf({ ...PLAN, numbers: { n_embd: 6 } }, TEXT)).toThrow("not a multiple of n_head 4");
});

test("the split, its digests and SHA-256 are those of the lab", () => {
  for (const length of [0, 1, 55, 56, 63, 64, 65, 1000]) {
    const bytes = new Uint8Array(length).map((_, i) => (i * 7) % 256);
    expect(sha256(bytes)).toEqual(new Uint8Array(createHash("sha256").update(bytes).digest()));
  }
  const docs = documents();
  expect(digest(docs)).toBe("aec607bd1a59dd33d973a1742803d5012dadd56f6fa3966c1bf5466fb1894442");
  const { train, heldOut } = split(docs, 0.1);
  expect([train.length, heldOut.length]).toEqual([29048, 2968]);
  const held = new Set(heldOut);
  expect(train.some((doc) => held.has(doc))).toBe(false);
});

test("the yardsticks are the known ones of these names", () => {
  const { train, heldOut } = split(documents(), 0.1);
  const right = [2.82, 2.461, 2.237, 2.089, 2.026];
  right.forEach((loss, i) => {
    expect(Math.abs(ngramLoss(train, heldOut, i + 1, 27) - loss)).toBeLessThan(0.001);
  });
});

test.each([1, 2, 3, 4])("the probabilities of all names by a table of order %i sum to 1", (order) => {
  const train = ["ab", "ba", "aab", "b"];
  let strings = [""];
  let total = 0;
  for (let length = 0; length <= 9; length++) {
    for (const doc of strings) total += Math.exp(-ngramLoss(train, [doc], order, 3) * (length + 1));
    strings = strings.flatMap((doc) => [`${doc}a`, `${doc}b`]);
  }
  expect(total).toBeGreaterThan(0.96); // the rest is in longer names
  expect(total).toBeLessThanOrEqual(1 + 1e-12);
});

test("a checkpoint says what the lab needs to continue", () => {
  const run = whole({ ...PLAN, numbers: SMALL });
  const { metadata, tensors } = readCheckpoint(run.checkpoint(40).buffer);
  expect(metadata.config).toEqual({ ...RECIPES.seed, ...SMALL });
  expect([metadata.step, metadata.seed, metadata.held_out]).toEqual([40, 42, 0.1]);
  expect(tensors.size).toBe(27);
  expect(metadata.rng[1].length).toBe(625);
});

test("an address makes a plan, and nonsense in it is the recipe's", () => {
  expect(planOf({})).toEqual(PLAN);
  const given = { recipe: "gist", seed: "7", held: "0", learning_rate: "0.02", n_embd: "x" };
  expect(planOf(given)).toEqual({ ...PLAN, recipe: "gist", seed: 7, heldOut: 0, numbers: { learning_rate: 0.02 } });
  expect(planOf({ recipe: "toString", seed: "1.5" })).toEqual(PLAN);
});

test("the mean of the last 50 is that of fewer at the beginning", () => {
  const losses = Array.from({ length: 120 }, (_, i) => i);
  const means = smooth(losses);
  expect([means[0], means[3], means[49], means[119]]).toEqual([0, 1.5, 24.5, 94.5]);
});

// ---------------------------------------------------------------- Forks

const ALL = { ...PLAN, heldOut: 0 };
const forked = (plan: Plan, step: number, numbers: Plan["numbers"]): Plan => ({
  ...plan, numbers: { ...plan.numbers, ...numbers }, from: { step, plan },
});

test("a fork with the same settings is 01's run", () => {
  const { losses } = runOf(forked(forked(ALL, 100, {}), 300, {}), TEXT).advance(500, Infinity);
  expect(Math.max(...losses.map((x, i) => Math.abs(x - GOLDEN.losses[i]!)))).toBeLessThan(1e-10);
});

test("a fork has the run's losses and weights up to its step, and others after it", () => {
  const plan = forked(ALL, 120, { learning_rate: 0.05 });
  const [before, after] = [whole(ALL), runOf(plan, TEXT)];
  const { losses } = after.advance(500, Infinity);
  losses.slice(0, 121).forEach((loss, i) => expect(Math.abs(loss - GOLDEN.losses[i]!)).toBeLessThan(1e-10));
  expect(Math.abs(losses[121]! - GOLDEN.losses[121]!)).toBeGreaterThan(1e-6);
  expect([after.sameAs(before, 120), after.sameAs(before, 121)]).toEqual([true, false]);
  expect(after.look(120).names).toEqual(before.look(120).names);
  // moments and schedule are those of step 120 too: the step is five times as long
  const moved = (run: typeof before): number => {
    const [one, two] = [120, 121].map((step) => readCheckpoint(run.checkpoint(step).buffer).tensors.get("wte")!);
    return Math.max(...one!.map((x, i) => Math.abs(x - two![i]!)));
  };
  expect(moved(after) / moved(before)).toBeCloseTo(5, 6);
});

test("after a fork the documents go on where they were, however many a step takes", () => {
  const one = forked({ ...ALL, numbers: { ...SMALL, batch_size: 3 } }, 5, { batch_size: 2 });
  const two = forked(one, 7, { batch_size: 1 });
  const run = runOf(two, TEXT);
  const firsts = [0, 4, 5, 6, 7, 8].map((step) => run.batch(step));
  const at = (i: number): number[] => run.tokenizer.encode(run.docs[i]!).slice(0, 9);
  expect(firsts).toEqual([
    [at(0), at(1), at(2)], [at(12), at(13), at(14)], [at(15), at(16)], [at(17), at(18)], [at(19)], [at(20)],
  ]);
});

test("an address makes a fork, whose other settings are those of the run before", () => {
  const given = { recipe: "gist", seed: "7", n_embd: "24", learning_rate: "0.02", step: "30" };
  const address = Object.entries({ ...given, ...forkAt(given, 30) }).filter(([, value]) => value !== null);
  const fork = Object.fromEntries(address.map(([name, value]) => [name, String(value)]));
  const before = planOf(given);
  expect(planOf(fork)).toEqual({ ...before, from: { step: 30, plan: before } });
  expect(planOf({ ...fork, learning_rate: "0.1", n_embd: "8", seed: "1" })).toEqual({
    ...before, numbers: { n_embd: 24, learning_rate: 0.1 }, from: { step: 30, plan: before },
  });
  const back = Object.entries({ ...fork, ...unfork(fork) }).filter(([, value]) => value !== null);
  expect(planOf(Object.fromEntries(back) as Record<string, string>)).toEqual(before);
  expect(words(planOf(fork))).toContain("forked at step 30");
  expect(planOf({ fork: "x", of: "recipe=gist" })).toEqual(PLAN);
  expect(planOf({ fork: "9999", of: "recipe=seed" }).from!.step).toBe(500);
});
