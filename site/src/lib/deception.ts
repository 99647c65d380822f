// Programs to judge by their loss curves: `microgpt site --record` trained them and wrote the file.

import recorded from "../recorded/deception.json" with { type: "json" };

/** What one check found: the largest relative difference from 01, and what passes. */
export interface Finding {
  check: string;
  level: string;
  case: string;
  tensor: string;
  detail: string;
  passed: boolean;
  worst: number | null;
  tolerance: number;
}

export interface Program {
  /** The wrong program's name in spec/mutants; "" is the right program. */
  id: string;
  seed: number;
  losses: number[];
  rule?: string;
  why?: string;
  find?: string;
  replace?: string;
  first?: Finding;
  checks?: Finding[];
}

export const RECORDED = recorded;
export const PROGRAMS = recorded.programs as Program[];
export const REFERENCE = recorded.reference;
export const WRONG = PROGRAMS.filter(({ id }) => id).length;

export const letterOf = (i: number): string => String.fromCharCode(65 + i);

/** What the checks found in a program; every right one is the same program. */
export const checksOf = (program: Program): Finding[] => program.checks ?? (recorded.right as Finding[]);

/** The mean of the last 50 losses. */
export function end(losses: number[]): number {
  return losses.slice(-50).reduce((a, b) => a + b, 0) / 50;
}

/** The losses between which the right programs end, the reference too. */
export function rightEnds(): [number, number] {
  const ends = [REFERENCE, ...PROGRAMS.filter(({ id }) => !id)].map(({ losses }) => end(losses));
  return [Math.min(...ends), Math.max(...ends)];
}

/** The programs that are marked, of an address such as "A,C". Nonsense marks nothing. */
export function marksOf(text: string): Set<number> {
  const letters = text.split(",");
  return new Set(PROGRAMS.flatMap((_, i) => (letters.includes(letterOf(i)) ? [i] : [])));
}

/** How many marks are right, how many are wrong, and how many chance would get right. */
export function score(marks: Set<number>): { found: number; unjust: number; chance: number } {
  const found = [...marks].filter((i) => PROGRAMS[i]!.id).length;
  return { found, unjust: marks.size - found, chance: (marks.size * WRONG) / PROGRAMS.length };
}

/** Code without the spaces that all its lines begin with, and without empty lines around it. */
export function dedent(code: string): string {
  const lines = code.replace(/^\n+|\s+$/g, "").split("\n");
  const indents = lines.filter((line) => line.trim()).map((line) => /^ */.exec(line)![0].length);
  const common = Math.min(...indents, Infinity);
  return lines.map((line) => line.slice(Number.isFinite(common) ? common : 0)).join("\n");
}
