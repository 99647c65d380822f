// The runs of the training view, each in its place: the run at hand, and one to compare it with.

import namesUrl from "../../../data/names.txt?url";
import { runOf, type Begun, type Look, type Plan, type Progress, type Run } from "./training.ts";
import type { Yardstick } from "./yardsticks.ts";

const runs = new Map<string, { run: Run; id: number }>();
let text: Promise<string> | null = null;

export function repositoryNames(): Promise<string> {
  text ??= fetch(namesUrl).then((reply) => reply.text());
  return text;
}

/** Begin a run in a place, instead of the one that was there. */
export async function begin(place: string, id: number, plan: Plan): Promise<Begun> {
  const run = runOf(plan, plan.own || (await repositoryNames()));
  runs.set(place, { run, id });
  return {
    config: run.config,
    documents: run.docs.length,
    heldOut: run.heldOut.length,
    weights: run.model.weights.length,
    tokens: run.tokenizer.vocabSize,
    interval: run.interval,
  };
}

/** The run in a place, or null if another has taken it meanwhile. */
export function runAt(place: string, id: number): Run | null {
  const found = runs.get(place);
  return found?.id === id ? found.run : null;
}

export function advance(place: string, id: number, goal: number, ms: number): Progress | null {
  return runAt(place, id)?.advance(goal, ms) ?? null;
}

export function look(place: string, id: number, step: number): Look | null {
  return runAt(place, id)?.look(step) ?? null;
}

export async function heldOutLoss(place: string, id: number, step: number): Promise<number | null> {
  const loss = await runAt(place, id)?.heldOutLoss(step);
  return runAt(place, id) && loss !== undefined ? loss : null;
}

export function measure(place: string, id: number): Yardstick[] | null {
  return runAt(place, id)?.yardsticks() ?? null;
}

/** Whether the runs in two places have the same weights after a step. */
export function sameWeights(place: string, id: number, other: string, otherId: number, step: number): boolean | null {
  const [one, two] = [runAt(place, id), runAt(other, otherId)];
  if (!one || !two || Math.min(one.model.step, two.model.step) < step) return null;
  return one.sameAs(two, step);
}

export function takeAway(place: string, id: number, step: number): Uint8Array | null {
  return runAt(place, id)?.checkpoint(step) ?? null;
}
