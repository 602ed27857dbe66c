// The token that the server asks for: kept for this tab's session only.
import { signal } from "@preact/signals";

const PLACE = "tidemill-token";

/** Whether the page must ask for a token, and whether one was refused. */
export const asked = signal<"no" | "yes" | "again">("no");

let token = read();
let waiting: (() => void)[] = [];

function read(): string | null {
  try {
    return sessionStorage.getItem(PLACE);
  } catch {
    return null;
  }
}

export function hasToken(): boolean {
  return token !== null;
}

export function authorization(): Record<string, string> {
  return token === null ? {} : { authorization: `Bearer ${token}` };
}

/** The subprotocols of the web socket: a browser sends no headers with it. */
export function subprotocols(): string[] {
  return token === null ? ["tidemill.v1"] : ["tidemill.v1", `bearer.${base64url(token)}`];
}

export function base64url(text: string): string {
  const binary = Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte)).join("");
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** Asks the person, and returns once there is a token. */
export function askForToken(): Promise<void> {
  asked.value = token === null ? "yes" : "again";
  return new Promise((resolve) => waiting.push(resolve));
}

export function giveToken(given: string): void {
  token = given;
  try {
    sessionStorage.setItem(PLACE, given);
  } catch {
    // Without storage it is kept for as long as the page is open.
  }
  asked.value = "no";
  const resolved = waiting;
  waiting = [];
  for (const resolve of resolved) resolve();
}
