// Cuts rules out of SPEC.md at build time: `import { RULES } from "virtual:specification"`. Formulas
// become MathML. A rule that the page names and SPEC.md lacks fails the build.

import { readFileSync } from "node:fs";

import temml from "temml";
import type { Plugin } from "vite";

const SPEC = new URL("../../SPEC.md", import.meta.url);

/** The rules that the page shows. */
export const SHOWN = [
  "S2.1", "S2.2", "S4.1", "S4.2", "S4.4", "S5.1", "S6.1", "S6.2", "S6.3", "S6.4", "S6.5", "S6.6",
  "S6.7", "S7.1", "S7.2", "S7.4", "S8.1", "S8.2", "S9.4", "S10.1", "S11.2", "S11.3", "S11.4",
];

/** {rule: its text in Markdown} */
export function rulesIn(markdown: string): Map<string, string> {
  const rules = new Map<string, string>();
  for (const part of markdown.split(/^(?=- \*\*S\d+\.\d+\*\*)|^(?=## )/m)) {
    const found = /^- \*\*(S\d+\.\d+)\*\* ([^]*)$/.exec(part);
    if (found) rules.set(found[1]!, found[2]!.split(/\n\s*\n/)[0]!.replace(/\s+/g, " ").trim());
  }
  return rules;
}

function escaped(text: string): string {
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

/** TeX as MathML. The policy allows no style attributes, so there are none. */
export function mathml(tex: string): string {
  return temml
    .renderToString(tex, { throwOnError: true })
    .replace(/ style="[^"]*"/g, "")
    .replace(/ class="[^"]*"/g, "");
}

/** A line of Markdown (code, emphasis, links' text, formulas) as HTML. */
export function html(markdown: string): string {
  return markdown
    .split(/(\$[^$]+\$|`[^`]+`)/)
    .map((part) => {
      if (part.startsWith("$")) return mathml(part.slice(1, -1));
      if (part.startsWith("`")) return `<code>${escaped(part.slice(1, -1))}</code>`;
      return escaped(part).replace(/\[([^\]]+)\]\([^)]+\)/g, "$1");
    })
    .join("")
    .replace(/\*([^*]+)\*/g, "<em>$1</em>");
}

export function specification(): Plugin {
  const id = "virtual:specification";
  return {
    name: "specification",
    resolveId: (source) => (source === id ? `\0${id}` : null),
    load(source) {
      if (source !== `\0${id}`) return null;
      const rules = rulesIn(readFileSync(SPEC, "utf8"));
      const shown = SHOWN.map((rule) => {
        const text = rules.get(rule);
        if (!text) throw new Error(`SPEC.md has no rule ${rule}, which the page shows`);
        return [rule, html(text)];
      });
      return `export const RULES = ${JSON.stringify(Object.fromEntries(shown))};`;
    },
  };
}
