// The screen is verified: every number of the machine, by position, head, row and label, against 01's.

import { readFileSync } from "node:fs";

import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { colourOf, largest } from "../../src/lib/colour.ts";
import { GOLDEN } from "../golden.ts";
import { open, settled, start, type Screen } from "./browser.ts";
import { numberOf, pixels, shows, table } from "./reading.ts";

let screen: Screen;
beforeAll(async () => {
  screen = await start();
});
afterAll(() => screen.close());

const TITLES: Record<string, string> = {
  embedding: "Embeddings",
  embedding_norm: "RMSNorm",
  "layer0.attn_norm": "RMSNorm before attention",
  "layer0.q": "Query",
  "layer0.k": "Key",
  "layer0.v": "Value",
  "layer0.heads": "Outputs of the heads",
  "layer0.attn_out": "Output matrix",
  "layer0.attn_residual": "Added to the stream",
  "layer0.mlp_norm": "RMSNorm before the MLP",
  "layer0.pre_activation": "MLP, first matrix",
  "layer0.activation": "Activation",
  "layer0.mlp_out": "MLP, second matrix",
  "layer0.mlp_residual": "Added to the stream",
  logits: "Logits",
};
const ALL = [...Object.keys(TITLES), "layer0.attention", "probabilities"].join(",");
const VOCABULARY = [...GOLDEN.letters, "end"];

/** The probabilities that a list shows, by token. */
async function chances(page: Page, label: string): Promise<[string, string][]> {
  const texts = await page.getByRole("list", { name: label, exact: true }).locator("li").allTextContents();
  return texts.map((text) => text.trim().split(/\s+/) as [string, string]);
}

function showsRow(found: [string, string][], want: number[], what: string): void {
  expect(found.map(([token]) => token)).toEqual(VOCABULARY);
  found.forEach(([token, text], i) => shows(text, want[i]!, `${what}, ${token}`));
}

async function showsMatrix(page: Page, operation: string, name: string): Promise<void> {
  const { labels, values } = GOLDEN.read[name]!;
  const want = values[operation] as number[][];
  const title = TITLES[operation]!;
  const at = `[data-operation="${operation}"]`;
  const found = await table(page, `${at} table[data-matrix="${title}"]`);
  expect(found.columns).toEqual(want[0]!.map((_, c) => String(c)));
  expect(found.rows.map(({ label }) => label)).toEqual(labels);
  found.rows.forEach(({ cells }, r) => {
    cells.forEach((text, c) => shows(text, want[r]![c]!, `${operation} of ${name} at ${r}, ${c}`));
  });
  if (title === "Added to the stream") return; // two canvases have this name
  const top = largest(want);
  const colours = want.map((row) => row.map((x) => colourOf(x, top, "light").join(",")));
  expect(await pixels(page, title)).toEqual(colours);
}

async function showsHeads(page: Page, what: "weights" | "scores", name: string): Promise<void> {
  const { labels, values } = GOLDEN.read[name]!;
  const want = values[what === "weights" ? "layer0.attention" : "layer0.scores"] as number[][][];
  for (let head = 0; head < 4; head++) {
    const found = await table(page, `table[data-head="${head}"][data-shows="${what}"]`);
    expect(found.columns).toEqual(labels);
    expect(found.rows.map(({ label }) => label)).toEqual(labels);
    found.rows.forEach(({ cells }, t) => {
      expect(cells.length).toBe(labels.length);
      cells.forEach((text, u) => {
        if (u > t) expect(text).toBe("masked");
        else shows(text, want[t]![head]![u]!, `${what} of head ${head} at ${t}, ${u}`);
      });
    });
  }
}

async function showsTokens(page: Page, name: string): Promise<void> {
  const { labels, tokens } = GOLDEN.read[name]!;
  const texts = await page.getByRole("radio").allTextContents();
  expect(texts.map((text) => text.trim().split(/\s+/))).toEqual(
    tokens.map((token, t) => [labels[t], "token", String(token)]),
  );
}

