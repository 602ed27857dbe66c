//! Batch intake: workers that read at once, a committer, and somebody who holds them back, closes
//! batches or stops.
//!
//! - No batch is empty, and none has more records than its maximum.
//! - No worker reads further ahead of the last commit than it may.
//! - Every promise of records ends, and a closed batch is left by every worker.
//! - What was read is committed, also at a stop; then every worker ends.

use crate::batch::BatchLimits;
use crate::batch::intake::{Intake, Turn};
use crate::clock::Clock;
use crate::interleavings::{dawdle, explore, random, thread};
use shuttle::sync::mpsc::{Receiver, Sender, channel};
use shuttle::thread::park;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidemill_state::{Points, Txid};

/// Far enough never to come.
const AN_HOUR: Duration = Duration::from_secs(3600);

/// The intake with a recount of what the batches have. The recount's own steps are not interleaved.
pub(super) struct IntakeModel {
    pub(super) intake: Arc<Intake>,
    workers: usize,
    limits: BatchLimits,
    careful_until: Txid,
    records: Mutex<BTreeMap<Txid, u64>>,
    committed: AtomicU64,
}

impl IntakeModel {
    pub(super) fn new(
        limits: BatchLimits,
        careful_until: Txid,
        workers: usize,
    ) -> Arc<IntakeModel> {
        let intake = Arc::new(Intake::new(limits.clone(), Clock::default(), Txid::NONE, workers));
        intake.careful_until(careful_until);
        let (records, committed) = (Mutex::default(), AtomicU64::new(0));
        Arc::new(IntakeModel { intake, workers, limits, careful_until, records, committed })
    }

    /// Some limits, all of them narrow.
    fn at_random(workers: usize) -> Arc<IntakeModel> {
        let max_bytes = if random(2) == 0 { 1 + random(3) } else { 1 << 30 };
        let max_delay = if random(2) == 0 { Duration::ZERO } else { AN_HOUR };
        let (max_records, max_in_flight) = (1 + random(4), 1 + random(2));
        let limits = BatchLimits { max_records, max_bytes, max_delay, max_in_flight };
        IntakeModel::new(limits, Txid(random(3)), workers)
    }

    fn read(&self, at: Txid, records: u64) {
        *self.records.lock().expect("not poisoned").entry(at).or_default() += records;
        let committed = self.committed.load(SeqCst);
        let most = if at <= self.careful_until { 0 } else { self.limits.max_in_flight };
        assert!(at.0 - 1 - committed <= most, "batch {at} is read after a commit of {committed}");
    }

    /// A batch is complete, and committed.
    pub(super) fn commit(&self, txid: Txid) {
        let records = self.records.lock().expect("not poisoned").get(&txid).copied().unwrap_or(0);
        assert!(records > 0, "batch {txid} is empty");
        let most = self.limits.max_records;
        assert!(records <= most, "batch {txid} has {records} records, of at most {most}");
        assert_eq!(self.committed.swap(txid.0, SeqCst), txid.0 - 1, "batches are in order");
    }

    /// Everything that was read is committed, which is so much.
    pub(super) fn is_at_rest(&self, read: u64) {
        let committed = Txid(self.committed.load(SeqCst));
        let records = self.records.lock().expect("not poisoned").clone();
        assert_eq!(records.values().sum::<u64>(), read, "every record is in a batch");
        assert!(records.keys().eq((1..=committed.0).map(Txid).collect::<Vec<_>>().iter()));
        assert_eq!(self.intake.last_begun(), committed, "nothing is read after the last commit");
        assert!(self.intake.nothing_in_flight(), "a promise has not ended");
        assert!(self.intake.is_finished(committed.next()));
    }
}

