// What the trends are drawn from: watched queries, and the time that is asked for.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Refused } from "../../api/types";
import { parse, stringify } from "../../lib/json";
import { isTrend, secondsOf, windowFrom, type TrendRow } from "../../lib/trend";
import { queries, topology } from "../../store/live";
import { watch, type Answer } from "../../store/watches";

const EVERY_MS = 1000;

interface Heard {
  /** What the answer is about. */
  subject: string;
  answer: Answer | null;
  /** The arguments that were asked with, as JSON; null if nothing was heard. */
  key: string | null;
  error: Refused | null;
}

const NOTHING: Heard = { subject: "", answer: null, key: null, error: null };

/**
 * The newest answer of a query, asked again after commits. Without arguments nothing is asked. With other arguments about the same,
 * the old answer stays until there is a new one.
 */
export function useWatch(query: string, about: string, given: unknown): Heard {
  const [heard, hear] = useState(NOTHING);
  const subject = `${query} ${about}`;
  const wanted = given === undefined ? null : stringify(given);
  const asked = useRef<Pick<Heard, "subject" | "key">>(NOTHING);
  const answered = heard.subject === subject && heard.key === asked.current.key;
  // Arguments that move faster than answers come would never be answered: the next are asked with when the last have been.
  if (asked.current.subject !== subject || asked.current.key === null || answered) asked.current = { subject, key: wanted };
  const { key } = asked.current;
  useEffect(() => {
    if (key === null) return;
    return watch({
      query,
      arguments: parse(key),
      every_ms: EVERY_MS,
      onAnswer: (answer) => hear({ subject, answer, key, error: null }),
      onError: (error) => hear((before) => ({ subject, answer: before.subject === subject ? before.answer : null, key, error })),
    });
  }, [query, subject, key]);
  return heard.subject === subject ? heard : NOTHING;
}

export interface TrendAnswer {
  rows: TrendRow[];
  /** From when on the rows are there, in seconds since 1970; minus infinity for all there are. */
  from: number;
  /** The batch that it is of. */
  txid: number | null;
  error: Refused | null;
}

export const NONE: TrendAnswer = { rows: [], from: -Infinity, txid: null, error: null };

/** A trend from a minute on: all of it for an empty text, and not asked for yet if there is none. */
export function useTrend(by: string, from: string | undefined): TrendAnswer {
  const { answer, key, error } = useWatch("trend", by, from === undefined ? undefined : [from, "", by]);
  return useMemo(() => {
    const [asked = ""] = key === null ? [] : (parse(key) as string[]);
    const rows = answer && isTrend(answer.result) ? answer.result : [];
    return { rows, from: asked === "" ? -Infinity : secondsOf(asked), txid: answer?.txid ?? null, error };
  }, [answer, key, error]);
}

/** From which minute on the trends are asked for: without end they would grow without bound. Undefined as long as that is not known. */
export function useFrom(): { from: string | undefined; error: Refused | null } {
  const windowed = queries.value.some((query) => query.name === "newest");
  const { answer, error } = useWatch("newest", "", windowed ? null : undefined);
  if (topology.value === null) return { from: undefined, error: null };
  // A store of before there was `newest` has edits all the same.
  const from = windowed ? answer && (windowFrom(answer.result) ?? "") : "";
  return { from: from ?? undefined, error };
}
