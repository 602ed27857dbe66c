//! Work in the background: it takes what batches and requests leave of the processors.

use std::cell::Cell;

/// By how much the niceness of a thread in the background is raised: it gets about a third of the
/// time that one that is not gets, when both have work.
const NICENESS: i32 = 5;

/// The number of steps of work that are done between two offers of the processor: some 50 us.
const STEPS: u32 = 512;

/// Lowers the priority of the calling thread (on Linux; elsewhere it may be the whole process's).
/// Where that is not allowed it stays as it was.
pub fn enter() {
    if let Err(why) = rustix::process::nice(NICENESS) {
        tracing::debug!(%why, "work in the background has the priority of everything else");
    }
}

/// Offers the processor to others every now and then. The operating system takes it away only after
/// some milliseconds, which is long for whoever waits for an answer.
#[derive(Default)]
pub(crate) struct Turns(Cell<u32>);

impl Turns {
    /// A step of work is done: about a key's.
    #[inline]
    pub(crate) fn pass(&self) {
        let steps = self.0.get() + 1;
        self.0.set(steps % STEPS);
        if steps == STEPS {
            std::thread::yield_now();
        }
    }
}
