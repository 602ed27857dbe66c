//! The latch of a generation: set by its first failure, after which the committer takes nothing more
//! of it.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use tidemill_state::{Error, SinkId, Txid};

/// Set once by the first failure of a generation, before anything of the generation is dropped.
/// From then on the committer takes no delta of it; what it has taken it still commits.
#[derive(Default)]
pub(crate) struct Latch {
    set: AtomicBool,
    error: Mutex<Option<Error>>,
    suspect: Mutex<Option<Suspect>>,
    wake: Mutex<Vec<std::thread::Thread>>,
}

/// A batch in which something failed behind an exchange, and whose policy is to go on without what
/// is to blame.
#[derive(Clone, Debug)]
pub(crate) struct Suspect {
    pub(crate) txid: Txid,
    pub(crate) operator: String,
    pub(crate) message: String,
    /// The sink that takes the letters, if they are not only counted.
    pub(crate) letters: Option<SinkId>,
}

impl Latch {
    /// One that is set.
    pub(crate) fn failed(error: Error) -> Latch {
        let latch = Latch::default();
        latch.fail(error);
        latch
    }

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

    /// Records what may be searched for, before the failure itself. Nothing counts after the first
    /// failure.
    pub(crate) fn suspect(&self, suspect: Suspect) {
        if !self.is_set() {
            self.suspect.lock().expect("no holder of this lock panics").get_or_insert(suspect);
        }
    }

    /// Returns the first failure, if its records may be searched for.
    pub(crate) fn suspected(&self) -> Option<Suspect> {
        self.suspect.lock().expect("no holder of this lock panics").clone()
    }

    pub(crate) fn error(&self) -> Option<Error> {
        self.error.lock().expect("no holder of this lock panics").clone()
    }

    /// Registers this thread to be woken by a failure.
    pub(crate) fn wake_me(&self) {
        self.wake.lock().expect("no holder of this lock panics").push(std::thread::current());
    }
}
