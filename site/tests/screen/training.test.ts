// The training view against the lab's run: losses, held-out losses, names, and what one takes away.

import { readFileSync } from "node:fs";

import { afterAll, beforeAll, expect, test } from "vitest";

import { readCheckpoint } from "../../src/engine/checkpoint.ts";
import { GOLDEN, HELD_OUT } from "../golden.ts";
import { open, settled, start, type Screen } from "./browser.ts";
import { numberOf, shows, table } from "./reading.ts";

let screen: Screen;
beforeAll(async () => {
  screen = await start();
});
afterAll(() => screen.close());

const NAMES = 'ol[aria-label="Names"] li';

test("with all names the page shows 01's 500 losses and its twenty names", async () => {
  const { page, watch } = await open(screen, "#/training?held=0");
  await page.getByRole("button", { name: "Show all losses" }).click();
  const { rows } = await table(page, "table[data-losses]");
  expect(rows.map(({ label }) => label)).toEqual(GOLDEN.losses.map((_, i) => String(i + 1)));
  rows.forEach(({ cells }, i) => shows(cells[0]!, GOLDEN.losses[i]!, `loss of step ${i + 1}`));
  expect(await page.locator(NAMES).allTextContents()).toEqual(GOLDEN.names.map(({ name }) => name));
  const mean = GOLDEN.losses.slice(-50).reduce((a, b) => a + b) / 50;
  shows((await page.locator("[data-mean]").textContent())!, mean, "mean of the last 50");
  expect(watch).toEqual({ outside: [], errors: [] });
});

test("with held-out names it shows the lab's held-out losses, and yardsticks beside them", async () => {
  const { page } = await open(screen, "#/training");
  const held = await table(page, "table[data-held-out]");
  for (const [step, loss] of Object.entries(HELD_OUT.held_out)) {
    const row = held.rows.find(({ label }) => label === step);
    shows(row!.cells[0]!, loss, `held-out loss at step ${step}`);
  }
  expect(await page.locator(NAMES).allTextContents()).toEqual(HELD_OUT.names);
  const { rows } = await table(page, "table[data-yardsticks]");
  expect(rows.map(({ label }) => label)).toEqual([
    "uniform guess", "letter counts", "bigram", "trigram", "4-gram", "5-gram",
  ]);
  shows(rows[0]!.cells[0]!, Math.log(27), "uniform guess");
  const losses = rows.map(({ cells }) => Number(cells[0]));
  expect(losses).toEqual([...losses].sort((a, b) => b - a));
});

test("time goes back and forth over the same run", async () => {
  const { page } = await open(screen, "#/training?held=0&step=120");
  const at = async (): Promise<string[]> => page.locator(NAMES).allTextContents();
  const then = await at();
  await page.getByLabel("Step", { exact: true }).fill("300");
  await settled(page);
  expect(await page.locator("[data-step]").textContent()).toBe("step 300 of 500");
  expect(await at()).not.toEqual(then);
  await page.getByLabel("Step", { exact: true }).fill("121");
  await settled(page);
  await page.getByRole("button", { name: "−1 step" }).click();
  await settled(page);
  expect(await page.locator("[data-step]").textContent()).toBe("step 120 of 500");
  expect(await at()).toEqual(then);
});

test("it plays to the end", async () => {
  const { page } = await open(screen, "#/training?held=0&step=440");
  await page.getByRole("button", { name: "Play" }).click();
  await page.getByText("step 500 of 500").waitFor();
  await settled(page);
  expect(await page.locator(NAMES).allTextContents()).toEqual(GOLDEN.names.map(({ name }) => name));
  await page.getByRole("button", { name: "Play" }).waitFor();
});

test("a slider is a whole run, beside the run that was kept", async () => {
  const { page } = await open(screen, "#/training?held=0");
  await page.getByRole("button", { name: "Keep to compare" }).click();
  await page.getByLabel(/^Width/).fill("1");
  await settled(page);
  expect(await page.getByText("Kept: recipe seed, seed 42, all names").count()).toBe(1);
  expect(page.url()).toContain("n_embd=8");
  const lines = page.locator("path.mean, path.against");
  const [one, two] = await lines.evaluateAll((paths) => paths.map((path) => path.getAttribute("d")));
  expect(one).not.toBe(two);
  await page.getByRole("button", { name: "Back to the recipe" }).click();
  await settled(page);
  const again = await lines.evaluateAll((paths) => paths.map((path) => path.getAttribute("d")));
  expect(again[0]).toBe(again[1]);
});

