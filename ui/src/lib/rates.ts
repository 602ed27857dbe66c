// Rates of operators from totals since the start, as they come each second.

export interface WorkerTotal {
  /** What came to the operator there. */
  records: number;
  /** Of one that sends records on by key: what it then had to do with there. */
  received?: number;
  busy_us: number;
}

export interface OperatorTotals {
  id: number;
  workers: WorkerTotal[];
}

export interface OperatorRate {
  /** Over all workers, per second. */
  records: number;
  /** The busy time of all workers per batch, in microseconds; null if there was no batch. */
  perBatch: number | null;
  /** The share of the time that its workers were busy with it, on average. */
  busy: number;
  /** The busiest worker's share of the records, behind the exchange if there is one, over the average; null if there were none. */
  skew: number | null;
  /** By worker: what it had to do, per second, and the share of the time that it was busy with it. */
  workers: { records: number; busy: number }[];
}

export interface Sample {
  at: number;
  committed: number;
  operators: OperatorTotals[];
}

/** Keeps the last few samples, and tells the rates between the oldest and the newest of them. */
export class RateKeeper {
  private samples: Sample[] = [];

  constructor(private readonly most = 6) {}

  add(sample: Sample): Map<number, OperatorRate> {
    const last = this.samples.at(-1);
    if (last && (sample.at <= last.at || wentBack(last, sample))) this.samples = [];
    this.samples.push(sample);
    if (this.samples.length > this.most) this.samples.shift();
    const first = this.samples[0];
    return first && first !== sample ? ratesBetween(first, sample) : new Map();
  }

  clear(): void {
    this.samples = [];
  }
}

/** Totals begin at 0 again when the dataflow is built anew. */
function wentBack(before: Sample, now: Sample): boolean {
  const old = new Map(before.operators.map((one) => [one.id, one.workers]));
  return now.operators.some((one) => one.workers.some((worker, index) => worker.records < (old.get(one.id)?.[index]?.records ?? 0)));
}

/** What a worker has to do. */
function loadOf(worker: WorkerTotal): number {
  return worker.received ?? worker.records;
}

function ratesBetween(first: Sample, last: Sample): Map<number, OperatorRate> {
  const seconds = (last.at - first.at) / 1000;
  const batches = last.committed - first.committed;
  const old = new Map(first.operators.map((one) => [one.id, one.workers]));
  const rates = new Map<number, OperatorRate>();
  for (const { id, workers } of last.operators) {
    const before = old.get(id) ?? [];
    const taken = workers.reduce((all, worker, index) => all + worker.records - (before[index]?.records ?? 0), 0) / seconds;
    const byWorker = workers.map((worker, index) => ({
      records: (loadOf(worker) - (before[index] ? loadOf(before[index]) : 0)) / seconds,
      busy: (worker.busy_us - (before[index]?.busy_us ?? 0)) / (seconds * 1e6),
    }));
    const records = byWorker.reduce((all, one) => all + one.records, 0);
    const busy = byWorker.reduce((all, one) => all + one.busy, 0);
    const most = Math.max(0, ...byWorker.map((one) => one.records));
    rates.set(id, {
      records: taken,
      busy: workers.length ? busy / workers.length : 0,
      perBatch: batches > 0 ? (busy * seconds * 1e6) / batches : null,
      skew: records > 0 && workers.length > 1 ? most / (records / workers.length) : null,
      workers: byWorker,
    });
  }
  return rates;
}
