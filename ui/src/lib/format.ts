// Numbers, times and sizes as a person reads them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const NONE = "–";

/** 1234567 → "1,234,567". */
export function count(value: number | bigint | null | undefined): string {
  return value == null || (typeof value === "number" && !Number.isFinite(value)) ? NONE : whole.format(value);
}

/** Three digits at most: 9877.6 → "9.88k". */
export function compact(value: number | null | undefined): string {
  if (value == null || !Number.isFinite(value)) return NONE;
  const size = Math.abs(value);
  if (size < 999.5) return digits(value);
  for (const [scale, unit] of [[1e3, "k"], [1e6, "M"], [1e9, "G"], [1e12, "T"]] as const) {
    if (size < scale * 999.5) return digits(value / scale) + unit;
  }
  return value.toExponential(2);
}

function digits(value: number): string {
  const size = Math.abs(value);
  if (Number.isInteger(value)) return String(value);
  const places = size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2;
  return String(Number(value.toFixed(places)));
}

/** Microseconds: 24572 → "24.6 ms". */
export function micros(us: number | null | undefined): string {
  if (us == null || !Number.isFinite(us)) return NONE;
  const size = Math.abs(us);
  if (size < 999.5) return `${digits(us)} µs`;
  if (size < 999_500) return `${digits(us / 1e3)} ms`;
  if (size < 120e6) return `${digits(us / 1e6)} s`;
  return duration(us / 1e3);
}

/** Bytes: 14134 → "14.1 kB". */
export function bytes(value: number | null | undefined): string {
  if (value == null || !Number.isFinite(value)) return NONE;
  const text = compact(value);
  const unit = /[kMGT]$/.exec(text)?.[0];
  return unit ? `${text.slice(0, -1)} ${unit}B` : `${text} B`;
}

/** How long, in milliseconds: its two largest units. */
export function duration(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const parts: [number, string][] = [
    [Math.floor(seconds / 86_400), "d"],
    [Math.floor(seconds / 3600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "min"],
    [seconds % 60, "s"],
  ];
  const first = parts.findIndex(([value]) => value > 0);
  if (first < 0) return "0 s";
  return parts.slice(first, first + 2).filter(([value]) => value > 0).map(([value, unit]) => `${value} ${unit}`).join(" ");
}

const two = (value: number): string => String(value).padStart(2, "0");

/** The time of day here: "14:03:09". */
export function clock(ms: number, seconds = true): string {
  const at = new Date(ms);
  return `${two(at.getHours())}:${two(at.getMinutes())}${seconds ? `:${two(at.getSeconds())}` : ""}`;
}

/** Day and time of day here. */
export function moment(ms: number): string {
  const at = new Date(ms);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock(ms)}`;
}

/** "1 batch", "3 batches". */
export function plural(number: number, one: string, many = `${one}s`): string {
  return `${count(number)} ${number === 1 ? one : many}`;
}

/** A ratio: 12.34 → "12×". */
export function times(ratio: number): string {
  return `${Number(ratio.toFixed(ratio < 10 ? 1 : 0))}×`;
}