test("the weights that one takes away are those of the step that is shown", async () => {
  const { page } = await open(screen, "#/training?held=0&step=500");
  const download = page.waitForEvent("download");
  await page.getByRole("button", { name: "Take the weights" }).click();
  const file = await download;
  expect(file.suggestedFilename()).toBe("microgpt-seed-42-step-500.safetensors");
  const raw = readFileSync(await file.path());
  const copy = new Uint8Array(raw).buffer;
  const { tensors, metadata } = readCheckpoint(copy);
  const right = readFileSync(new URL("../../src/recorded/seed-42.safetensors", import.meta.url));
  const recorded = readCheckpoint(new Uint8Array(right).buffer);
  for (const [name, values] of recorded.tensors) {
    expect(Math.max(...tensors.get(name)!.map((x, i) => Math.abs(x - values[i]!)))).toBeLessThan(1e-9);
  }
  expect({ ...metadata, about: "", complete: false }).toEqual({ ...recorded.metadata, about: "" });
});

test("own names are trained on, and what cannot be is said in a sentence", async () => {
  const { page, watch } = await open(screen, "#/training?batch_size=1");
  const area = page.getByLabel(/^Names of your own/);
  await area.fill("aaa");
  await page.getByRole("button", { name: "Train on these" }).click();
  await page.getByText("These are 1 name(s) with 1 different letter(s)").waitFor();
  await area.fill(Array.from({ length: 30 }, (_, i) => "xyz".repeat(1 + (i % 3)) + "w".repeat(i)).join("\n"));
  await page.getByRole("button", { name: "Train on these" }).click();
  await page.getByText("27 names to train on, 3 held out").waitFor();
  await settled(page);
  const names = await page.locator(NAMES).allTextContents();
  expect(names.join("")).toMatch(/^[wxyz]+$/);
  expect(watch).toEqual({ outside: [], errors: [] });
});

test("a number that cannot work is named with its limits", async () => {
  const { page } = await open(screen, "#/training?n_embd=6");
  expect(await page.getByRole("alert").textContent()).toBe("n_embd 6 is not a multiple of n_head 4");
});

test("a fork has the run's losses and weights up to its step, and its own settings after it", async () => {
  const { page, watch } = await open(screen, "#/training?held=0&step=200");
  const tensors = (): Promise<unknown> => table(page, "table[data-tensors]");
  const before = await tensors();
  await page.getByRole("button", { name: "Fork here" }).click();
  await page.getByLabel(/^Learning rate/).fill("30");
  await settled(page);
  await page.getByText("After step 200, both runs have the same weights, number by number").waitFor();
  expect(await page.getByLabel(/^Width/).isDisabled()).toBe(true);
  expect(await page.locator("[data-fork]").count()).toBe(1);
  await page.getByRole("button", { name: "Show all losses" }).click();
  const { rows } = await table(page, "table[data-losses]");
  rows.slice(0, 201).forEach(({ cells }, i) => shows(cells[0]!, GOLDEN.losses[i]!, `loss of step ${i + 1}`));
  const apart = rows.slice(201).map(({ cells }, i) => Math.abs(numberOf(cells[0]!) - GOLDEN.losses[201 + i]!));
  expect(Math.max(...apart)).toBeGreaterThan(0.1);
  await page.getByLabel("Step", { exact: true }).fill("200");
  await settled(page);
  expect(await tensors()).toEqual(before); // the gradients too, of the same names
  const again = await open(screen, page.url().replace(screen.url, ""));
  expect(await again.page.locator("[data-step]").textContent()).toBe("step 200 of 500");
  await page.getByRole("button", { name: "Undo the fork" }).click();
  await settled(page);
  expect(page.url().replace(screen.url, "")).toBe("#/training?held=0");
  expect(watch).toEqual({ outside: [], errors: [] });
});

test("runs that start from other weights say so", async () => {
  const { page } = await open(screen, "#/training?held=0&seed=1&against=held%3D0");
  await page.getByText("After step 0, both runs have different weights").waitFor();
  const again = await open(screen, "#/training?held=0&learning_rate=0.02&against=held%3D0");
  await again.page.getByText("After step 0, both runs have the same weights, number by number").waitFor();
});

test("a loss is told as a probability and as a choice among letters", async () => {
  const { page } = await open(screen, "#/training");
  const { rows } = await table(page, "table[data-meaning]");
  const own = rows.find(({ label }) => label === "this model")!;
  const loss = HELD_OUT.held_out["500"]!;
  shows(own.cells[0]!, loss, "held-out loss");
  expect(rows.length).toBe(7);
  for (const { label, cells } of rows) {
    const said = numberOf(cells[0]!);
    expect(Math.abs(numberOf(cells[2]!) - Math.exp(said)), label).toBeLessThan(0.07);
    expect(Math.abs(parseFloat(cells[1]!) - 100 * Math.exp(-said)), label).toBeLessThan(0.6);
  }
  const said = (await page.locator("[data-means]").textContent())!;
  expect(said).toContain(`${Math.exp(loss).toFixed(1)} equally likely letters`);
  expect(await page.locator("#meaning").textContent()).toBe(`What does a loss of ${loss.toFixed(1)} mean?`);
});
