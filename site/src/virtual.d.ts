declare module "virtual:specification" {
  /** {rule of SPEC.md: its text as HTML, with formulas in MathML} */
  export const RULES: Record<string, string>;
}

declare module "virtual:rosetta" {
  interface Code {
    path: string;
    line: number;
    lines: number;
    /** The code, coloured and escaped. */
    html: string;
    measured: { dtype: string; difference: "exact" | number };
  }
  /** The concepts, each with its code by version. */
  export const CONCEPTS: {
    id: string;
    title: string;
    says: string;
    rule: string;
    check: string;
    formula: string;
    ruleText: string;
    code: Record<string, Code>;
  }[];
  /** {version: its title} */
  export const VERSIONS: Record<string, string>;
}
