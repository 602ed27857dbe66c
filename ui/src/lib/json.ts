// JSON whose numbers stay exact: whole ones that a number cannot hold are read as BigInt, whatever their length, and written with
// the same digits; -0 keeps its sign. NaN and the infinities come as the texts "NaN", "Infinity" and "-Infinity".

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

/** What is no number in JSON, where a floating-point number is expected. */
export function isNoFinite(value: unknown): boolean {
  return value === "NaN" || value === "Infinity" || value === "-Infinity";
}

function write(_: string, value: unknown): unknown {
  if (Object.is(value, -0)) return JSON.rawJSON ? JSON.rawJSON("-0.0") : value;
  if (typeof value !== "bigint") return value;
  return JSON.rawJSON ? JSON.rawJSON(String(value)) : String(value);
}
