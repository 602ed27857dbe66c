//! What code that sees a whole batch is told of it, and the clock behind it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tidemill_state::delta::Section;
use tidemill_state::outbox::PayloadWriter;
use tidemill_state::{Position, SinkId, SourceId, WorkerIndex};

pub(crate) mod chunk;
pub(crate) mod commit;
pub(crate) mod feed;
pub(crate) mod intake;
pub(crate) mod latch;
pub(crate) mod publish;
pub(crate) mod report;
pub(crate) mod slice;
pub(crate) mod turns;

use serde::{Deserialize, Serialize};
use tidemill_state::Txid;

/// A batch, as code sees it that is called once a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Its number. Numbers after the last committed one are used again after a failure, with other records.
    pub txid: Txid,
    /// When its first record was read, in milliseconds since 1970: the same on all workers.
    pub time_ms: u64,
}

/// What one worker has made of one batch, so far.
#[derive(Debug, Default)]
pub(crate) struct WorkerBatch {
    pub(crate) sections: Vec<Section>,
    pub(crate) outputs: BTreeMap<SinkId, PayloadWriter>,
    /// How many records were set aside, by operator.
    pub(crate) set_aside: BTreeMap<String, u64>,
}

/// What one worker made of one batch.
pub(crate) struct WorkerDelta {
    pub(crate) generation: u64,
    pub(crate) txid: Txid,
    pub(crate) worker: WorkerIndex,
    /// When it was complete.
    pub(crate) completed: Instant,
    pub(crate) changes: usize,
    pub(crate) delta: Vec<u8>,
    pub(crate) outputs: Vec<(SinkId, PayloadWriter)>,
    pub(crate) ranges: Vec<Range>,
    /// How many keys its states have after the batch.
    pub(crate) keys: Vec<usize>,
    /// How many records were set aside, by operator.
    pub(crate) set_aside: BTreeMap<String, u64>,
}

/// When a batch is closed, and how many may be on their way.
#[derive(Clone, Debug, Serialize)]
pub struct BatchLimits {
    /// A batch is closed when it holds this many records, over all workers.
    pub max_records: u64,
    /// A batch is closed when it holds this many bytes of input, over all workers.
    pub max_bytes: u64,
    /// A batch is closed when its first record is this old.
    pub max_delay: Duration,
    /// No batch takes records while more than this many before it are closed and uncommitted.
    pub max_in_flight: u64,
}

impl BatchLimits {
    /// For a batch that is closed when the sources are at their end.
    pub(crate) const WHOLE: BatchLimits = BatchLimits {
        max_records: u64::MAX >> 1,
        max_bytes: u64::MAX >> 1,
        max_delay: Duration::from_secs(1 << 30),
        max_in_flight: 8,
    };
}

impl Default for BatchLimits {
    fn default() -> Self {
        BatchLimits { max_records: 20_000, max_bytes: 16 << 20, max_delay: Duration::from_millis(50), max_in_flight: 8 }
    }
}

/// What a batch covers of one partition: `[start, end)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) source: SourceId,
    pub(crate) source_name: String,
    pub(crate) partition: String,
    pub(crate) start: u64,
    pub(crate) end: Position,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    pub(crate) skipped: u64,
    /// Whether the partition has ended for good: its position is removed instead of recorded.
    pub(crate) retired: bool,
}
