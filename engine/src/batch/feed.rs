//! A source without its type, as the worker loop drives it.

use crate::batch::Range;
use crate::batch::chunk::Chunk;
use crate::dead_letter::DeadLetter;
use crate::ids::SourceIndex;
use crate::source::StartFacts;
use std::time::{Duration, Instant};
use tidemill_state::{Position, Result, Txid};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::core::input::Handle;

/// A source without its type, as the worker loop drives it.
pub(crate) trait Feed {
    /// Gives the source the facts of its start: before the first partition is opened.
    fn adopt(&mut self, facts: &StartFacts);

    /// Opens a partition at a position; `None` is its beginning.
    fn assign(&mut self, partition: &str, from: Option<&Position>) -> Result<()>;

    /// Reads one chunk of one partition into the dataflow. Gives the numbers of records and bytes;
    /// none if nothing is there now.
    fn read(&mut self, max_records: u64, max_bytes: u64) -> Result<(u64, u64)>;

    /// Sets the input for dead letters.
    fn give_letters_to(&mut self, input: DeadLetterInput);

    /// The partitions that have moved on without a record in the batch in hand, to where their
    /// readers are now.
    fn moved(&mut self) -> Vec<Range>;

    /// Ends the ranges of the batch in hand.
    fn ranges(&mut self) -> Vec<Range>;

    /// Ends the ranges of the batch in hand, and continues at `txid`.
    fn advance_to(&mut self, txid: Txid) -> Vec<Range>;

    /// Returns the time until it is worth reading again; zero for now, `None` for never.
    fn ready_in(&self, now: Instant) -> Option<Duration>;

    /// Returns whether a partition was read, or has joined, since the last call of
    /// [`Feed::progress`].
    fn has_news(&self) -> bool;

    /// The progress of partitions by slot where it may have changed since the last call; none of
    /// those that have ended for good. It is ahead of what is committed:
    /// [`crate::runtime::committed`] puts it back to that.
    fn progress(&mut self) -> Vec<(usize, Option<PartitionProgress>)>;
}

pub(crate) type DeadLetterInput = Handle<u64, CapacityContainerBuilder<Chunk<DeadLetter>>>;

/// The progress of reading a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, schemars::JsonSchema, serde::Serialize)]
pub struct PartitionProgress {
    /// The source's name.
    pub source: String,
    /// The partition's name.
    pub partition: String,
    /// The first offset that no committed batch covers, in the source's own unit.
    pub offset: u64,
    /// The known amount that is left from there on, in the same unit.
    pub lag: Option<u64>,
    /// The number of records that were skipped by policy in this run, before that offset.
    pub skipped: u64,
    /// True if the partition is exhausted.
    pub ended: bool,
    /// The reason why nothing comes, if there is a fault that passes without help.
    pub trouble: Option<String>,
    /// Since when, in milliseconds since 1970.
    pub trouble_since_ms: Option<u64>,
    /// The offset from which the reader itself counts what is left.
    #[serde(skip)]
    pub(crate) reached: u64,
}

/// A partition to read: which of the topology's sources, its name, where to go on.
#[derive(Clone, Debug)]
pub(crate) struct Assignment {
    pub(crate) source: SourceIndex,
    pub(crate) partition: String,
    pub(crate) from: Option<Position>,
}
