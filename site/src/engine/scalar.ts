// 01's scalar graph: a number remembers which numbers it was computed from, and its slope in each.
// An expression that the reader types becomes such a graph.

export interface Node {
  /** Its place on the tape: nodes stand in the order in which they were made. */
  id: number;
  name: string;
  operation: "number" | "+" | "×" | "relu";
  children: number[];
  slopes: number[];
  value: number;
}

export interface Graph {
  nodes: Node[];
  /** The last node is the loss. */
  loss: number;
}

const LIMIT = 40; // nodes that fit a screen

class Reader {
  readonly nodes: Node[] = [];
  private readonly names = new Map<string, number>();
  private words: string[] = [];
  private at = 0;

  /** One line: an expression, or a name, = and an expression. */
  line(text: string): number {
    this.words = text.match(/\d+(?:\.\d+)?|[a-z]\w*|\S/gi) ?? [];
    this.at = 0;
    const name = this.words[1] === "=" ? this.words[0]! : "";
    if (name) {
      if (!/^[a-z]\w*$/i.test(name)) throw new Error(`${name} is no name: a name begins with a letter`);
      this.at = 2;
    }
    const found = this.sum();
    const rest = this.words[this.at];
    if (rest) throw new Error(`${rest} is not expected in "${text.trim()}"`);
    if (name) {
      this.names.set(name, found);
      if (!this.nodes[found]!.name) this.nodes[found]!.name = name;
    }
    return found;
  }

  private sum(): number {
    let left = this.product();
    while (this.words[this.at] === "+") {
      this.at++;
      const right = this.product();
      const value = this.value(left) + this.value(right);
      left = this.make("+", [left, right], [1, 1], value);
    }
    return left;
  }

  private product(): number {
    let left = this.atom();
    while (this.words[this.at] === "*") {
      this.at++;
      const right = this.atom();
      const [a, b] = [this.value(left), this.value(right)];
      left = this.make("×", [left, right], [b, a], a * b);
    }
    return left;
  }

  private atom(): number {
    const word = this.words[this.at++];
    if (word === "-") return this.negative();
    if (word === "(") return this.closed();
    if (word === "relu" && this.words[this.at] === "(") {
      this.at++;
      const x = this.closed();
      const y = Math.max(0, this.value(x));
      return this.make("relu", [x], [y > 0 ? 1 : 0], y);
    }
    if (word && /^\d/.test(word)) return this.make("number", [], [], Number(word));
    const known = this.names.get(word ?? "");
    if (known === undefined) throw new Error(word ? `${word} has no value yet: write ${word} = 2 on a line before` : "the line ends too early");
    return known;
  }

  private negative(): number {
    const word = this.words[this.at++];
    if (!word || !/^\d/.test(word)) throw new Error("a minus stands before a number only: write a + -1 * b");
    return this.make("number", [], [], -Number(word));
  }

  private closed(): number {
    const found = this.sum();
    if (this.words[this.at++] !== ")") throw new Error("a ) is missing");
    return found;
  }

  private value(id: number): number {
    return this.nodes[id]!.value;
  }

  private make(operation: Node["operation"], children: number[], slopes: number[], value: number): number {
    if (this.nodes.length === LIMIT) throw new Error(`more than ${LIMIT} numbers: make it shorter`);
    this.nodes.push({ id: this.nodes.length, name: "", operation, children, slopes, value });
    return this.nodes.length - 1;
  }
}

/** The graph of some lines, the last of which is the loss. Throws with one sentence. */
export function graphOf(text: string): Graph {
  const lines = text.split(/[\n;]/).filter((line) => line.trim());
  if (!lines.length) throw new Error("write an expression, such as a = 3 and a + a");
  const reader = new Reader();
  let loss = 0;
  for (const line of lines) loss = reader.line(line);
  return { nodes: reader.nodes, loss };
}

export type Order = "reversed" | "first made first";

/** The gradients after `count` nodes have passed theirs on. `adds` is +=; without it, =. */
export function gradients(graph: Graph, count: number, adds: boolean, order: Order): number[] {
  const grads = graph.nodes.map(() => 0);
  grads[graph.loss] = 1;
  for (const node of visits(graph, order).slice(0, count)) {
    node.children.forEach((child, i) => {
      const part = node.slopes[i]! * grads[node.id]!;
      grads[child] = adds ? grads[child]! + part : part;
    });
  }
  return grads;
}

/** The nodes that pass a gradient on, in the order in which they do. */
export function visits({ nodes, loss }: Graph, order: Order): Node[] {
  const inner = nodes.slice(0, loss + 1).filter(({ children }) => children.length);
  return order === "reversed" ? inner.reverse() : inner;
}
