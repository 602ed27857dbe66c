//! What is told of a run: its status, its batches. Only of committed ones.

use crate::feed::PartitionProgress;
use serde::Serialize;
use std::collections::BTreeMap;
use tidemill_state::{SinkId, Txid, WorkerIndex};

/// What a batch was: told once it is committed.
#[derive(Clone, Debug, Serialize)]
pub struct BatchReport {
    /// Its number.
    pub txid: Txid,
    /// How many source records it covers.
    pub records: u64,
    /// How many keys of states it changed.
    pub changes: u64,
    /// The size of its deltas.
    pub delta_bytes: u64,
    /// How many records it gave to sinks.
    pub output_records: u64,
    /// How many records were set aside, by the operator that failed at them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub set_aside: BTreeMap<String, u64>,
    /// From its first record until it was closed, in microseconds.
    pub fill_us: u64,
    /// From then until every worker had completed it.
    pub compute_us: u64,
    /// How long the write took that made it durable, alone or with the batches before and after it.
    pub commit_us: u64,
    /// When it was committed, in milliseconds since 1970.
    pub committed_at_ms: u64,
    /// What it covers of each partition.
    pub ranges: Vec<RangeReport>,
    /// How many keys each worker's states have after it.
    #[serde(skip)]
    pub(crate) keys: Vec<(WorkerIndex, Vec<usize>)>,
}

/// What a batch covers of one partition: `[start, end)`.
#[derive(Clone, Debug, Serialize)]
pub struct RangeReport {
    /// The source.
    pub source: String,
    /// The partition.
    pub partition: String,
    /// The first offset.
    pub start: u64,
    /// The offset after the last.
    pub end: u64,
    #[serde(skip)]
    pub(crate) skipped: u64,
}

/// What is asked of a topology.
#[derive(Clone, Debug, Default, Serialize)]
pub struct QueriesStatus {
    /// Requests that run or wait.
    pub requests: usize,
    /// Bytes of old values that are kept for batches on their way and for requests that read an earlier batch.
    pub kept_bytes: usize,
    /// How many reads were cancelled because the values that they need took too much memory.
    pub cancelled: u64,
    /// Closures of queries that have not returned for more than a second, in words.
    pub held_up_by: Option<String>,
}

/// What runs: the answer of `/v1/status`.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The topology's name.
    pub topology: String,
    /// `starting`, `running`, `paused`, `stopping` or `failed`.
    pub phase: &'static str,
    /// Whether the port lets the sources be paused, resumed and drained: it asks for a token then.
    pub controls: bool,
    /// The last committed batch.
    pub committed: Txid,
    /// The store's line: txids are comparable only within it.
    pub line: String,
    /// The run.
    pub incarnation: String,
    /// How many workers.
    pub workers: usize,
    /// When the run began, in milliseconds since 1970.
    pub started_at_ms: u64,
    /// Source records in batches that this run has committed.
    pub records: u64,
    /// Records that were set aside in batches that this run has committed, by the operator that failed at them.
    pub set_aside: BTreeMap<String, u64>,
    /// The same, per second, over the last seconds.
    pub records_per_s: f64,
    /// Batches per second, over the last seconds.
    pub batches_per_s: f64,
    /// Whether every source is at its end and everything is committed.
    pub sources_at_end: bool,
    /// Why the sources wait, if they do.
    pub waiting: Option<String>,
    /// How far each partition is read.
    pub partitions: Vec<PartitionProgress>,
    /// The states.
    pub states: Vec<StateStatus>,
    /// The sinks.
    pub sinks: Vec<SinkStatus>,
    /// Committed bytes of deltas that are not folded.
    pub unfolded_bytes: u64,
    /// The longest time, in microseconds, that a worker's loop or operator went on without letting others have their turn.
    pub longest_slice_us: u64,
    /// What is asked.
    pub queries: QueriesStatus,
    /// How often the dataflows were built: once, and anew after each failure that was retried.
    pub generations: u64,
    /// The last error.
    pub last_error: Option<String>,
}

/// One state, in [`Status`].
#[derive(Clone, Debug, Serialize)]
pub struct StateStatus {
    /// Its name.
    pub name: String,
    /// The type of its keys.
    pub key: String,
    /// The type of its values.
    pub value: String,
    /// How many keys have a value.
    pub keys: usize,
}

/// One sink, in [`Status`].
#[derive(Clone, Debug, Default, Serialize)]
pub struct SinkStatus {
    /// Its name.
    pub name: String,
    /// The last batch that it holds, of those that have output for it.
    pub published: Txid,
    /// Bytes of committed output that it has not confirmed.
    pub backlog_bytes: usize,
    /// How often its publisher was made anew in this run, after a failure or a commit that could not be trusted.
    pub rebuilds: u64,
    /// Why it does not take output now, if so.
    pub error: Option<String>,
    /// Since when, in milliseconds since 1970.
    pub error_since_ms: Option<u64>,
    #[serde(skip)]
    pub(crate) id: Option<SinkId>,
    #[serde(skip)]
    pub(crate) last_output: Txid,
}
