//! The turns of a source's partitions on one worker: those that may have something are read in
//! turn, idle ones rest until they are due or woken.

use crossbeam_channel::{Receiver, Sender};
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// When a partition is read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// As soon as the others that are ready have had their turn.
    Ready,
    /// At this time, or when it is woken.
    Idle(Instant),
    /// Never.
    Over,
}

/// The number of chunks one partition gives before another has its turn: many small files are then
/// read, and closed, one after the other.
const CHUNKS_IN_A_ROW: u32 = 16;

/// The turns of partitions, each known by the number of its slot. A turn costs nothing for those
/// that rest.
pub(crate) struct Turns {
    slots: Vec<Slot>,
    ready: VecDeque<usize>,
    /// The number of chunks the first of the ready ones has given in a row.
    in_a_row: u32,
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    /// The number of idle ones.
    idle: usize,
    /// Idle partitions whose readers wake nobody: they are looked at each time.
    polled: BTreeSet<usize>,
    rings: (Sender<usize>, Receiver<usize>),
}

struct Slot {
    turn: Turn,
    /// The earliest time at which it is in `due`.
    queued: Option<Instant>,
    bell: Arc<Bell>,
    rings: bool,
}

/// Wakes one partition and the worker that reads it.
struct Bell {
    slot: usize,
    rung: AtomicBool,
    rings: Sender<usize>,
    worker: Thread,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, SeqCst) {
            // Without a receiver nothing is read any more.
            let _ = self.rings.send(self.slot);
            self.worker.unpark();
        }
    }
}

impl Turns {
    pub(crate) fn new() -> Turns {
        let (ready, due, rings) =
            (VecDeque::new(), BinaryHeap::new(), crossbeam_channel::unbounded());
        Turns {
            slots: Vec::new(),
            ready,
            in_a_row: 0,
            due,
            idle: 0,
            polled: BTreeSet::new(),
            rings,
        }
    }

    /// Adds a partition in `slot`, which is new or over, read by this thread. Returns its waker.
    pub(crate) fn add(&mut self, slot: usize) -> Waker {
        let (rings, worker) = (self.rings.0.clone(), std::thread::current());
        let bell = Arc::new(Bell { slot, rung: AtomicBool::new(false), rings, worker });
        let added = Slot { turn: Turn::Ready, queued: None, bell: Arc::clone(&bell), rings: false };
        if slot == self.slots.len() {
            self.slots.push(added);
        } else {
            assert_eq!(
                self.slots[slot].turn,
                Turn::Over,
                "a slot is used again after its partition is over"
            );
            self.slots[slot] = added;
        }
        self.ready.push_back(slot);
        Waker::from(bell)
    }

    /// Notes whether the partition's reader wakes it.
    pub(crate) fn rings(&mut self, slot: usize, rings: bool) {
        self.slots[slot].rings = rings;
    }

    /// Makes those ready that are due or woken. `is_woken` is called for the idle ones whose
    /// readers wake nobody.
    pub(crate) fn wake(&mut self, now: Instant, is_woken: impl Fn(usize) -> bool) {
        while let Some(Reverse((when, slot))) =
            self.due.peek().copied().filter(|Reverse((when, _))| *when <= now)
        {
            self.due.pop();
            if self.slots[slot].queued == Some(when) {
                self.slots[slot].queued = None;
                match self.slots[slot].turn {
                    Turn::Idle(until) if until <= now => self.make_ready(slot),
                    // It was put off since.
                    Turn::Idle(until) => self.queue(slot, until),
                    Turn::Ready | Turn::Over => {}
                }
            }
        }
        while let Ok(slot) = self.rings.1.try_recv() {
            self.slots[slot].bell.rung.store(false, SeqCst);
            if matches!(self.slots[slot].turn, Turn::Idle(_)) {
                self.make_ready(slot);
            }
        }
        let woken: Vec<usize> =
            self.polled.iter().copied().filter(|slot| is_woken(*slot)).collect();
        woken.into_iter().for_each(|slot| self.make_ready(slot));
    }

    /// The partition whose turn it is.
    pub(crate) fn first(&self) -> Option<usize> {
        self.ready.front().copied()
    }

