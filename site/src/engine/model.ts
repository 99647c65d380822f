// The model in float64: forward, every gradient by hand, Adam. Rules of SPEC.md are named.
//
// C n_embd, H heads, D = C / H, V vocabulary, T inputs of a document. A matrix is a row-major
// Float64Array; (out, in) has `out` rows of `in` numbers.

import type { Random } from "./random.ts";
import { countWeights, learningRate, shapes, type Config, type Shape } from "./config.ts";

const EPSILON = 1e-5; // S5.1

/** What one layer computes for the document at hand, kept for its backward pass. */
interface LayerKept {
  input: Float64Array; // (T, C) the stream that enters
  scale1: Float64Array; // (T,) the factor of RMSNorm
  h1: Float64Array; // (T, C)
  q: Float64Array;
  k: Float64Array;
  v: Float64Array;
  scores: Float64Array; // (T, H, T)
  attention: Float64Array; // (T, H, T)
  heads: Float64Array; // (T, C)
  attnOut: Float64Array;
  middle: Float64Array; // (T, C) the stream after attention
  scale2: Float64Array;
  h2: Float64Array;
  a: Float64Array; // (T, 4C) before the activation
  b: Float64Array; // (T, 4C) after it
  mlpOut: Float64Array; // (T, C)
}

/** Where the matrices of one layer begin. */
interface LayerAt {
  wq: number;
  wk: number;
  wv: number;
  wo: number;
  fc1: number;
  fc2: number;
}

/** One named value of the forward pass: a row of numbers for each position and head. */
export interface Traced {
  name: string;
  /** [position][number], or [position][head][earlier position] for scores and attention. */
  value: number[][] | number[][][];
}

export class Model {
  readonly config: Config;
  readonly vocabSize: number;
  readonly table: Shape[];
  readonly weights: Float64Array;
  readonly gradients: Float64Array;
  readonly firstMoment: Float64Array;
  readonly secondMoment: Float64Array;
  step = 0;

  private readonly at: Record<string, number> = {};
  private readonly layerAt: LayerAt[] = [];
  private readonly kept: LayerKept[] = [];
  private readonly embedded: Float64Array; // (T, C) wte + wpe
  private readonly scale0: Float64Array;
  private readonly normed: Float64Array; // (T, C) after the first norm
  private readonly last: Float64Array; // (T, C) the stream after the last layer
  private readonly logitRows: Float64Array; // (T, V)
  private readonly dLogits: Float64Array;
  private readonly dx: Float64Array; // (T, C), and so on: gradients of the values above
  private readonly dh: Float64Array;
  private readonly dq: Float64Array;
  private readonly dk: Float64Array;
  private readonly dv: Float64Array;
  private readonly dHeads: Float64Array;
  private readonly da: Float64Array;
  private readonly dAttention: Float64Array;

  constructor(config: Config, vocabSize: number) {
    this.config = config;
    this.vocabSize = vocabSize;
    this.table = shapes(config, vocabSize);
    const size = countWeights(this.table);
    this.weights = new Float64Array(size);
    this.gradients = new Float64Array(size);
    this.firstMoment = new Float64Array(size);
    this.secondMoment = new Float64Array(size);
    for (const { name, offset } of this.table) this.at[name] = offset;
    const { n_embd: C, n_head: H, n_layer: L, block_size: T } = config;
    const rows = (width: number): Float64Array => new Float64Array(T * width);
    for (let i = 0; i < L; i++) {
      const start = (part: string): number => this.at[`layer${i}.${part}`]!;
      this.layerAt.push({
        wq: start("attn_wq"), wk: start("attn_wk"), wv: start("attn_wv"),
        wo: start("attn_wo"), fc1: start("mlp_fc1"), fc2: start("mlp_fc2"),
      });
      this.kept.push({
        input: rows(C), scale1: rows(1), h1: rows(C), q: rows(C), k: rows(C), v: rows(C),
        scores: rows(H * T), attention: rows(H * T), heads: rows(C), attnOut: rows(C),
        middle: rows(C), scale2: rows(1), h2: rows(C), a: rows(4 * C), b: rows(4 * C),
        mlpOut: rows(C),
      });
    }
    this.embedded = rows(C);
    this.scale0 = rows(1);
    this.normed = rows(C);
    this.last = rows(C);
    this.logitRows = rows(vocabSize);
    this.dLogits = rows(vocabSize);
    this.dx = rows(C);
    this.dh = rows(C);
    this.dq = rows(C);
    this.dk = rows(C);
    this.dv = rows(C);
    this.dHeads = rows(C);
    this.da = rows(4 * C);
    this.dAttention = new Float64Array(T);
  }

