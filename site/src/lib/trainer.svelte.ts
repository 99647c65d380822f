// The page's side of one run: it asks the worker for steps until the goal is reached, and drops every
// answer that belongs to a run before.

import type { Begun, Broken, Look, Plan } from "../engine/training.ts";
import type { Yardstick } from "../engine/yardsticks.ts";
import { ask } from "./engine.ts";

const SLICE = 40; // milliseconds of training between two pictures
const POINTS = 5; // of the held-out loss

let runs = 0;

export interface Point {
  step: number;
  loss: number;
}

export class Trainer {
  begun = $state.raw<Begun | null>(null);
  losses = $state.raw<number[]>([]);
  heldOut = $state.raw<Point[]>([]);
  yardsticks = $state.raw<Yardstick[]>([]);
  broken = $state.raw<Broken | null>(null);
  look = $state.raw<Look | null>(null);
  wrong = $state("");
  /** Something that was asked for is not there yet. */
  busy = $state(false);
  private id = 0;
  private goal = 0;
  private driving = false;
  private readonly place: string;

  constructor(place: string) {
    this.place = place;
  }

  get step(): number {
    return this.losses.length;
  }

  /** Whether the whole run takes a moment only, so that it is trained at once. */
  get quick(): boolean {
    if (!this.begun) return true;
    const { config, weights } = this.begun;
    return weights * config.batch_size * config.steps < 20_000_000;
  }

  async start(plan: Plan): Promise<void> {
    const id = (this.id = ++runs);
    this.busy = true;
    try {
      const begun = await ask("begin", this.place, id, plan);
      if (id !== this.id) return;
      this.wrong = "";
      this.begun = begun;
      this.losses = [];
      this.heldOut = [];
      this.broken = null;
      this.goal = 0;
      this.driving = false;
      if (this.quick) await this.train(begun.config.steps);
      else await this.measure(id);
      if (id === this.id) this.busy = false;
    } catch (e) {
      if (id !== this.id) return;
      this.wrong = e instanceof Error ? e.message : String(e);
      this.busy = false;
    }
  }

  /** Train up to a step, then measure. */
  async train(goal: number): Promise<void> {
    const id = this.id;
    this.goal = goal;
    if (this.driving) return;
    this.driving = true;
    this.busy = true;
    while (id === this.id && this.step < this.goal && !this.broken) {
      const part = await ask("advance", this.place, id, this.goal, SLICE);
      if (!part || id !== this.id) return;
      this.losses = [...this.losses, ...part.losses];
      this.broken = part.broken;
    }
    if (id !== this.id) return;
    this.driving = false;
    await this.measure(id);
    if (id === this.id) this.busy = false;
  }

  pause(): void {
    this.goal = this.step;
  }

  /** What counting letters reaches, then the held-out loss, at the end first. */
  private async measure(id: number): Promise<void> {
    if (!this.begun?.heldOut) {
      this.yardsticks = [];
      return;
    }
    const found = await ask("measure", this.place, id);
    if (id !== this.id) return;
    this.yardsticks = found ?? [];
    const { steps } = this.begun.config;
    const { interval } = this.begun;
    const all = Array.from({ length: POINTS + 1 }, (_, k) => (k * steps) / POINTS);
    const places = all.map((step) => Math.min(steps, Math.round(step / interval) * interval));
    const last = this.broken ? this.broken.step - 1 : this.step;
    for (const step of places.filter((one) => one <= last).reverse()) {
      if (this.heldOut.some((point) => point.step === step)) continue;
      const loss = await ask("heldOutLoss", this.place, id, step);
      if (id !== this.id || loss === null) return;
      this.heldOut = [...this.heldOut, { step, loss }].sort((a, b) => a.step - b.step);
    }
  }

  async show(step: number): Promise<void> {
    const id = this.id;
    const look = await ask("look", this.place, id, step);
    if (id === this.id && look) this.look = look;
  }

  /** Whether another run has the same weights after a step, or null where one has not come so far. */
  async sameWeights(other: Trainer, step: number): Promise<boolean | null> {
    const [id, otherId] = [this.id, other.id];
    const same = await ask("sameWeights", this.place, id, other.place, otherId, step);
    return id === this.id && otherId === other.id ? same : null;
  }

  /** Let the machine have the model after a step. */
  async hold(step: number): Promise<boolean> {
    return (await ask("holdRun", this.place, this.id, step)) !== null;
  }

  async takeAway(step: number): Promise<Uint8Array | null> {
    return ask("takeAway", this.place, this.id, step);
  }
}
