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
  const length = Number(new DataView(raw).getBigUint64(0, true));
  const text = new TextDecoder().decode(new Uint8Array(raw, 8, length));
  const { __metadata__: said, ...header } = JSON.parse(text) as {
    __metadata__: { microgpt: string };
  };
  const tensors = new Map<string, Float64Array>();
  for (const [name, entry] of Object.entries(header as Record<string, Entry>)) {
    if (entry.dtype !== "F64") throw new Error(`${name} is ${entry.dtype}: it must be F64`);
    const [start, end] = entry.data_offsets;
    tensors.set(name, new Float64Array(raw.slice(8 + length + start, 8 + length + end)));
  }
  return { metadata: JSON.parse(said.microgpt) as Metadata, tensors };
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
