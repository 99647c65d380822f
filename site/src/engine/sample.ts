// Sampling (S11): one uniform number chooses one token.

import type { Model } from "./model.ts";

/** softmax(z / temperature), and its running sums. */
export interface Distribution {
  p: number[];
  sums: number[];
}

export function distribution(logits: ArrayLike<number>, temperature: number): Distribution {
  const scaled = Array.from(logits, (z) => z / temperature);
  let top = -Infinity; // not Math.max(...): a NaN must stay one
  for (const z of scaled) if (z > top || Number.isNaN(z)) top = z;
  const exps = scaled.map((z) => Math.exp(z - top));
  const total = exps.reduce((a, b) => a + b, 0);
  const p = exps.map((e) => e / total);
  let sum = 0;
  const sums = p.map((x) => (sum += x));
  return { p, sums };
}

/** The first token whose running sum exceeds u times the whole; else the last (S11.3). */
export function choose({ sums }: Distribution, u: number): number {
  const mark = u * sums[sums.length - 1]!;
  for (let i = 0; i < sums.length - 1; i++) if (sums[i]! > mark) return i;
  return sums.length - 1;
}

/** The distribution after these tokens, the first of which is BOS. */
export function after(model: Model, tokens: number[], temperature: number): Distribution {
  const V = model.vocabSize;
  const n = tokens.length;
  return distribution(model.forward(tokens).subarray((n - 1) * V, n * V), temperature);
}

/** One name (S11), as tokens without BOS. */
export function sampleName(
  model: Model,
  uniform: () => number,
  temperature: number,
  prompt: number[] = [],
): number[] {
  const bos = model.vocabSize - 1;
  const tokens = [bos, ...prompt];
  while (tokens.length <= model.config.block_size) {
    const token = choose(after(model, tokens, temperature), uniform());
    if (token === bos) break;
    tokens.push(token);
  }
  return tokens.slice(1);
}
