// Everything that is computed, is computed here, outside the page's own thread.

import { about, hold, holdRun, makeUp, read } from "./engine/models.ts";
import { advance, begin, heldOutLoss, look, measure, sameWeights, takeAway } from "./engine/runs.ts";

const api = { about, hold, holdRun, read, makeUp, begin, advance, look, heldOutLoss, measure, sameWeights, takeAway };
export type Api = typeof api;

interface Call {
  id: number;
  name: keyof Api;
  args: unknown[];
}

self.addEventListener("message", ({ data }: MessageEvent<Call>) => {
  void answer(data);
});

async function answer({ id, name, args }: Call): Promise<void> {
  try {
    const call = api[name] as (...given: unknown[]) => unknown;
    self.postMessage({ id, result: await call(...args) });
  } catch (e) {
    self.postMessage({ id, error: e instanceof Error ? e.message : String(e) });
  }
}
