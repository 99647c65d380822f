// One scale for numbers: blue above zero, orange below, the colour of the paper at zero. Readers
// who do not see red or green tell the two apart.

type Rgb = [number, number, number];

const ZERO: Record<string, Rgb> = { light: [246, 244, 238], dark: [36, 40, 47] };
const ABOVE: Record<string, Rgb> = { light: [16, 74, 140], dark: [122, 184, 245] };
const BELOW: Record<string, Rgb> = { light: [176, 74, 12], dark: [245, 158, 96] };

/** The colour of a number, where `top` has the full colour. NaN is black or white. */
export function colourOf(value: number, top: number, theme: "light" | "dark"): Rgb {
  if (Number.isNaN(value)) return theme === "light" ? [0, 0, 0] : [255, 255, 255];
  const zero = ZERO[theme]!;
  const end = (value < 0 ? BELOW : ABOVE)[theme]!;
  const share = top > 0 ? Math.min(1, Math.abs(value) / top) : 0;
  const part = Math.sqrt(share); // small numbers stay visible
  return zero.map((from, i) => Math.round(from + (end[i]! - from) * part)) as Rgb;
}

export function css([r, g, b]: Rgb): string {
  return `rgb(${r} ${g} ${b})`;
}

/** Black or white, whichever can be read on a colour. */
export function inkOn(colour: Rgb): string {
  const linear = colour.map((c) => {
    const s = c / 255;
    return s <= 0.03928 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
  });
  const luminance = 0.2126 * linear[0]! + 0.7152 * linear[1]! + 0.0722 * linear[2]!;
  return luminance > 0.18 ? "#111" : "#fff";
}

/** The largest size of any number, to which a matrix is coloured. */
export function largest(rows: number[][]): number {
  let top = 0;
  for (const row of rows) for (const x of row) if (Math.abs(x) > top) top = Math.abs(x);
  return top;
}