  /** Draw the initial weights from the stream (S3). */
  initialise(random: Random): this {
    for (const { rows, columns, std, offset } of this.table) {
      for (let i = 0; i < rows * columns; i++) this.weights[offset + i] = random.gauss(std);
    }
    return this;
  }

  // ---------------------------------------------------------------- Forward

  /** The logits after each position of one document (S4): (n, V), valid until the next call. */
  forward(tokens: ArrayLike<number>, n = tokens.length): Float64Array {
    const { n_embd: C, n_layer: L } = this.config;
    const w = this.weights;
    const wte = this.at["wte"]!;
    const wpe = this.at["wpe"]!;
    for (let t = 0; t < n; t++) {
      const row = wte + tokens[t]! * C;
      for (let i = 0; i < C; i++) this.embedded[t * C + i] = w[row + i]! + w[wpe + t * C + i]!;
    }
    rmsnorm(this.embedded, this.normed, this.scale0, n, C); // S4.2
    let x = this.normed;
    for (let i = 0; i < L; i++) {
      const next = i + 1 < L ? this.kept[i + 1]!.input : this.last;
      if (i === 0) this.kept[0]!.input.set(x);
      this.layer(this.layerAt[i]!, this.kept[i]!, next, n);
      x = next;
    }
    matmul(w, this.at["lm_head"]!, this.vocabSize, C, x, this.logitRows, n); // S4.4: no norm
    return this.logitRows;
  }

  private layer(at: LayerAt, kept: LayerKept, out: Float64Array, n: number): void {
    const { n_embd: C, relu_power: power } = this.config;
    const w = this.weights;
    rmsnorm(kept.input, kept.h1, kept.scale1, n, C); // S6.1
    matmul(w, at.wq, C, C, kept.h1, kept.q, n);
    matmul(w, at.wk, C, C, kept.h1, kept.k, n);
    matmul(w, at.wv, C, C, kept.h1, kept.v, n);
    this.attend(kept, n);
    matmul(w, at.wo, C, C, kept.heads, kept.attnOut, n);
    add(kept.input, kept.attnOut, kept.middle, n * C); // S6.7
    rmsnorm(kept.middle, kept.h2, kept.scale2, n, C); // S7.1
    matmul(w, at.fc1, 4 * C, C, kept.h2, kept.a, n);
    for (let i = 0; i < n * 4 * C; i++) {
      const y = kept.a[i]! > 0 ? kept.a[i]! : 0;
      kept.b[i] = power === 1 ? y : power === 2 ? y * y : Math.pow(y, power); // S7.2
    }
    matmul(w, at.fc2, C, 4 * C, kept.b, kept.mlpOut, n);
    add(kept.middle, kept.mlpOut, out, n * C); // S7.4
  }

  private attend(kept: LayerKept, n: number): void {
    const { n_embd: C, n_head: H, block_size: T } = this.config;
    const D = C / H;
    const factor = 1 / Math.sqrt(D); // S6.3
    const { q, k, v, scores, attention, heads } = kept;
    for (let t = 0; t < n; t++) {
      for (let j = 0; j < H; j++) {
        const row = (t * H + j) * T;
        let top = -Infinity;
        for (let u = 0; u <= t; u++) { // S6.4
          let sum = 0;
          for (let i = j * D; i < (j + 1) * D; i++) sum += q[t * C + i]! * k[u * C + i]!;
          scores[row + u] = sum * factor;
          if (scores[row + u]! > top) top = scores[row + u]!;
        }
        let total = 0;
        for (let u = 0; u <= t; u++) {
          const e = Math.exp(scores[row + u]! - top);
          attention[row + u] = e;
          total += e;
        }
        for (let u = 0; u <= t; u++) attention[row + u] = attention[row + u]! / total; // S6.5
        for (let i = j * D; i < (j + 1) * D; i++) {
          let sum = 0;
          for (let u = 0; u <= t; u++) sum += attention[row + u]! * v[u * C + i]!;
          heads[t * C + i] = sum; // S6.6
        }
      }
    }
  }

