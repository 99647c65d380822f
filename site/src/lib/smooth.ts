/** The mean of the last 50 losses, at each step. */
export function smooth(losses: number[]): number[] {
  let sum = 0;
  return losses.map((loss, i) => {
    sum += loss - (i >= 50 ? losses[i - 50]! : 0);
    return sum / Math.min(i + 1, 50);
  });
}
