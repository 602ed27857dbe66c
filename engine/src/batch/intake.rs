//! Opening and closing batches: one batch is open at a time, and all workers of the process fill
//! it.
//!
//! The open batch is closed when it holds enough records or bytes, counted over all workers, or
//! when its first record is old enough. Records are reserved under one lock, so that a batch holds
//! exactly its maximum over all workers. Closing is a change of one number and a wake-up: each
//! worker ends its ranges at the last record that it has given to the dataflow, and continues with
//! the next batch. An idle worker holds up nobody. The next batch takes records only while few
//! enough batches are uncommitted and nothing else holds the sources back.

use crate::batch::{BatchLimits, Range};
use crate::clock::Clock;
use crate::sync::{self, AtomicU64, Mutex, MutexGuard, Thread};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};
use tidemill_state::{CrashPoint, Error, Points, Result, Txid};

/// The next step of a worker's reading.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The batch that it is at was closed: end its ranges and go on at this one.
    Advance(Txid),
    /// Read at most so many records and bytes into the open batch; say with [`Intake::given`] how
    /// many there were.
    Read { records: u64, bytes: u64 },
    /// Read nothing; come back when woken, or after this long.
    Wait(Option<Duration>),
}

#[derive(Debug, Default)]
struct Open {
    txid: Txid,
    /// Records given to the dataflow, and promised to workers that are reading just now.
    given: u64,
    promised: u64,
    bytes: u64,
    since: Option<Instant>,
    /// True if a worker was told to wait because everything was promised: it is woken when a
    /// promise comes back.
    refused: bool,
    /// Workers whose sources are all at their end.
    ended: Vec<bool>,
    stopping: bool,
    /// Why the generation ends after the batch in hand, if a source has lost records.
    lost: Option<Error>,
    /// Why no new batch takes records, besides too many in flight: outbox full, disk full.
    held: bool,
    ranges: BTreeMap<Txid, Vec<Range>>,
    opened_at: BTreeMap<Txid, (Instant, Option<Instant>)>,
    /// When a batch's first record was read, by the clock.
    time: BTreeMap<Txid, u64>,
}

impl Open {
    /// Returns the time until the batch is closed by the next turn, if it has records.
    fn due_in(&self, max_delay: Duration) -> Option<Duration> {
        let over = self.stopping || self.ended.iter().all(|ended| *ended);
        let left = |since: Instant| max_delay.saturating_sub(since.elapsed());
        self.since.map(|since| if over { Duration::ZERO } else { left(since) })
    }
}

/// See the module's documentation.
pub(crate) struct Intake {
    limits: BatchLimits,
    clock: Clock,
    open: Mutex<Open>,
    committed: AtomicU64,
    careful_until: AtomicU64,
    wake: Mutex<Vec<Thread>>,
}

/// The most records that a worker reads at once: a slice of its time.
const CHUNK_RECORDS: u64 = 256;
const CHUNK_BYTES: u64 = 64 << 10;

impl Intake {
    /// Batches go on after `after`, filled by `workers` workers.
    pub(crate) fn new(limits: BatchLimits, clock: Clock, after: Txid, workers: usize) -> Intake {
        let open = Open { txid: after.next(), ended: vec![false; workers], ..Open::default() };
        Intake {
            limits,
            clock,
            open: Mutex::new(open),
            committed: AtomicU64::new(after.0),
            careful_until: AtomicU64::new(0),
            wake: Mutex::default(),
        }
    }

    /// Begins after this batch, before any worker takes its turn.
    pub(crate) fn begin_after(&self, after: Txid) {
        self.committed.store(after.0, SeqCst);
        self.lock().txid = after.next();
    }

