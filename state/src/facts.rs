//! The facts that a start is decided on: what the store and the sinks hold.

use crate::schema::{Program, Schema};
use crate::{Incarnation, Txid};

/// The facts that are recorded in the store.
#[derive(Clone, Debug, Default)]
pub struct StoreFacts {
    /// The last committed batch.
    pub committed: Txid,
    /// The batch up to which the log is folded.
    pub folded: Txid,
    /// The runs of this store, oldest first: those before this one, and for [`crate::resolve`]'s
    /// second decision this one too. A run is an incarnation; generations are within a run.
    pub incarnations: Vec<Incarnation>,
    /// The recorded schema of the topology.
    pub schema: Schema,
    /// The facts of each sink in `schema`.
    pub sinks: Vec<SinkRecord>,
}

/// The store's record of one sink.
#[derive(Clone, Debug, Default)]
pub struct SinkRecord {
    /// The sink's name.
    pub name: String,
    /// The txid of its newest entry ever, or of its registration. `None`: not registered.
    pub last: Option<Txid>,
    /// Its unconfirmed entries, in order: txid, and the txid of the entry before.
    pub entries: Vec<(Txid, Txid)>,
}

/// The content of a sink's marker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkerFacts {
    /// The topology that wrote it.
    pub topology: String,
    /// The last batch that the sink holds.
    pub txid: Txid,
    /// The run that wrote it.
    pub incarnation: Incarnation,
}

/// Everything that a start looks at.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The store; `None` if there is none yet.
    pub store: Option<StoreFacts>,
    /// The program's declarations.
    pub program: Program,
    /// The marker of each of the program's sinks, in the program's order; always `None` for a sink
    /// that keeps none.
    pub markers: Vec<Option<MarkerFacts>>,
    /// The operator's assumption about a sink whose marker is missing.
    pub assume: Option<Assume>,
    /// The name that the topology's traces outside have, see [`crate::Store::known_as`].
    pub known_as: String,
}

/// The operator's word on output whose fate is unknown (`--sink-assume`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assume {
    /// The sink has it: do not send it again.
    Delivered,
    /// The sink lacks it: send it again.
    Lost,
}
