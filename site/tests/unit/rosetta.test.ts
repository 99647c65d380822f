// Rosetta's code is cut from the sources by section and name; what is gone fails by name.

import { readFileSync } from "node:fs";

import { expect, test } from "vitest";

import { CONCEPTS } from "../../tools/concepts.ts";
import { cut, programOf } from "../../tools/rosetta.ts";

const ruler = (title: string): string => `# ${"-".repeat(64)} ${title}`;
const SOURCE = `${ruler("Forward")}


@decorated
def one(
    a,
):
    """Doc."""

    return a


class Two:
    x = 1

    def one(self):
        return 2

    @property
    def three(self):
        return 3


${ruler("Training")}


def one():
    return "other"
`;

test("a function, class or method is cut whole, with its decorators", () => {
  const found = cut(SOURCE, "Forward", "one", "f");
  expect(found.code).toBe('@decorated\ndef one(\n    a,\n):\n    """Doc."""\n\n    return a');
  expect(found.line).toBe(4);
  expect(cut(SOURCE, "Forward", "Two.one", "f").code).toBe("def one(self):\n    return 2");
  expect(cut(SOURCE, "Forward", "Two.three", "f").code).toBe("@property\ndef three(self):\n    return 3");
  expect(cut(SOURCE, "Training", "one", "f").code).toBe('def one():\n    return "other"');
});

test("what is gone is named", () => {
  expect(() => cut(SOURCE, "Forward", "four", "f.py")).toThrow("Rosetta: four stands 0 times in f.py, section Forward");
  expect(() => cut(SOURCE, "Forward", "Two.four", "f.py")).toThrow("Two.four stands 0 times");
  expect(() => cut(SOURCE, "Backward", "one", "f.py")).toThrow("Rosetta: f.py has no section Backward");
  const twice = SOURCE.replace("class Two:", "def one():\n    pass\n\n\nclass Two:");
  expect(() => cut(twice, "Forward", "one", "f.py")).toThrow("one stands 2 times");
});

test.each(CONCEPTS.map((concept) => [concept.id, concept] as const))("%s can be cut from every version it names", (_, { cuts }) => {
  expect(Object.keys(cuts).length).toBeGreaterThanOrEqual(3);
  for (const [version, [section, ...names]] of Object.entries(cuts)) {
    const source = readFileSync(new URL(`../../../${programOf(version)}`, import.meta.url), "utf8");
    for (const name of names) {
      const { code, line } = cut(source, section, name, version);
      expect(code).toMatch(/^(@|def |class )/);
      const first = source.split("\n")[line - 1]!;
      expect(first.trim()).toBe(code.split("\n")[0]);
    }
  }
});
