// When the server answers again after it was away: what failed meanwhile is then asked for again.
import { effect, signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { Status } from "../api/types";
import { link, status } from "./live";

/** How often the server has come back. */
export const returns = signal(0);

/** The last status before the server was away; undefined unless it was. */
let before: Status | null | undefined;

effect(() => {
  const now = status.value;
  if (link.value.mode === "down") before = now;
  // One that is still starting would only refuse.
  else if (before !== undefined && now !== before && now?.lineage !== undefined && now.phase !== "starting") {
    before = undefined;
    returns.value = returns.peek() + 1;
  }
});

/** Asks again once the server is back, if what was asked for has failed; also if that is known only after the server is back. */
export function useReturn(failed: boolean, again: () => void): void {
  const now = returns.value;
  const seen = useRef(now);
  useEffect(() => {
    if (!failed || seen.current === now) return;
    seen.current = now;
    again();
  }, [failed, now]);
}
