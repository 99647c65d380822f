// A run: documents, initial weights, steps, and real snapshots on the way. Training is determined by
// its plan, so any step can be shown again: from the snapshot before it, trained on.

import { writeCheckpoint, type Metadata } from "./checkpoint.ts";
import { RECIPES, Tokenizer, learningRate, misfit, type Config, type RecipeName } from "./config.ts";
import { digest, parse, split } from "./documents.ts";
import { Model } from "./model.ts";
import { Random, Uniforms } from "./random.ts";
import type { Trained } from "./reading.ts";
import { sampleName } from "./sample.ts";
import { yardsticks, type Yardstick } from "./yardsticks.ts";

/** Everything that determines a run, but for own names. */
export interface Plan {
  recipe: RecipeName;
  numbers: Partial<Config>;
  seed: number;
  /** The share of the distinct documents that is held out. */
  heldOut: number;
  /** Names of the reader's own, one on each line; "" means those of the repository. */
  own: string;
  /** A fork: up to this step the run is that of another plan, whose weights and moments it has there. */
  from?: { step: number; plan: Plan };
}

/** The settings of a run from a step on, and the place of that step's first document. */
interface Stage {
  first: number;
  document: number;
  config: Config;
}

/** What a run does, from the beginning of the first plan that it was forked from. */
function stagesOf(plan: Plan): Stage[] {
  const config = { ...RECIPES[plan.recipe], ...plan.numbers };
  if (!plan.from) return [{ first: 0, document: 0, config }];
  const first = plan.from.step;
  const before = stagesOf(plan.from.plan).filter((stage) => stage.first < first);
  const last = before.at(-1);
  const document = last ? last.document + (first - last.first) * last.config.batch_size : 0;
  return [...before, { first, document, config }];
}

export interface Begun {
  config: Config;
  documents: number;
  heldOut: number;
  weights: number;
  /** How many there are: the letters and BOS. */
  tokens: number;
  interval: number;
}

/** A number that is not finite: the run stops there. */
export interface Broken {
  step: number;
  tensor: string;
  value: string;
}

export interface Progress {
  step: number;
  /** Of the steps since the last answer. */
  losses: number[];
  broken: Broken | null;
}

export interface TensorState {
  name: string;
  rows: number;
  columns: number;
  /** Root mean squares. */
  weights: number;
  gradients: number;
  moved: number;
}

export interface Look {
  step: number;
  names: { name: string; inData: boolean }[];
  tensors: TensorState[];
  /** The share of the MLP's numbers that the activation lets through, in the next batch. */
  active: number[];
}

const measured = new WeakMap<string[], Yardstick[]>();

interface Snapshot {
  step: number;
  weights: Float64Array;
  firstMoment: Float64Array;
  secondMoment: Float64Array;
}

const NAMES = 20;
const PATIENCE = 25; // milliseconds

export class Run {
  readonly plan: Plan;
  readonly config: Config;
  readonly tokenizer: Tokenizer;
  readonly model: Model;
  readonly docs: string[];
  readonly heldOut: string[];
  readonly interval: number;
  readonly digest: string;
  broken: Broken | null = null;
  private readonly all: Set<string>;
  private readonly snapshots: Snapshot[] = [];
  private readonly stages: Stage[];
  private readonly viewer: Model;
  private readonly stream: [number, number[], number | null];

  /** Throws, with one sentence, for what cannot work. */
  constructor(plan: Plan, names: string[], known: string, parts: { train: string[]; heldOut: string[] }) {
    this.plan = plan;
    this.config = { ...RECIPES[plan.recipe], ...plan.numbers };
    const wrong = misfit(this.config);
    if (wrong) throw new Error(wrong);
    this.stages = stagesOf(plan);
    if (this.config.batch_size > parts.train.length) {
      throw new Error(`batch_size ${this.config.batch_size} exceeds the ${parts.train.length} documents`);
    }
    this.digest = known;
    this.all = new Set(names);
    this.tokenizer = new Tokenizer(names);
    this.docs = [...parts.train];
    this.heldOut = parts.heldOut;
    const random = new Random(plan.seed);
    random.shuffle(this.docs);
    this.model = new Model(this.config, this.tokenizer.vocabSize).initialise(random);
    this.viewer = new Model(this.config, this.tokenizer.vocabSize);
    this.stream = random.getstate();
    const most = this.model.weights.length < 20_000 ? 100 : 20;
    this.interval = Math.max(1, Math.ceil(this.config.steps / most));
    this.keep();
  }

