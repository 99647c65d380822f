// Serves the built page on loopback, with its security policy as a header.

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

import { HEADERS } from "../../tools/security.ts";

const TYPES: Record<string, string> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
  ".txt": "text/plain; charset=utf-8",
  ".json": "application/json",
  ".safetensors": "application/octet-stream",
};

export const DIST = join(
  fileURLToPath(new URL("../..", import.meta.url)),
  process.env["SITE_DIST"] ?? "dist",
);

export async function serve(): Promise<{ url: string; close: () => void }> {
  const server = createServer((request, reply) => {
    const path = normalize(new URL(request.url!, "http://localhost").pathname);
    const file = join(DIST, path === "/" ? "index.html" : path);
    try {
      const body = readFileSync(file);
      reply.writeHead(200, { "Content-Type": TYPES[extname(file)] ?? "", ...HEADERS });
      reply.end(body);
    } catch {
      reply.writeHead(404).end();
    }
  });
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}/`, close: () => server.close() };
}
