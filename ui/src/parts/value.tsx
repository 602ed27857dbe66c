// A JSON value as text in one line, cut if it is long.
import { stringify } from "../lib/json";

const LONGEST = 400;

export function textOf(value: unknown): string {
  return typeof value === "string" ? value : stringify(value);
}

export function Value({ value }: { value: unknown }) {
  const text = textOf(value);
  if (typeof value === "string" && value === "") return <i class="muted">empty text</i>;
  return text.length > LONGEST ? <span title={text.slice(0, 4000)}>{text.slice(0, LONGEST)}…</span> : <span>{text}</span>;
}
