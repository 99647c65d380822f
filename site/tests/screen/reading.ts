// Reads numbers from the screen: tables as the reader or a screen reader gets them.

import type { Page } from "playwright-core";
import { expect } from "vitest";

export interface Table {
  columns: string[];
  rows: { label: string; cells: string[] }[];
}

/** A table by its selector. */
export function table(page: Page, selector: string): Promise<Table> {
  return page.locator(selector).evaluate((element) => {
    const text = (cell: Element): string => cell.textContent.trim();
    const rows = [...element.querySelectorAll("tbody tr")].map((row) => ({
      label: text(row.querySelector("th") ?? row.firstElementChild!),
      cells: [...row.querySelectorAll("td")].map(text),
    }));
    return { columns: [...element.querySelectorAll("thead th")].map(text), rows };
  });
}

/** A number as the page writes it. */
export function numberOf(text: string): number {
  return Number(text.replace("−", "-").replaceAll(",", ""));
}

/** The text shows the number, rounded to its digits. */
export function shows(text: string, value: number, what: string): void {
  const digits = text.split(".")[1]?.length ?? 0;
  const close = 0.5 * 10 ** -digits + 1e-9;
  const apart = Math.abs(numberOf(text) - value);
  expect(apart <= close, `${what}: shown ${text}, 01 has ${value}`).toBe(true);
}

/** The colours of a canvas, [row][column] as "r,g,b". */
export function pixels(page: Page, label: string): Promise<string[][]> {
  return page.locator(`canvas[data-canvas="${label}"]`).evaluate((element) => {
    const canvas = element as HTMLCanvasElement;
    const { width, height } = canvas;
    const { data } = canvas.getContext("2d")!.getImageData(0, 0, width, height);
    return Array.from({ length: height }, (_, r) =>
      Array.from({ length: width }, (_, c) => {
        const at = (r * width + c) * 4;
        return data.slice(at, at + 3).join(",");
      }),
    );
  });
}
