// The stylesheet's colours for what is drawn on canvases.
import { themeVersion } from "../store/theme";

export type Colour =
  | "ink" | "muted" | "line" | "surface" | "accent" | "warn" | "bad"
  | "fill" | "compute" | "commit" | "fold" | "publish"
  | "c1" | "c2" | "c3" | "c4" | "c5" | "c6";

const known = new Map<Colour, string>();
let knownFor = -1;

/** As rgb(): the stylesheet's own values depend on the theme. */
export function colour(name: Colour): string {
  if (knownFor !== themeVersion.peek()) {
    known.clear();
    knownFor = themeVersion.peek();
  }
  let value = known.get(name);
  if (value === undefined) {
    const probe = document.createElement("i");
    probe.style.color = `var(--${name})`;
    document.body.append(probe);
    value = getComputedStyle(probe).color;
    probe.remove();
    known.set(name, value);
  }
  return value;
}

export function faded(name: Colour, alpha: number): string {
  return colour(name).replace(/^rgb\((.*)\)$/, `rgba($1, ${alpha})`);
}
