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

export class BatchLog {
  readonly ring = new Ring<BatchColumn>(COLUMNS, BATCHES_KEPT);

  /** Takes those that are newer than what is there, and what has become known of the others since. They come newest first. */
  add(batches: readonly Batch[]): void {
    for (const batch of batches.toSorted((a, b) => a.txid - b.txid)) {
      if (batch.txid <= this.ring.last("txid")) {
        const index = this.find(batch.txid);
        const { fold, publish } = durationsOf(batch);
        // A message that was late says less than what is there.
        this.ring.raise("fold", index, fold);
        this.ring.raise("publish", index, publish);
        continue;
      }
      // A clock that was set back: else all that comes would have the time that it was set back from.
      if (this.ring.last("at") - batch.committed_at_ms > CLOCK_SET_BACK_MS) this.ring.cap("at", batch.committed_at_ms);
      this.ring.push({
        txid: batch.txid,
        at: Math.max(batch.committed_at_ms, this.ring.last("at") || 0),
        records: batch.records,
        changes: batch.changes,
        delta_bytes: batch.delta_bytes,
        output_records: batch.output_records,
        set_aside: Object.values(batch.set_aside ?? {}).reduce((all, one) => all + one, 0),
        retries: batch.retries?.length ?? 0,
        ...durationsOf(batch),
      });
    }
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
