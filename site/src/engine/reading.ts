// What the machine shows: everything that a model computes for a name, and the names it makes up.

import { readCheckpoint } from "./checkpoint.ts";
import { RECIPES, Tokenizer, misfit, type Config } from "./config.ts";
import { Model, type Traced } from "./model.ts";
import { Random, Uniforms } from "./random.ts";
import { after, choose, distribution } from "./sample.ts";
import recordedUrl from "../recorded/seed-42.safetensors?url";

/** A model that can be read: its letters, and the stream that its names are drawn from. */
export interface Trained {
  model: Model;
  tokenizer: Tokenizer;
  uniforms: Uniforms;
}

/** One letter that was drawn: the uniform, the token, and the part of [0, 1) that it has. */
export interface Draw {
  u: number;
  token: number;
  label: string;
  low: number;
  high: number;
}

export interface Reading {
  /** The letters typed, then those drawn. */
  letters: string[];
  typed: number;
  draws: Draw[];
  /** Why no more letters can be drawn, or "". */
  ended: string;
  /** The inputs: BOS and the letters that the block has room for. */
  tokens: number[];
  labels: string[];
  /** Every token's label, in order; BOS is the last. */
  vocabulary: string[];
  trace: Traced[];
  /** [position][token] at the temperature asked for, and at 1. */
  probabilities: number[][];
  plain: number[][];
  config: Config;
}

let recorded: Promise<Trained> | null = null;

/** The model of 01's run, which the page opens on. */
export function recordedModel(): Promise<Trained> {
  recorded ??= fetch(recordedUrl)
    .then((reply) => reply.arrayBuffer())
    .then((raw) => fromCheckpoint(raw));
  return recorded;
}

/** The model of a checkpoint. Throws, with one sentence, for a file that has none. */
export function fromCheckpoint(raw: ArrayBuffer, usual: Config = RECIPES.seed): Trained {
  const { metadata, tensors } = readCheckpoint(raw);
  const tokenizer = new Tokenizer(metadata.letters);
  const config = { ...usual, ...metadata.config };
  const wrong = misfit(config);
  if (wrong) throw new Error(`This checkpoint has a recipe that cannot work: ${wrong}`);
  const model = new Model(config, tokenizer.vocabSize);
  for (const { name, rows, columns, offset } of model.table) {
    const values = tensors.get(name);
    if (!values) throw new Error(`This checkpoint has no tensor ${name}, which its recipe needs.`);
    if (values.length !== rows * columns) {
      throw new Error(`${name} has ${values.length} numbers in this checkpoint: its recipe needs ${rows} × ${columns}.`);
    }
    if (!values.every(Number.isFinite)) throw new Error(`${name} has a number in this checkpoint that is not finite.`);
    model.weights.set(values, offset);
  }
  model.step = metadata.step;
  return { model, tokenizer, uniforms: new Uniforms(Random.fromState(metadata.rng)) };
}

/** What to read: letters, then `draws` more that the stream draws from place `from` on. */
export interface Question {
  name: string;
  draws: number;
  from: number;
  temperature: number;
}

export function readWith(trained: Trained, question: Question): Reading {
  const { model, tokenizer, uniforms } = trained;
  const { block_size: T } = model.config;
  const V = tokenizer.vocabSize;
  const letters = [...question.name].filter((letter) => tokenizer.has(letter)).slice(0, T);
  const typed = letters.length;
  const draws: Draw[] = [];
  let ended = letters.length === T ? full(T) : "";
  while (draws.length < question.draws && !ended) {
    const prefix = tokenizer.encode(letters.join("")).slice(0, -1);
    const chances = after(model, prefix, question.temperature);
    const u = uniforms.at(question.from + draws.length);
    const token = choose(chances, u);
    const low = token ? chances.sums[token - 1]! : 0;
    const label = tokenizer.label(token);
    draws.push({ u, token, label, low, high: chances.sums[token]! });
    if (token === tokenizer.bos) ended = "BOS was drawn: the name is complete.";
    else letters.push(label);
    if (letters.length === T) ended = full(T);
  }
  const tokens = tokenizer.encode(letters.join("")).slice(0, -1).slice(0, T);
  const trace = model.trace(tokens);
  const logits = trace.at(-1)!.value as number[][];
  return {
    letters,
    typed,
    draws,
    ended,
    tokens,
    labels: tokens.map((token) => tokenizer.label(token)),
    vocabulary: Array.from({ length: V }, (_, token) => tokenizer.label(token)),
    trace,
    probabilities: logits.map((row) => distribution(row, question.temperature).p),
    plain: logits.map((row) => distribution(row, 1).p),
    config: model.config,
  };
}

function full(T: number): string {
  return `The name has ${T} letters: the block has no room for more.`;
}

/** A name made up from a place of the stream on. */
export interface MadeUp {
  name: string;
  from: number;
  draws: number;
}

export function makeUpWith(trained: Trained, count: number, temperature: number): MadeUp[] {
  const found: MadeUp[] = [];
  let from = 0;
  for (let i = 0; i < count; i++) {
    const { letters, draws } = readDraws(trained, from, temperature);
    found.push({ name: letters, from, draws });
    from += draws;
  }
  return found;
}

/** One whole name, without the values on the way. */
function readDraws(
  { model, tokenizer, uniforms }: Trained,
  from: number,
  temperature: number,
): { letters: string; draws: number } {
  const tokens = [tokenizer.bos];
  let draws = 0;
  while (tokens.length <= model.config.block_size) {
    const token = choose(after(model, tokens, temperature), uniforms.at(from + draws));
    draws++;
    if (token === tokenizer.bos) break;
    tokens.push(token);
  }
  return { letters: tokenizer.decode(tokens), draws };
}
