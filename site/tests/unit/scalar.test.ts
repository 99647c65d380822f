import { expect, test } from "vitest";

import { gradients, graphOf, visits } from "../../src/engine/scalar.ts";

const all = (text: string, adds = true, order: "reversed" | "first made first" = "reversed"): number[] =>
  gradients(graphOf(text), Infinity, adds, order);

test("a + a has slope 2, and 1 where the gradient is assigned", () => {
  expect(all("a = 3\na + a")[0]).toBe(2);
  expect(all("a = 3\na + a", false)[0]).toBe(1);
});

test("a number that is used twice has the sum of both", () => {
  const text = "a = 3; b = a + a; b * a + b"; // 2a² + 2a
  expect(graphOf(text).nodes.at(-1)!.value).toBe(24);
  expect(all(text)[0]).toBe(14);
  expect(all(text, false)[0]).not.toBe(14);
  expect(all(text, true, "first made first")[0]).not.toBe(14);
});

test("gradients are the slopes of the loss", () => {
  const f = (a: number): string => `a = ${a}; b = relu(a * a + -2); c = (a + b) * b; relu(c) + a`;
  const value = (a: number): number => {
    const { nodes, loss } = graphOf(f(a));
    return nodes[loss]!.value;
  };
  const h = 1e-6;
  expect(all(f(1.75))[0]).toBeCloseTo((value(1.75 + h) - value(1.75 - h)) / (2 * h), 5);
});

test("nodes pass their gradients on from the last made to the first", () => {
  const graph = graphOf("a = 1; b = a * 2; b + a");
  expect(visits(graph, "reversed").map(({ operation }) => operation)).toEqual(["+", "×"]);
  expect(gradients(graph, 1, true, "reversed")).toEqual([1, 0, 1, 1]);
});

test.each([
  ["", "write an expression"],
  ["a + 1", "a has no value yet"],
  ["a = ", "the line ends too early"],
  ["(1 + 2", "a ) is missing"],
  ["1 2", "2 is not expected"],
  ["1 = 2", "1 is no name"],
  ["a = 2; -a", "a minus stands before a number only"],
  ["1" + " + 1".repeat(30), "more than 40 numbers"],
])("%j is refused in a sentence", (text, says) => {
  expect(() => graphOf(text)).toThrow(says);
});
