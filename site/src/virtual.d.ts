declare module "virtual:specification" {
  /** {rule of SPEC.md: its text as HTML, with formulas in MathML} */
  export const RULES: Record<string, string>;
}
