// The rows of a trend, [minute, value, count] in any order, as series over time.

export type TrendRow = readonly [minute: string, value: string, count: number];

export interface Trend {
  /** The beginnings of the bins, in seconds since 1970, without gaps. */
  times: number[];
  /** How long a bin is. */
  minutes: number;
  /** The counts by bin, one list a value, the largest first. */
  series: { value: string; counts: number[]; total: number }[];
  total: number;
}

export interface Span {
  /** Seconds since 1970; the end is not part of it. */
  from: number;
  to: number;
}

const BINS = [1, 2, 5, 10, 15, 30, 60, 120, 240, 720, 1440];

/** "2015-09-12T00:47" in UTC → seconds since 1970; NaN if it is no minute. */
export function secondsOf(minute: string): number {
  return /^\d{4}-\d\d-\d\dT\d\d:\d\d$/.test(minute) ? Date.parse(`${minute}:00Z`) / 1000 : NaN;
}

export function minuteOf(seconds: number): string {
  return Number.isFinite(seconds) ? new Date(seconds * 1000).toISOString().slice(0, 16) : "";
}

/** From the first minute to behind the last; null if there are no rows. */
export function extent(rows: readonly TrendRow[]): Span | null {
  let [from, to] = [Infinity, -Infinity];
  for (const [minute] of rows) {
    const at = secondsOf(minute);
    if (at < from) from = at;
    if (at + 60 > to) to = at + 60;
  }
  return from < to ? { from, to } : null;
}

/** What two spans share; null if that is nothing. */
export function overlap(one: Span, other: Span): Span | null {
  const [from, to] = [Math.max(one.from, other.from), Math.min(one.to, other.to)];
  return from < to ? { from, to } : null;
}

/** The span that two minutes mean, or what is wrong with them, in words. */
export function spanBetween(from: string, to: string, whole: Span): Span | string {
  const span = { from: secondsOf(from), to: secondsOf(to) };
  if (Number.isNaN(span.from) || Number.isNaN(span.to)) return `${Number.isNaN(span.from) ? "From" : "To"} must be a day and a time.`;
  if (span.from >= span.to) return "From must be before To.";
  if (overlap(span, whole)) return span;
  return `There is nothing then, only from ${minuteOf(whole.from).replace("T", " ")} to ${minuteOf(whole.to).replace("T", " ")}.`;
}

/** A day, and an hour more: a whole day fits from its first minute to its last. */
const WINDOW_S = 25 * 3600;

/**
 * From which minute on a trend is asked for, by the newest minute that there is; undefined if there is none. On the hour, so that it
 * moves seldom.
 */
export function windowFrom(newest: unknown): string | undefined {
  const minute: unknown = Array.isArray(newest) ? newest[0] : newest;
  if (typeof minute !== "string") return undefined;
  return minuteOf(Math.floor((secondsOf(minute) - WINDOW_S) / 3600) * 3600);
}

/** Bins so wide that there are at most so many. */
export function binMinutes(span: Span, most: number): number {
  const minutes = (span.to - span.from) / 60;
  return BINS.find((bin) => minutes / bin <= most) ?? Math.ceil(minutes / most);
}

/** The rows of a span in bins, at most so many. */
export function trend(rows: readonly TrendRow[], span: Span, most: number): Trend {
  const minutes = binMinutes(span, most);
  const width = minutes * 60;
  const first = Math.floor(span.from / width);
  const bins = Math.max(1, Math.ceil(span.to / width) - first);
  const byValue = new Map<string, number[]>();
  for (const [minute, value, number] of rows) {
    const at = secondsOf(minute);
    if (!(at >= span.from && at < span.to)) continue;
    let counts = byValue.get(value);
    if (!counts) byValue.set(value, (counts = new Array<number>(bins).fill(0)));
    const bin = Math.floor(at / width) - first;
    counts[bin] = (counts[bin] ?? 0) + number;
  }
  const series = [...byValue].map(([value, counts]) => ({ value, counts, total: counts.reduce((a, b) => a + b, 0) }));
  series.sort((a, b) => b.total - a.total || (a.value < b.value ? -1 : 1));
  const times = Array.from({ length: bins }, (_, bin) => (first + bin) * width);
  return { times, minutes, series, total: series.reduce((total, one) => total + one.total, 0) };
}

/** Whether an answer is rows of a trend. */
export function isTrend(result: unknown): result is TrendRow[] {
  return Array.isArray(result) && result.every((row) => Array.isArray(row) && row.length === 3 && typeof row[2] === "number");
}
