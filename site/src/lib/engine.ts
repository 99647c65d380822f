// The page's side of the worker: each question is answered once, with a result or an error.

import type { Api } from "../worker.ts";

type Name = keyof Api;

const worker = new Worker(new URL("../worker.ts", import.meta.url), { type: "module" });
const waiting = new Map<number, { resolve: (value: never) => void; reject: (e: Error) => void }>();
let asked = 0;

worker.addEventListener("message", ({ data }: MessageEvent) => {
  const { id, result, error } = data as { id: number; result?: unknown; error?: string };
  const open = waiting.get(id);
  waiting.delete(id);
  if (error !== undefined) open?.reject(new Error(error));
  else open?.resolve(result as never);
});

export function ask<K extends Name>(
  name: K,
  ...args: Parameters<Api[K]>
): Promise<Awaited<ReturnType<Api[K]>>> {
  const id = ++asked;
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject });
    worker.postMessage({ id, name, args });
  });
}