  // ---------------------------------------------------------------- Loss and gradients

  /** The mean loss of all targets of a batch (S8). Documents are already cut (S2.3). */
  loss(batch: number[][]): number {
    return this.lossAndGradients(batch, false);
  }

  /** The same, and the gradient of each weight in `gradients`, replacing what was there. */
  lossAndGradients(batch: number[][], backward = true): number {
    const V = this.vocabSize;
    let targets = 0;
    for (const tokens of batch) targets += tokens.length - 1;
    if (backward) this.gradients.fill(0);
    let total = 0;
    for (const tokens of batch) {
      const n = tokens.length - 1;
      const z = this.forward(tokens, n);
      let sum = 0;
      for (let t = 0; t < n; t++) {
        sum += crossEntropy(z, t * V, V, tokens[t + 1]!, this.dLogits, 1 / targets);
      }
      total += sum / targets;
      if (backward) this.backward(tokens, n);
    }
    return total;
  }

  private backward(tokens: number[], n: number): void {
    const { n_embd: C, n_layer: L } = this.config;
    const { weights: w, gradients: g, dx } = this;
    const head = this.at["lm_head"]!;
    dx.fill(0, 0, n * C);
    matmulBackward(w, g, head, this.vocabSize, C, this.last, this.dLogits, dx, n);
    for (let i = L - 1; i >= 0; i--) this.layerBackward(this.layerAt[i]!, this.kept[i]!, n);
    rmsnormBackward(this.normed, this.scale0, dx, this.dh, n, C, false);
    const wte = this.at["wte"]!;
    const wpe = this.at["wpe"]!;
    for (let t = 0; t < n; t++) {
      const row = wte + tokens[t]! * C;
      for (let i = 0; i < C; i++) {
        g[row + i]! += this.dh[t * C + i]!; // += as a letter may occur twice
        g[wpe + t * C + i]! += this.dh[t * C + i]!;
      }
    }
  }

  /** dx enters as the gradient of the layer's output and leaves as that of its input. */
  private layerBackward(at: LayerAt, kept: LayerKept, n: number): void {
    const { n_embd: C, relu_power: p } = this.config;
    const { weights: w, gradients: g, dx, dh, da } = this;
    da.fill(0, 0, n * 4 * C);
    matmulBackward(w, g, at.fc2, C, 4 * C, kept.b, dx, da, n);
    for (let i = 0; i < n * 4 * C; i++) {
      const a = kept.a[i]!;
      const slope = p === 1 ? 1 : p === 2 ? 2 * a : p * Math.pow(a, p - 1); // S7.3
      da[i] = a > 0 ? da[i]! * slope : 0;
    }
    dh.fill(0, 0, n * C);
    matmulBackward(w, g, at.fc1, 4 * C, C, kept.h2, da, dh, n);
    rmsnormBackward(kept.h2, kept.scale2, dh, dx, n, C, true); // dx also goes around the MLP
    this.dHeads.fill(0, 0, n * C);
    matmulBackward(w, g, at.wo, C, C, kept.heads, dx, this.dHeads, n);
    this.attendBackward(kept, n);
    dh.fill(0, 0, n * C);
    matmulBackward(w, g, at.wq, C, C, kept.h1, this.dq, dh, n);
    matmulBackward(w, g, at.wk, C, C, kept.h1, this.dk, dh, n);
    matmulBackward(w, g, at.wv, C, C, kept.h1, this.dv, dh, n);
    rmsnormBackward(kept.h1, kept.scale1, dh, dx, n, C, true);
  }

