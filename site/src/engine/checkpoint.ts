// The lab's checkpoints: one safetensors file, which `microgpt sample` and `microgpt resume` read.

import type { Config } from "./config.ts";
import type { Model } from "./model.ts";

/** What a checkpoint says beside its tensors. */
export interface Metadata {
  format: string;
  step: number;
  version: string;
  about: string;
  options: Record<string, unknown>;
  complete: boolean;
  recipe: string;
  config: Config;
  seed: number;
  data: string;
  digest: string;
  letters: string;
  held_out: number;
  rng: [number, number[], number | null];
}

interface Entry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

/** The tensors, each row by row, and the metadata. Throws for a file that is none. */
export function readCheckpoint(raw: ArrayBuffer): {
  metadata: Metadata;
  tensors: Map<string, Float64Array>;
} {
  const { header, metadata, start: from } = headerOf(raw);
  const tensors = new Map<string, Float64Array>();
  for (const [name, { dtype, data_offsets }] of Object.entries(header)) {
    if (dtype !== "F64" && dtype !== "F32") throw new Error(`${name} is ${dtype} in this file: it must be F64 or F32.`);
    const [start, end] = data_offsets.map((offset) => from + offset) as [number, number];
    if (!(from <= start && start <= end && end <= raw.byteLength)) throw new Error(`This file is cut off: ${name} is not whole.`);
    const bytes = raw.slice(start, end);
    tensors.set(name, dtype === "F64" ? new Float64Array(bytes) : Float64Array.from(new Float32Array(bytes)));
  }
  return { metadata, tensors };
}

/** The parts of a file before its numbers. Throws, with one sentence, for a file of another kind. */
function headerOf(raw: ArrayBuffer): { header: Record<string, Entry>; metadata: Metadata; start: number } {
  const length = raw.byteLength < 8 ? Infinity : Number(new DataView(raw).getBigUint64(0, true));
  if (8 + length > raw.byteLength) throw new Error("This is no safetensors file.");
  let parts: { __metadata__?: { microgpt?: string } };
  let metadata: Metadata | null;
  try {
    parts = JSON.parse(new TextDecoder().decode(new Uint8Array(raw, 8, length))) as typeof parts;
    metadata = JSON.parse(parts.__metadata__?.microgpt ?? "null") as Metadata | null;
  } catch {
    throw new Error("This is no safetensors file.");
  }
  if (!metadata?.format.startsWith("microgpt-checkpoint/")) {
    throw new Error("This safetensors file is no checkpoint of microgpt: open one that `microgpt train` wrote, or this page.");
  }
  const { __metadata__: _, ...header } = parts;
  return { header: header as Record<string, Entry>, metadata, start: 8 + length };
}

/** A whole checkpoint: weights and both moments. */
export function writeCheckpoint(model: Model, metadata: Metadata): Uint8Array<ArrayBuffer> {
  const header: Record<string, unknown> = {
    __metadata__: { microgpt: JSON.stringify(metadata) },
  };
  const parts: Float64Array[] = [];
  let offset = 0;
  const sources: [string, Float64Array][] = [
    ["", model.weights],
    ["first_moment.", model.firstMoment],
    ["second_moment.", model.secondMoment],
  ];
  for (const [prefix, from] of sources) {
    for (const { name, rows, columns, offset: start } of model.table) {
      const size = rows * columns * 8;
      header[prefix + name] = {
        dtype: "F64",
        shape: [rows, columns],
        data_offsets: [offset, offset + size],
      };
      parts.push(from.subarray(start, start + rows * columns));
      offset += size;
    }
  }
  let text = new TextEncoder().encode(JSON.stringify(header));
  const padding = (8 - (text.length % 8)) % 8; // tensors begin at a multiple of 8 bytes
  text = new Uint8Array([...text, ...new Uint8Array(padding).fill(32)]);
  const file = new Uint8Array(8 + text.length + offset);
  new DataView(file.buffer).setBigUint64(0, BigInt(text.length), true);
  file.set(text, 8);
  let place = 8 + text.length;
  for (const part of parts) {
    file.set(new Uint8Array(part.buffer, part.byteOffset, part.byteLength), place);
    place += part.byteLength;
  }
  return file;
}
