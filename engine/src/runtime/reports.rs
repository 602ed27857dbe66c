//! The reports of a run: its status, its batches. Only of committed ones.

use crate::batch::feed::PartitionProgress;
use crate::batch::outlets::SinkStatus;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use tidemill_state::Txid;

/// The requests to a topology's queries.
#[derive(Clone, Debug, Default, JsonSchema, Serialize)]
pub struct QueriesStatus {
    /// Requests that run or wait.
    pub requests: usize,
    /// Bytes of old values that are kept for batches on their way and for requests that read an
    /// earlier batch.
    pub kept_bytes: usize,
    /// The number of reads that were cancelled because the values that they need took too much
    /// memory.
    pub cancelled: u64,
    /// Closures of queries that have not returned for more than a second, in words.
    pub held_up_by: Option<String>,
}

/// The status of a run: the answer of `/v1/status`.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub struct Status {
    /// The topology's name.
    pub topology: String,
    /// `starting`, `running`, `paused`, `stopping` or `failed`.
    pub phase: &'static str,
    /// True if the port lets the sources be paused, resumed and drained: it asks for a token then.
    pub controls: bool,
    /// The last committed batch.
    #[schemars(with = "u64")]
    pub committed: Txid,
    /// The store's lineage: txids are comparable only within it.
    pub lineage: String,
    /// The run.
    pub incarnation: String,
    /// The number of workers.
    pub workers: usize,
    /// When the run began, in milliseconds since 1970.
    pub started_at_ms: u64,
    /// Source records in batches that this run has committed.
    pub records: u64,
    /// Records that were set aside in batches that this run has committed, by the operator that
    /// failed at them, or the source that could not decode them.
    pub set_aside: BTreeMap<String, u64>,
    /// The same, per second, over the last seconds.
    pub records_per_s: f64,
    /// Batches per second, over the last seconds.
    pub batches_per_s: f64,
    /// True if every source is exhausted and everything is committed.
    pub sources_at_end: bool,
    /// Why the sources wait, if they do.
    pub waiting: Option<String>,
    /// Whatever should be known of the sources though they are read: a pattern that no topic
    /// matches, say.
    pub notices: Vec<String>,
    /// The progress of each partition.
    pub partitions: Vec<PartitionProgress>,
    /// The states.
    pub states: Vec<StateStatus>,
    /// The sinks.
    pub sinks: Vec<SinkStatus>,
    /// Committed bytes of deltas that are not folded.
    pub unfolded_bytes: u64,
    /// The size of the store's tables on the disk, in bytes: states, and outputs on their way.
    pub store_bytes: u64,
    /// The longest time, in microseconds, that a worker's loop or operator went on without letting
    /// others have their turn.
    pub longest_slice_us: u64,
    /// The requests to queries.
    pub queries: QueriesStatus,
    /// The number of times the dataflows were built: once, and anew after each failure that was
    /// retried.
    pub generations: u64,
    /// The last error.
    pub last_error: Option<String>,
}

/// One state, in [`Status`].
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub struct StateStatus {
    /// Its name.
    pub name: String,
    /// The type of its keys.
    pub key: String,
    /// The type of its values.
    pub value: String,
    /// The number of keys that have a value.
    pub keys: usize,
}