describe.each(Object.keys(GOLDEN.read))("the name %s", (name) => {
  test("is shown number by number as 01 computes it", async () => {
    const { page, watch } = await open(screen, `#/machine?name=${name}&open=${ALL}`);
    await showsTokens(page, name);
    for (const operation of Object.keys(TITLES)) await showsMatrix(page, operation, name);
    await showsHeads(page, "weights", name);
    await page.getByRole("button", { name: "Scores", exact: true }).click();
    await showsHeads(page, "scores", name);
    const { labels, probabilities } = GOLDEN.read[name]!;
    const plain = await table(page, `table[data-matrix="Probabilities"]`);
    expect(plain.rows.map(({ label }) => label)).toEqual(labels);
    plain.rows.forEach(({ cells }, t) => {
      cells.forEach((text, i) => shows(text, probabilities["1.0"]![t]![i]!, `p at ${t}, ${i}`));
    });
    expect(watch).toEqual({ outside: [], errors: [] });
  });

  test("has 01's probabilities after each of its letters", async () => {
    const { page } = await open(screen, `#/machine?name=${name}`);
    const { labels, probabilities, values } = GOLDEN.read[name]!;
    for (let t = labels.length - 1; t >= 0; t--) {
      await page.getByRole("radio").nth(t).click();
      await settled(page);
      const heading = await page.locator("#next").textContent();
      expect(heading).toBe(`After ${labels.slice(0, t + 1).join(" ")}`);
      const found = await chances(page, "Probability of each next letter");
      showsRow(found, probabilities["0.5"]![t]!, `after letter ${t}`);
      const strip = await table(page, `table[data-matrix="Query at the selected position"]`);
      expect(strip.rows.map(({ label }) => label)).toEqual([labels[t]]);
      const query = values["layer0.q"] as number[][];
      strip.rows[0]!.cells.forEach((text, c) => shows(text, query[t]![c]!, `query ${t}, ${c}`));
    }
  });
});

test("softmax is shown step by step for the head that is chosen", async () => {
  const { page } = await open(screen, "#/machine?name=emma&at=3");
  await page.getByLabel("in head").selectOption("2");
  const { values, labels } = GOLDEN.read["emma"]!;
  const found = await table(page, `table[data-softmax="2"]`);
  expect(found.rows.map(({ label }) => label)).toEqual(labels);
  found.rows.forEach(({ cells }, u) => {
    if (u > 3) return expect(cells).toEqual(["masked: it comes later"]);
    const score = (values["layer0.scores"] as number[][][])[3]![2]![u]!;
    const weight = (values["layer0.attention"] as number[][][])[3]![2]![u]!;
    [score, Math.exp(score), weight].forEach((x, i) => shows(cells[i]!, x, `column ${i}`));
  });
});

test("after an edit nothing is left of the name before", async () => {
  const { page } = await open(screen, `#/machine?open=${ALL}`);
  await page.getByLabel("A name of up to").fill("zoe");
  await settled(page);
  await showsTokens(page, "zoe");
  for (const operation of Object.keys(TITLES)) await showsMatrix(page, operation, "zoe");
  await showsHeads(page, "weights", "zoe");
  showsRow(
    await chances(page, "Probability of each next letter"),
    GOLDEN.read["zoe"]!.probabilities["0.5"]!.at(-1)!,
    "after zoe",
  );
});

test("the temperature changes the distribution", async () => {
  const { page } = await open(screen, "#/machine?name=ava&temperature=1");
  showsRow(
    await chances(page, "Probability of each next letter"),
    GOLDEN.read["ava"]!.probabilities["1.0"]!.at(-1)!,
    "at temperature 1",
  );
});

test("the twenty names are those that 01 prints, and those in the data are marked", async () => {
  const { page } = await open(screen, "#/machine");
  const names = await page.locator(".names button").evaluateAll((buttons) =>
    buttons.map((button) => ({
      name: button.textContent,
      in_data: getComputedStyle(button).textDecorationLine === "underline",
    })),
  );
  expect(names).toEqual(GOLDEN.names);
});

test("a name is drawn letter by letter with 01's random numbers", async () => {
  const { page } = await open(screen, "#/machine?empty=yes");
  const { name } = GOLDEN.names[0]!;
  for (let i = 0; i <= name.length; i++) {
    await page.getByRole("button", { name: "Draw the next letter" }).click();
    await settled(page);
    const { rows } = await table(page, "table[data-draws]");
    expect(rows.length).toBe(i + 1);
    const [before, u, between, letter] = rows[i]!.cells;
    expect(before).toBe(["BOS", ...name.slice(0, i)].join(" "));
    shows(u!, GOLDEN.uniforms[i]!, "uniform");
    const [low, high] = between!.split(" and ").map(numberOf);
    expect(low! <= GOLDEN.uniforms[i]! && GOLDEN.uniforms[i]! <= high!).toBe(true);
    expect(letter).toBe(name[i] ?? "none: the end");
  }
  await page.getByText("BOS was drawn").waitFor();
  expect(await page.getByRole("button", { name: "Draw the next letter" }).isDisabled()).toBe(true);
});

test("pointing at a weight shows its arc, and pointing at an arc shows its weight", async () => {
  const { page } = await open(screen, "#/machine?name=emma");
  const head = page.getByRole("region", { name: "Attention of head 1" });
  await head.locator("tbody tr").nth(3).locator("td").nth(1).hover();
  expect(await head.locator("path.pointed").getAttribute("data-arc")).toBe("3,1");
  const weight = (GOLDEN.read["emma"]!.values["layer0.attention"] as number[][][])[3]![1]![1]!;
  const readout = await page.locator(".readout b").first().textContent();
  shows(readout!, weight, "weight that is pointed at");
  await page.mouse.move(0, 0);
  await head.locator("path[data-arc='4,0']").dispatchEvent("pointerenter");
  expect(await head.locator("td.pointed").count()).toBe(1);
});

