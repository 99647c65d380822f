// Numbers as text. A minus is a minus sign, as wide as a digit.

/** With four digits after the point. */
export function fixed(value: number, digits = 4): string {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const text = value.toFixed(digits);
  const plain = Number(text) === 0 ? text.replace("-", "") : text;
  return plain.replace("-", "−");
}

/** A whole number with a comma for each thousand. */
export function whole(value: number): string {
  return value.toLocaleString("en-US");
}

/** A share as a percentage; what is not zero never reads as zero. */
export function percent(value: number): string {
  if (value > 0 && value < 0.001) return "<0.1%";
  return `${(value * 100).toFixed(value < 0.0995 ? 1 : 0)}%`;
}

/** A difference with two digits, as a power of ten; null is one that is infinite. */
export function small(value: number | null): string {
  if (value === null) return "∞";
  return value === 0 ? "exact" : value.toExponential(1).replace("-", "−");
}
