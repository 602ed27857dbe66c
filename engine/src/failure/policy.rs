//! The treatment of records at which the user's code fails, and of the batch that they are in.
//!
//! A closure that sees one record is caught per record, in the same pass
//! ([`crate::dataflow::guard::Guard::each`]): by policy the record is set aside, and the rest of
//! its batch continues. A failure of a whole batch (of a combiner, a reducer, an update of a state)
//! has no record to blame: the records to blame are then searched for, in trials that never commit
//! ([`crate::failure::search`]).

use crate::dead_letter::{DeadLetter, DeadLetterSink};
use tidemill_state::{Result, SinkId};

/// The treatment of a record at which the user's code fails: of a topology
/// ([`crate::Topology::on_failure`]), or of some operators ([`crate::Stream::on_failure`]).
#[derive(Clone, Default)]
pub struct OnFailure(pub(crate) Policy);

#[derive(Clone, Default)]
pub(crate) enum Policy {
    #[default]
    Stop,
    Skip,
    DeadLetter(DeadLetterTarget),
}

impl OnFailure {
    /// Stop the topology (exit code 69), naming the record; nothing of its batch is visible. What
    /// is done unless another policy is given.
    pub const STOP: OnFailure = OnFailure(Policy::Stop);

    /// Leave the record out, and count it: `set_aside` in the report of its batch,
    /// `tidemill_records_set_aside_total` in the metrics.
    pub const SKIP: OnFailure = OnFailure(Policy::Skip);

    /// Returns whether the topology continues without the record.
    pub(crate) fn goes_on(&self) -> bool {
        !matches!(self.0, Policy::Stop)
    }
}

/// The target of dead letters: a sink of the topology.
#[derive(Clone)]
pub(crate) struct DeadLetterTarget {
    pub(crate) id: SinkId,
    pub(crate) sink: DeadLetterSink,
}

impl DeadLetterTarget {
    pub(crate) fn encode(&self, letter: &DeadLetter, into: &mut Vec<u8>) -> Result<()> {
        self.sink.encode(letter, into)
    }
}
