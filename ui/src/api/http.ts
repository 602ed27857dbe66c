// Requests to the server: with the token if there is one, and with its own words if it refuses.
import { parse } from "../lib/json";
import { askForToken, authorization } from "./token";
import type { Refused } from "./types";

/** A refusal of the server's, or that it cannot be reached (status 0). */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly said: Refused,
  ) {
    super(said.what);
  }
}

export interface Wishes {
  method?: "GET" | "POST";
  body?: string;
  signal?: AbortSignal;
  /** Do not ask the person for a token: the refusal is wanted. */
  quiet?: boolean;
  /** Keep whole numbers exact that a number cannot hold: for the topology's own values. What is computed with comes as numbers. */
  exact?: boolean;
  /** The longest that the whole answer may take: then it counts as none. */
  withinMs?: number;
}

let aheadMs = 0;

/** The server's time, as far as this page knows. */
export function serverNow(): number {
  return Date.now() + aheadMs;
}

export async function request<T>(path: string, { withinMs, ...wishes }: Wishes = {}): Promise<T> {
  if (withinMs === undefined) return answerTo<T>(path, wishes);
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(), withinMs);
  try {
    return await answerTo<T>(path, { ...wishes, signal: controller.signal });
  } finally {
    clearTimeout(timer);
  }
}

async function answerTo<T>(path: string, wishes: Wishes): Promise<T> {
  for (;;) {
    const response = await send(path, wishes);
    if (response.ok) return (wishes.exact ? parse(await response.text()) : await response.json()) as T;
    if (response.status === 401 && !wishes.quiet) {
      await askForToken();
      continue;
    }
    throw new Refusal(response.status, await wordsOf(response));
  }
}

async function send(path: string, { method = "GET", body, signal }: Wishes): Promise<Response> {
  const headers: Record<string, string> = authorization();
  if (body !== undefined) headers["content-type"] = "application/json";
  try {
    const response = await fetch(path, { method, headers, cache: "no-store", ...(body !== undefined && { body }), ...(signal && { signal }) });
    keepTime(response.headers.get("date"));
    return response;
  } catch (why) {
    if (signal?.aborted) throw why;
    throw new Refusal(0, { what: "The server does not answer", do: "wait: the page goes on when it is back; what you have asked it yourself, ask again then" });
  }
}

/** The header has whole seconds: smaller differences are none. */
function keepTime(date: string | null): void {
  const at = date ? Date.parse(date) : NaN;
  if (Number.isNaN(at)) return;
  const ahead = at + 500 - Date.now();
  aheadMs = Math.abs(ahead) < 2000 ? 0 : ahead;
}

async function wordsOf(response: Response): Promise<Refused> {
  const text = await response.text();
  try {
    const { error } = JSON.parse(text) as { error?: Refused };
    if (error && typeof error.what === "string") return error;
  } catch {
    // Then it is said in its own words.
  }
  return { what: text.trim() || `The server answered ${response.status}` };
}