  private attendBackward(kept: LayerKept, n: number): void {
    const { n_embd: C, n_head: H, block_size: T } = this.config;
    const D = C / H;
    const factor = 1 / Math.sqrt(D);
    const { q, k, v, attention } = kept;
    const { dq, dk, dv, dHeads, dAttention } = this;
    dq.fill(0, 0, n * C);
    dk.fill(0, 0, n * C);
    dv.fill(0, 0, n * C);
    for (let t = 0; t < n; t++) {
      for (let j = 0; j < H; j++) {
        const row = (t * H + j) * T;
        let inner = 0; // Σ p dp, which the backward pass of softmax subtracts
        for (let u = 0; u <= t; u++) {
          const weight = attention[row + u]!;
          let dp = 0;
          for (let i = j * D; i < (j + 1) * D; i++) {
            dp += dHeads[t * C + i]! * v[u * C + i]!;
            dv[u * C + i]! += weight * dHeads[t * C + i]!;
          }
          dAttention[u] = dp;
          inner += weight * dp;
        }
        for (let u = 0; u <= t; u++) {
          const ds = attention[row + u]! * (dAttention[u]! - inner) * factor;
          for (let i = j * D; i < (j + 1) * D; i++) {
            dq[t * C + i]! += ds * k[u * C + i]!;
            dk[u * C + i]! += ds * q[t * C + i]!;
          }
        }
      }
    }
  }

  // ---------------------------------------------------------------- Adam

  /** Move every weight against its gradient (S9). */
  adam(rate: number): void {
    this.step += 1;
    const { beta1, beta2 } = this.config;
    const correct1 = 1 - Math.pow(beta1, this.step);
    const correct2 = 1 - Math.pow(beta2, this.step);
    const { weights, gradients, firstMoment, secondMoment } = this;
    for (let i = 0; i < weights.length; i++) {
      const g = gradients[i]!;
      const m = beta1 * firstMoment[i]! + (1 - beta1) * g;
      const v = beta2 * secondMoment[i]! + (1 - beta2) * g * g;
      firstMoment[i] = m;
      secondMoment[i] = v;
      weights[i]! -= (rate * (m / correct1)) / (Math.sqrt(v / correct2) + 1e-8);
    }
  }

  /** One step: the loss of a batch, before the weights move. */
  trainStep(batch: number[][], rate = learningRate(this.config, this.step)): number {
    const loss = this.lossAndGradients(batch);
    this.adam(rate);
    return loss;
  }

  // ---------------------------------------------------------------- What was computed

  /** Every named value of the forward pass of a document, in the order of execution. */
  trace(tokens: number[]): Traced[] {
    const { n_embd: C, n_layer: L } = this.config;
    const n = tokens.length;
    const z = this.forward(tokens);
    const found: Traced[] = [];
    const note = (name: string, from: Float64Array, width: number): void => {
      found.push({ name, value: toRows(from, n, width) });
    };
    note("embedding", this.embedded, C);
    note("embedding_norm", this.normed, C);
    for (let i = 0; i < L; i++) {
      const kept = this.kept[i]!;
      note(`layer${i}.attn_norm`, kept.h1, C);
      note(`layer${i}.q`, kept.q, C);
      note(`layer${i}.k`, kept.k, C);
      note(`layer${i}.v`, kept.v, C);
      found.push({ name: `layer${i}.scores`, value: this.headRows(kept.scores, n) });
      found.push({ name: `layer${i}.attention`, value: this.headRows(kept.attention, n) });
      note(`layer${i}.heads`, kept.heads, C);
      note(`layer${i}.attn_out`, kept.attnOut, C);
      note(`layer${i}.attn_residual`, kept.middle, C);
      note(`layer${i}.mlp_norm`, kept.h2, C);
      note(`layer${i}.pre_activation`, kept.a, 4 * C);
      note(`layer${i}.activation`, kept.b, 4 * C);
      note(`layer${i}.mlp_out`, kept.mlpOut, C);
      note(`layer${i}.mlp_residual`, i + 1 < L ? this.kept[i + 1]!.input : this.last, C);
    }
    note("logits", z, this.vocabSize);
    return found;
  }

  private headRows(from: Float64Array, n: number): number[][][] {
    const { n_head: H, block_size: T } = this.config;
    const row = (t: number, j: number): number[] => {
      const start = (t * H + j) * T;
      return [...from.subarray(start, start + t + 1)];
    };
    return Array.from({ length: n }, (_, t) => Array.from({ length: H }, (_, j) => row(t, j)));
  }

