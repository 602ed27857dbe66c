//! The counters and names that everything else is written in: one newtype per meaning.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The number of a micro-batch: from 1, without gaps. It is the timely timestamp.
///
/// `Txid(0)` stands for "no batch yet" and is never committed.
///
/// ```
/// use tidemill_state::Txid;
/// assert_eq!(Txid(7).next(), Txid(8));
/// ```
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Txid(pub u64);

impl Txid {
    /// Before the first batch.
    pub const NONE: Txid = Txid(0);

    /// The batch after this one.
    #[must_use]
    pub fn next(self) -> Txid {
        Txid(self.0 + 1)
    }
}

impl fmt::Display for Txid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The unit in which a state is spread over workers: a hash of the encoded key, modulo the store's
/// number of groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyGroup(pub u16);

impl KeyGroup {
    /// The worker, out of `workers`, that owns this key group.
    #[must_use]
    pub fn owner(self, workers: usize) -> usize {
        usize::from(self.0) % workers
    }
}

/// A state's number in its store, given when the state is first seen, never used again. 0 is the
/// store's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StateId(pub u32);

/// A sink's number in its store, given when the sink is first seen, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SinkId(pub u32);

/// A source's number in its store, given when the source is first seen, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SourceId(pub u32);

/// A worker's index in its process, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkerIndex(pub u32);

/// One run of a topology on one store. The counter is raised durably at each start. The nonce
/// distinguishes copies of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Incarnation {
    /// Counts the starts of this store, from 1.
    pub counter: u64,
    /// Random, drawn at the start.
    pub nonce: u64,
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}", self.counter, self.nonce)
    }
}

/// A store's lineage: a nonce made when it is created. Txids can be compared only within one
/// lineage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lineage(pub u64);

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The position at which a partition is continued: everything before `offset` is in committed
/// batches.
///
/// A source makes the witness together with the position, and compares it when it resumes. Here it
/// is the end of what was read of a file:
///
/// ```
/// use tidemill_state::{Error, Kind, Position, Result};
///
/// /// The position after the first `offset` bytes of a file.
/// fn position(content: &[u8], offset: usize) -> Position {
///     let witness = content[offset.saturating_sub(64)..offset].to_vec();
///     Position { offset: offset as u64, witness }
/// }
///
/// /// The bytes after a position, if the file still begins with those before it.
/// fn resume<'a>(content: &'a [u8], from: &Position) -> Result<&'a [u8]> {
///     let offset = usize::try_from(from.offset).unwrap_or(usize::MAX);
///     match content.split_at_checked(offset) {
///         Some((before, rest)) if before.ends_with(&from.witness) => Ok(rest),
///         _ => Err(Error::source_lost("the file was cut or replaced: put it back as it was")),
///     }
/// }
///
/// let read = position(b"tide\nmill\n", 5);
/// assert_eq!(read.witness, b"tide\n");
/// assert_eq!(resume(b"tide\nmill\nwheel\n", &read).expect("it has grown"), b"mill\nwheel\n");
/// let error = resume(b"ebb\nmill\n", &read).expect_err("it is another file");
/// assert_eq!(error.kind(), Kind::SourceLost);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The first offset not yet read, in the source's own unit (a byte offset, a Kafka offset, a
    /// count of records).
    pub offset: u64,
    /// The bytes by which the source recognises its input again (a checksum, a topic id). Opaque to
    /// everything else.
    pub witness: Vec<u8>,
}

impl Position {
    /// A position that carries no witness.
    #[must_use]
    pub fn at(offset: u64) -> Position {
        Position { offset, witness: Vec::new() }
    }
}
