// The documents of a run (S1), as the lab splits them: a tenth of the distinct documents is held
// out, chosen by the SHA-256 of each, so that the choice depends neither on the seed nor on order.

import { compareBytes, sha256 } from "./sha256.ts";

export interface Split {
  train: string[];
  heldOut: string[];
}

/** The lines that are not empty (S1.1). Throws if they cannot be trained on. */
export function parse(text: string): string[] {
  const lines = text.replace(/^\ufeff/, "").split("\n");
  const docs = lines.map((line) => line.trim()).filter(Boolean);
  const letters = new Set(docs.join(""));
  if (letters.has("\0")) throw new Error("This is no text: it must have one name on each line.");
  if (docs.length < 2 || letters.size < 2) {
    throw new Error(
      `These are ${docs.length} name(s) with ${letters.size} different letter(s): ` +
        "it takes at least 2 of each, one name on each line.",
    );
  }
  return docs;
}

/** SHA-256 over the lines, each with a newline after it, as 01 computes it. */
export function digest(docs: string[]): string {
  const bytes = sha256(new TextEncoder().encode(docs.map((doc) => `${doc}\n`).join("")));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function split(docs: string[], share: number): Split {
  const encoder = new TextEncoder();
  const distinct = [...new Set(docs)].map((doc) => ({ doc, key: sha256(encoder.encode(doc)) }));
  const count = Math.trunc(share * distinct.length);
  if (!count) return { train: [...docs], heldOut: [] };
  distinct.sort((a, b) => compareBytes(a.key, b.key));
  const heldOut = distinct.slice(0, count).map(({ doc }) => doc);
  const excluded = new Set(heldOut);
  return { train: docs.filter((doc) => !excluded.has(doc)), heldOut };
}
