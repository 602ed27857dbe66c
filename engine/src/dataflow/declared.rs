//! Everything that a program has declared, in its order.

use crate::batch::feed::Feed;
use crate::request::codec::QueryCodec;
use crate::request::input::QueryInput;
use crate::sink::AnySink;
use crate::source::AnySource;
use crate::table::codec::StateCodec;
use crate::table::part::WorkerState;
use std::rc::Rc;
use std::sync::Arc;
use tidemill_state::schema::Program;
use tidemill_state::{Error, Result};

/// The declarations of the user's closure: filled while the closure runs.
#[derive(Default)]
pub(crate) struct Declared {
    pub(crate) program: Program,
    pub(crate) feeds: Vec<Box<dyn Feed>>,
    pub(crate) states: Vec<Rc<dyn WorkerState>>,
    pub(crate) codecs: Vec<Arc<dyn StateCodec>>,
    pub(crate) sources: Vec<Arc<dyn AnySource>>,
    pub(crate) sinks: Vec<Arc<dyn AnySink>>,
    pub(crate) queries: Vec<Arc<dyn QueryCodec>>,
    /// In the order of the queries.
    pub(crate) entrances: Vec<Rc<dyn QueryInput>>,
    /// Operators of queries that keep something for requests: they are woken when a request is
    /// given up.
    pub(crate) sweepers: Vec<timely::scheduling::Activator>,
    /// The conversions that migrations call, in the order of their declarations.
    pub(crate) conversions: Vec<Convert>,
    pub(crate) error: Option<Error>,
}

/// A conversion of one row of a state: encoded key and value in, encoded key and value out.
pub(crate) type Convert = Arc<dyn Fn(&[u8], &[u8]) -> Result<(Vec<u8>, Vec<u8>)> + Send + Sync>;
