// The last 10,000 batches, as columns of numbers; a batch in full is asked for when it is looked at.
import type { Batch } from "../api/types";
import { Ring } from "../lib/ring";
import { PHASES, type Durations } from "../lib/slow";

export const BATCHES_KEPT = 10_000;
/** Times that go back by more than this are a clock that was set, and not one that is a little off. */
export const CLOCK_SET_BACK_MS = 5000;

const COLUMNS = [
  "txid", "at", "records", "changes", "delta_bytes", "output_records", "set_aside", "retries", "fill", "compute", "commit", "fold", "publish",
] as const;
export type BatchColumn = (typeof COLUMNS)[number];
type Row = Record<BatchColumn, number>;

export class BatchLog {
  readonly ring = new Ring<BatchColumn>(COLUMNS, BATCHES_KEPT);

  /**
   * Takes those that are newer than what is there, and what has become known of the others since. They come newest first. Returns
   * whether there is a gap before one that was taken: batches are numbered from 1 on, without gaps.
   */
  add(batches: readonly Batch[]): boolean {
    let gap = false;
    for (const batch of batches.toSorted((a, b) => a.txid - b.txid)) {
      if (batch.txid <= this.ring.last("txid")) {
        const index = this.find(batch.txid);
        const { fold, publish } = durationsOf(batch);
        // A message that was late says less than what is there.
        this.ring.raise("fold", index, fold);
        this.ring.raise("publish", index, publish);
        continue;
      }
      gap ||= batch.txid !== (this.ring.last("txid") || 0) + 1;
      this.push(rowOf(batch));
    }
    return gap;
  }

  /** The same with those in their places, too, that are older than the newest that is there. What is there and not among them stays: the server forgets what was before its present run. */
  merge(batches: readonly Batch[]): boolean {
    const missing = batches.filter(({ txid }) => txid < this.ring.last("txid") && this.find(txid) < 0);
    if (missing.length > 0) {
      const rows = Array.from({ length: this.ring.length }, (_, index) => this.ring.row(index));
      rows.push(...missing.map(rowOf));
      rows.sort((a, b) => a.txid - b.txid);
      this.ring.clear();
      for (const row of rows) this.push(row);
    }
    return this.add(batches);
  }

  private push(row: Row): void {
    // A clock that was set back: else all that comes would have the time that it was set back from.
    if (this.ring.last("at") - row.at > CLOCK_SET_BACK_MS) this.ring.cap("at", row.at);
    this.ring.push({ ...row, at: Math.max(row.at, this.ring.last("at") || 0) });
  }

  durations(index: number): Durations {
    return Object.fromEntries(PHASES.map((phase) => [phase, this.ring.get(phase, index)])) as Durations;
  }

  total(index: number): number {
    let total = 0;
    for (const phase of PHASES) total += this.ring.get(phase, index);
    return total;
  }

  /** How long the batch took on its way. Folding is not part of it: that is work in the background over many earlier batches, and one long fold would pass for slow batches. */
  latency(index: number): number {
    return this.total(index) - this.ring.get("fold", index);
  }

  /** Where a batch is; -1 if it is not there. */
  find(txid: number): number {
    const index = this.ring.lowerBound("txid", txid);
    return this.ring.get("txid", index) === txid ? index : -1;
  }

  /** The position behind the newest batch that is shown: behind this one, or behind all for null. */
  endAt(upto: number | null): number {
    return upto === null ? this.ring.length : this.find(upto) + 1;
  }

  /** The durations of the batches on either side of one. */
  beside(index: number, each = 25): Durations[] {
    const found: Durations[] = [];
    for (let at = Math.max(0, index - each); at <= Math.min(this.ring.length - 1, index + each); at++) {
      if (at !== index) found.push(this.durations(at));
    }
    return found;
  }
}

function rowOf(batch: Batch): Row {
  return {
    txid: batch.txid,
    at: batch.committed_at_ms,
    records: batch.records,
    changes: batch.changes,
    delta_bytes: batch.delta_bytes,
    output_records: batch.output_records,
    set_aside: Object.values(batch.set_aside ?? {}).reduce((all, one) => all + one, 0),
    retries: batch.retries?.length ?? 0,
    ...durationsOf(batch),
  };
}

export function durationsOf(batch: Batch): Durations {
  return {
    fill: batch.fill_us,
    compute: batch.compute_us,
    commit: batch.commit_us,
    fold: batch.fold_us ?? 0,
    // The sinks are given it at the same time.
    publish: (batch.publish ?? []).reduce((most, one) => Math.max(most, one.us), 0),
  };
}
