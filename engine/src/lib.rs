//! The engine: topologies, operators, batches, the worker loop, the commit.
//!
//! A topology is built by a closure that is given a [`Topology`]; [`Engine::start`] runs it. The timely timestamp of every record is the number of its
//! batch, and timely's progress tracking is what says that a batch is complete.

pub mod aggregates;
mod batch;
mod chunk;
mod commit;
pub mod conformance;
mod context;
mod ending;
mod extent;
mod failure;
mod feed;
mod generations;
pub mod json;
mod migration;
pub mod operators;
mod pages;
pub mod panics;
pub mod plan;
mod poison;
mod pond;
mod publish;
pub mod query;
mod readable;
mod reports;
mod retry;
mod run;
mod runtime;
mod search;
pub mod server;
mod settings;
pub mod sink;
mod slice;
pub mod source;
mod start;
mod starting;
pub mod states;
mod stream;
pub mod testing;
mod threads;
mod topology;
mod turns;
mod watch;
mod work;
mod worker;

pub use batch::{Batch, Clock};
pub use feed::PartitionProgress;
pub use migration::Migration;
pub use operators::{Caching, Emit, External, ExternalState, Full, Grouped, Inner, Join, Left, Part, Right};
pub use pages::{Page, PageWish};
pub use poison::OnFailure;
pub use pond::BatchLimits;
pub use query::ask::{Answer, Format, QueryError};
pub use query::asking::{AtLeast, Pipeline, QueryLimits, Question};
pub use query::{Many, One, QueryDecl, Requests, Scan};
pub use reports::{BatchReport, Publication, QueriesStatus, RangeReport, Retry, SinkStatus, StateStatus, Status, WorkerShare};
pub use run::{Engine, StartReport};
pub use runtime::Runtime;
pub use settings::Settings;
pub use source::Data;
pub use starting::{Starting, Waiting};
pub use states::{Change, State, Value};
pub use stream::{Record, Stream};
pub use topology::{Outline, Topology, outline};
pub use work::{OperatorWork, WorkerWork};