    /// Notes when the first one, which was read, is read next.
    pub(crate) fn note(&mut self, turn: Turn) {
        let Some(slot) = self.ready.front().copied() else { return };
        self.in_a_row += 1;
        if turn == Turn::Ready && self.in_a_row < CHUNKS_IN_A_ROW {
            return;
        }
        self.ready.pop_front();
        self.in_a_row = 0;
        self.slots[slot].turn = turn;
        match turn {
            Turn::Ready => self.ready.push_back(slot),
            Turn::Idle(until) => {
                self.idle += 1;
                if self.slots[slot].queued.is_none_or(|queued| queued > until) {
                    self.queue(slot, until);
                }
                if !self.slots[slot].rings {
                    self.polled.insert(slot);
                }
            }
            Turn::Over => {}
        }
    }

    /// When this one is read next.
    pub(crate) fn of(&self, slot: usize) -> Turn {
        self.slots[slot].turn
    }

    /// Returns the time until a reader is to be read; `None` for never.
    pub(crate) fn wait(&self, now: Instant, is_woken: impl Fn(usize) -> bool) -> Option<Duration> {
        if !self.ready.is_empty()
            || !self.rings.1.is_empty()
            || self.polled.iter().any(|slot| is_woken(*slot))
        {
            return Some(Duration::ZERO);
        }
        // Of one that was woken meanwhile and is over an entry may be left.
        let due = self.due.peek().filter(|_| self.idle > 0);
        due.map(|Reverse((when, _))| when.saturating_duration_since(now))
    }

    fn queue(&mut self, slot: usize, until: Instant) {
        self.slots[slot].queued = Some(until);
        self.due.push(Reverse((until, slot)));
    }

    fn make_ready(&mut self, slot: usize) {
        self.idle -= 1;
        self.polled.remove(&slot);
        self.slots[slot].turn = Turn::Ready;
        self.ready.push_back(slot);
    }
}

#[cfg(test)]
mod tests {
    use crate::batch::turns::*;

    fn turns(partitions: usize) -> (Turns, Vec<Waker>) {
        let mut turns = Turns::new();
        let wakers = (0..partitions).map(|slot| turns.add(slot)).collect();
        (turns, wakers)
    }

    #[test]
    fn ready_partitions_take_turns_and_idle_ones_rest() {
        let (mut turns, _) = turns(3);
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        for _ in 1..CHUNKS_IN_A_ROW {
            turns.note(Turn::Ready);
            assert_eq!(turns.first(), Some(0), "it goes on for a while");
        }
        turns.note(Turn::Ready);
        assert_eq!(turns.first(), Some(1));
        turns.note(Turn::Idle(later));
        assert_eq!(turns.first(), Some(2));
        turns.note(Turn::Over);
        assert_eq!((turns.first(), turns.wait(now, |_| false)), (Some(0), Some(Duration::ZERO)));
        turns.note(Turn::Idle(later + Duration::from_secs(1)));
        turns.wake(now, |_| false);
        assert_eq!(
            (turns.first(), turns.wait(now, |_| false)),
            (None, Some(Duration::from_secs(1)))
        );
        turns.wake(later, |_| false);
        assert_eq!(turns.first(), Some(1));
        turns.note(Turn::Over);
        turns.wake(later, |slot| slot == 0);
        assert_eq!(turns.first(), Some(0), "its reader has something");
        turns.note(Turn::Over);
        assert_eq!(
            (turns.wait(later, |_| true), turns.due.len()),
            (None, 1),
            "all are over, whatever is left of when they were due"
        );
    }

    #[test]
    fn a_waker_wakes_its_partition_once_and_before_its_time() {
        let (mut turns, wakers) = turns(2);
        let now = Instant::now();
        let far = now + Duration::from_secs(3600);
        (0..2).for_each(|slot| turns.rings(slot, true));
        turns.note(Turn::Idle(far));
        turns.note(Turn::Idle(far));
        turns.wake(now, |_| panic!("a reader that wakes is not asked"));
        assert_eq!(turns.first(), None);
        wakers[1].wake_by_ref();
        wakers[1].wake_by_ref();
        assert_eq!(turns.wait(now, |_| false), Some(Duration::ZERO));
        turns.wake(now, |_| false);
        assert_eq!((turns.first(), turns.ready.len()), (Some(1), 1));
        // What comes while it is read is not lost.
        wakers[1].wake_by_ref();
        turns.note(Turn::Idle(far));
        turns.wake(now, |_| false);
        assert_eq!(turns.first(), Some(1));
        turns.note(Turn::Over);
        wakers[1].wake_by_ref();
        turns.wake(now, |_| false);
        assert_eq!(
            (turns.first(), turns.due.len()),
            (None, 2),
            "one entry for each, however often it rested"
        );
    }
}
