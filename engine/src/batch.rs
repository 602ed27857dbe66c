//! A batch's life, from its first record to confirmed output. Read this file first; the words
//! (outbox, marker, delta, generation, fold) are in `ARCHITECTURE.md`, "Words".
//!
//! A batch is a numbered set of records ([`Txid`]). Its number is the timely timestamp of all of
//! its records, so timely's progress tracking alone determines when a batch is complete. Batches
//! commit in the order of their numbers, without gaps.
//!
//! | stage | decided by | carried by | crash points in it | a crash here |
//! | --- | --- | --- | --- | --- |
//! | **open** | [`intake`]: one batch is open; workers are promised records in it and read them ([`feed`]) | a growing [`Range`] for each partition | `batch-opened` | changes nothing: the same positions are read again |
//! | **closed** | [`intake`]: enough records, bytes or time. No worker begins a read for it; each ends its ranges at its next turn | the ranges, fixed then | `batch-closed` | changes nothing |
//! | **computing** | nobody: operators run in time slices ([`slice`]) until their input is used up | [`chunk::Chunk`], then [`WorkerBatch`]; changes of state are in the hot map, which is ahead of the store | | changes nothing: a start loads the hot map from the store |
//! | **complete** | the worker loop (`engine/src/run/worker.rs`): on this worker the frontier has passed the number | one [`WorkerDelta`] of each worker, also an empty one, sent to the committer | `batch-computed` | changes nothing |
//! | **committed** | [`commit`]: positions, deltas, output and number in one RocksDB write | [`tidemill_state::Batch`] | `before-write`, `after-write` | before the write nothing; after it the batch is durable ([`tidemill_state::Durability`]: for a crash of the machine too, or of the process alone), and the next run publishes it |
//! | **published** | [`publish`]: one thread for each sink, in order | entries of the outbox | `before-publish`, `sink-begun`, `sink-produced`, `sink-delivered`, `publish-prepared` | a sink with a marker gets what its marker lacks; one without gets everything unconfirmed again |
//! | **confirmed** | the sink | its marker | `sink-ended`, `published` | as above: a later write (a commit, or housekeeping) removes the entries |
//! | **folded** | the fold (`state/src/fold.rs`), beside later batches | one sorted file | `fold-begun`, `fold-written`, `fold-ingested`, `log-trimmed` | the log is still complete, or the file is part of the store |
//!
//! The decision after a crash is in `state/src/resolve.rs`, with its cases in
//! `state/src/resolve/tests.rs`; that of the sources is in `engine/src/run/start.rs`.
//! `tests/crashes.rs` ends a process at every crash point, and `tests/kafka/faults.rs` at those of a
//! transaction.
//!
//! A failure before the commit sets the [`latch`]: the committer takes no more deltas of that
//! generation (what it has taken it still commits). `engine/src/run/retry.rs` decides whether the
//! dataflows are built again after the last committed batch, or the run ends.
//!
//! Beside the stages stand [`backpressure`] (why sources wait), [`outlets`] (what each sink holds and
//! what it is owed), [`turns`] (which partition is read next) and [`report`] (what is shown of a
//! batch).

use crate::ids::GenerationNumber;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tidemill_state::delta::Section;
use tidemill_state::outbox::PayloadWriter;
use tidemill_state::{Position, SinkId, SourceId, WorkerIndex};

pub(crate) mod backpressure;
pub(crate) mod chunk;
pub(crate) mod commit;
pub(crate) mod feed;
pub(crate) mod intake;
pub(crate) mod latch;
pub(crate) mod outlets;
pub(crate) mod publish;
pub(crate) mod report;
pub(crate) mod slice;
pub(crate) mod turns;

use serde::{Deserialize, Serialize};
use tidemill_state::Txid;

/// A batch, as code sees it that is called once a batch. What is written of a batch is a
/// [`tidemill_state::Batch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Its number. A number after the last committed one may be given again after a failure, perhaps
    /// to other records: do not key effects outside of Tidemill by it.
    pub txid: Txid,
    /// When its first record was read, in milliseconds since 1970: the same on all workers.
    pub time_ms: u64,
}

/// The changes and outputs of one worker for one batch, so far.
#[derive(Debug, Default)]
pub(crate) struct WorkerBatch {
    pub(crate) sections: Vec<Section>,
    pub(crate) outputs: BTreeMap<SinkId, PayloadWriter>,
    /// The number of records that were set aside by the failure policy (`failure.rs`), by operator.
    pub(crate) set_aside: BTreeMap<String, u64>,
}

/// The complete changes and outputs of one worker for one batch.
pub(crate) struct WorkerDelta {
    pub(crate) generation: GenerationNumber,
    pub(crate) txid: Txid,
    pub(crate) worker: WorkerIndex,
    /// When it was complete.
    pub(crate) completed: Instant,
    pub(crate) changes: usize,
    pub(crate) delta: Vec<u8>,
    pub(crate) outputs: Vec<(SinkId, PayloadWriter)>,
    pub(crate) ranges: Vec<Range>,
    /// The number of keys its states have after the batch.
    pub(crate) keys: Vec<usize>,
    /// The number of records that were set aside by the failure policy (`failure.rs`), by operator.
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
    /// A batch takes records only while at most this many before it are uncommitted.
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
        BatchLimits {
            max_records: 20_000,
            max_bytes: 16 << 20,
            max_delay: Duration::from_millis(50),
            max_in_flight: 8,
        }
    }
}

/// The range of one partition that a batch covers: from the offset `start`, included, to the position
/// `end`, at which reading resumes.
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
    /// True if the partition has ended for good: its position is removed instead of recorded.
    pub(crate) retired: bool,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use tidemill_state::CrashPoint;

    /// A new step of a batch's life needs a place in the table of this file.
    #[test]
    fn the_table_of_a_batchs_life_has_each_crash_point_of_it() {
        let rows = include_str!("batch.rs").lines().filter(|line| line.starts_with("//! | **"));
        let named: Vec<&str> = rows
            .flat_map(|row| row.split('|').nth(4).unwrap_or_default().split('`').skip(1).step_by(2))
            .collect();
        let first = CrashPoint::ALL
            .iter()
            .position(|point| *point == CrashPoint::BatchOpened)
            .expect("it is a point");
        let expected: BTreeSet<&str> =
            CrashPoint::ALL[first..].iter().map(|point| point.name()).collect();
        assert_eq!(named.iter().copied().collect::<BTreeSet<_>>(), expected);
        assert_eq!(named.len(), expected.len(), "each stands in one row");
    }
}
