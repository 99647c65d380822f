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

const NUMBERS = SLIDERS.map(({ name }) => name) as (keyof Config)[];

export type Given = Record<string, string>;

/** The plan of an address. What is missing or nonsense is the recipe's. */
export function planOf(given: Given): Plan {
  const known = given["recipe"] ?? "seed";
  const recipe = (Object.hasOwn(RECIPES, known) ? known : "seed") as RecipeName;
  const seed = Number(given["seed"] ?? 42);
  const numbers: Partial<Config> = {};
  for (const name of NUMBERS) {
    const value = Number(given[name]);
    if (given[name] && Number.isFinite(value)) Object.assign(numbers, { [name]: value });
  }
  return {
    recipe,
    numbers,
    seed: Number.isSafeInteger(seed) ? seed : 42,
    heldOut: given["held"] === "0" ? 0 : 0.1,
    own: "",
  };
}

/** The parts of an address that make a plan. */
export function givenOf(given: Given): Given {
  const names = ["recipe", "seed", "held", ...NUMBERS];
  return Object.fromEntries(names.flatMap((name) => (given[name] ? [[name, given[name]]] : [])));
}

export function words({ recipe, numbers, seed, heldOut }: Plan): string {
  const changed = Object.entries(numbers).map(([name, value]) => `${name} ${String(value)}`);
  return [`recipe ${recipe}`, `seed ${seed}`, ...changed, ...(heldOut ? [] : ["all names"])].join(", ");
}
