// What the page knows of the running topology, as signals. Everything in it is bounded.
import { batch as together, computed, signal } from "@preact/signals";
import { request, serverNow } from "../api/http";
import type { Batch, QueryInfo, Status, Topology } from "../api/types";
import { RateKeeper, type OperatorRate, type OperatorTotals } from "../lib/rates";
import { START, type Link } from "../lib/reconnect";
import { BATCHES_KEPT, BatchLog } from "./batch-log";
import { History } from "./history";

export const link = signal<Link>(START);
export const status = signal<Status | null>(null);
/** When the last status came. */
export const heardAt = signal(0);
export const topology = signal<Topology | null>(null);
export const queries = signal<QueryInfo[]>([]);
export const operatorRates = signal<ReadonlyMap<number, OperatorRate>>(new Map());
/** Grow by one with each change of what they stand for. */
export const batchesVersion = signal(0);
export const historyVersion = signal(0);
/** Grows by one when the store was begun over: what is shown of it must be dropped. */
export const epoch = signal(0);

export const stale = computed(() => link.value.mode === "down" && status.value !== null);
export const hasTrends = computed(() => ["trend", "top", "page"].every((name) => queries.value.some((query) => query.name === name)));

export const log = new BatchLog();
export let history = new History();
const keeper = new RateKeeper();

/** So many of the batches of before are asked for at first: the page is not to wait for all. */
const FIRST_BATCHES = 1000;
/** How long there is at least from one request for all batches to the next. */
const FILL_EVERY_MS = 10_000;

let lineage: string | null = null;
let incarnation: string | null = null;
/** Batches that came before the list of the earlier ones did. */
let held: Batch[] | null = [];
/** Whether batches are missing that the server may have: older ones than were asked for, or such as messages have left out. */
let incomplete = false;
/** When all batches were asked for last. */
let filledAt = -Infinity;

function beginOver(): void {
  log.ring.clear();
  history = new History();
  keeper.clear();
  held = [];
  incomplete = false;
  operatorRates.value = new Map();
  topology.value = null;
  queries.value = [];
  batchesVersion.value += 1;
  historyVersion.value += 1;
  epoch.value += 1;
}

/** Whether the answer of a request is of the store that is shown. */
export function isCurrent(ofLineage: string): boolean {
  return lineage === null || lineage === ofLineage;
}

export function applyStatus(now: Status): void {
  together(() => {
    const first = lineage === null;
    if (now.lineage && lineage !== null && now.lineage !== lineage) beginOver();
    const anew = now.lineage !== undefined && (now.lineage !== lineage || now.incarnation !== incarnation);
    lineage = now.lineage ?? lineage;
    incarnation = now.incarnation ?? incarnation;
    status.value = now;
    heardAt.value = Date.now();
    if (anew) {
      if (!first) keeper.clear();
      void loadPlan();
      void loadBatches();
    }
    // The first row waits for what the batches of before tell.
    if (now.lineage && (held === null || history.ring.length > 0)) {
      history.add(now, log, serverNow());
      historyVersion.value += 1;
    }
  });
}

export function applyBatches(batches: Batch[]): void {
  if (held !== null) {
    held = [...held, ...batches].slice(-1000);
    return;
  }
  if (log.add(batches)) incomplete = true;
  batchesVersion.value += 1;
}

export function applyOperators(operators: OperatorTotals[]): void {
  operatorRates.value = keeper.add({ at: performance.now(), committed: status.value?.committed ?? 0, operators });
}

/** The dataflow and what can be asked. */
async function loadPlan(): Promise<void> {
  const wanted = lineage;
  try {
    const [plan, list] = await Promise.all([request<Topology>("/v1/topology"), request<{ queries: QueryInfo[] }>("/v1/queries")]);
    if (wanted !== lineage) return;
    topology.value = plan;
    queries.value = list.queries;
  } catch {
    // The next connection asks again.
    incarnation = null;
  }
}

/** The batches that were committed while this page was not listening. */
export async function loadBatches(limit = FIRST_BATCHES): Promise<void> {
  const wanted = lineage;
  held ??= [];
  try {
    const { batches } = await request<{ batches: Batch[] }>(`/v1/batches?limit=${limit}`);
    if (wanted !== lineage) return;
    const gap = log.merge(batches);
    // What is missing now, the server does not have either.
    if (limit === BATCHES_KEPT) incomplete = false;
    else incomplete ||= gap;
    history.backfill(batches, log, serverNow());
  } catch {
    // Those that come from now on are shown all the same.
  }
  if (wanted !== lineage) return;
  const since = held ?? [];
  held = null;
  applyBatches(since);
}

/** Asks for all batches whenever some are missing, for as long as somebody looks at them; the function that is returned ends it. */
export function completeBatches(): () => void {
  const look = (): void => {
    const answers = link.value.mode === "live" || link.value.mode === "polling";
    if (!incomplete || !answers || held !== null || document.hidden || performance.now() - filledAt < FILL_EVERY_MS) return;
    filledAt = performance.now();
    void loadBatches(BATCHES_KEPT);
  };
  look();
  const timer = setInterval(look, 1000);
  return () => clearInterval(timer);
}
