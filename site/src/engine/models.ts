// Which model the machine shows: the recorded one, one that is trained as an address says, or one
// that only this page holds, from a file or from own names.

import { RECIPES } from "./config.ts";
import { fromCheckpoint, makeUpWith, readWith, recordedModel, type MadeUp, type Question, type Reading, type Trained } from "./reading.ts";
import { repositoryNames, runAt } from "./runs.ts";
import { runOf, type Plan } from "./training.ts";

export type Source =
  | { kind: "recorded" }
  | { kind: "run"; plan: Plan; step: number }
  | { kind: "here" };

/** What the page must know of a model before it reads a name with it. */
export interface About {
  letters: string[];
  block: number;
  weights: number;
  step: number;
}

let here: Trained | null = null;
let last: { key: string; trained: Promise<Trained> } | null = null;

async function modelOf(source: Source): Promise<Trained> {
  if (source.kind === "recorded") return recordedModel();
  if (source.kind === "here") {
    if (here) return here;
    throw new Error("That model was in a page that has been closed: open its file again.");
  }
  const key = JSON.stringify(source);
  if (last?.key !== key) last = { key, trained: train(source.plan, source.step) };
  return last.trained;
}

async function train(plan: Plan, step: number): Promise<Trained> {
  const run = runOf(plan, await repositoryNames());
  run.advance(step, Infinity);
  if (run.broken) throw new Error(`The loss of this run is ${run.broken.value} at step ${run.broken.step}: choose an earlier step.`);
  return run.trained(step);
}

function aboutOf({ model, tokenizer }: Trained): About {
  return { letters: tokenizer.letters, block: model.config.block_size, weights: model.weights.length, step: model.step };
}

export async function about(source: Source): Promise<About> {
  return aboutOf(await modelOf(source));
}

/** Hold the model of a file. Throws a sentence for a file that has none. */
export function hold(raw: ArrayBuffer): About {
  const trained = fromCheckpoint(raw, RECIPES.seed);
  here = trained;
  return aboutOf(trained);
}

/** Hold the model of a run in a place after a step, or null if another has taken the place. */
export function holdRun(place: string, id: number, step: number): About | null {
  const run = runAt(place, id);
  if (!run) return null;
  here = run.trained(step);
  return aboutOf(here);
}

export async function read(source: Source, question: Question): Promise<Reading> {
  return readWith(await modelOf(source), question);
}

export async function makeUp(source: Source, count: number, temperature: number): Promise<MadeUp[]> {
  return makeUpWith(await modelOf(source), count, temperature);
}