test("a letter that the model does not know is named, and the rest is read", async () => {
  const { page } = await open(screen, "#/machine");
  await page.getByLabel("A name of up to").fill("zoé");
  await settled(page);
  expect(await page.locator("#refused").textContent()).toContain('has "é"');
  expect(await page.getByRole("radio").count()).toBe(3);
});

// ---------------------------------------------------------------- Other models

const NEXT = "Probability of each next letter";

test("a model that was trained in the page is shown, and its address trains it again", async () => {
  const { page, watch } = await open(screen, "#/training?held=0");
  await page.getByRole("button", { name: "Look inside this model" }).click();
  await page.getByText("The model: recipe seed, seed 42, all names, after step 500, trained in this page.").waitFor();
  await settled(page);
  expect(page.url().replace(screen.url, "")).toBe("#/machine?run=held%3D0&step=500");
  const right = GOLDEN.read["emma"]!.probabilities["0.5"]!.at(-1)!;
  showsRow(await chances(page, NEXT), right, "after emma");
  const names = await page.locator(".names button").allTextContents();
  expect(names).toEqual(GOLDEN.names.map(({ name }) => name));
  const first = await open(screen, "#/machine?run=held%3D0&step=0");
  const start = await chances(first.page, NEXT);
  start.forEach(([, text]) => expect(Math.abs(numberOf(text) - 1 / 27)).toBeLessThan(0.02));
  await first.page.getByRole("button", { name: "Back to 01's model" }).click();
  await first.page.getByText("as 01 trains it").waitFor();
  await settled(first.page);
  showsRow(await chances(first.page, NEXT), right, "after emma, back");
  expect(watch).toEqual({ outside: [], errors: [] });
});

test("a model with another block, width and depth is shown whole", async () => {
  const { page, watch } = await open(screen, "#/machine?run=recipe%3Dgist%26n_embd%3D8&step=3&name=abcdefghijkl");
  expect(await page.getByRole("radio").count()).toBe(13);
  await page.getByText("ReLU: negative numbers become 0.").waitFor();
  const found = await table(page, 'table[data-matrix="Query at the selected position"]');
  expect(found.rows[0]!.cells.length).toBe(8);
  expect(watch.errors).toEqual([]);
});

test("a checkpoint is opened; what is none is said in a sentence", async () => {
  const { page } = await open(screen, "#/training?held=0&step=120");
  const download = page.waitForEvent("download");
  await page.getByRole("button", { name: "Take the weights" }).click();
  const path = await (await download).path();
  const machine = await open(screen, "#/machine");
  const input = machine.page.getByLabel("Open a checkpoint");
  await input.setInputFiles({ name: "names.txt", mimeType: "text/plain", buffer: Buffer.from("emma\nava\n") });
  await machine.page.getByText("names.txt: This is no safetensors file.").waitFor();
  await input.setInputFiles({ name: "mine.safetensors", mimeType: "", buffer: readFileSync(path) });
  await machine.page.getByText("The model that you opened, after step 120.").waitFor();
  await settled(machine.page);
  const again = await open(screen, "#/machine?run=held%3D0&step=120");
  const found = await chances(machine.page, NEXT);
  expect(found).toEqual(await chances(again.page, NEXT));
  const recorded = GOLDEN.read["emma"]!.probabilities["0.5"]!.at(-1)!;
  expect(Math.max(...found.map(([, text], i) => Math.abs(numberOf(text) - recorded[i]!)))).toBeGreaterThan(0.01);
  const closed = await open(screen, "#/machine?model=here");
  expect(await closed.page.getByRole("alert").textContent()).toContain("in a page that has been closed");
});

test("own names make a model with letters of their own", async () => {
  const { page } = await open(screen, "#/training?n_embd=8");
  await page.getByLabel(/^Names of your own/).fill(["zoë", "xyz", "yz", "zx"].join("\n"));
  await page.getByLabel("Hold out a tenth of the names").uncheck();
  await page.getByRole("button", { name: "Train on these" }).click();
  await page.getByText("4 names to train on").waitFor();
  await settled(page);
  await page.getByRole("button", { name: "Look inside this model" }).click();
  await page.getByText("The model that you opened, after step 500.").waitFor();
  await settled(page);
  const found = await chances(page, NEXT);
  expect(found.map(([token]) => token)).toEqual(["o", "x", "y", "z", "ë", "end"]);
  await page.getByLabel("A name of up to").fill("zoë");
  await settled(page);
  expect(await page.getByRole("radio").allTextContents()).toHaveLength(4);
});
