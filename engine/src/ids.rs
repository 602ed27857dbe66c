//! Numbers of things within one run: a type for each, so that none is taken for another.
//!
//! They count from the order of the program, and are not kept: what is kept has an id of the schema
//! (`tidemill_state::SinkId` and the like).

use std::fmt;

/// The number of a generation: how often the dataflows were built in this run before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GenerationNumber(pub(crate) u64);

impl GenerationNumber {
    /// Returns the number of the generation after this one.
    pub(crate) fn next(self) -> GenerationNumber {
        GenerationNumber(self.0 + 1)
    }
}

impl fmt::Display for GenerationNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The place of a source among the sources of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SourceIndex(pub(crate) usize);

/// The place of a sink among the sinks of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SinkIndex(pub(crate) usize);

/// The place of a state among the states of the program.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StateIndex(pub(crate) usize);

/// The place of a query among the queries of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct QueryIndex(pub(crate) usize);
