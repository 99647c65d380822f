// Recipes (S12), documents as tokens (S2) and the table of the weights (S3).

import recorded from "../recorded/recipes.json" with { type: "json" };

export interface Config {
  n_embd: number;
  n_head: number;
  n_layer: number;
  block_size: number;
  init_std: number;
  zero_init: boolean;
  relu_power: number;
  learning_rate: number;
  beta1: number;
  beta2: number;
  schedule: "cosine" | "linear";
  steps: number;
  batch_size: number;
  temperature: number;
}

export type RecipeName = "seed" | "gist" | "scaled";

/** The recipes, as 01 has them: tools/record.py wrote them from 01 itself. */
export const RECIPES = recorded.recipes as Record<RecipeName, Config>;

/** What each number means and its limits, as 01 has them. */
export const OPTIONS = recorded.options as Record<
  keyof Config,
  { meaning: string; low: number | null; high: number | null }
>;

/** One sentence about the first number of a recipe that cannot work, or "". */
export function misfit(config: Config): string {
  for (const [name, { low, high }] of Object.entries(OPTIONS)) {
    const value = Number(config[name as keyof Config]);
    if (low === null || high === null) continue;
    if (!(low <= value && value <= high)) {
      return `${name} is ${value}: it must lie in ${low} … ${high}`;
    }
  }
  if (config.n_embd % config.n_head) {
    return `n_embd ${config.n_embd} is not a multiple of n_head ${config.n_head}`;
  }
  return "";
}

/** The learning rate of a step, which counts from 0 (S10). */
export function learningRate(config: Config, step: number): number {
  const done = step / config.steps;
  if (config.schedule === "linear") return config.learning_rate * (1 - done);
  return config.learning_rate * 0.5 * (1 + Math.cos(Math.PI * done));
}

// ---------------------------------------------------------------- Tokens

/** A token for each letter, in the order of the code points, then BOS (S2.1). */
export class Tokenizer {
  readonly letters: string[];
  readonly bos: number;
  readonly vocabSize: number;
  private readonly ids: Map<string, number>;

  constructor(docs: Iterable<string>) {
    const found = new Set<string>();
    for (const doc of docs) for (const letter of doc) found.add(letter);
    this.letters = [...found].sort((a, b) => a.codePointAt(0)! - b.codePointAt(0)!);
    this.ids = new Map(this.letters.map((letter, token) => [letter, token]));
    this.bos = this.letters.length;
    this.vocabSize = this.letters.length + 1;
  }

  has(letter: string): boolean {
    return this.ids.has(letter);
  }

  /** BOS, the letters, BOS (S2.2). */
  encode(doc: string): number[] {
    const tokens = [this.bos];
    for (const letter of doc) {
      const id = this.ids.get(letter);
      if (id === undefined) throw new Error(`no document has the letter ${letter}`);
      tokens.push(id);
    }
    tokens.push(this.bos);
    return tokens;
  }

  decode(tokens: Iterable<number>): string {
    let text = "";
    for (const token of tokens) if (token !== this.bos) text += this.letters[token]!;
    return text;
  }

  /** What a token is called on the page. Token 0 is a letter like any other. */
  label(token: number): string {
    return token === this.bos ? "BOS" : this.letters[token]!;
  }
}

// ---------------------------------------------------------------- Weights

export interface Shape {
  name: string;
  rows: number;
  columns: number;
  std: number;
  /** Where the matrix begins in the one array that holds all weights. */
  offset: number;
}

/** The weights in the order in which they are drawn (S3). */
export function shapes(config: Config, vocabSize: number): Shape[] {
  const C = config.n_embd;
  const std = config.init_std;
  const last = config.zero_init ? 0 : std;
  const table: [string, number, number, number][] = [
    ["wte", vocabSize, C, std],
    ["wpe", config.block_size, C, std],
    ["lm_head", vocabSize, C, std],
  ];
  for (let i = 0; i < config.n_layer; i++) {
    for (const part of ["wq", "wk", "wv"]) table.push([`layer${i}.attn_${part}`, C, C, std]);
    table.push([`layer${i}.attn_wo`, C, C, last]);
    table.push([`layer${i}.mlp_fc1`, 4 * C, C, std]);
    table.push([`layer${i}.mlp_fc2`, C, 4 * C, last]);
  }
  let offset = 0;
  return table.map(([name, rows, columns, deviation]) => {
    const shape = { name, rows, columns, std: deviation, offset };
    offset += rows * columns;
    return shape;
  });
}

export function countWeights(table: Shape[]): number {
  return table.reduce((sum, { rows, columns }) => sum + rows * columns, 0);
}
