// The queries that are asked again and again: over the web socket, or by requests while there is none. None is while the tab is hidden.
import { request, Refusal } from "../api/http";
import type { Refused } from "../api/types";
import { stringify } from "../lib/json";

export interface Answer {
  txid: number;
  lineage: string;
  result: unknown;
}

export interface Watch {
  query: string;
  arguments: unknown;
  every_ms: number;
  onAnswer: (answer: Answer) => void;
  onError: (error: Refused) => void;
}

type Send = (message: object) => void;

/** With the batch that it was last asked at, without a web socket. */
const watches = new Map<string, Watch & { askedAt?: number }>();
let send: Send | null = null;
let numbers = 0;

/** Begins to watch; the function that is returned ends it. */
export function watch(wish: Watch): () => void {
  const id = `w${++numbers}`;
  watches.set(id, { ...wish });
  tell(id, wish);
  return () => {
    watches.delete(id);
    send?.({ type: "unwatch", id });
  };
}

function tell(id: string, { query, arguments: given, every_ms }: Watch): void {
  if (!document.hidden) send?.({ type: "watch", id, query, arguments: given, every_ms });
}

/** There is a web socket, or none any more. */
export function useSocket(by: Send | null): void {
  send = by;
  for (const [id, wish] of watches) tell(id, wish);
}

export function answered(id: string, answer: Answer): void {
  watches.get(id)?.onAnswer(answer);
}

export function refused(id: string, error: Refused): void {
  watches.get(id)?.onError(error);
}

/** Asks those that were not asked since this batch, without a web socket. */
export async function askAll(committed: number): Promise<void> {
  if (document.hidden) return;
  for (const [id, wish] of [...watches]) {
    if (wish.askedAt === committed) continue;
    wish.askedAt = committed;
    try {
      answered(id, await request<Answer>(`/v1/query/${encodeURIComponent(wish.query)}`, { method: "POST", body: stringify(wish.arguments), exact: true }));
    } catch (why) {
      if (!(why instanceof Refusal)) continue;
      refused(id, why.said);
      // All but a query or arguments that are wrong may pass, also if nothing more is committed.
      if (why.status !== 400 && why.status !== 404) delete wish.askedAt;
    }
  }
}

document.addEventListener("visibilitychange", () => {
  for (const [id, wish] of watches) {
    if (document.hidden) send?.({ type: "unwatch", id });
    else tell(id, wish);
  }
});
