// From and To as fields: a part of the time without dragging a mouse.
import { useEffect, useId, useRef } from "preact/hooks";
import { minuteOf, spanBetween, type Span } from "../../lib/trend";

/** What stands in the fields while somebody is at them. */
export interface Draft {
  from: string;
  to: string;
}

interface Props {
  whole: Span;
  /** What is shown now. */
  span: Span;
  draft: Draft | null;
  onDraft: (draft: Draft | null) => void;
  onSpan: (span: Span) => void;
}

/** What is wrong with a draft, in words; null if nothing is. */
export function problemOf(draft: Draft | null, whole: Span): string | null {
  const meant = draft && spanBetween(draft.from, draft.to, whole);
  return typeof meant === "string" ? meant : null;
}

export function Between({ whole, span, draft, onDraft, onSpan }: Props) {
  const id = useId();
  const inside = useRef(false);
  const problem = problemOf(draft, whole);
  const shown = draft ?? { from: minuteOf(span.from), to: minuteOf(span.to) };
  const enter = (changed: Partial<Draft>): void => {
    const next = { ...shown, ...changed };
    onDraft(next);
    const meant = spanBetween(next.from, next.to, whole);
    if (typeof meant !== "string") onSpan(meant);
  };
  // From then on the fields do not follow the newest minute: that would take away what is typed.
  const begin = (): void => {
    inside.current = true;
    onDraft(shown);
  };
  const leave = (event: FocusEvent): void => {
    const stays = event.relatedTarget instanceof Node && (event.currentTarget as Node).contains(event.relatedTarget);
    inside.current = stays;
    if (!stays && problem === null) onDraft(null);
  };
  // What could not be before may be by now: then nobody waits for it any more.
  useEffect(() => {
    if (draft && problem === null && !inside.current) onDraft(null);
  });
  useEffect(() => () => onDraft(null), []);
  const field = { type: "datetime-local", step: 60, "aria-invalid": problem !== null, "aria-describedby": `${id}-problem` } as const;
  return (
    <div class="between" role="group" aria-label="The time that is shown, in UTC" onFocusIn={begin} onFocusOut={leave}>
      <label class="field">
        From
        <input {...field} value={shown.from} onInput={(event) => enter({ from: event.currentTarget.value })} />
      </label>
      <label class="field">
        To
        <input {...field} value={shown.to} onInput={(event) => enter({ to: event.currentTarget.value })} />
      </label>
      <p id={`${id}-problem`} class="problem small" aria-live="polite">{problem}</p>
    </div>
  );
}
