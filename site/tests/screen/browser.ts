// The browser that the tests of the screen drive: Debian's Chromium.

import { existsSync } from "node:fs";

import { chromium, type Browser, type Page } from "playwright-core";

import { serve } from "./serve.ts";

const PLACES = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

export interface Screen {
  url: string;
  browser: Browser;
  close: () => Promise<void>;
}

export async function start(): Promise<Screen> {
  const executablePath = process.env["CHROMIUM"] ?? PLACES.find((path) => existsSync(path));
  if (!executablePath) {
    throw new Error("no Chromium: apt-get install chromium, or name its program in CHROMIUM");
  }
  const server = await serve();
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
  const close = async (): Promise<void> => {
    await browser.close();
    server.close();
  };
  return { url: server.url, browser, close };
}

/** What a page did that it must not do. */
export interface Watch {
  outside: string[];
  errors: string[];
}

export async function open(
  screen: Screen,
  hash: string,
  options: { width?: number; theme?: "light" | "dark" } = {},
): Promise<{ page: Page; watch: Watch }> {
  const context = await screen.browser.newContext({
    viewport: { width: options.width ?? 1440, height: 900 },
    colorScheme: options.theme ?? "light",
    reducedMotion: "reduce",
  });
  const page = await context.newPage();
  const watch: Watch = { outside: [], errors: [] };
  page.on("request", (request) => {
    if (!request.url().startsWith(screen.url) && !request.url().startsWith("blob:")) {
      watch.outside.push(request.url());
    }
  });
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) watch.errors.push(message.text());
  });
  page.on("pageerror", (error) => watch.errors.push(error.message));
  await page.goto(screen.url + hash);
  await settled(page);
  return { page, watch };
}

/** Wait until what is shown belongs to what was asked. */
export async function settled(page: Page): Promise<void> {
  await page.locator("[data-settled=true]").first().waitFor({ timeout: 30_000 });
  // an answer of the worker that is on its way arrives, and Svelte draws it
  await page.evaluate(() => new Promise((done) => setTimeout(done, 60)));
}
