// Light or dark: the system's choice until the reader makes one, which this browser then keeps.

export type Theme = "light" | "dark";
const KEY = "microgpt-theme";

function kept(): Theme | null {
  try {
    const value = localStorage.getItem(KEY);
    return value === "light" || value === "dark" ? value : null;
  } catch {
    return null; // storage may be forbidden
  }
}

class ThemeChoice {
  private chosen = $state<Theme | null>(kept());
  private system = $state<Theme>("light");

  constructor() {
    const query = matchMedia("(prefers-color-scheme: dark)");
    this.system = query.matches ? "dark" : "light";
    query.addEventListener("change", () => {
      this.system = query.matches ? "dark" : "light";
    });
    this.show();
  }

  get now(): Theme {
    return this.chosen ?? this.system;
  }

  flip(): void {
    this.chosen = this.now === "dark" ? "light" : "dark";
    try {
      localStorage.setItem(KEY, this.chosen);
    } catch {
      // then the choice lasts as long as the page is open
    }
    this.show();
  }

  private show(): void {
    if (this.chosen) document.documentElement.dataset["theme"] = this.chosen;
  }
}

export const theme = new ThemeChoice();
