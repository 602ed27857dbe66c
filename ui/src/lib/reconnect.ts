// How the page is joined to the server, as a state machine without clocks or sockets of its own.

export type Mode = "connecting" | "live" | "polling" | "down" | "locked";

export interface Link {
  mode: Mode;
  /** Since when the server does not answer; null while it does. */
  since: number | null;
  /** How often it was tried in vain since then. */
  attempt: number;
}

export type LinkEvent =
  | { type: "opened" }
  | { type: "polled" }
  | { type: "lost"; at: number }
  | { type: "refused" }
  | { type: "unlocked" };

export const FIRST_DELAY_MS = 500;
export const LONGEST_DELAY_MS = 5000;

export const START: Link = { mode: "connecting", since: null, attempt: 0 };

export function next(link: Link, event: LinkEvent): Link {
  switch (event.type) {
    case "opened":
      return { mode: "live", since: null, attempt: 0 };
    case "polled":
      return { mode: "polling", since: null, attempt: 0 };
    case "lost":
      return link.mode === "locked" ? link : { mode: "down", since: link.since ?? event.at, attempt: link.attempt + 1 };
    case "refused":
      return { mode: "locked", since: null, attempt: 0 };
    case "unlocked":
      return START;
  }
}

/** How long to wait before the next attempt. */
export function delayOf(link: Link): number {
  return Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** Math.max(0, link.attempt - 1));
}