  /** {name: rows} of one of the four arrays: weights, gradients or a moment. */
  toNamedRows(from: Float64Array): Record<string, number[][]> {
    return Object.fromEntries(
      this.table.map(({ name, rows, columns, offset }) => [
        name, toRows(from.subarray(offset), rows, columns),
      ]),
    );
  }

  /** Fill one of the four arrays from {name: rows}. */
  setNamedRows(into: Float64Array, named: Record<string, number[][]>): void {
    for (const { name, columns, offset } of this.table) {
      named[name]!.forEach((row, r) => into.set(row, offset + r * columns));
    }
  }
}

export function toRows(from: Float64Array, rows: number, width: number): number[][] {
  return Array.from({ length: rows }, (_, r) => [...from.subarray(r * width, (r + 1) * width)]);
}

// ---------------------------------------------------------------- Operations

/** y = Wx for each of n positions; W begins at `start` of w. */
function matmul(
  w: Float64Array, start: number, outs: number, ins: number,
  x: Float64Array, y: Float64Array, n: number,
): void {
  for (let t = 0; t < n; t++) {
    const xs = t * ins;
    const ys = t * outs;
    for (let o = 0, row = start; o < outs; o++, row += ins) {
      let sum = 0;
      for (let i = 0; i < ins; i++) sum += w[row + i]! * x[xs + i]!;
      y[ys + o] = sum;
    }
  }
}

/** Adds to the gradients of W and of x, given that of y. */
function matmulBackward(
  w: Float64Array, g: Float64Array, start: number, outs: number, ins: number,
  x: Float64Array, dy: Float64Array, dx: Float64Array, n: number,
): void {
  for (let t = 0; t < n; t++) {
    const xs = t * ins;
    const ys = t * outs;
    for (let o = 0, row = start; o < outs; o++, row += ins) {
      const d = dy[ys + o]!;
      if (d === 0) continue; // it would only add zeros
      for (let i = 0; i < ins; i++) {
        g[row + i]! += d * x[xs + i]!;
        dx[xs + i]! += d * w[row + i]!;
      }
    }
  }
}

function rmsnorm(
  x: Float64Array, y: Float64Array, scale: Float64Array, n: number, C: number,
): void {
  for (let t = 0; t < n; t++) {
    let sum = 0;
    for (let i = t * C; i < (t + 1) * C; i++) sum += x[i]! * x[i]!;
    const r = 1 / Math.sqrt(sum / C + EPSILON); // S5.1
    scale[t] = r;
    for (let i = t * C; i < (t + 1) * C; i++) y[i] = r * x[i]!;
  }
}

/** The gradient of the norm's input, which is written to dx, or added to it (S5.2). */
function rmsnormBackward(
  y: Float64Array, scale: Float64Array, dy: Float64Array, dx: Float64Array,
  n: number, C: number, adds: boolean,
): void {
  for (let t = 0; t < n; t++) {
    let inner = 0;
    for (let i = t * C; i < (t + 1) * C; i++) inner += y[i]! * dy[i]!;
    inner /= C;
    for (let i = t * C; i < (t + 1) * C; i++) {
      const d = scale[t]! * (dy[i]! - y[i]! * inner);
      dx[i] = adds ? dx[i]! + d : d;
    }
  }
}

function add(a: Float64Array, b: Float64Array, out: Float64Array, size: number): void {
  for (let i = 0; i < size; i++) out[i] = a[i]! + b[i]!;
}

/** The loss of one target; the logits' gradient, times `share`, goes to dz (S8.1). */
function crossEntropy(
  z: Float64Array, start: number, V: number, target: number, dz: Float64Array, share: number,
): number {
  let top = -Infinity;
  for (let i = start; i < start + V; i++) if (z[i]! > top) top = z[i]!;
  let total = 0;
  for (let i = start; i < start + V; i++) {
    const e = Math.exp(z[i]! - top);
    dz[i] = e;
    total += e;
  }
  for (let i = start; i < start + V; i++) dz[i] = (dz[i]! / total) * share;
  dz[start + target]! -= share;
  return Math.log(total) + top - z[start + target]!;
}
