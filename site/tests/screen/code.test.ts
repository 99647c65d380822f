// The code on the screen is the code of the sources.

import { readFileSync } from "node:fs";

import { afterAll, beforeAll, expect, test } from "vitest";

import { CONCEPTS } from "../../tools/concepts.ts";
import { cut, programOf } from "../../tools/rosetta.ts";
import { open, settled, start, type Screen } from "./browser.ts";

let screen: Screen;
beforeAll(async () => {
  screen = await start();
});
afterAll(() => screen.close());

function sourceOf(id: string, version: string): string {
  const [section, ...names] = CONCEPTS.find((concept) => concept.id === id)!.cuts[version]!;
  const source = readFileSync(new URL(`../../../${programOf(version)}`, import.meta.url), "utf8");
  return names.map((name) => cut(source, section, name, version).code).join("\n\n\n");
}

test("both sides show the sources of the versions that are chosen", async () => {
  const { page, watch } = await open(screen, "#/code");
  for (const { id, title, cuts } of CONCEPTS) {
    await page.getByRole("button", { name: title, exact: true }).click();
    for (const version of Object.keys(cuts)) {
      for (const [side, other] of [["left", "01_pure_python"], ["right", version]] as const) {
        const panel = page.locator(`[data-side=${side}]`);
        await panel.locator("select").selectOption(other);
        expect(await panel.locator("pre").textContent()).toBe(sourceOf(id, other));
        expect(await panel.locator("p").textContent()).toContain(programOf(other));
      }
    }
  }
  await settled(page);
  expect(watch).toEqual({ outside: [], errors: [] });
});

test("the measured differences are those of verified.json", async () => {
  const { page } = await open(screen, "#/code");
  const raw = readFileSync(new URL("../../../spec/verified.json", import.meta.url), "utf8");
  const { versions } = JSON.parse(raw) as {
    versions: Record<string, { rows: { variant: string; dtype: string; checks: Record<string, number | "exact"> }[] }>;
  };
  const right = page.locator("[data-side=right]");
  for (const { title, cuts, check } of CONCEPTS) {
    await page.getByRole("button", { name: title, exact: true }).click();
    for (const version of Object.keys(cuts).filter((name) => !name.startsWith("01"))) {
      await right.locator("select").selectOption(version);
      const rows = versions[version]!.rows.filter(({ variant }) => !variant);
      const row = rows.find(({ dtype }) => dtype === "float64") ?? rows[0]!;
      const text = (await right.locator("p").textContent())!.replace("−", "-");
      const found = row.checks[check]!;
      if (found === "exact") expect(text, title).toContain(`${version.slice(0, 2)} has exactly 01's`);
      else {
        expect(text, title).toContain(`at most ${found.toExponential(0)} of`);
        expect(text, title).toContain(`in ${row.dtype}.`);
      }
    }
  }
  expect(await page.locator("[data-side=left] p").textContent()).toContain("01 is the reference");
});

test("the chart of the benchmark is the repository's picture", async () => {
  const { page } = await open(screen, "#/code");
  const image = page.getByRole("img", { name: /^The time of a training step/ });
  const shown = await image.evaluate(async (element) => {
    const { src, complete, naturalWidth } = element as HTMLImageElement;
    return { text: await (await fetch(src)).text(), drawn: complete && naturalWidth > 0 };
  });
  expect(shown.drawn).toBe(true);
  expect(shown.text).toBe(readFileSync(new URL("../../../docs/step-times.svg", import.meta.url), "utf8"));
});
