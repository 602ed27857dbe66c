//! The engine of Tidemill: topologies, operators, batches, states and queries in one process.
//!
//! A topology is built by a closure that receives a [`Topology`]; [`Engine::start`] runs it. The
//! timely timestamp of every record is the number of its batch, and timely's progress tracking
//! determines when a batch is complete.
//!
//! The folders, in an order in which they can be read. No file imports itself through others
//! (`tests/house/circles.rs`): each can be read with those below it alone.
//!
//! | folder or file | content |
//! | --- | --- |
//! | `batch.rs`, `batch/` | **a batch's life**: intake of records, chunks, latch, commit, publication. Read `batch.rs` first |
//! | `record.rs`, `ids.rs`, `clock.rs`, `sync.rs`, `panics.rs`, `plan.rs`, `json.rs` | the ground: bounds of types, numbers, clock, locks, panics, the dataflow as a graph, JSON that loses nothing |
//! | `source.rs`, `sink.rs`, `dead_letter.rs` | the traits that connectors implement |
//! | `request.rs`, `request/` | a query's request on its way: table of requests in flight, pins, weights, answers |
//! | `table.rs`, `table/` | one worker's part of a state, and its rows as JSON |
//! | `failure.rs`, `failure/` | failures of user code: policy, and search for the records to blame |
//! | `aggregates.rs`, `aggregates/` | combiners and reducers |
//! | `dataflow.rs`, `dataflow/` | the plumbing between operators: context of a worker, streams, guard, declarations |
//! | `operators.rs`, `operators/` | the operators of streams, one file each |
//! | `query.rs`, `query/` | queries and their operators, one file each |
//! | `runtime.rs`, `runtime/` | the state of a run as seen from outside: status, history, reads, requests, control |
//! | `run.rs`, `run/` | a run: start, generations, worker loop, threads, end |
//! | `conformance.rs`, `conformance/` | suites for connectors, aggregations, and types of keys and values |
//! | `testing.rs`, `testing/` | the kit that tests topologies in-process |

#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod aggregates;
mod batch;
mod clock;
pub mod conformance;
mod dataflow;
mod dead_letter;
mod failure;
mod ids;
#[cfg(test)]
mod interleavings;
pub mod json;
pub mod operators;
pub mod panics;
pub mod plan;
pub mod query;
mod readable;
mod record;
mod request;
mod run;
mod runtime;
mod settings;
pub mod sink;
pub mod source;
mod sync;
mod table;
pub mod testing;

pub use batch::feed::PartitionProgress;
pub use batch::outlets::SinkStatus;
pub use batch::report::{BatchReport, Publication, RangeReport, Retry, WorkerShare};
pub use batch::{Batch, BatchLimits};
pub use clock::Clock;
pub use dataflow::meter::{OperatorWork, WorkerWork};
pub use dataflow::migration::Migration;
pub use dataflow::state::{Change, State, Value};
pub use dataflow::stream::Stream;
pub use dataflow::topology::{Outline, Topology, outline};
pub use failure::policy::OnFailure;
pub use operators::{
    Emit, External, ExternalState, Full, Grouped, Inner, Join, Left, LookupCache, Part, Right,
};
pub use query::Scan;
pub use query::requests::{Many, One, Requests};
pub use record::{Data, Record};
pub use request::ask::{Answer, AtLeast, Format, QueryError, QueryRequest, RequestTypes};
pub use request::codec::QueryDecl;
pub use request::hub::QueryLimits;
pub use run::engine::{Engine, StartReport};
pub use runtime::Runtime;
pub use runtime::ask::Pipeline;
pub use runtime::reads::{Page, PageWish};
pub use runtime::reports::{QueriesStatus, StateStatus, Status};
pub use runtime::starting::{Starting, Waiting};
pub use settings::Settings;

/// States that other operators read, and the types that they may have.
pub mod states {
    pub use crate::dataflow::state::{Change, State, Value};
    pub use crate::record::Storable;
    pub use crate::table::codec::StateCodec;
}

/// For `tidemill-server` alone, which serves a run over its port. It may change in any release.
#[doc(hidden)]
pub mod port {
    pub use crate::request::ask::Permit;
    pub use crate::request::unsent_bytes::{UnsentBytes, UnsentGuard};
    pub use crate::runtime::history::Changed;
    pub use crate::runtime::reads::MOST_ROWS;
    pub use crate::runtime::timings::{OfSink, Timings};
}
