// The deception against its recording: which program is wrong, its curve, its checks and its edit.

import { readFileSync } from "node:fs";

import type { Locator, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";

import { open, start, type Screen } from "./browser.ts";
import { table } from "./reading.ts";

interface Finding {
  check: string;
  case: string;
  passed: boolean;
  worst: number | null;
}
interface Recorded {
  reference: { losses: number[] };
  right: Finding[];
  programs: { id: string; replace?: string; find?: string; losses: number[]; checks?: Finding[]; first?: Finding }[];
}
const RECORDED = JSON.parse(
  readFileSync(new URL("../../src/recorded/deception.json", import.meta.url), "utf8"),
) as Recorded;
const { programs } = RECORDED;
const LETTERS = programs.map((_, i) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[i]!);
const wrongOnes = LETTERS.filter((_, i) => programs[i]!.id);

let screen: Screen;
beforeAll(async () => {
  screen = await start();
});
afterAll(() => screen.close());

const card = (page: Page, letter: string): Locator => page.locator(`li[data-program=${letter}]`);
const mark = (page: Page, letter: string): Locator => page.getByRole("button", { name: `Program ${letter}: wrong?` });
const score = (page: Page): Promise<string> => page.locator("[data-score]").innerText();

function means(losses: number[]): number[] {
  return losses.slice(49).map((_, i) => losses.slice(i, i + 50).reduce((a, b) => a + b) / 50);
}

/** The heights of a path's points. */
async function heights(path: Locator): Promise<number[]> {
  const d = (await path.getAttribute("d"))!;
  return d.slice(1).split("L").map((point) => Number(point.split(",")[1]));
}

test("each card draws the recorded losses of its program, at the scale of the right one's", async () => {
  const { page, watch } = await open(screen, "#/deception");
  for (const [i, letter] of LETTERS.entries()) {
    const right = means(RECORDED.reference.losses);
    const [high, low] = [right.indexOf(Math.max(...right)), right.indexOf(Math.min(...right))];
    const drawn = await heights(card(page, letter).locator("path.against"));
    const unit = (drawn[low]! - drawn[high]!) / (right[high]! - right[low]!);
    const got = await heights(card(page, letter).locator("[data-curve]"));
    means(programs[i]!.losses).forEach((loss, step) => {
      expect(Math.abs(got[step]! - (drawn[high]! + (right[high]! - loss) * unit))).toBeLessThan(0.05);
    });
    expect(await card(page, letter).locator("[data-verdict]").count()).toBe(0);
  }
  expect(watch).toEqual({ outside: [], errors: [] });
});

test("flipped, each card says which program it is, and what each check found", async () => {
  const { page } = await open(screen, "#/deception");
  await page.getByRole("button", { name: "What verify sees" }).click();
  for (const [i, letter] of LETTERS.entries()) {
    const { id, checks } = programs[i]!;
    const verdict = await card(page, letter).locator("[data-verdict]").textContent();
    expect(verdict).toBe(id ? `wrong: ${id}` : "right");
    const { rows } = await table(page, `li[data-program=${letter}] table[data-checks]`);
    const want = checks ?? RECORDED.right;
    expect(rows.map(({ label }) => label)).toEqual(want.map(({ check }) => check));
    rows.forEach(({ cells }, j) => {
      const { worst, passed } = want[j]!;
      const text = worst === null ? "∞" : worst ? worst.toExponential(1).replace("-", "−") : "exact";
      expect([cells[0], cells[2]]).toEqual([text, passed ? "passes" : "fails"]);
    });
    const crosses = await card(page, letter).locator("svg path").count();
    expect(crosses).toBe(want.filter(({ passed }) => !passed).length);
  }
});

test("marks are counted, stand in the address, and are set by the keyboard", async () => {
  const { page } = await open(screen, "#/deception");
  const right = LETTERS.find((letter) => !wrongOnes.includes(letter))!;
  const marked = [wrongOnes[0]!, wrongOnes[1]!, right];
  for (const letter of marked) {
    await mark(page, letter).focus();
    await page.keyboard.press("Space");
  }
  expect(await score(page)).toContain(`You have marked 3 of ${programs.length}`);
  await page.getByRole("button", { name: "What verify sees" }).press("Enter");
  const chance = ((3 * wrongOnes.length) / programs.length).toFixed(1);
  expect(await score(page)).toBe(
    `Wrong programs among your 3 marks: 2. Right ones: 1. As many marks by chance would find ${chance} of the ${wrongOnes.length} wrong programs.`,
  );
  expect(page.url()).toContain(`marked=${[...marked].sort().join("%2C")}&sees=verify`);
  const again = await open(screen, page.url().replace(screen.url, ""));
  expect(await again.page.locator("main").innerText()).toBe(await page.locator("main").innerText());
  await mark(page, right).click();
  expect(await score(page)).toContain("Wrong programs among your 2 marks: 2. Right ones: 0.");
});

test("the mistake of a program is its edit, and its first failure", async () => {
  const { page } = await open(screen, "#/deception?sees=verify");
  const squeezed = (text: string): string => text.replace(/\s+/g, "");
  for (const letter of wrongOnes) {
    await page.getByRole("button", { name: `Show the mistake of ${letter}` }).click();
    const { id, find, replace, first } = programs[LETTERS.indexOf(letter)]!;
    expect(await page.locator("#mistake").textContent()).toBe(`The mistake of ${letter}: ${id}`);
    expect(squeezed((await page.locator("[data-find]").textContent())!)).toBe(squeezed(find!));
    expect(squeezed((await page.locator("[data-replace]").textContent())!)).toBe(squeezed(replace!) || "(nothing)");
    const said = (await page.locator("[data-first]").textContent())!;
    expect(said).toContain(`the first check that fails is ${first!.check}`);
    expect(said).toContain(`In the case ${first!.case}`);
  }
});

test("an address with nonsense in it marks nothing", async () => {
  const { page, watch } = await open(screen, "#/deception?marked=Z,aa,%00&sees=x&at=Q");
  expect(await score(page)).toBe("You have marked no program.");
  expect(watch.errors).toEqual([]);
});
