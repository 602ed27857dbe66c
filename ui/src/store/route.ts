// Which view is shown: the part of the address behind the #.
import { computed, signal } from "@preact/signals";

export const VIEWS = ["overview", "topology", "batches", "states", "queries", "trends"] as const;
export type View = (typeof VIEWS)[number];

const hash = signal(location.hash);
addEventListener("hashchange", () => (hash.value = location.hash));

/** The view, and what of it: #/batches/17 → batches, "17". */
export const route = computed(() => {
  const [, name = "", ...rest] = hash.value.split("/");
  const view = VIEWS.find((one) => one === name) ?? "overview";
  const part = rest.join("/");
  return { view, part: part ? decode(part) : null };
});

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export function linkTo(view: View, part?: string | number): string {
  return part === undefined ? `#/${view}` : `#/${view}/${encodeURIComponent(part)}`;
}

/** Shows another part of a view without a step in the history for each. */
export function showPart(view: View, part?: string | number): void {
  history.replaceState(null, "", linkTo(view, part));
  hash.value = location.hash;
}
