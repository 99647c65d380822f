import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vitest/config";

import { mutant } from "./tools/mutant.ts";
import { rosetta } from "./tools/rosetta.ts";
import { security } from "./tools/security.ts";
import { specification } from "./tools/specification.ts";

export default defineConfig({
  base: "./", // the page may stand in any folder
  plugins: [mutant(process.env["SITE_MUTANT"]), specification(), rosetta(), svelte(), security()],
  build: {
    target: "es2023",
    outDir: process.env["SITE_DIST"] ?? "dist",
    emptyOutDir: true,
    assetsInlineLimit: 0, // no data: addresses, which the security policy refuses
    modulePreload: { polyfill: false },
  },
  worker: { format: "es", plugins: () => [mutant(process.env["SITE_MUTANT"])] },
  test: {
    projects: [
      { extends: true, test: { name: "unit", include: ["tests/unit/*.test.ts"] } },
      {
        extends: true,
        test: {
          name: "screen",
          include: ["tests/screen/*.test.ts"],
          testTimeout: 120_000,
          hookTimeout: 120_000,
          maxWorkers: 2,
        },
      },
    ],
  },
});
