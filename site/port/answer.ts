// The page's engine as a port: reads one case of `microgpt verify` as JSON from standard input and
// answers it on standard output (spec/README.md), on every level and with all intermediate values.
//
//     microgpt verify --program "node site/port/answer.ts"

import { readFileSync } from "node:fs";

import { type Config } from "../src/engine/config.ts";
import { Model } from "../src/engine/model.ts";
import { Random } from "../src/engine/random.ts";
import { sampleName } from "../src/engine/sample.ts";

type Rows = Record<string, number[][]>;

interface Question {
  id: string;
  config: Config;
  letters: string;
  tokens: number[][];
  start: { weights: Rows; first_moment: Rows; second_moment: Rows; step: number };
  steps: number;
  count: number;
  prompt: string;
  uniforms: number[];
  stream?: { documents: string[] };
}

function modelOf(question: Question): Model {
  const model = new Model(question.config, [...question.letters].length + 1);
  model.setNamedRows(model.weights, question.start.weights);
  model.setNamedRows(model.firstMoment, question.start.first_moment);
  model.setNamedRows(model.secondMoment, question.start.second_moment);
  model.step = question.start.step;
  return model;
}

/** The documents of a step (S1.4), each cut to the block (S2.3). */
function batchOf({ config, tokens }: Question, step: number): number[][] {
  return Array.from({ length: config.batch_size }, (_, b) =>
    tokens[(step * config.batch_size + b) % tokens.length]!.slice(0, config.block_size + 1),
  );
}

function names(model: Model, question: Question): string[] {
  const letters = [...question.letters];
  const prompt = [...question.prompt].map((letter) => letters.indexOf(letter));
  let used = 0;
  const uniform = (): number => question.uniforms[used++]!;
  return Array.from({ length: question.count }, () =>
    sampleName(model, uniform, question.config.temperature, prompt)
      .map((token) => letters[token]!)
      .join(""),
  );
}

function training(model: Model, question: Question): { losses: number[]; after: object } {
  const losses: number[] = [];
  const after: Record<string, object> = {};
  for (let s = 1; s <= question.steps; s++) {
    losses.push(model.trainStep(batchOf(question, model.step)));
    if (s > 3 && s !== 20) continue;
    after[s] = {
      weights: model.toNamedRows(model.weights),
      first_moment: model.toNamedRows(model.firstMoment),
      second_moment: model.toNamedRows(model.secondMoment),
    };
  }
  return { losses, after };
}

function stream(question: Question, seed: bigint): object {
  const random = new Random(seed);
  const shuffled = [...question.stream!.documents];
  random.shuffle(shuffled);
  const model = new Model(question.config, [...question.letters].length + 1).initialise(random);
  return { shuffled, weights: model.toNamedRows(model.weights) };
}

function answer(text: string): object {
  const question = JSON.parse(text) as Question;
  const model = modelOf(question);
  const levels = ["forward", "gradients", "training", "sampling", "stream"];
  const found: Record<string, unknown> = { id: question.id, levels, dtype: "float64" };
  found["names"] = names(model, question);
  if (question.stream) {
    // from the text, because a number of JavaScript keeps no more than 53 bits
    const seed = BigInt(/"seed":\s*(\d+)/.exec(text)![1]!);
    found["stream"] = stream(question, seed);
  }
  if (!question.steps) return found;
  const batch = batchOf(question, model.step);
  const traces = batch.map((document) => model.trace(document.slice(0, -1)));
  found["logits"] = traces.map((trace) => trace.at(-1)!.value);
  found["intermediates"] = traces[0]!.map(({ name }, i) => ({
    name,
    value: traces.map((trace) => trace[i]!.value),
  }));
  found["loss"] = model.lossAndGradients(batch);
  found["gradients"] = model.toNamedRows(model.gradients);
  return { ...found, ...training(model, question) }; // last: it changes the weights
}

process.stdout.write(JSON.stringify(answer(readFileSync(0, "utf8"))));
