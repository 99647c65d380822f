/** The views of the page, by the word in their address. */
export const VIEWS = ["machine", "training", "graph", "deception", "code"] as const;
export type View = (typeof VIEWS)[number];
