// Cuts the code of each concept out of the versions at build time, by section and name:
// `import { CONCEPTS, VERSIONS } from "virtual:rosetta"`. A name that is gone fails the build.

import { readFileSync } from "node:fs";

import { createHighlighter, type Highlighter } from "shiki";
import type { Plugin } from "vite";

import { CONCEPTS } from "./concepts.ts";
import { mathml, html, rulesIn } from "./specification.ts";

const ROOT = new URL("../../", import.meta.url);

function text(path: string): string {
  return readFileSync(new URL(path, ROOT), "utf8");
}

// ---------------------------------------------------------------- Cutting

/** The program of a version. */
export function programOf(version: string): string {
  return `${version}/${version.startsWith("01") ? "microgpt.py" : "main.py"}`;
}

/** The lines of a function, class or method ("Layer.attention") in a section of a program, with its
    decorators. Throws, naming it, if it is not there exactly once. */
export function cut(source: string, section: string, name: string, where: string): { code: string; line: number } {
  const lines = source.split("\n");
  const rulers = lines.flatMap((line, i) => (/^# -{32,} /.test(line) ? [i] : []));
  const begin = rulers.find((i) => lines[i]!.replace(/^# -+ /, "").trim() === section);
  if (begin === undefined) throw new Error(`Rosetta: ${where} has no section ${section}`);
  let first = begin + 1;
  let end = rulers.find((i) => i > begin) ?? lines.length;
  let indent = "";
  for (const part of name.split(".")) {
    const head = new RegExp(`^${indent}(?:def|class) ${part}\\b`);
    const found = lines.slice(first, end).flatMap((line, i) => (head.test(line) ? [first + i] : []));
    if (found.length !== 1) {
      throw new Error(`Rosetta: ${name} stands ${found.length} times in ${where}, section ${section}`);
    }
    const at = found[0]!;
    const deeper = (line: string): boolean => !line.trim() || line.startsWith(`${indent} `) || /^\s*\)/.test(line);
    let stop = at + 1;
    while (stop < end && deeper(lines[stop]!)) stop++;
    first = at;
    while (lines[first - 1]!.startsWith(`${indent}@`)) first--;
    end = stop;
    indent += "    ";
  }
  const shift = indent.length - 4;
  const code = lines.slice(first, end).map((line) => line.slice(shift)).join("\n").trimEnd();
  return { code, line: first + 1 };
}

// ---------------------------------------------------------------- Colouring

/** Kinds of code by the colour that stands for each in the theme below. */
const KINDS: Record<string, [string, string[]]> = {
  "#000001": ["comment", ["comment", "string.quoted.docstring"]],
  "#000002": ["keyword", ["keyword", "storage"]],
  "#000003": ["string", ["string.quoted.single", "constant.numeric"]],
  "#000004": ["function", ["entity.name.function", "entity.name.type"]],
};

async function highlighter(): Promise<Highlighter> {
  const settings = Object.entries(KINDS).map(([foreground, [, scope]]) => ({ scope, settings: { foreground } }));
  const theme = { name: "kinds", settings: [{ settings: { foreground: "#000000", background: "#ffffff" } }, ...settings] };
  return createHighlighter({ themes: [theme], langs: ["python"] });
}

function escaped(code: string): string {
  return code.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

function coloured(shiki: Highlighter, code: string): string {
  const { tokens } = shiki.codeToTokens(code, { lang: "python", theme: "kinds" });
  const span = (content: string, colour = ""): string => {
    const kind = KINDS[colour.toLowerCase()]?.[0];
    return kind ? `<span class="${kind}">${escaped(content)}</span>` : escaped(content);
  };
  return tokens.map((line) => line.map(({ content, color }) => span(content, color)).join("")).join("\n");
}

// ---------------------------------------------------------------- What was measured

interface Row {
  variant: string;
  dtype: string;
  checks: Record<string, "exact" | number>;
}

/** The difference of a version from 01 in a check, in double precision where it has that. */
function measured(read: typeof text, version: string, check: string): { dtype: string; difference: "exact" | number } {
  const { versions } = JSON.parse(read("spec/verified.json")) as { versions: Record<string, { rows: Row[] }> };
  const rows = (versions[version]?.rows ?? []).filter(({ variant }) => !variant);
  const row = rows.find(({ dtype }) => dtype === "float64") ?? rows[0];
  const difference = row?.checks[check];
  if (!row || difference === undefined) throw new Error(`Rosetta: verified.json has no ${check} of ${version}`);
  return { dtype: row.dtype, difference };
}

function titleOf(read: typeof text, version: string): string {
  if (version.startsWith("01")) return "Pure Python";
  const found = /^title = "(.*)"$/m.exec(read(`${version}/pyproject.toml`));
  if (!found) throw new Error(`Rosetta: ${version}/pyproject.toml has no title`);
  return found[1]!;
}

/** `read` gives the text of a file of the repository. */
export function rosetta(read: typeof text = text): Plugin {
  const id = "virtual:rosetta";
  return {
    name: "rosetta",
    resolveId: (source) => (source === id ? `\0${id}` : null),
    async load(source) {
      if (source !== `\0${id}`) return null;
      const shiki = await highlighter();
      const rules = rulesIn(read("SPEC.md"));
      const names = [...new Set(CONCEPTS.flatMap(({ cuts }) => Object.keys(cuts)))].sort();
      for (const name of names) this.addWatchFile(new URL(programOf(name), ROOT).pathname);
      const concepts = CONCEPTS.map(({ id: concept, title, says, formula, rule, check, cuts }) => {
        if (!rules.has(rule)) throw new Error(`SPEC.md has no rule ${rule}, which Rosetta shows`);
        const code = Object.entries(cuts).map(([version, [section, ...anchors]]) => {
          const path = programOf(version);
          const parts = anchors.map((name) => cut(read(path), section, name, path));
          const shown = parts.map((part) => part.code).join("\n\n\n");
          return [version, { path, line: parts[0]!.line, lines: shown.split("\n").length, html: coloured(shiki, shown), measured: measured(read, version, check) }];
        });
        return {
          id: concept, title, says, rule, check,
          formula: mathml(String.raw`\displaystyle ${formula}`),
          ruleText: html(rules.get(rule)!),
          code: Object.fromEntries(code),
        };
      });
      const versions = Object.fromEntries(names.map((name) => [name, titleOf(read, name)]));
      return `export const CONCEPTS = ${JSON.stringify(concepts)};\nexport const VERSIONS = ${JSON.stringify(versions)};`;
    },
  };
}