  private keep(): void {
    const { step, weights, firstMoment, secondMoment } = this.model;
    this.snapshots.push({
      step,
      weights: weights.slice(),
      firstMoment: firstMoment.slice(),
      secondMoment: secondMoment.slice(),
    });
  }

  private stage(step: number): Stage {
    return this.stages.findLast(({ first }) => first <= step)!;
  }

  /** The documents of a step (S1.4), each cut to the block (S2.3). */
  batch(step: number): number[][] {
    const { first, document, config } = this.stage(step);
    const { batch_size: B, block_size: T } = config;
    const place = document + (step - first) * B;
    return Array.from({ length: B }, (_, b) =>
      this.tokenizer.encode(this.docs[(place + b) % this.docs.length]!).slice(0, T + 1),
    );
  }

  /** One step of a model, with the settings that the run has there. */
  private trainStep(model: Model): number {
    const { step } = model;
    return model.trainStep(this.batch(step), learningRate(this.stage(step).config, step));
  }

  /** Train up to a step, or until the time is spent. */
  advance(goal: number, milliseconds: number): Progress {
    const until = performance.now() + milliseconds;
    const losses: number[] = [];
    const { model } = this;
    while (!this.broken && model.step < Math.min(goal, this.config.steps)) {
      const loss = this.trainStep(model);
      losses.push(loss);
      if (!Number.isFinite(loss)) this.broken = { step: model.step, value: String(loss), tensor: this.cause() };
      else if (model.step % this.interval === 0 || model.step === this.config.steps) this.keep();
      if (losses.length % 8 === 0 && performance.now() > until) break;
    }
    return { step: model.step, losses, broken: this.broken };
  }

  /** The first value of the forward pass that is not finite, after the weights of the last snapshot. */
  private cause(): string {
    this.restore(this.model.step - 1);
    for (const tokens of this.batch(this.viewer.step)) {
      const trace = this.viewer.trace(tokens.slice(0, -1));
      const bad = trace.find(({ value }) => value.flat(2).some((x) => !Number.isFinite(x)));
      if (bad) return bad.name;
    }
    return "loss";
  }

  /** Make the viewer the model after a step. */
  private restore(step: number): Model {
    const { viewer } = this;
    const from = this.snapshots.findLast((one) => one.step <= step)!;
    viewer.weights.set(from.weights);
    viewer.firstMoment.set(from.firstMoment);
    viewer.secondMoment.set(from.secondMoment);
    viewer.step = from.step;
    while (viewer.step < step) this.trainStep(viewer);
    return viewer;
  }

  /** A copy of the model after a step, and the stream that its names are drawn from. */
  trained(step: number): Trained {
    const model = new Model(this.config, this.tokenizer.vocabSize);
    model.weights.set(this.restore(Math.min(step, this.model.step)).weights);
    model.step = this.viewer.step;
    return { model, tokenizer: this.tokenizer, uniforms: new Uniforms(Random.fromState(this.stream)) };
  }

  /** Whether another run has the same weights, number by number, after a step that both have had. */
  sameAs(other: Run, step: number): boolean {
    const [mine, theirs] = [this.restore(step).weights, other.restore(step).weights];
    return mine.length === theirs.length && mine.every((w, i) => w === theirs[i]);
  }

  /** Names, weights, gradients and activity after a step. */
  look(step: number): Look {
    const model = this.restore(Math.min(step, this.model.step));
    const names = this.names(model);
    const first = this.snapshots[0]!.weights;
    model.lossAndGradients(this.batch(model.step));
    const tensors = model.table.map(({ name, rows, columns, offset }) => {
      const end = offset + rows * columns;
      const moved = model.weights.subarray(offset, end).map((w, i) => w - first[offset + i]!);
      return {
        name, rows, columns,
        weights: rms(model.weights.subarray(offset, end)),
        gradients: rms(model.gradients.subarray(offset, end)),
        moved: rms(moved),
      };
    });
    return { step: model.step, names, tensors, active: this.activity(model) };
  }