    /// Up to this batch, none takes records before the one before it is committed.
    pub(crate) fn careful_until(&self, txid: Txid) {
        self.careful_until.store(txid.0, SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().expect("no holder of this lock panics")
    }

    /// The last batch that has records.
    pub(crate) fn last_begun(&self) -> Txid {
        let open = self.lock();
        if open.given > 0 { open.txid } else { Txid(open.txid.0.saturating_sub(1)) }
    }

    /// Registers this thread to be woken when a batch is closed or committed.
    pub(crate) fn wake_me(&self) {
        self.wake.lock().expect("no holder of this lock panics").push(sync::current());
    }

    /// Wakes all workers.
    pub(crate) fn wake_all(&self) {
        let me = sync::current().id();
        for thread in self
            .wake
            .lock()
            .expect("no holder of this lock panics")
            .iter()
            .filter(|thread| thread.id() != me)
        {
            thread.unpark();
        }
    }

    /// Returns the next step of a worker that is at batch `at`.
    pub(crate) fn turn(&self, at: Txid, points: &Points) -> Result<Turn> {
        let mut open = self.lock();
        if open.txid > at {
            return Ok(Turn::Advance(open.txid));
        }
        let due = open.due_in(self.limits.max_delay);
        if due == Some(Duration::ZERO) {
            return self.close(open, points).map(Turn::Advance);
        }
        let most =
            if at.0 <= self.careful_until.load(SeqCst) { 0 } else { self.limits.max_in_flight };
        if open.stopping || open.held || at.0 - 1 - self.committed.load(SeqCst) > most {
            return Ok(Turn::Wait(due));
        }
        let records =
            self.limits.max_records.saturating_sub(open.given + open.promised).min(CHUNK_RECORDS);
        if records == 0 {
            open.refused = true;
            return Ok(Turn::Wait(due));
        }
        open.promised += records;
        Ok(Turn::Read {
            records,
            bytes: self.limits.max_bytes.saturating_sub(open.bytes).clamp(1, CHUNK_BYTES),
        })
    }

    /// Returns the time a worker that has nothing to read may sleep before the open batch is due.
    pub(crate) fn due(&self) -> Option<Duration> {
        self.lock().due_in(self.limits.max_delay)
    }

    /// A worker at batch `at`, that was promised `promised` records, has given so many to the
    /// dataflow.
    pub(crate) fn given(
        &self,
        at: Txid,
        promised: u64,
        records: u64,
        bytes: u64,
        points: &Points,
    ) -> Result<()> {
        let mut open = self.lock();
        if open.txid != at {
            return Ok(());
        }
        open.promised -= promised;
        open.given += records;
        open.bytes += bytes;
        if records > 0 && open.since.is_none() {
            let now = Instant::now();
            open.since = Some(now);
            open.opened_at.insert(at, (now, None));
            let time = self.clock.now_ms();
            open.time.insert(at, time);
            points.reach(CrashPoint::BatchOpened)?;
        }
        if open.given >= self.limits.max_records || open.bytes >= self.limits.max_bytes {
            self.close(open, points)?;
        } else if open.stopping || std::mem::take(&mut open.refused) {
            drop(open);
            self.wake_all();
        }
        Ok(())
    }

    fn close(&self, mut open: MutexGuard<'_, Open>, points: &Points) -> Result<Txid> {
        assert!(open.given > 0, "there are no empty batches");
        let closed = open.txid;
        open.txid = closed.next();
        (open.given, open.promised, open.bytes, open.since, open.refused) = (0, 0, 0, None, false);
        if let Some((_, at)) = open.opened_at.get_mut(&closed) {
            *at = Some(Instant::now());
        }
        let next = open.txid;
        drop(open);
        self.wake_all();
        points.reach(CrashPoint::BatchClosed)?;
        Ok(next)
    }

    /// Closes the open batch if it has records and nobody is reading into it.
    pub(crate) fn close_now(&self, points: &Points) -> Result<()> {
        let open = self.lock();
        if open.given > 0 && open.promised == 0 {
            self.close(open, points).map(|_| ())
        } else {
            Ok(())
        }
    }

    /// Returns whether no record is in a batch that is not committed.
    pub(crate) fn nothing_in_flight(&self) -> bool {
        let open = self.lock();
        open.given == 0 && open.promised == 0 && self.committed.load(SeqCst) + 1 == open.txid.0
    }

    /// A worker has ended its ranges of batch `txid`.
    pub(crate) fn record_ranges(&self, txid: Txid, ranges: &[Range]) {
        self.lock().ranges.entry(txid).or_default().extend_from_slice(ranges);
    }

    /// Batches up to `txid` are committed: there may be room for more.
    pub(crate) fn committed(&self, txid: Txid) {
        self.committed.store(txid.0, SeqCst);
        let mut open = self.lock();
        open.ranges.retain(|of, _| *of > txid);
        open.opened_at.retain(|of, _| *of > txid);
        open.time.retain(|of, _| *of > txid);
        drop(open);
        self.wake_all();
    }

    /// When the first record of a batch was read, and when the batch was closed. For metrics.
    pub(crate) fn times_of(&self, txid: Txid) -> Option<(Instant, Option<Instant>)> {
        self.lock().opened_at.get(&txid).copied()
    }

    /// When the first record of a batch was read, by the clock; of one that is not committed.
    pub(crate) fn time_of(&self, txid: Txid) -> u64 {
        self.lock().time.get(&txid).copied().unwrap_or_else(|| self.clock.now_ms())
    }

    /// Returns the ranges that a batch covers, as far as the workers have reported them.
    pub(crate) fn ranges_of(&self, txid: Txid) -> Vec<Range> {
        self.lock().ranges.get(&txid).cloned().unwrap_or_default()
    }

    /// The ranges of a batch in words, with a comma in front.
    pub(crate) fn describe_ranges(&self, txid: Txid) -> String {
        let open = self.lock();
        let mut text = String::new();
        for range in open.ranges.get(&txid).into_iter().flatten().take(20) {
            let _ = write!(
                text,
                ", source \"{}\" partition \"{}\" [{}, {})",
                range.source_name, range.partition, range.start, range.end.offset
            );
        }
        text
    }

    /// Holds the sources back, or lets them go on.
    pub(crate) fn hold(&self, held: bool) {
        let mut open = self.lock();
        let changed = open.held != held;
        open.held = held;
        drop(open);
        if changed {
            self.wake_all();
        }
    }

    /// A worker's sources are all at their end, or not.
    pub(crate) fn set_ended(&self, worker: usize, ended: bool) {
        let mut open = self.lock();
        let before = std::mem::replace(&mut open.ended[worker], ended);
        drop(open);
        if before != ended {
            self.wake_all();
        }
    }

    /// Returns whether every source is exhausted and every record is in a committed batch.
    pub(crate) fn all_ended_and_committed(&self) -> bool {
        let open = self.lock();
        // A source that has lost records does not count as exhausted.
        let ended = open.lost.is_none() && open.ended.iter().all(|ended| *ended);
        drop(open);
        ended && self.nothing_in_flight()
    }

    /// Returns whether every source is exhausted, and no batch was ever begun.
    pub(crate) fn has_ended_empty(&self) -> bool {
        let open = self.lock();
        open.ended.iter().all(|ended| *ended)
            && open.given == 0
            && open.promised == 0
            && open.opened_at.is_empty()
    }

    /// The batch in hand is finished and no other is begun.
    pub(crate) fn stop(&self) {
        self.lock().stopping = true;
        self.wake_all();
    }

    /// Ends the generation with this error once everything that was read is committed: a source has
    /// lost records, and what was read before them stays good. Only the first error counts.
    pub(crate) fn end_with(&self, lost: Error) {
        self.lock().lost.get_or_insert(lost);
        self.stop();
    }

    /// The error of [`Intake::end_with`].
    pub(crate) fn lost(&self) -> Option<Error> {
        self.lock().lost.clone()
    }

    /// Returns whether it was told to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// Returns whether a worker that is at batch `at` will never be given more to do.
    pub(crate) fn is_finished(&self, at: Txid) -> bool {
        let open = self.lock();
        open.stopping && open.txid == at && open.given == 0 && open.promised == 0
    }
}

#[cfg(test)]
mod tests {
    use crate::batch::intake::*;

