// The engine against 01. `microgpt verify --program` puts every golden vector to it; these tests
// are the fast part of that, and what the page adds: checkpoints and reading.

import { readFileSync } from "node:fs";

import { expect, test } from "vitest";

import { readCheckpoint, writeCheckpoint } from "../../src/engine/checkpoint.ts";
import { RECIPES, Tokenizer, learningRate, misfit } from "../../src/engine/config.ts";
import { Model } from "../../src/engine/model.ts";
import { Random, seedWords } from "../../src/engine/random.ts";
import { fromCheckpoint, makeUpWith, readWith } from "../../src/engine/reading.ts";
import { choose, distribution } from "../../src/engine/sample.ts";
import { GOLDEN, documents } from "../golden.ts";

const raw = readFileSync(new URL("../../src/recorded/seed-42.safetensors", import.meta.url));
const buffer = raw.buffer.slice(raw.byteOffset, raw.byteOffset + raw.length);
const recorded = fromCheckpoint(buffer as ArrayBuffer);

test("the run of recipe seed at seed 42 has 01's losses and weights", () => {
  const random = new Random(42);
  const docs = documents();
  random.shuffle(docs);
  const tokenizer = new Tokenizer(docs);
  const model = new Model(RECIPES.seed, tokenizer.vocabSize).initialise(random);
  const T = RECIPES.seed.block_size;
  for (const [step, loss] of GOLDEN.losses.entries()) {
    const batch = [tokenizer.encode(docs[step]!).slice(0, T + 1)];
    expect(Math.abs(model.trainStep(batch) - loss)).toBeLessThan(1e-10);
  }
  const apart = model.weights.map((w, i) => Math.abs(w - recorded.model.weights[i]!));
  expect(Math.max(...apart)).toBeLessThan(1e-9);
  expect(random.random()).toBe(GOLDEN.uniforms[0]);
});

test("the recorded model makes up 01's names from 01's uniforms", () => {
  const names = makeUpWith(recorded, 20, 0.5);
  expect(names.map(({ name }) => name)).toEqual(GOLDEN.names.map(({ name }) => name));
  const used = names.at(-1)!.from + names.at(-1)!.draws;
  const uniforms = Array.from({ length: used }, (_, i) => recorded.uniforms.at(i));
  expect(uniforms).toEqual(GOLDEN.uniforms);
});

test.each(Object.keys(GOLDEN.read))("every value for %s is 01's", (name) => {
  const right = GOLDEN.read[name]!;
  const reading = readWith(recorded, { name, draws: 0, from: 0, temperature: 0.5 });
  expect(reading.tokens).toEqual(right.tokens);
  expect(reading.labels).toEqual(right.labels);
  expect(reading.trace.map((one) => one.name)).toEqual(Object.keys(right.values));
  for (const { name: key, value } of reading.trace) {
    const [mine, want] = [value.flat(2), right.values[key]!.flat(2)];
    expect(mine.length).toBe(want.length);
    mine.forEach((x, i) => {
      expect(Math.abs(x - want[i]!), `${key} ${i}`).toBeLessThan(1e-11);
    });
  }
  expect(reading.probabilities.flat().every((x, i) => {
    return Math.abs(x - right.probabilities["0.5"]!.flat()[i]!) < 1e-11;
  })).toBe(true);
});

test("a drawn letter lies in its part of the line, and typed letters draw nothing", () => {
  const reading = readWith(recorded, { name: "em", draws: 3, from: 5, temperature: 1 });
  expect(reading.typed).toBe(2);
  reading.draws.forEach(({ u, low, high }, i) => {
    expect(u).toBe(GOLDEN.uniforms[5 + i]);
    expect(low <= u && u < high).toBe(true);
  });
});

test("a name that fills the block ends there", () => {
  const reading = readWith(recorded, { name: "isabella", draws: 3, from: 0, temperature: 1 });
  expect(reading.draws).toEqual([]);
  expect(reading.tokens.length).toBe(8);
  expect(reading.ended).toContain("8 letters");
});

test("random() and shuffle have CPython's bits", () => {
  const random = new Random(42);
  expect([random.random(), random.random()]).toEqual([0.6394267984578837, 0.025010755222666936]);
  expect(seedWords(1099511627783n)).toEqual([7, 256]);
  const items = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
  new Random(1).shuffle(items);
  expect(items).toEqual([6, 8, 9, 7, 5, 3, 0, 4, 1, 2]);
});

test("gauss agrees with CPython's up to the last bit", () => {
  const random = new Random(42);
  const right = [-0.14409032957792836, -0.1729036003315193, -0.11131586156766246, 0.7019837250988631];
  right.forEach((z) => {
    expect(Math.abs(random.gauss(1) / z - 1)).toBeLessThan(1e-15);
  });
});

test("the recorded model has as many numbers as the page says", () => {
  expect(recorded.model.weights.length).toBe(4064);
  const page = readFileSync(new URL("../../src/views/Machine.svelte", import.meta.url), "utf8");
  expect(page).toContain("weights: 4064");
});

test("a stream continues from its state", () => {
  const random = new Random(7);
  random.gauss(1);
  const copy = Random.fromState(random.getstate());
  expect([copy.gauss(1), copy.random()]).toEqual([random.gauss(1), random.random()]);
});

