import { expect, test } from "vitest";

import { colourOf, inkOn } from "../../src/lib/colour.ts";
import { fixed, percent } from "../../src/lib/format.ts";
import { MUTANTS, mutated } from "../../tools/mutant.ts";
import { html, mathml, rulesIn } from "../../tools/specification.ts";

test("a rule of SPEC.md is cut with all its lines and nothing of the next", () => {
  const rules = rulesIn("## S1 A\n\n- **S1.1** one\n  more\n- **S1.2** two\n\ntext\n\n## S2 B\n");
  expect([...rules]).toEqual([["S1.1", "one more"], ["S1.2", "two"]]);
});

test("text becomes HTML that is escaped, formulas MathML without styles", () => {
  expect(html("a < b, `x<y` and *why*")).toBe("a &lt; b, <code>x&lt;y</code> and <em>why</em>");
  expect(mathml("\\frac1C \\sum_i x_i^2")).toContain("<mfrac>");
  expect(mathml("\\mathrm{softmax}(z)_y")).not.toContain("style=");
  expect(() => mathml("\\nonsense{")).toThrow();
});

test("a mutant's text must stand in its file exactly once", () => {
  const one = { id: "m", file: "f", find: "ab", replace: "c", why: "" };
  expect(mutated("xaby", one)).toBe("xcy");
  expect(() => mutated("abab", one)).toThrow("mutant m: its text stands 2 times in f");
  expect(() => mutated("", one)).toThrow("0 times");
  expect(new Set(MUTANTS.map(({ id }) => id)).size).toBe(MUTANTS.length);
});

test("numbers as text", () => {
  expect(fixed(-0.12345)).toBe("−0.1235");
  expect(fixed(-0.00001)).toBe("0.0000");
  expect(fixed(NaN)).toBe("NaN");
  expect(fixed(-Infinity)).toBe("−∞");
  expect([percent(0.5), percent(0.0312), percent(0.0001), percent(0)]).toEqual([
    "50%", "3.1%", "<0.1%", "0.0%",
  ]);
});

test("colours: zero is the paper's, signs differ, and text on them can be read", () => {
  for (const theme of ["light", "dark"] as const) {
    expect(colourOf(0, 1, theme)).toEqual(colourOf(0, 0, theme));
    expect(colourOf(1, 1, theme)).not.toEqual(colourOf(-1, 1, theme));
    expect(colourOf(2, 1, theme)).toEqual(colourOf(1, 1, theme));
  }
  expect([inkOn([255, 255, 255]), inkOn([0, 0, 0])]).toEqual(["#111", "#fff"]);
});