    fn intake(max_records: u64, max_in_flight: u64) -> Intake {
        let limits = BatchLimits {
            max_records,
            max_bytes: 1 << 30,
            max_delay: Duration::from_secs(3600),
            max_in_flight,
        };
        Intake::new(limits, Clock::default(), Txid::NONE, 2)
    }

    fn turn(intake: &Intake, at: u64) -> Turn {
        intake.turn(Txid(at), &Points::none()).expect("nothing is armed")
    }

    fn given(intake: &Intake, at: u64, promised: u64, records: u64) {
        intake
            .given(Txid(at), promised, records, records, &Points::none())
            .expect("nothing is armed");
    }

    #[test]
    fn a_batch_holds_exactly_its_maximum_over_all_workers() {
        let intake = intake(300, 9);
        assert_eq!(turn(&intake, 1), Turn::Read { records: 256, bytes: CHUNK_BYTES });
        assert_eq!(turn(&intake, 1), Turn::Read { records: 44, bytes: CHUNK_BYTES });
        assert_eq!(turn(&intake, 1), Turn::Wait(None), "all of the batch is promised");
        given(&intake, 1, 44, 0);
        assert_eq!(turn(&intake, 1), Turn::Read { records: 44, bytes: CHUNK_BYTES });
        given(&intake, 1, 256, 256);
        given(&intake, 1, 44, 44);
        assert_eq!(turn(&intake, 1), Turn::Advance(Txid(2)));
        assert_eq!(turn(&intake, 2), Turn::Read { records: 256, bytes: CHUNK_BYTES });
    }

