//! The durable part: the store, its states, delta log, fold, outbox and the decision of a start.
//!
//! One [`Store`] is one folder on disk, one RocksDB inside it, and belongs to one running topology.
//! A batch's positions, state changes, outputs and number go into it in one write
//! ([`Store::commit`]). This crate does not depend on the dataflow: the engine passes the changes
//! of each batch to it.
//!
//! | module | owns |
//! | --- | --- |
//! | [`ids`] | the counters and names: [`Txid`], [`KeyGroup`], [`Incarnation`] |
//! | [`error`] | errors, sorted by what the caller must do |
//! | [`keys`] | the order-preserving encoding of keys, and their key groups |
//! | [`codec`] | the encoding of values and records |
//! | [`round_trip`] | checks that values and keys come back from their bytes |
//! | [`delta`] | what one batch changed in one worker's states, as bytes |
//! | [`hot`] | the hot map: typed values in memory, and their old values |
//! | [`schema`] | what a topology has: states, sources, sinks; recorded in the store |
//! | [`store`] | the folder, RocksDB, the commit |
//! | [`fold`] | committed deltas into one sorted file |
//! | [`migration`] | declared changes of what is recorded |
//! | [`outbox`] | committed output that is not confirmed yet |
//! | [`resolve`] | what a start means: from facts to a decision |
//! | [`system`] | errors of the operating system: the kind and the way out of each |
//! | [`type_names`], [`printable`] | names of types and text from outside, as a person is shown them |
//! | [`points`] | the named steps at which a test can crash a process |

pub mod background;
pub mod codec;
pub mod delta;
pub mod error;
pub mod facts;
pub mod fold;
pub mod hot;
pub mod ids;
pub mod keys;
pub mod migration;
pub mod outbox;
pub mod points;
pub mod printable;
pub mod resolve;
pub mod round_trip;
pub mod schema;
pub mod store;
pub mod system;

pub use error::{Error, Kind, Result};
pub use ids::{
    Incarnation, KeyGroup, Lineage, Position, SinkId, SourceId, StateId, Txid, WorkerIndex,
};
pub use points::{CrashPoint, Points};
pub use store::{Batch, Durability, Store};
pub use tidemill_codec::{shape, type_names};
