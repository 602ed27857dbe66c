// What the server says, as it says it.

export interface Partition {
  source: string;
  partition: string;
  offset: number | null;
  lag: number | null;
  ended: boolean;
  skipped: number;
  trouble: string | null;
  trouble_since_ms: number | null;
}

export interface Sink {
  name: string;
  published: number;
  backlog_bytes: number;
  rebuilds: number;
  error: string | null;
  error_since_ms: number | null;
}

export interface StateInfo {
  name: string;
  key: string;
  value: string;
  keys: number;
}

/** While the topology starts, only the first few are there. */
export interface Status {
  phase: "starting" | "running" | "stopping" | "failed" | "paused";
  topology: string;
  waiting?: string | null;
  committed?: number;
  lineage?: string;
  incarnation?: string;
  workers?: number;
  started_at_ms?: number;
  records?: number;
  records_per_s?: number;
  batches_per_s?: number;
  set_aside?: Record<string, number>;
  sources_at_end?: boolean;
  partitions?: Partition[];
  states?: StateInfo[];
  sinks?: Sink[];
  unfolded_bytes?: number;
  store_bytes?: number;
  longest_slice_us?: number;
  queries?: { requests: number; kept_bytes: number; cancelled: number; held_up_by: string | null };
  generations?: number;
  last_error?: string | null;
  controls?: boolean;
}

/** Ranges and workers are told of one batch that is asked for, and not in lists. */
export interface Batch {
  txid: number;
  records: number;
  bytes?: number;
  changes: number;
  delta_bytes: number;
  output_records: number;
  fill_us: number;
  compute_us: number;
  commit_us: number;
  fold_us?: number;
  committed_at_ms: number;
  set_aside?: Record<string, number>;
  ranges?: { source: string; partition: string; start: number; end: number }[];
  workers?: WorkerShare[];
  publish?: { sink: string; us: number }[];
  retries?: { generation: number; error: string; at_ms: number }[];
}

export interface WorkerShare {
  worker: number;
  records: number;
  changes: number;
  delta_bytes: number;
  compute_us: number;
}

export type NodeKind = "source" | "operator" | "exchange" | "moved" | "state" | "sink" | "query";

export interface PlanNode {
  id: number;
  kind: Partial<Record<NodeKind, string>>;
  at: string;
  inputs: number[];
}

export interface Topology {
  lineage: string;
  name: string;
  nodes: PlanNode[];
}

export interface QueryInfo {
  name: string;
  arguments: string;
  result: string;
  one?: boolean;
}

export interface Page {
  txid: number;
  lineage: string;
  moved_on?: boolean;
  next?: unknown;
  rows: { key: unknown; value: unknown }[];
}

export interface Found {
  txid: number;
  key: unknown;
  value: unknown;
}

export interface Refused {
  what: string;
  where?: string;
  do?: string;
}
