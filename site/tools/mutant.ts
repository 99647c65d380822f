// Builds the page with one mistake of tests/screen/mutants.json in it, named by SITE_MUTANT. The
// tests of the screen must then fail.

import { readFileSync } from "node:fs";

import type { Plugin } from "vite";

export interface Mutant {
  id: string;
  file: string;
  find: string;
  replace: string;
  why: string;
  /** Which file of tests/screen must turn red; machine by default. */
  tests?: string;
}

export const MUTANTS = JSON.parse(
  readFileSync(new URL("../tests/screen/mutants.json", import.meta.url), "utf8"),
) as Mutant[];

/** The text with the mistake in it. Throws if `find` does not stand in it exactly once. */
export function mutated(source: string, { id, file, find, replace }: Mutant): string {
  const count = source.split(find).length - 1;
  if (count !== 1) throw new Error(`mutant ${id}: its text stands ${count} times in ${file}`);
  return source.replace(find, () => replace);
}

export function mutant(id: string | undefined): Plugin {
  const chosen = MUTANTS.find((one) => one.id === id);
  if (id && !chosen) throw new Error(`no mutant ${id}`);
  return {
    name: "mutant",
    enforce: "pre",
    transform(source, path) {
      if (!chosen || !path.split("?")[0]!.endsWith(`/${chosen.file}`)) return null;
      if (path.includes("?") && !path.includes("?worker")) return null;
      return { code: mutated(source, chosen), map: null };
    },
  };
}
