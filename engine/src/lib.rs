//! The engine: topologies, operators, batches, the worker loop, the commit.
//!
//! A topology is built by a closure that is given a [`Topology`]; [`Engine::start`] runs it. The timely timestamp of every record is the number of its
//! batch, and timely's progress tracking is what says that a batch is complete.

pub mod aggregates;
mod batch;
pub mod conformance;
mod dataflow;
mod failure;
pub mod json;
pub mod operators;
pub mod panics;
pub mod plan;
pub mod query;
mod readable;
mod request;
mod run;
mod runtime;
pub mod server;
mod settings;
pub mod sink;
pub mod source;
mod table;
pub mod testing;

pub use batch::intake::BatchLimits;
pub use batch::{Batch, Clock};
pub use dataflow::meter::{OperatorWork, WorkerWork};
pub use dataflow::migration::Migration;
pub use dataflow::source_feed::PartitionProgress;
pub use dataflow::stream::{Record, Stream};
pub use dataflow::topology::{Outline, Topology, outline};
pub use failure::policy::OnFailure;
pub use operators::{Caching, Emit, External, ExternalState, Full, Grouped, Inner, Join, Left, Part, Right};
pub use query::{Many, One, QueryDecl, Requests, Scan};
pub use request::ask::{Answer, Format, QueryError};
pub use run::engine::{Engine, StartReport};
pub use runtime::Runtime;
pub use runtime::ask::{AtLeast, Pipeline, QueryLimits, Question};
pub use runtime::reads::{Page, PageWish};
pub use runtime::reports::{
    BatchReport, Publication, QueriesStatus, RangeReport, Retry, SinkStatus, StateStatus, Status, WorkerShare,
};
pub use runtime::starting::{Starting, Waiting};
pub use settings::Settings;
pub use source::Data;
pub use table::part::{Change, State, Value};

/// States that other operators read, and the types that they may have.
pub mod states {
    pub use crate::table::part::{Change, State, StateCodec, Storable, Value};
}
