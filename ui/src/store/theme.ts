// Light or dark: as the system says, or as was chosen here.
import { effect, signal } from "@preact/signals";

export type Theme = "system" | "light" | "dark";
const PLACE = "tidemill-theme";

const dark = matchMedia("(prefers-color-scheme: dark)");
const systemIsDark = signal(dark.matches);
dark.addEventListener("change", () => (systemIsDark.value = dark.matches));

export const theme = signal<Theme>(read());
/** Grows by one when colours change: canvases are drawn anew. */
export const themeVersion = signal(0);

function read(): Theme {
  try {
    const kept = localStorage.getItem(PLACE);
    return kept === "light" || kept === "dark" ? kept : "system";
  } catch {
    return "system";
  }
}

export function isDark(): boolean {
  return theme.value === "system" ? systemIsDark.value : theme.value === "dark";
}

export function toggleTheme(): void {
  const wanted = isDark() ? "light" : "dark";
  theme.value = wanted === (systemIsDark.value ? "dark" : "light") ? "system" : wanted;
  try {
    localStorage.setItem(PLACE, theme.value);
  } catch {
    // Without storage the choice lasts as long as the page.
  }
}

effect(() => {
  document.documentElement.dataset["theme"] = theme.value;
  isDark();
  themeVersion.value = themeVersion.peek() + 1;
});
