// 01's numbers, which the tests compare with.

import { readFileSync } from "node:fs";

export interface Read {
  tokens: number[];
  labels: string[];
  values: Record<string, number[][] | number[][][]>;
  probabilities: Record<string, number[][]>;
}

export interface Golden {
  seed: number;
  losses: number[];
  names: { name: string; in_data: boolean }[];
  uniforms: number[];
  letters: string[];
  read: Record<string, Read>;
}

function json(path: string): unknown {
  return JSON.parse(readFileSync(new URL(path, import.meta.url), "utf8"));
}

export const GOLDEN = json("../golden/seed-42.json") as Golden;
export const HELD_OUT = json("../golden/held-out.json") as {
  losses: number[];
  held_out: Record<string, number>;
  names: string[];
};
export function documents(): string[] {
  const text = readFileSync(new URL("../../data/names.txt", import.meta.url), "utf8");
  return text.split("\n").filter(Boolean);
}
