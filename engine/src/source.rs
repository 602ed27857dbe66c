//! What is read: the traits that a source implements, and the records it gives.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use tidemill_state::{Position, Result};

/// What can travel in a stream: owned, cloneable, and able to move between workers.
pub trait Data: Clone + Serialize + DeserializeOwned + Send + 'static {}
impl<T: Clone + Serialize + DeserializeOwned + Send + 'static> Data for T {}

/// Where records come from: a set of partitions, each read in order from a position.
///
/// One value describes the source to all workers and generations; a [`Reader`] does the reading, one per partition.
///
/// # Contract
///
/// 1. *Checked at start.* [`Source::kind`] does not change between runs over the same input.
/// 2. *Checked by the suite.* [`Source::partitions`] lists every partition that can be read now, each name once. A partition
///    that was listed may be missing later only if it was read to its end; otherwise its input is lost ([`tidemill_state::Kind::SourceLost`]).
/// 3. *Checked by the suite.* A reader opened at position P gives exactly the records that a reader of the whole partition gives after
///    P: none twice, none left out, also when the records in between differ in number (offsets need not be dense).
/// 4. *Checked by the suite.* A reader opened at a position that its input no longer matches fails; it never starts elsewhere.
/// 5. *Not checkable.* `partitions`, `open` and `read` return within a few milliseconds when there is nothing to do: they run on
///    a worker, or before it. Waiting is said with [`ReadStatus::Idle`], never done by blocking.
pub trait Source: Send + Sync + 'static {
    /// What the source gives.
    type Item: Data;

    /// What kind of source this is and how it decodes, in one short line. It is recorded in the store, and a restart with another
    /// one is refused: a change here means that recorded positions no longer mean the same. Addresses and globs do not belong in it.
    fn kind(&self) -> String;

    /// The names of the partitions that can be read now, in a stable order.
    ///
    /// # Errors
    /// Whatever keeps the list from being made; a source with nothing to read says so here (kind Config).
    fn partitions(&self) -> Result<Vec<String>>;

    /// How often to ask again for [`Source::partitions`]; `None` for a fixed set. New ones join at a batch boundary.
    fn discover_every(&self) -> Option<Duration> {
        None
    }

    /// A reader of `partition`, from `from`, or from the beginning for `None`. It may open its input lazily, at the first read.
    ///
    /// # Errors
    /// The partition cannot be read, or its input does not match `from`.
    fn open(&self, partition: &str, from: Option<&Position>) -> Result<Box<dyn Reader<Self::Item>>>;
}

/// Reads one partition, on the worker that owns it.
pub trait Reader<T>: Send {
    /// Appends records to `into`, at most up to its limits ([`Records::is_full`]), and says what to expect next.
    /// It may give fewer, and then say [`ReadStatus::More`]. One call should take no longer than about 200 µs.
    ///
    /// # Errors
    /// The input cannot be read, or a record cannot be decoded and the source's policy is to stop. The error names
    /// partition and position. Records appended before the error are dropped with the batch.
    fn read(&mut self, into: &mut Records<T>) -> Result<ReadStatus>;

    /// The position after the last record that was appended: what a restart would be given if the batch ended here.
    fn position(&self) -> Position;

    /// How much is known to be left to read, in the unit of offsets; for metrics only.
    fn lag(&self) -> Option<u64> {
        None
    }

    /// How many records were skipped by policy since the last call; for metrics and the log.
    fn take_skipped(&mut self) -> u64 {
        0
    }
}

/// What to expect of the next [`Reader::read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadStatus {
    /// There may be more right now.
    More,
    /// Nothing for now: ask again after this long.
    Idle(Duration),
    /// The partition is at its end for good.
    End,
}

/// A run of records of one partition, in order, each with its offset. Bounded: see [`Records::is_full`].
#[derive(Debug)]
pub struct Records<T> {
    pub(crate) items: Vec<T>,
    pub(crate) offsets: Vec<u64>,
    bytes: usize,
    max_records: usize,
    max_bytes: usize,
}

impl<T> Records<T> {
    /// No records yet, and room for this many records and bytes.
    #[must_use]
    pub fn with_limits(max_records: usize, max_bytes: usize) -> Records<T> {
        Records {
            items: Vec::with_capacity(max_records),
            offsets: Vec::with_capacity(max_records),
            bytes: 0,
            max_records,
            max_bytes,
        }
    }

    /// Appends a record that begins at `offset` and was `bytes` long in the input.
    pub fn push(&mut self, offset: u64, bytes: usize, record: T) {
        self.items.push(record);
        self.offsets.push(offset);
        self.bytes += bytes;
    }

    /// Whether a reader must stop here. The record that crosses the limit of bytes is still given, so that any record passes.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.items.len() >= self.max_records || self.bytes >= self.max_bytes
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many bytes of input they were.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The records with their offsets, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.offsets.iter().copied().zip(&self.items)
    }
}

/// A shared source is a source.
impl<S: Source> Source for Arc<S> {
    type Item = S::Item;

    fn kind(&self) -> String {
        (**self).kind()
    }

    fn partitions(&self) -> Result<Vec<String>> {
        (**self).partitions()
    }

    fn discover_every(&self) -> Option<Duration> {
        (**self).discover_every()
    }

    fn open(&self, partition: &str, from: Option<&Position>) -> Result<Box<dyn Reader<Self::Item>>> {
        (**self).open(partition, from)
    }
}
