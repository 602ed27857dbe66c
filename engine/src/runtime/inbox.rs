//! The workers' inboxes: requests that come from outside a dataflow.

use crate::batch::feed::Assignment;
use crate::ids::{GenerationNumber, StateIndex};
use crate::request::ask::Ask;
use crate::table::page::PageOf;
use crossbeam_channel::Sender;
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::Thread;
use tidemill_state::{Result, Txid};
use tokio::sync::oneshot;

/// A request to a worker from outside.
pub(crate) enum ToWorker {
    /// The encoded values of keys of the state of this index, as of this batch, or the last
    /// committed one.
    Read {
        state: StateIndex,
        keys: Vec<Vec<u8>>,
        at: Option<Txid>,
        most_bytes: usize,
        reply: oneshot::Sender<Result<Read>>,
    },
    /// Rows of a state in order.
    Page(PageOf),
    /// A partition that joins.
    Assign { generation: GenerationNumber, assignment: Assignment },
    /// A request to a query, that is to be at home there.
    Ask(Ask),
}

/// The batch as of which keys were read, and their values.
pub(crate) type Read = (Txid, Vec<Option<Vec<u8>>>);

/// A message was not taken: there are no workers between generations, and before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoWorker;

/// By worker; none between generations.
#[derive(Default)]
pub(crate) struct Inboxes(RwLock<Vec<Inbox>>);

/// A worker's inbox, and its thread as soon as the worker takes from the inbox.
struct Inbox {
    sender: Sender<ToWorker>,
    thread: Option<Thread>,
}

impl Inboxes {
    fn read(&self) -> RwLockReadGuard<'_, Vec<Inbox>> {
        self.0.read().expect("no holder of this lock panics")
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<Inbox>> {
        self.0.write().expect("no holder of this lock panics")
    }

    /// Takes requests for the workers of a generation that begins.
    pub(super) fn open(&self, senders: Vec<Sender<ToWorker>>) {
        *self.write() = senders.into_iter().map(|sender| Inbox { sender, thread: None }).collect();
    }

    /// The calling thread is this worker, which takes from its inbox now: it is woken for each
    /// request.
    pub(super) fn set_thread(&self, worker: usize) {
        if let Some(inbox) = self.write().get_mut(worker) {
            inbox.thread = Some(std::thread::current());
        }
    }

    /// Takes no more requests: a generation has failed and is being ended.
    pub(crate) fn close(&self) {
        self.write().clear();
    }

    pub(super) fn are_open(&self) -> bool {
        !self.read().is_empty()
    }

    /// Puts something into a worker's inbox and wakes it. An error if there is no worker.
    pub(crate) fn send(
        &self,
        worker: usize,
        message: ToWorker,
    ) -> std::result::Result<(), NoWorker> {
        let inboxes = self.read();
        let unsent = match inboxes.get(worker) {
            Some(inbox) => match inbox.sender.send(message) {
                Ok(()) => {
                    inbox.thread.as_ref().inspect(|thread| thread.unpark());
                    return Ok(());
                }
                Err(unsent) => unsent.into_inner(),
            },
            None => message,
        };
        if let ToWorker::Ask(ask) = unsent {
            ask.reply.withdraw();
        }
        Err(NoWorker)
    }

    /// Gives a worker of this generation a partition to read.
    pub(crate) fn assign(
        &self,
        generation: GenerationNumber,
        worker: usize,
        assignment: Assignment,
    ) {
        // After its generation there is nobody to give it to: the next one lists all partitions.
        let _ = self.send(worker, ToWorker::Assign { generation, assignment });
    }
}
