// Writes the security policy into the page, for servers that send no headers of their own.

import { readFileSync } from "node:fs";

import type { Plugin } from "vite";

export const HEADERS = JSON.parse(
  readFileSync(new URL("../security.json", import.meta.url), "utf8"),
) as Record<string, string>;

export function security(): Plugin {
  return {
    name: "security",
    apply: "build",
    transformIndexHtml: () =>
      Object.entries(HEADERS).map(([name, content]) => ({
        tag: "meta",
        attrs: { "http-equiv": name, content },
        injectTo: "head-prepend",
      })),
  };
}
