// Rosetta's code is cut from the sources by section and name; what is gone fails by name.

import { readFileSync } from "node:fs";

import { expect, test } from "vitest";

import { CONCEPTS } from "../../tools/concepts.ts";
import { cut, programOf, rosetta } from "../../tools/rosetta.ts";

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

const text = (path: string): string => readFileSync(new URL(`../../../${path}`, import.meta.url), "utf8");

/** What the build makes of the repository, where `read` gives its files. */
async function built(read: (path: string) => string): Promise<string> {
  const load = rosetta(read).load as unknown as (this: { addWatchFile: () => void }, id: string) => Promise<string>;
  return load.call({ addWatchFile: () => undefined }, "\0virtual:rosetta");
}

const NEEDED = [
  "tokenizer", "weights", "rmsnorm", "attention", "activation", "loss", "backward", "adam", "loop", "sampling", "batching",
];

test("every concept that was asked for is there", () => {
  expect(CONCEPTS.map(({ id }) => id)).toEqual(expect.arrayContaining(NEEDED));
});

const ANCHORS = CONCEPTS.flatMap(({ id, cuts }) =>
  Object.entries(cuts).flatMap(([version, [section, ...names]]) =>
    names.map((name) => [`${id}, ${version}, ${name}`, version, section, name] as const),
  ),
);

test.each(ANCHORS)("%s: without its anchor nothing is cut, and the name is said", (_, version, section, name) => {
  const path = programOf(version);
  const { line } = cut(text(path), section, name, path);
  const lines = text(path).split("\n");
  const at = lines.findIndex((one, i) => i >= line - 1 && /^ *(def|class) /.test(one));
  lines[at] = lines[at]!.replace(/(def|class) \w+/, "$1 renamed");
  const part = name.split(".").at(-1)!;
  expect(() => cut(lines.join("\n"), section, name, path)).toThrow(new RegExp(`Rosetta: .*${part} stands 0 times in ${path}`));
});

test("the build fails by name when an anchor, a rule or a measurement is gone, and shows a line that changed", async () => {
  const changed = (which: string, from: string, to: string) => (path: string) =>
    path.endsWith(which) ? text(path).replaceAll(from, to) : text(path);
  await expect(built(changed("03_pytorch/main.py", "def rmsnorm", "def norm"))).rejects.toThrow(
    "Rosetta: rmsnorm stands 0 times in 03_pytorch/main.py, section Forward",
  );
  await expect(built(changed("SPEC.md", "**S11.3**", "**S11.9**"))).rejects.toThrow("SPEC.md has no rule S11.3");
  await expect(built(changed("verified.json", '"names"', '"other"'))).rejects.toThrow("verified.json has no names of 01_pure_python");
  expect(await built(changed("02_numpy_manual_backprop/main.py", "def rmsnorm(", "def rmsnorm(not_there, "))).toContain("not_there");
});
