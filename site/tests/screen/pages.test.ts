// Every view in light and dark, on a desk and on a phone: accessible, inside the window, silent,
// and the same again from its address.

import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { VIEWS } from "../../src/lib/views.ts";
import { open, settled, start, type Screen } from "./browser.ts";
import { weights } from "./weights.ts";
import { DIST } from "./serve.ts";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const SHOTS = join(DIST, "..", "shots");

let screen: Screen;
beforeAll(async () => {
  mkdirSync(SHOTS, { recursive: true });
  screen = await start();
});
afterAll(() => screen.close());

/** What axe finds, serious or critical: "rule: element". */
async function findings(page: Page): Promise<string[]> {
  await page.evaluate(AXE); // in the page's debugger, which its policy does not forbid
  return page.evaluate(async () => {
    const { axe } = window as unknown as { axe: { run: () => Promise<{ violations: Finding[] }> } };
    interface Finding {
      id: string;
      impact: string;
      nodes: { html: string; failureSummary: string }[];
    }
    const { violations } = await axe.run();
    return violations
      .filter(({ impact }) => impact === "serious" || impact === "critical")
      .flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html.slice(0, 160)} ${node.failureSummary}`));
  });
}

/** Elements for screen readers alone that take up room all the same, and so can make the page wider. */
function hiddenButWide(page: Page): Promise<string[]> {
  return page.evaluate(() =>
    [...document.querySelectorAll(".hidden")].filter((e) => e.getBoundingClientRect().width > 1).map((e) => e.outerHTML.slice(0, 160)),
  );
}

/** Every element that the Tab key reaches, with a name for those who do not see it. */
async function walk(page: Page): Promise<{ name: string; visible: boolean }[]> {
  const found: { name: string; visible: boolean }[] = [];
  await page.evaluate(() => (document.activeElement as HTMLElement | null)?.blur());
  for (let i = 0; i < 400; i++) {
    await page.keyboard.press("Tab");
    const here = await page.evaluate(() => {
      const e = document.activeElement as HTMLElement;
      if (!e || e === document.body) return null;
      const again = e.dataset["walked"] === "yes";
      e.dataset["walked"] = "yes";
      const label = (e as HTMLInputElement).labels?.[0]?.textContent;
      const name = e.getAttribute("aria-label") ?? label ?? e.textContent;
      const box = e.getBoundingClientRect();
      return { name: name.trim(), visible: box.width > 0 && box.height > 0, again };
    });
    if (!here || here.again) return found;
    found.push(here);
  }
  throw new Error("the Tab key does not come to an end");
}

/** What is looked at: each view as it opens, in four ways, and in two what addresses show otherwise. */
const OTHERS = [
  "deception?marked=A%2CC&sees=verify",
  "training?of=recipe%3Dseed&fork=150&against=recipe%3Dseed&learning_rate=0.049",
  "machine?run=recipe%3Dgist%26n_embd%3D8&step=30&name=annabella",
];
const CASES = (["light", "dark"] as const).flatMap((theme) =>
  [1440, 390].flatMap((width) => {
    const places = (theme === "light") === (width === 1440) ? [...VIEWS, ...OTHERS] : VIEWS;
    return places.map((place) => ({ place, theme, width }));
  }),
);

describe.each(CASES)("$place, $theme, $width pixels", ({ place, theme, width }) => {
  test("is accessible, fits, asks nobody, and returns from its address", async () => {
    const { page, watch } = await open(screen, `#/${place}`, { theme, width });
    expect(await findings(page)).toEqual([]);
    const sideways = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    expect(sideways).toBeLessThanOrEqual(0);
    expect(await hiddenButWide(page)).toEqual([]); // a table ignores its width: its letters' font decides
    const shot = await page.screenshot({ fullPage: true, path: join(SHOTS, `${place.replace(/\W+/g, "-").slice(0, 40)}-${theme}-${width}.png`) });
    const again = await open(screen, page.url().replace(screen.url, ""), { theme, width });
    expect(shot.equals(await again.page.screenshot({ fullPage: true }))).toBe(true);
    expect(watch).toEqual({ outside: [], errors: [] });
    await page.context().close();
    await again.page.context().close();
  });
});

test.each(VIEWS)("the keyboard reaches everything in %s, and each thing has a name", async (view) => {
  const { page } = await open(screen, `#/${view}`);
  const found = await walk(page);
  expect(found.length).toBeGreaterThan(8);
  expect(found.filter(({ name, visible }) => !name || !visible)).toEqual([]);
  await page.context().close();
});

test("what is chosen in the machine is in the address, and opens again as the same picture", async () => {
  const { page } = await open(screen, "#/machine");
  await page.getByLabel("A name of up to").fill("zo");
  await settled(page);
  await page.getByRole("button", { name: "Draw the next letter" }).click();
  await settled(page);
  await page.getByRole("radio", { checked: true }).focus();
  await page.keyboard.press("ArrowLeft");
  await page.getByRole("slider").fill("1.2");
  await page.getByRole("button", { name: /^Query/ }).click();
  await page.getByLabel("in head").selectOption("3");
  await settled(page);
  const text = (from: Page): Promise<string> => from.locator("main").innerText();
  const address = page.url().replace(screen.url, "");
  expect(address).toBe("#/machine?name=zo&draws=1&at=2&temperature=1.2&open=layer0.attention%2Clayer0.q&head=3");
  const again = await open(screen, address);
  expect(await text(again.page)).toBe(await text(page));
});

test("an address with nonsense in it opens the page", async () => {
  const { page, watch } = await open(screen, "#/machine?draws=-3&temperature=x&at=99&head=7&open=%00&name=%E2%82%AC");
  expect(await page.getByRole("radio").count()).toBe(1);
  expect(watch.errors).toEqual([]);
});

test("the theme can be chosen, and stays", async () => {
  const { page } = await open(screen, "#/machine");
  const colour = (): Promise<string> => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await colour();
  await page.getByRole("button", { name: "Dark" }).click();
  expect(await colour()).not.toBe(light);
  await page.reload();
  await settled(page);
  expect(await colour()).not.toBe(light);
});

test("the first view weighs at most 400 KB, and everything 1.2 MB, as sent with gzip", async () => {
  const { first, all } = await weights(screen);
  expect(first).toBeGreaterThan(10_000);
  expect(first).toBeLessThan(400_000);
  expect(all).toBeLessThan(1_200_000);
});

test("the policy forbids what is not the page's own", async () => {
  const { page } = await open(screen, "#/machine");
  const blocked = await page.evaluate(async () => {
    const refused: string[] = [];
    document.addEventListener("securitypolicyviolation", (e) => refused.push(e.effectiveDirective));
    const script = document.createElement("script");
    script.textContent = "window.wrong = true";
    document.body.append(script);
    await fetch("http://127.0.0.1:9/").catch(() => null);
    await new Promise((done) => setTimeout(done, 50));
    return { refused, ran: "wrong" in window };
  });
  expect(blocked.ran).toBe(false);
  expect(blocked.refused).toEqual(expect.arrayContaining(["script-src-elem", "connect-src"]));
});
