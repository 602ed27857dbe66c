//! Tidemill: exactly-once micro-batch dataflow, as one small program.
//!
//! Streams are gathered into numbered micro-batches, and each batch is committed exactly once: the
//! source positions, every state change and every output of batch N become durable together or not
//! at all. A topology is a program of your own:
//!
//! ```no_run
//! use tidemill::prelude::*;
//!
//! fn main() -> tidemill::Result<()> {
//!     tidemill::main(|topology| {
//!         let counts = topology
//!             .source("sentences", Files::lines("data/sentences/*.txt"))
//!             .flat_map(|line: Str, words| words.extend(line.split_whitespace().map(Str::from)))
//!             .group_by(|word| word.clone())
//!             .persistent_aggregate("counts", Count);
//!         topology.query("words", |text: Requests<Str>| {
//!             text.flat_map(|text, words| words.extend(text.split_whitespace().map(Str::from))).lookup(&counts).aggregate(Sum)
//!         });
//!     })
//! }
//! ```
//!
//! [`main()`] gives that program its command line: `run --state DIR` runs it,
//! `query words "the tide"` asks it, `state scan counts --state DIR` shows what it has counted;
//! `--help` says the rest. Everything that a topology is made of is in the [`prelude`]; [`testing`]
//! runs one in-process, fed by hand, for tests.

#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod cli;
pub mod page;

#[doc(hidden)]
pub use cli::program;
pub use cli::{Cli, NoArguments, Running, main, main_with};

/// The crate that reads arguments, for a topology with its own: see [`main_with`].
pub use clap;

pub use tidemill_connectors as connectors;
pub use tidemill_connectors::kafka;
pub use tidemill_engine::{
    Answer, AtLeast, Batch, BatchLimits, BatchReport, Change, Clock, Data, Emit, Engine, External,
    ExternalState, Format, Full, Grouped, Inner, Join, Left, LookupCache, Many, Migration,
    OnFailure, One, Outline, Part, PartitionProgress, Pipeline, Publication, QueriesStatus,
    QueryDecl, QueryError, QueryLimits, QueryRequest, RangeReport, Record, RequestTypes, Requests,
    Retry, Right, Runtime, Scan, Settings, SinkStatus, StartReport, State, StateStatus, Status,
    Stream, Topology, Value, WorkerShare, outline,
};
pub use tidemill_engine::{aggregates, json, plan, sink, source, states};
#[doc(inline)]
pub use tidemill_server as server;
pub use tidemill_state::resolve::Assume;
pub use tidemill_state::{
    CrashPoint, Durability, Error, Incarnation, Kind, Lineage, Points, Position, Result, Store,
    Txid,
};

/// The suites for sources, sinks, aggregations, and types of values and keys, also for those of
/// your own.
pub mod conformance {
    pub use tidemill_engine::conformance::*;
}

/// A topology in-process, fed by hand: for tests.
pub mod testing {
    pub use tidemill_engine::testing::*;
}

/// The names that a topology is written with.
pub mod prelude {
    pub use tidemill_connectors::{
        Files, Generator, Invalid, Kafka, Malformed, Removed, Replay, Stdout, Str, Unreadable,
    };
    pub use tidemill_engine::aggregates::{Average, Combiner, Count, Max, Mean, Min, Sum, of};
    pub use tidemill_engine::{Change, Data, Emit, Requests, Scan, State, Stream, Topology};
    pub use tidemill_state::{Error, Result};
}

#[cfg(doctest)]
mod book;

/// The examples in README.md are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
