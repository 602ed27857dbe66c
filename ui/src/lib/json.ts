// JSON whose whole numbers stay exact: those that a number cannot hold are read as BigInt, and written with the same digits.

declare global {
  /** What newer browsers can do, and the compiler's library does not know yet. */
  interface JSON {
    parse(text: string, reviver: (key: string, value: unknown, context?: { source?: string }) => unknown): unknown;
    rawJSON?(text: string): unknown;
  }
}

/** Sixteen digits in a row, not behind a point: all smaller whole numbers are exact as numbers. */
const LONG = /(?:^|[^\d.])\d{16}/;
const WHOLE = /^-?\d+$/;

/** Whether a text may hold a number that is not exact as such. */
export function hasLongNumbers(text: string): boolean {
  return LONG.test(text);
}

/** Reads JSON that holds the topology's own values. Browsers that do not tell a number's source round it as they always do. */
export function parse(text: string): unknown {
  // The reviver is called for each single value: large messages are read without it if they need none.
  return hasLongNumbers(text) ? JSON.parse(text, revive) : (JSON.parse(text) as unknown);
}

function revive(_: string, value: unknown, context?: { source?: string }): unknown {
  if (typeof value !== "number" || Number.isSafeInteger(value)) return value;
  const source = context?.source;
  return source !== undefined && WHOLE.test(source) ? BigInt(source) : value;
}

/** The text of a value; empty for what JSON does not have. */
export function stringify(value: unknown, indent?: number): string {
  return JSON.stringify(value, write, indent) ?? "";
}

function write(_: string, value: unknown): unknown {
  if (typeof value !== "bigint") return value;
  return JSON.rawJSON ? JSON.rawJSON(String(value)) : String(value);
}
