// What a loss means: the held-out loss of models that count letters, on the same names.
//
// An n-gram table with interpolated Kneser-Ney: the next character after n - 1 others. Each order
// takes a discount off every count and gives it to the order below, whose counts are the numbers of
// different characters before. BOS stands before and after a name; what begins with it keeps its
// real counts, because nothing can stand before it.

export interface Yardstick {
  name: string;
  loss: number;
}

const DISCOUNT = 0.75;
const NAMES = ["letter counts", "bigram", "trigram", "4-gram", "5-gram"];

/** Counts by context (as text), then by character. */
type Counts = Map<string, Map<string, number>>;

function add(counts: Counts, context: string, next: string, by: number): void {
  let row = counts.get(context);
  if (!row) counts.set(context, (row = new Map<string, number>()));
  row.set(next, (row.get(next) ?? 0) + by);
}

/** A context that begins with BOS has no character before it, so its counts are real ones. */
function atStart(context: string): boolean {
  return context.startsWith("\0");
}

/** Of every order up to the highest, the highest with real counts. */
function tables(docs: string[], order: number): Counts[] {
  const all: Counts[] = Array.from({ length: order }, () => new Map());
  for (const doc of docs) {
    const text = `\0${doc}\0`;
    for (let i = 1; i < text.length; i++) {
      for (let n = 0; n < Math.min(order, i + 1); n++) {
        const context = text.slice(i - n, i);
        if (n === order - 1 || atStart(context)) add(all[n]!, context, text[i]!, 1);
      }
    }
  }
  for (let n = order - 1; n >= 1; n--) {
    for (const [context, row] of all[n]!) {
      const shorter = context.slice(1);
      if (atStart(shorter)) continue; // counted already
      for (const next of row.keys()) add(all[n - 1]!, shorter, next, 1);
    }
  }
  return all;
}

/** Nats a character, the end of a name included, of an order's table. */
export function ngramLoss(train: string[], heldOut: string[], order: number, V: number): number {
  const all = tables(train, order);
  const totals = all.map(
    (counts) => new Map([...counts].map(([key, row]) => [key, sum(row.values())])),
  );
  const probability = (context: string, next: string): number => {
    let p = 1 / V;
    for (let n = 0; n <= context.length; n++) {
      const key = n ? context.slice(-n) : "";
      const row = all[n]!.get(key);
      if (!row) break; // no longer context was seen either
      const total = totals[n]!.get(key)!;
      const kept = Math.max((row.get(next) ?? 0) - DISCOUNT, 0);
      p = (kept + DISCOUNT * row.size * p) / total;
    }
    return p;
  };
  let nats = 0;
  let characters = 0;
  for (const doc of heldOut) {
    const text = `\0${doc}\0`;
    for (let i = 1; i < text.length; i++) {
      nats -= Math.log(probability(text.slice(Math.max(0, i - order + 1), i), text[i]!));
      characters++;
    }
  }
  return nats / characters;
}

function sum(values: Iterable<number>): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}

export function yardsticks(train: string[], heldOut: string[], V: number): Yardstick[] {
  const counted = NAMES.map((name, i) => ({ name, loss: ngramLoss(train, heldOut, i + 1, V) }));
  return [{ name: "uniform guess", loss: Math.log(V) }, ...counted];
}
