//! Pins: which committed batches are being read, so that the old values they need are kept.
//!
//! A pin is taken under the lock that advances the committed number. What each batch overwrote is
//! kept while that batch is uncommitted or a pin before it exists: up to the *floor* it may go. The
//! bytes that are kept are bounded; at the bound the oldest pins are cancelled, because sources
//! never wait for readers. Every read asks its own worker's map whether it still holds the batch,
//! so that a cancelled pin is an error and never a wrong answer.

use crate::sync::{AtomicU64, AtomicUsize, Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use tidemill_state::Txid;

/// See the module's documentation. One for a run.
pub(crate) struct Pins {
    held: Mutex<Held>,
    committed: Arc<AtomicU64>,
    floor: AtomicU64,
    /// Bytes of old values, by worker.
    kept: Vec<AtomicUsize>,
    most_bytes: usize,
    cancelled: AtomicU64,
}

#[derive(Default)]
struct Held {
    pins: BTreeMap<Txid, usize>,
}

impl Pins {
    /// No pins yet. `committed` is the number that everybody is shown; only [`Pins::advance`]
    /// changes it.
    pub(crate) fn new(committed: Arc<AtomicU64>, workers: usize, most_bytes: usize) -> Pins {
        let floor = AtomicU64::new(committed.load(SeqCst));
        let kept = (0..workers).map(|_| AtomicUsize::new(0)).collect();
        Pins {
            held: Mutex::default(),
            committed,
            floor,
            kept,
            most_bytes,
            cancelled: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("no holder of this lock panics")
    }

    fn settle(&self, held: &Held) {
        let committed = self.committed.load(SeqCst);
        let floor =
            held.pins.first_key_value().map_or(committed, |(oldest, _)| oldest.0.min(committed));
        self.floor.store(floor, SeqCst);
    }

    /// Batches up to `txid` are committed, and shown.
    pub(crate) fn advance(&self, txid: Txid) {
        let held = self.lock();
        self.committed.store(txid.0, SeqCst);
        self.settle(&held);
    }

    /// The workers begin anew at the last committed batch: earlier ones are held no longer.
    pub(crate) fn begin_anew(&self) {
        let mut held = self.lock();
        let committed = Txid(self.committed.load(SeqCst));
        held.pins = held.pins.split_off(&committed);
        self.settle(&held);
    }

    /// Pins the last committed batch.
    pub(crate) fn take(&self) -> Txid {
        let mut held = self.lock();
        let at = Txid(self.committed.load(SeqCst));
        *held.pins.entry(at).or_default() += 1;
        self.settle(&held);
        at
    }

    /// Pins a batch that is pinned already. Returns whether it is.
    pub(crate) fn take_again(&self, at: Txid) -> bool {
        let mut held = self.lock();
        let pinned = held.pins.get_mut(&at).map(|pins| *pins += 1).is_some();
        // The last committed batch is held without a pin too.
        if !pinned && at.0 == self.committed.load(SeqCst) {
            held.pins.insert(at, 1);
            self.settle(&held);
            return true;
        }
        pinned
    }

    /// Gives a pin back. One that was cancelled is gone already.
    pub(crate) fn give_back(&self, at: Txid) {
        let mut held = self.lock();
        if let Some(pins) = held.pins.get_mut(&at) {
            *pins -= 1;
            if *pins == 0 {
                held.pins.remove(&at);
                self.settle(&held);
            }
        }
    }

    /// Up to which batch old values may go.
    pub(crate) fn floor(&self) -> Txid {
        Txid(self.floor.load(SeqCst))
    }

    /// A worker keeps so many bytes of old values. Cancels the oldest pin if all keep too many
    /// together.
    pub(crate) fn keep(&self, worker: usize, bytes: usize) {
        let before = self.kept[worker].swap(bytes, SeqCst);
        if bytes <= before || self.kept_bytes() <= self.most_bytes {
            return;
        }
        let mut held = self.lock();
        let committed = self.committed.load(SeqCst);
        if held.pins.first_key_value().is_some_and(|(oldest, _)| oldest.0 < committed)
            && let Some((at, pins)) = held.pins.pop_first()
        {
            self.cancelled.fetch_add(pins as u64, SeqCst);
            self.settle(&held);
            tracing::warn!(
                batch = at.0,
                pins,
                "reads of this batch are cancelled: the values that they need take too much memory"
            );
        }
    }

    /// Bytes of old values that are kept, over all workers.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.kept.iter().map(|kept| kept.load(SeqCst)).sum()
    }

    /// Returns the number of pins that were cancelled.
    pub(crate) fn cancelled(&self) -> u64 {
        self.cancelled.load(SeqCst)
    }

    /// Cancels the oldest pin, as if too many bytes were kept: for tests.
    pub(crate) fn cancel_oldest(&self) {
        let mut held = self.lock();
        if let Some((_, pins)) = held.pins.pop_first() {
            self.cancelled.fetch_add(pins as u64, SeqCst);
            self.settle(&held);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::request::pins::*;

    #[test]
    fn the_floor_is_the_oldest_pin_or_the_last_commit() {
        let pins = Pins::new(Arc::new(AtomicU64::new(4)), 2, 100);
        assert_eq!(pins.floor(), Txid(4));
        assert_eq!((pins.take(), pins.take()), (Txid(4), Txid(4)));
        pins.advance(Txid(6));
        assert_eq!((pins.take(), pins.floor()), (Txid(6), Txid(4)));
        pins.give_back(Txid(4));
        assert_eq!(pins.floor(), Txid(4));
        pins.give_back(Txid(4));
        assert_eq!(pins.floor(), Txid(6));
        assert!(pins.take_again(Txid(6)) && !pins.take_again(Txid(5)));
        pins.advance(Txid(9));
        assert!(pins.take_again(Txid(9)), "it is held without a pin");
        for _ in 0..2 {
            pins.give_back(Txid(6));
        }
        pins.give_back(Txid(9));
        assert_eq!(pins.floor(), Txid(9));
    }

    #[test]
    fn at_the_bound_the_oldest_pin_goes_and_never_the_newest() {
        let pins = Pins::new(Arc::new(AtomicU64::new(1)), 2, 100);
        pins.take();
        pins.advance(Txid(2));
        pins.take();
        pins.advance(Txid(3));
        pins.take();
        pins.keep(0, 60);
        assert_eq!((pins.floor(), pins.cancelled()), (Txid(1), 0));
        pins.keep(1, 60);
        assert_eq!((pins.floor(), pins.cancelled()), (Txid(2), 1));
        pins.keep(1, 70);
        pins.keep(1, 80);
        assert_eq!((pins.floor(), pins.cancelled()), (Txid(3), 2), "that of the last commit stays");
        pins.give_back(Txid(1));
        pins.give_back(Txid(2));
        assert_eq!(pins.floor(), Txid(3));
    }

    #[test]
    fn workers_that_begin_anew_hold_the_last_commit_and_nothing_before() {
        let pins = Pins::new(Arc::new(AtomicU64::new(1)), 2, 100);
        pins.take();
        pins.advance(Txid(2));
        pins.take();
        pins.begin_anew();
        assert_eq!(pins.floor(), Txid(2));
        assert!(!pins.take_again(Txid(1)) && pins.take_again(Txid(2)));
    }
}