    #[test]
    fn there_are_no_empty_batches() {
        let mut intake = intake(300, 9);
        intake.limits.max_delay = Duration::ZERO;
        for _ in 0..3 {
            assert!(matches!(turn(&intake, 1), Turn::Read { .. }));
            given(&intake, 1, 256, 0);
        }
        assert!(matches!(turn(&intake, 1), Turn::Read { .. }));
        given(&intake, 1, 256, 1);
        assert_eq!(turn(&intake, 1), Turn::Advance(Txid(2)));
    }

    #[test]
    fn sources_wait_while_too_many_batches_are_uncommitted() {
        let intake = intake(1, 2);
        for txid in 1..=3 {
            assert!(matches!(turn(&intake, txid), Turn::Read { .. }), "batch {txid}");
            given(&intake, txid, 1, 1);
        }
        assert_eq!(turn(&intake, 4), Turn::Wait(None));
        intake.committed(Txid(1));
        assert!(matches!(turn(&intake, 4), Turn::Read { .. }));
    }

    #[test]
    fn the_worker_that_is_the_last_to_end_closes_the_batch_without_a_sleep() {
        let intake = intake(100, 2);
        assert!(matches!(turn(&intake, 1), Turn::Read { .. }));
        given(&intake, 1, 100, 5);
        intake.set_ended(0, true);
        assert!(intake.due().is_some_and(|due| due > Duration::ZERO));
        // Nobody wakes it: it is awake.
        intake.set_ended(1, true);
        assert_eq!(intake.due(), Some(Duration::ZERO));
        assert_eq!(turn(&intake, 1), Turn::Advance(Txid(2)));
        assert_eq!(intake.due(), None);
    }

    #[test]
    fn stopping_finishes_the_batch_in_hand() {
        let intake = intake(100, 2);
        assert!(matches!(turn(&intake, 1), Turn::Read { .. }));
        given(&intake, 1, 100, 5);
        intake.stop();
        assert!(!intake.is_finished(Txid(1)));
        assert_eq!(turn(&intake, 1), Turn::Advance(Txid(2)));
        assert!(intake.is_finished(Txid(2)));
        assert_eq!(turn(&intake, 2), Turn::Wait(None));
    }
}
