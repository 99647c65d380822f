// How many bytes the page sends, with gzip.

import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

import { settled, type Screen } from "./browser.ts";
import { DIST } from "./serve.ts";

const size = (path: string): number => gzipSync(readFileSync(path)).length;

/** Those of the first view, and those of every file. */
export async function weights(screen: Screen): Promise<{ first: number; all: number }> {
  const context = await screen.browser.newContext();
  const page = await context.newPage();
  const loaded: string[] = [];
  page.on("response", (response) => loaded.push(new URL(response.url()).pathname));
  await page.goto(screen.url);
  await settled(page);
  await context.close();
  const first = loaded.map((path) => size(join(DIST, path === "/" ? "index.html" : path)));
  const files = (readdirSync(DIST, { recursive: true }) as string[]).map((name) => join(DIST, name));
  const all = files.filter((path) => statSync(path).isFile()).map(size);
  return { first: first.reduce((a, b) => a + b), all: all.reduce((a, b) => a + b) };
}
