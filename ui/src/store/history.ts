// What is drawn over time: a row a second of the last ten minutes, from status messages and, before the page was opened, from batches.
import type { Batch, Status } from "../api/types";
import { Ring } from "../lib/ring";
import { quantile } from "../lib/stats";
import { CLOCK_SET_BACK_MS, type BatchLog } from "./batch-log";

export const HISTORY_S = 600;
const WINDOW_MS = 10_000;
/** The most batches that one row's latency is taken of. */
const MOST = 500;

export type HistoryColumn = "at" | "records_per_s" | "batches_per_s" | "p50" | "p99" | "lag";

export class History {
  readonly ring = new Ring<HistoryColumn>(["at", "records_per_s", "batches_per_s", "p50", "p99", "lag"], HISTORY_S + 60);

  add(status: Status, log: BatchLog, now: number): void {
    // A clock that was set back: what is there is of a time to come, and nothing would be drawn until then.
    if (this.ring.last("at") * 1000 - now > CLOCK_SET_BACK_MS) this.ring.clear();
    const last = this.ring.last("at");
    if (now / 1000 <= last) return;
    // A time without messages is a gap in the lines.
    if (now / 1000 - last > 5) this.ring.push({ at: last + 1 });
    const { p50, p99 } = latency(log, now);
    this.ring.push({
      at: now / 1000,
      records_per_s: status.records_per_s ?? null,
      batches_per_s: status.batches_per_s ?? null,
      p50,
      p99,
      lag: lagOf(status),
    });
  }

  /** What the batches tell of the time before the first status. Nothing is told of the time before the oldest of them. */
  backfill(batches: readonly Batch[], log: BatchLog, now: number): void {
    if (this.ring.length > 0 || batches.length === 0) return;
    const oldest = batches.reduce((least, batch) => Math.min(least, batch.committed_at_ms), Infinity);
    const first = Math.max(Math.ceil(oldest / 1000) + 10, Math.floor(now / 1000) - HISTORY_S);
    for (let second = first; second < Math.floor(now / 1000); second++) {
      const { p50, p99, records, batches: number } = latency(log, second * 1000);
      this.ring.push({ at: second, records_per_s: (records * 1000) / WINDOW_MS, batches_per_s: (number * 1000) / WINDOW_MS, p50, p99 });
    }
  }
}

/** The batches of the ten seconds before this time: how long they took without folding, and how much they read. */
export function latency(log: BatchLog, now: number): { p50: number; p99: number; records: number; batches: number } {
  const to = log.ring.lowerBound("at", now + 1);
  const from = log.ring.lowerBound("at", now - WINDOW_MS);
  const times: number[] = [];
  let records = 0;
  for (let index = from; index < to; index++) {
    records += log.ring.get("records", index);
    if (to - index <= MOST) times.push(log.latency(index));
  }
  return { p50: quantile(times, 0.5), p99: quantile(times, 0.99), records, batches: to - from };
}

/** Over all partitions that tell theirs; null if none does. */
export function lagOf(status: Status): number | null {
  const known = (status.partitions ?? []).flatMap(({ lag }) => (lag === null ? [] : [lag]));
  return known.length === 0 ? null : known.reduce((all, lag) => all + lag, 0);
}
