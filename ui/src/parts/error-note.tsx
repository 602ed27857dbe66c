// What the server refused, in its own words, and what to do about it.
import type { Refused } from "../api/types";
import { Refusal } from "../api/http";

export function ErrorNote({ error }: { error: Refused }) {
  return (
    <div class="note bad" role="alert">
      <p><b>{sentence(error.what)}</b></p>
      {error.do && <p>{sentence(error.do)}</p>}
      {error.where && <p class="mono muted">{error.where}</p>}
    </div>
  );
}

export function refusedOf(why: unknown): Refused {
  if (why instanceof Refusal) return why.said;
  return { what: why instanceof Error ? why.message : String(why) };
}

function sentence(text: string): string {
  const begun = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}
