// The state of the page is its address: #/view?name=value. What has its default is left out, so
// that an address is short, and opening it again shows the same picture.

import { VIEWS, type View } from "./views.ts";

function parse(hash: string): { view: View; given: Record<string, string> } {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?");
  const view = VIEWS.find((known) => known === path) ?? "machine";
  return { view, given: Object.fromEntries(new URLSearchParams(query)) };
}

class Address {
  private current = $state(parse(location.hash));

  constructor() {
    addEventListener("hashchange", () => {
      this.current = parse(location.hash);
    });
  }

  get view(): View {
    return this.current.view;
  }

  /** Everything that the address gives. */
  all(): Record<string, string> {
    return this.current.given;
  }

  text(name: string, otherwise: string): string {
    return this.current.given[name] ?? otherwise;
  }

  /** A number between two limits; the default where the address has none, or nonsense. */
  number(name: string, otherwise: number, low = -Infinity, high = Infinity): number {
    const text = this.current.given[name];
    const value = text ? Number(text) : NaN;
    return Number.isFinite(value) ? Math.min(high, Math.max(low, value)) : otherwise;
  }

  whole(name: string, otherwise: number, low = 0, high = Infinity): number {
    return Math.trunc(this.number(name, otherwise, low, high));
  }

  /** Change parts of the state; null or "" takes a part out. Adds no entry to the history. */
  set(changes: Record<string, string | number | null>): void {
    const all = Object.entries({ ...this.current.given, ...changes });
    const some = all.filter(([, value]) => value !== null && value !== "");
    const given = Object.fromEntries(some.map(([name, value]) => [name, String(value)]));
    this.current = { view: this.current.view, given };
    history.replaceState(null, "", this.link(this.view, given));
  }

  link(view: View, given: Record<string, string | number> = {}): string {
    const query = new URLSearchParams(
      Object.entries(given).map(([name, value]): [string, string] => [name, String(value)]),
    ).toString();
    return `#/${view}${query ? `?${query}` : ""}`;
  }
}

export const address = new Address();
