//! What happens when something fails inside a generation: the latch, and the guard around the user's code.

use crate::chunk::Origin;
use crate::context::Context;
use crate::plan::NodeId;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use tidemill_state::{Error, Txid};

/// Set once by the first failure of a generation, before anything of the generation is dropped. From then on no batch of it is committed.
#[derive(Default)]
pub(crate) struct Latch {
    set: AtomicBool,
    error: Mutex<Option<Error>>,
    wake: Mutex<Vec<std::thread::Thread>>,
}

impl Latch {
    pub(crate) fn is_set(&self) -> bool {
        self.set.load(SeqCst)
    }

    /// Records the first failure and wakes every worker.
    pub(crate) fn fail(&self, error: Error) {
        self.error.lock().expect("no holder of this lock panics").get_or_insert(error);
        self.set.store(true, SeqCst);
        for thread in self.wake.lock().expect("no holder of this lock panics").iter() {
            thread.unpark();
        }
    }

    pub(crate) fn error(&self) -> Option<Error> {
        self.error.lock().expect("no holder of this lock panics").clone()
    }

    /// Makes this thread one of those that a failure wakes.
    pub(crate) fn wake_me(&self) {
        self.wake.lock().expect("no holder of this lock panics").push(std::thread::current());
    }
}

/// Runs one operator's user code: catches its panics, and says in which record they happened.
pub(crate) struct Guard {
    latch: Arc<Latch>,
    context: Rc<Context>,
    node: NodeId,
    batch: Cell<Txid>,
}

impl Guard {
    pub(crate) fn new(context: &Rc<Context>, node: NodeId) -> Guard {
        Guard { latch: Arc::clone(&context.latch), context: Rc::clone(context), node, batch: Cell::new(Txid::NONE) }
    }

    /// Says which batch the next records belong to.
    pub(crate) fn at_batch(&self, txid: Option<u64>) {
        self.batch.set(Txid(txid.unwrap_or_default()));
    }

    /// Whether nothing has failed in this generation.
    pub(crate) fn is_running(&self) -> bool {
        !self.latch.is_set()
    }

    /// Runs `body` once over a chunk. It tells the number of the record that it is at; a panic or an `Err` is then a failure of that record. Returns
    /// whether it went well; if not, nothing of the batch will be committed, and what `body` made is dropped.
    pub(crate) fn run(&self, origin: Option<&Origin>, body: impl FnOnce(&Cell<usize>) -> Result<(), String>) -> bool {
        let at = Cell::new(0);
        let message = match catch_unwind(AssertUnwindSafe(|| body(&at))) {
            Ok(Ok(())) => return true,
            Ok(Err(message)) => message,
            Err(panic) => format!("panicked: {}", panic_message(panic.as_ref())),
        };
        self.fail(&message, origin.map(|origin| origin.describe(at.get())));
        false
    }

    /// Fails the generation: `message`, in the record `at` if it is known.
    pub(crate) fn fail(&self, message: &str, at: Option<String>) {
        let (operator, batch) = (self.context.plan.borrow().describe(self.node), self.batch.get());
        let place = match at {
            Some(at) => format!("at {at}, in batch {batch}"),
            None => format!("in batch {batch}{}", self.context.ranges_of(batch)),
        };
        self.latch.fail(Error::user_code(format!(
            "operator {operator} failed {place}: {message}. Nothing of batch {batch} is visible. Mend the code or the record and start again: it goes on \
             from the last committed batch"
        )));
    }
}

/// The text of a panic, as far as it has one.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)")
}
