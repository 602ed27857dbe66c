//! Back-pressure inside a query: an operator waits while the operators behind it have more to do
//! than they can in a moment. A request that makes much then holds little of it in memory at once.
//!
//! Operators of a query are counted in the order in which they are built, so that what reads comes
//! after what it reads. One waits for those with greater numbers only, and the last never waits:
//! nothing can lock up. What is counted is records, over all workers.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// The number of operators that are counted. Those beyond it never wait, and nobody waits for them.
const OPERATORS: usize = 4096;

/// The number of records that may wait behind an operator before it does: some of the engine's
/// slices.
const MOST: usize = 8192;

/// When an operator that waits looks again.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_micros(100);

/// See the module's documentation. One for a run.
pub(crate) struct Backlog {
    waiting: Box<[AtomicUsize]>,
}

impl Default for Backlog {
    fn default() -> Backlog {
        Backlog { waiting: (0..OPERATORS).map(|_| AtomicUsize::new(0)).collect() }
    }
}

/// The number of items that wait before one operator on this worker. Dropping the depth, with the
/// operator, takes that number back.
pub(crate) struct QueueDepth {
    backlog: Arc<Backlog>,
    operator: usize,
    /// The first operator that is none of its query's, once that is built.
    end: Rc<Cell<usize>>,
    told: usize,
}

impl QueueDepth {
    pub(crate) fn new(
        backlog: &Arc<Backlog>,
        operator: usize,
        end: &Rc<Cell<usize>>,
    ) -> QueueDepth {
        QueueDepth { backlog: Arc::clone(backlog), operator, end: Rc::clone(end), told: 0 }
    }

    /// So many records wait now.
    pub(crate) fn tell(&mut self, waiting: usize) {
        let Some(counted) = self.backlog.waiting.get(self.operator) else { return };
        if waiting > self.told {
            counted.fetch_add(waiting - self.told, Relaxed);
        } else if waiting < self.told {
            counted.fetch_sub(self.told - waiting, Relaxed);
        }
        self.told = waiting;
    }

    /// Returns whether the operators behind this one have more than enough to do.
    pub(crate) fn is_held_up(&self) -> bool {
        let behind = self
            .backlog
            .waiting
            .get(self.operator + 1..self.end.get().min(OPERATORS))
            .unwrap_or_default();
        behind.iter().map(|waiting| waiting.load(Relaxed)).sum::<usize>() > MOST
    }
}

impl Drop for QueueDepth {
    fn drop(&mut self) {
        self.tell(0);
    }
}

#[cfg(test)]
mod tests {
    use crate::request::backlog::*;

    #[test]
    fn one_waits_for_those_behind_it_in_its_own_query_only_and_the_last_for_none() {
        let (backlog, first, second) =
            (Arc::new(Backlog::default()), Rc::new(Cell::new(3)), Rc::new(Cell::new(5)));
        let mut of_first: Vec<QueueDepth> =
            (0..3).map(|operator| QueueDepth::new(&backlog, operator, &first)).collect();
        let mut of_second: Vec<QueueDepth> =
            (3..5).map(|operator| QueueDepth::new(&backlog, operator, &second)).collect();
        let mut elsewhere = QueueDepth::new(&backlog, 2, &first);
        of_first[2].tell(MOST);
        assert!(!of_first[0].is_held_up());
        elsewhere.tell(1);
        assert!(of_first[0].is_held_up() && of_first[1].is_held_up() && !of_first[2].is_held_up());
        of_second[1].tell(MOST + 1);
        drop(elsewhere);
        assert!(
            !of_first[0].is_held_up() && of_second[0].is_held_up() && !of_second[1].is_held_up()
        );
        of_second[1].tell(3);
        assert!(!of_second[0].is_held_up());
    }
}
