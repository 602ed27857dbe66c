//! The user's closure that each worker runs just now, and since when: a single call of a closure
//! cannot be interrupted, but one that does not return can be named.

use crate::plan::NodeId;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// The time an operator of a query may be at it before it is named.
const NAMED_AFTER: Duration = Duration::from_secs(1);

/// See the module's documentation. One for a run.
pub(crate) struct Watchdog {
    began: Instant,
    /// By worker: the operator's number plus one, and since when, in microseconds; zero when in
    /// none.
    workers: Vec<Entered>,
}

/// A worker's own line of the cache: it writes here for each chunk.
#[derive(Default)]
#[repr(align(128))]
struct Entered(AtomicU64, AtomicU64);

impl Watchdog {
    pub(crate) fn new(workers: usize) -> Watchdog {
        Watchdog {
            began: Instant::now(),
            workers: (0..workers).map(|_| Entered::default()).collect(),
        }
    }

    /// Operators that have been at it for longer than a second, with the worker and for how long.
    pub(crate) fn named(&self) -> Vec<(usize, NodeId, Duration)> {
        self.inside_for(NAMED_AFTER)
    }

    /// Operators that have been at it for at least so long, with the worker and for how long.
    pub(crate) fn inside_for(&self, at_least: Duration) -> Vec<(usize, NodeId, Duration)> {
        let now = self.began.elapsed();
        let workers =
            self.workers.iter().enumerate().filter_map(|(worker, Entered(node, since))| {
                let node = usize::try_from(node.load(Relaxed).checked_sub(1)?).ok()?;
                let busy = now.saturating_sub(Duration::from_micros(since.load(Relaxed)));
                (busy >= at_least).then_some((worker, NodeId(node), busy))
            });
        workers.collect()
    }
}

/// One worker's side of it.
pub(crate) struct WorkerWatch {
    pub(crate) stuck: Arc<Watchdog>,
    pub(crate) worker: usize,
    entered: Cell<u64>,
}

impl WorkerWatch {
    pub(crate) fn new(stuck: Arc<Watchdog>, worker: usize) -> WorkerWatch {
        WorkerWatch { stuck, worker, entered: Cell::new(0) }
    }

    /// Returns the number of times an operator of a query has had something to do here.
    pub(crate) fn entered(&self) -> u64 {
        self.entered.get()
    }

    /// The worker is in this operator of a query until what is returned is dropped.
    pub(crate) fn enter(&self, node: NodeId) -> WatchGuard<'_> {
        self.entered.set(self.entered.get() + 1);
        self.enter_stream(node)
    }

    /// The worker is in this operator of a stream until what is returned is dropped.
    pub(crate) fn enter_stream(&self, node: NodeId) -> WatchGuard<'_> {
        let Entered(at, since) = &self.stuck.workers[self.worker];
        since.store(
            u64::try_from(self.stuck.began.elapsed().as_micros()).unwrap_or(u64::MAX),
            Relaxed,
        );
        at.store(node.0 as u64 + 1, Relaxed);
        WatchGuard(at)
    }
}

/// See [`WorkerWatch::enter`].
pub(crate) struct WatchGuard<'s>(&'s AtomicU64);

impl Drop for WatchGuard<'_> {
    fn drop(&mut self) {
        self.0.store(0, Relaxed);
    }
}
