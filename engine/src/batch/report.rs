//! Reports of batches.

use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use tidemill_state::{Txid, WorkerIndex};

/// The report of a batch: published once the batch is committed.
#[derive(Clone, Debug, Default, JsonSchema, Serialize)]
pub struct BatchReport {
    /// Its number.
    #[schemars(with = "u64")]
    pub txid: Txid,
    /// The number of source records it covers.
    pub records: u64,
    /// The number of bytes of input they were.
    pub bytes: u64,
    /// The number of keys of states it changed.
    pub changes: u64,
    /// The size of its deltas.
    pub delta_bytes: u64,
    /// The number of records it gave to sinks.
    pub output_records: u64,
    /// The number of records that were set aside, by the operator that failed at them, or the
    /// source that could not decode them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub set_aside: BTreeMap<String, u64>,
    /// From its first record until it was closed, in microseconds.
    pub fill_us: u64,
    /// From then until every worker had completed it.
    pub compute_us: u64,
    /// The time the write took that made it durable, alone or with the batches before and after it.
    pub commit_us: u64,
    /// When it was committed, in milliseconds since 1970.
    pub committed_at_ms: u64,
    /// The time each sink that has output of it took to confirm that, from the commit on. A sink
    /// that has not confirmed it yet is missing.
    pub publish: Vec<Publication>,
    /// The time the fold took that ended with this batch, if one did: it took in the changes of
    /// those before it too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fold_us: Option<u64>,
    /// The share of each worker in the batch, by number. Not in lists of batches over the port.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<WorkerShare>,
    /// Failures that threw the batch away before it was committed: the batch was rebuilt after
    /// each. At most the last eight.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub retries: Vec<Retry>,
    /// The range of each partition that the batch covers. Not in lists of batches over the port.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<RangeReport>,
    /// The number of keys each worker's states have after it.
    #[serde(skip)]
    pub(crate) keys: Vec<(WorkerIndex, Vec<usize>)>,
}

/// A worker's share of a batch.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub struct WorkerShare {
    /// The worker.
    #[schemars(with = "u32")]
    pub worker: WorkerIndex,
    /// The number of source records it read.
    pub records: u64,
    /// The number of keys of its states changed.
    pub changes: u64,
    /// The size of its delta.
    pub delta_bytes: u64,
    /// From when the batch was closed until this worker had completed it, in microseconds.
    pub compute_us: u64,
}

/// The time a sink took to confirm a batch's output.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub struct Publication {
    /// The sink.
    pub sink: String,
    /// From the commit until it was confirmed, in microseconds.
    pub us: u64,
}

/// A failure after which batches that were not committed were rebuilt.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub struct Retry {
    /// The generation of the dataflows that failed; the first is 1.
    pub generation: u64,
    /// Why it failed.
    pub error: String,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
}

/// The range of one partition that a batch covers: `[start, end)`.
#[derive(Clone, Debug, JsonSchema, Serialize)]
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
