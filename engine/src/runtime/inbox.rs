//! The workers' inboxes: requests that come from outside a dataflow.

use crate::batch::feed::Assignment;
use crate::request::ask::Ask;
use crate::table::part::PageOf;
use crossbeam_channel::Sender;
use std::thread::Thread;
use tidemill_state::{Result, Txid};
use tokio::sync::oneshot;

/// What a worker is asked from outside.
pub(crate) enum ToWorker {
    /// The encoded values of keys of the state of this index, as of this batch, or the last committed one.
    Read { state: usize, keys: Vec<Vec<u8>>, at: Option<Txid>, most_bytes: usize, reply: oneshot::Sender<Result<Read>> },
    /// Rows of a state in order.
    Page(PageOf),
    /// A partition that joins.
    Assign { generation: u64, assignment: Assignment },
    /// A request to a query, that is to be at home there.
    Ask(Ask),
}

/// The batch as of which keys were read, and their values.
pub(crate) type Read = (Txid, Vec<Option<Vec<u8>>>);

/// A worker's inbox, and its thread once it takes from it.
pub(super) type Inbox = (Sender<ToWorker>, Option<Thread>);