  private activity(model: Model): number[] {
    const trace = model.trace(this.batch(model.step)[0]!.slice(0, -1));
    const layers = trace.filter(({ name }) => name.endsWith(".activation"));
    return layers.map(({ value }) => {
      const numbers = value.flat(2);
      return numbers.filter((x) => x > 0).length / numbers.length;
    });
  }

  /** Twenty names, drawn with the same uniforms at every step: those that come after training. */
  private names(model: Model): { name: string; inData: boolean }[] {
    const uniforms = new Uniforms(Random.fromState(this.stream));
    let place = 0;
    return Array.from({ length: NAMES }, () => {
      const tokens = sampleName(model, () => uniforms.at(place++), this.config.temperature);
      const name = this.tokenizer.decode(tokens);
      return { name, inData: this.all.has(name) };
    });
  }

  /** Nats a character of the held-out documents, as the lab measures it: a letter beyond the block
      costs a uniform guess. NaN without held-out documents. */
  async heldOutLoss(step: number): Promise<number> {
    const model = new Model(this.config, this.tokenizer.vocabSize); // the viewer may be asked meanwhile
    model.weights.set(this.restore(step).weights);
    const guess = Math.log(this.tokenizer.vocabSize);
    let nats = 0;
    let characters = 0;
    let until = performance.now() + PATIENCE;
    for (const doc of this.heldOut) {
      if (performance.now() > until) {
        await new Promise((resume) => setTimeout(resume)); // other questions come first
        until = performance.now() + PATIENCE;
      }
      const tokens = this.tokenizer.encode(doc);
      const cut = tokens.slice(0, this.config.block_size + 1);
      nats += model.loss([cut]) * (cut.length - 1) + guess * (tokens.length - cut.length);
      characters += tokens.length - 1;
    }
    return nats / characters;
  }

  /** Those of the same names are measured once. */
  yardsticks(): Yardstick[] {
    let found = measured.get(this.heldOut);
    if (!found) {
      found = yardsticks(this.docs, this.heldOut, this.tokenizer.vocabSize);
      measured.set(this.heldOut, found);
    }
    return found;
  }

  /** The lab's checkpoint after a step: `microgpt sample` and `microgpt resume` read it. */
  checkpoint(step: number): Uint8Array<ArrayBuffer> {
    const { plan, config } = this;
    const model = this.restore(step);
    const metadata: Metadata = {
      format: "microgpt-checkpoint/1",
      step: model.step,
      version: "01_pure_python",
      about: "the page's engine, float64",
      options: {},
      complete: true,
      recipe: plan.recipe,
      config,
      seed: plan.seed,
      data: plan.own ? "own names" : "names",
      digest: this.digest,
      letters: this.tokenizer.letters.join(""),
      held_out: plan.heldOut,
      rng: this.stream,
    };
    return writeCheckpoint(model, metadata);
  }
}

function rms(values: Float64Array): number {
  let sum = 0;
  for (const x of values) sum += x * x;
  return Math.sqrt(sum / values.length);
}

// ---------------------------------------------------------------- Names to train on

interface Names {
  docs: string[];
  digest: string;
  parts: Map<number, { train: string[]; heldOut: string[] }>;
}

/** Names by their text, split once for all runs: the hand moves a slider, and runs follow. */
const prepared = new Map<string, Names>();

export function runOf(plan: Plan, text: string): Run {
  let names = prepared.get(text);
  if (!names) {
    const docs = parse(text);
    names = { docs, digest: digest(docs), parts: new Map() };
    prepared.clear(); // the last names only
    prepared.set(text, names);
  }
  let parts = names.parts.get(plan.heldOut);
  if (!parts) names.parts.set(plan.heldOut, (parts = split(names.docs, plan.heldOut)));
  return new Run(plan, names.docs, names.digest, parts);
}