/// A worker's loop around the intake (`run/worker.rs`), with a source of so many records. Reports
/// each batch that it leaves, and that it has looked at its source. Returns the number of records
/// read.
pub(super) fn work(
    counted: &IntakeModel,
    worker: usize,
    source: u64,
    left: &Sender<(usize, Txid)>,
    looked: &Sender<()>,
) -> u64 {
    let (intake, points) = (&counted.intake, Points::none());
    intake.wake_me();
    let (mut at, mut read, mut wait) = (Txid(1), 0, Some(Duration::ZERO));
    while !intake.is_finished(at) {
        let idle = match intake.turn(at, &points).expect("no point is armed") {
            Turn::Advance(next) => {
                left.send((worker, Txid(next.0 - 1))).expect("the committer runs");
                at = next;
                Some(Duration::ZERO)
            }
            Turn::Read { records: promised, .. } => {
                // Now and then a source has nothing yet.
                let records = promised.min(source - read).min(random(4));
                read += records;
                if records > 0 {
                    counted.read(at, records);
                    intake.set_ended(worker, false);
                    intake.given(at, promised, records, records, &points).expect("not armed");
                    Some(Duration::ZERO)
                } else {
                    intake.given(at, promised, 0, 0, &points).expect("not armed");
                    intake.set_ended(worker, read == source);
                    let _ = looked.send(());
                    if read == source { intake.due() } else { Some(Duration::ZERO) }
                }
            }
            Turn::Wait(due) => due,
        };
        if wait != Some(Duration::ZERO) && idle != Some(Duration::ZERO) {
            park();
        }
        wait = idle;
    }
    read
}

/// The committer's loop: calls `commit` with each batch that all workers have left, in order.
pub(super) fn commit_in_order(
    left: &Receiver<(usize, Txid)>,
    workers: usize,
    mut commit: impl FnMut(Txid),
) {
    let (mut upto, mut committed) = (vec![Txid::NONE; workers], Txid::NONE);
    for (worker, txid) in left {
        upto[worker] = txid;
        while upto.iter().all(|upto| *upto > committed) {
            committed = committed.next();
            commit(committed);
        }
    }
}

/// Runs workers over sources of up to so many records, beside `control`. Whatever they have read is
/// committed when they are stopped, which `control` does, or else who sees that all is committed.
fn check(counted: &Arc<IntakeModel>, most: u64, stops: bool, control: fn(&Intake)) {
    let workers = counted.workers;
    let (left, of_workers) = channel();
    let (looked, news) = channel();
    let sources: Vec<u64> = (0..workers).map(|_| random(most + 1)).collect();
    let threads = sources.iter().copied().enumerate().map(|(worker, source)| {
        let (counted, left, looked) = (Arc::clone(counted), left.clone(), looked.clone());
        let name = format!("worker {worker}");
        thread(name, move || work(&counted, worker, source, &left, &looked))
    });
    let threads: Vec<_> = threads.collect();
    drop(left);
    let committer = thread("committer", {
        let counted = Arc::clone(counted);
        move || {
            commit_in_order(&of_workers, workers, |txid| {
                counted.commit(txid);
                counted.intake.committed(txid);
                let _ = looked.send(());
            });
        }
    });
    let intake = Arc::clone(&counted.intake);
    let control = thread("control", move || control(&intake));
    for () in &news {
        if !stops && counted.intake.all_ended_and_committed() {
            counted.intake.stop();
        }
    }
    let read = threads.into_iter().map(|thread| thread.join().expect("a worker ends")).sum();
    committer.join().expect("the committer ends");
    control.join().expect("it ends");
    assert!(stops || read == sources.iter().sum::<u64>(), "everything is read");
    counted.is_at_rest(read);
}

#[test]
fn every_record_is_read_and_committed_in_batches_within_their_limits() {
    explore(|| check(&IntakeModel::at_random(3), 4, false, |_| ()));
}

#[test]
fn workers_that_were_held_back_go_on() {
    explore(|| {
        let workers = 1 + usize::try_from(random(2)).expect("small");
        check(&IntakeModel::at_random(workers), 4, false, hold_back_now_and_then);
    });
}

#[test]
fn the_last_worker_to_end_closes_the_batch_and_needs_nobody_for_it() {
    explore(|| {
        let (max_records, max_bytes, max_in_flight) = (4, 1 << 30, 2);
        let limits = BatchLimits { max_records, max_bytes, max_delay: AN_HOUR, max_in_flight };
        check(&IntakeModel::new(limits, Txid::NONE, 1), 3, false, hold_back_now_and_then);
    });
}

fn hold_back_now_and_then(intake: &Intake) {
    for _ in 0..2 {
        intake.hold(true);
        dawdle();
        intake.hold(false);
        dawdle();
    }
}

#[test]
fn a_stop_commits_what_was_read_and_ends_every_worker() {
    explore(|| {
        check(&IntakeModel::at_random(3), 6, true, |intake| {
            dawdle();
            intake.close_now(&Points::none()).expect("no point is armed");
            intake.hold(random(2) == 0);
            dawdle();
            intake.stop();
        });
    });
}