test("a checkpoint that is written is read again, number for number", () => {
  const { metadata } = readCheckpoint(buffer as ArrayBuffer);
  recorded.model.firstMoment[3] = 0.25;
  const file = writeCheckpoint(recorded.model, { ...metadata, complete: true });
  recorded.model.firstMoment[3] = 0;
  const { tensors, metadata: again } = readCheckpoint(file.buffer);
  expect(again).toEqual({ ...metadata, complete: true });
  expect(tensors.get("wte")![0]).toBe(recorded.model.weights[0]);
  expect(tensors.get("first_moment.wte")![3]).toBe(0.25);
});

test("the gradients are the slopes of the loss", () => {
  const model = new Model({ ...RECIPES.gist, n_layer: 2 }, 5).initialise(new Random(3));
  const batch = [[4, 0, 1, 1, 4], [4, 2, 4]];
  model.lossAndGradients(batch);
  const gradients = [...model.gradients];
  for (const { offset, name } of model.table) {
    const h = 1e-5;
    const at = offset + 3;
    const loss = (by: number): number => {
      model.weights[at]! += by;
      const found = model.loss(batch);
      model.weights[at]! -= by;
      return found;
    };
    expect((loss(h) - loss(-h)) / (2 * h), name).toBeCloseTo(gradients[at]!, 8);
  }
});

test("the learning rate falls from the first step to above zero", () => {
  for (const config of Object.values(RECIPES)) {
    expect(learningRate(config, 0)).toBe(config.learning_rate);
    expect(learningRate(config, config.steps - 1)).toBeGreaterThan(0);
  }
});

test("a uniform chooses the first token whose sum exceeds it", () => {
  const half = distribution([0, 0], 1);
  expect([choose(half, 0), choose(half, 0.4999), choose(half, 0.5), choose(half, 0.9999)]).toEqual([
    0, 0, 1, 1,
  ]);
});

test("a recipe that cannot work is named with its number and its limits", () => {
  expect(misfit(RECIPES.seed)).toBe("");
  expect(misfit({ ...RECIPES.seed, n_embd: 18 })).toBe("n_embd 18 is not a multiple of n_head 4");
  expect(misfit({ ...RECIPES.seed, beta1: NaN })).toContain("beta1 is NaN: it must lie in 0");
});

test("a letter outside the data is refused, and token 0 is a letter", () => {
  const tokenizer = new Tokenizer(["ab"]);
  expect(() => tokenizer.encode("ax")).toThrow("no document has the letter x");
  expect(tokenizer.encode("a")).toEqual([2, 0, 2]);
  expect(tokenizer.label(0)).toBe("a");
  expect(tokenizer.decode([2, 0, 1, 2])).toBe("ab");
});

test("a file that holds no model is refused in a sentence", () => {
  const { metadata } = readCheckpoint(buffer as ArrayBuffer);
  const header = (change: (parts: Record<string, unknown>) => void): ArrayBuffer => {
    const file = new Uint8Array(writeCheckpoint(recorded.model, metadata));
    const length = Number(new DataView(file.buffer).getBigUint64(0, true));
    const parts = JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + length))) as Record<string, unknown>;
    change(parts);
    const text = new TextEncoder().encode(JSON.stringify(parts));
    const made = new Uint8Array(8 + text.length + file.length - 8 - length);
    new DataView(made.buffer).setBigUint64(0, BigInt(text.length), true);
    made.set(text, 8);
    made.set(file.subarray(8 + length), 8 + text.length);
    return made.buffer;
  };
  const text = (said: object): { microgpt: string } => ({ microgpt: JSON.stringify({ ...metadata, ...said }) });
  expect(fromCheckpoint(header(() => undefined)).model.weights).toEqual(recorded.model.weights);
  expect(() => fromCheckpoint(new ArrayBuffer(3))).toThrow("This is no safetensors file.");
  expect(() => fromCheckpoint(new TextEncoder().encode("emma\nava\nolivia\n").buffer)).toThrow("This is no safetensors file.");
  expect(() => fromCheckpoint(header((parts) => delete parts["__metadata__"]))).toThrow("no checkpoint of microgpt");
  expect(() => fromCheckpoint(header((parts) => delete parts["wpe"]))).toThrow("no tensor wpe");
  expect(() => fromCheckpoint(header((parts) => (parts["__metadata__"] = text({ config: { ...metadata.config, n_embd: 8 } }))))).toThrow("wte has 432 numbers in this checkpoint: its recipe needs 27 × 8.");
  expect(() => fromCheckpoint(header((parts) => (parts["__metadata__"] = text({ config: { n_embd: 18 } }))))).toThrow("not a multiple of n_head");
  expect(() => fromCheckpoint(header((parts) => ((parts["wte"] as { dtype: string }).dtype = "BF16")))).toThrow("wte is BF16 in this file");
  expect(() => fromCheckpoint((buffer as ArrayBuffer).slice(0, -8))).toThrow("This file is cut off");
  const broken = new Uint8Array(writeCheckpoint(recorded.model, metadata));
  new DataView(broken.buffer).setFloat64(8 + Number(new DataView(broken.buffer).getBigUint64(0, true)), NaN, true);
  expect(() => fromCheckpoint(broken.buffer)).toThrow("wte has a number in this checkpoint that is not finite");
});
