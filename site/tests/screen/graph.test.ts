// The scalar graph against 01's own rule: what is shown after each node, and both mistakes.

import { afterAll, beforeAll, expect, test } from "vitest";

import { open, settled, start, type Screen } from "./browser.ts";
import { numberOf, table } from "./reading.ts";

let screen: Screen;
beforeAll(async () => {
  screen = await start();
});
afterAll(() => screen.close());

test("a graph is walked back node by node", async () => {
  const { page, watch } = await open(screen, "#/graph?done=0"); // a = 3, b = a + a, b * a + b
  const grads = async (): Promise<number[]> =>
    (await table(page, "table[data-tape]")).rows.map(({ cells }) => numberOf(cells.at(-1)!));
  const values = (await table(page, "table[data-tape]")).rows.map(({ cells }) => numberOf(cells.at(-2)!));
  expect(values).toEqual([3, 6, 18, 24]);
  const right = [[0, 0, 0, 1], [0, 1, 1, 1], [6, 4, 1, 1], [14, 4, 1, 1]];
  for (const [i, want] of right.entries()) {
    if (i) await page.getByRole("button", { name: "Next node" }).click();
    expect(await grads()).toEqual(want);
  }
  const shown = await page.locator("svg .grad").allTextContents();
  expect(shown.map(numberOf)).toEqual(right.at(-1));
  expect(watch).toEqual({ outside: [], errors: [] });
});

test("both mistakes are shown as what they are", async () => {
  const { page } = await open(screen, "#/graph");
  await page.getByLabel("child.grad = slope * grad").check();
  await page.getByText("keeps only the gradient of one use").waitFor();
  expect(await page.locator("g.wrong").count()).toBeGreaterThan(0);
  await page.getByLabel("child.grad += slope * grad").check();
  await page.getByLabel("the first made first").check();
  await page.getByText("before it had all of it").waitFor();
});

test("an expression of the reader's, and one that cannot be read", async () => {
  const { page } = await open(screen, "#/graph");
  const area = page.getByLabel(/^Lines with/);
  await area.fill("x = 2\nrelu(x * -3) + x * x");
  await settled(page);
  const { rows } = await table(page, "table[data-tape]");
  expect(rows.map(({ cells }) => cells[1])).toEqual(["number", "number", "×", "relu", "×", "+"]);
  expect(numberOf(rows[0]!.cells.at(-1)!)).toBe(4);
  await area.fill("y + 1");
  await page.getByText("y has no value yet: write y = 2 on a line before").waitFor();
});
