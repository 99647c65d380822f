// A plan as it stands in an address: what differs from its recipe.

import { RECIPES, type Config, type RecipeName } from "../engine/config.ts";
import type { Plan } from "../engine/training.ts";

/** The numbers that a slider changes, with the values that it can take. */
export const SLIDERS = [
  { name: "learning_rate", title: "Learning rate", values: geometric(0.0003, 1, 36) },
  { name: "n_embd", title: "Width", values: [4, 8, 12, 16, 20, 24, 32, 40, 48, 64] },
  { name: "init_std", title: "Deviation of the initial weights", values: geometric(0.001, 2, 34) },
  { name: "batch_size", title: "Names in a step", values: [1, 2, 3, 4, 6, 8, 12, 16, 24, 32] },
] as const;

/** Values in equal ratios, as numbers with two digits; those of the recipes are among them. */
function geometric(low: number, high: number, count: number): number[] {
  const found = Array.from({ length: count }, (_, i) => {
    return Number((low * (high / low) ** (i / (count - 1))).toPrecision(2));
  });
  return [...new Set([...found, 0.01, 0.02, 0.08])].filter((x) => x >= low).sort((a, b) => a - b);
}

export const NUMBERS = SLIDERS.map(({ name }) => name) as (keyof Config)[];

export type Given = Record<string, string>;

/** What a fork can change: the other numbers and the seed determine the weights that it has already. */
export const FORKS: readonly string[] = ["learning_rate", "batch_size"];
const DEEPEST = 6; // forks of forks

export const givenIn = (query: string): Given => Object.fromEntries(new URLSearchParams(query));

/** The plan of an address. What is missing or nonsense is the recipe's; in a fork, that of the run
    before it. */
export function planOf(given: Given, depth = 0): Plan {
  const step = Number(given["fork"]);
  if (given["of"] && given["fork"] && Number.isSafeInteger(step) && step >= 0 && depth < DEEPEST) {
    return forkOf(planOf(givenIn(given["of"]), depth + 1), step, given);
  }
  return ownPlan(given);
}

function forkOf(plan: Plan, step: number, given: Given): Plan {
  const { steps } = { ...RECIPES[plan.recipe], ...plan.numbers };
  const numbers = { ...plan.numbers, ...numbersOf(given, FORKS) };
  return { ...plan, numbers, from: { step: Math.min(step, steps), plan } };
}

function numbersOf(given: Given, names: readonly string[]): Partial<Config> {
  const numbers: Partial<Config> = {};
  for (const name of names) {
    const value = Number(given[name]);
    if (given[name] && Number.isFinite(value)) Object.assign(numbers, { [name]: value });
  }
  return numbers;
}

function ownPlan(given: Given): Plan {
  const known = given["recipe"] ?? "seed";
  const recipe = (Object.hasOwn(RECIPES, known) ? known : "seed") as RecipeName;
  const seed = Number(given["seed"] ?? 42);
  return {
    recipe,
    numbers: numbersOf(given, NUMBERS),
    seed: Number.isSafeInteger(seed) ? seed : 42,
    heldOut: given["held"] === "0" ? 0 : 0.1,
    own: "",
  };
}

/** The parts of an address that make a plan. */
export function givenOf(given: Given): Given {
  const names = ["recipe", "seed", "held", "of", "fork", ...NUMBERS];
  return Object.fromEntries(names.flatMap((name) => (given[name] ? [[name, given[name]]] : [])));
}

/** The address of a run that is forked at a step, beside the run before. */
export function forkAt(given: Given, step: number): Record<string, string | number | null> {
  const before = queryOf(given);
  const taken = Object.fromEntries(["recipe", "seed", "held", "step", ...NUMBERS].map((name) => [name, null]));
  return { ...taken, of: before, fork: step, against: before };
}

/** The address of the run that this one was forked from. */
export function unfork(given: Given): Record<string, string | number | null> {
  const taken = Object.fromEntries(["of", "fork", "against", "step", ...NUMBERS].map((name) => [name, null]));
  return { ...taken, ...givenOf(givenIn(given["of"] ?? "")) };
}

/** The parts of an address that make a plan, as one text. */
export function queryOf(given: Given): string {
  return new URLSearchParams(givenOf(given)).toString() || "recipe=seed";
}

export function words({ recipe, numbers, seed, heldOut, from }: Plan): string {
  const changed = Object.entries(numbers).map(([name, value]) => `${name} ${String(value)}`);
  return [`recipe ${recipe}`, `seed ${seed}`, ...changed, ...(heldOut ? [] : ["all names"]), ...(from ? [`forked at step ${from.step}`] : [])].join(", ");
}
