//! The conditions that are watched beside the batches: free disk space, new partitions, and the
//! time to fold.

use crate::run::threads::in_background;
use crate::runtime::Runtime;
use std::time::{Duration, Instant};
use tidemill_state::fold::{self, Fold};
use tidemill_state::{Error, Kind, Points, Result, Store};

/// Folds whenever enough committed deltas have gathered, until the run ends. A fold that finds no
/// room, or whose file cannot be written, is put off: the log still has everything.
pub(crate) fn fold_loop(
    store: &Store,
    runtime: &Runtime,
    points: &Points,
    fold_bytes: u64,
    reserve: u64,
) -> Result<()> {
    let mut put_off: Option<PutOff> = None;
    let mut sized: Option<Instant> = None;
    while runtime.outlets.ends().is_none() && !points.stopped() {
        // A start is not slowed down by a fold: the workers load their states first.
        let is_due = runtime.is_ready()
            && is_fold_due(store.unfolded_bytes(), fold_bytes, || {
                runtime.backpressure.is_disk_full()
            });
        if is_due
            && put_off.as_ref().is_none_or(|put_off| put_off.tried.elapsed() >= FOLD_AGAIN_AFTER)
        {
            match fold_once(store, runtime, points, reserve)? {
                FoldOutcome::Folded => {
                    if put_off.take().is_some() {
                        tracing::info!("the log is folded again");
                    }
                }
                FoldOutcome::PutOff(why) => {
                    runtime.note_error(&why);
                    let put_off = put_off.get_or_insert_with(PutOff::now);
                    if put_off.ends_the_run(&why) {
                        return Err(why);
                    }
                    put_off.try_again_later(&why);
                }
            }
        }
        // RocksDB looks at every file for it, under the lock that commits take too.
        if is_due || sized.is_none_or(|sized| sized.elapsed() >= LOOK_EVERY) {
            runtime.set_stored(store.unfolded_bytes(), store.table_bytes());
            sized = Some(Instant::now());
        }
        if put_off.is_some() {
            // It stays due: its time is waited for, and not each commit.
            runtime.sleep_unless_stopped(LOOK_EVERY);
        } else {
            runtime.fold_alarm.wait(LOOK_EVERY);
        }
    }
    Ok(())
}

/// The interval at which the sizes on the disk are asked for, and whether a fold is due that no
/// commit has rung for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The time a fold that was put off waits for the next try.
const FOLD_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// The time folds may fail in a row for another reason than space before they end the run, and how
/// often a fold that is put off is reported.
const FOLDS_MAY_FAIL_FOR: Duration = Duration::from_secs(60);

/// A fold that is put off.
struct PutOff {
    since: Instant,
    tried: Instant,
    reported: Option<Instant>,
}

impl PutOff {
    fn now() -> PutOff {
        let now = Instant::now();
        PutOff { since: now, tried: now, reported: None }
    }

    /// Returns whether the disk fails, and not for want of space, which somebody may free.
    fn ends_the_run(&self, why: &Error) -> bool {
        !is_for_space(why) && self.since.elapsed() >= FOLDS_MAY_FAIL_FOR
    }

    fn try_again_later(&mut self, why: &Error) {
        self.tried = Instant::now();
        if self.reported.is_none_or(|reported| reported.elapsed() >= FOLDS_MAY_FAIL_FOR) {
            tracing::warn!(
                "the log is not folded now, and is tried again every {FOLD_AGAIN_AFTER:?}: {why}"
            );
            self.reported = Some(self.tried);
        }
    }
}

/// Returns whether a fold failed for want of space on the disk.
fn is_for_space(why: &Error) -> bool {
    let why = why.to_string();
    [NO_ROOM, "No space left", "quota exceeded"].iter().any(|text| why.contains(text))
}

/// In the error of a fold that is not tried.
const NO_ROOM: &str = "a fold may need";

/// Returns whether to fold: enough has gathered, or the sources wait for disk space. Then the log
/// may be what takes it, and no more would come.
fn is_fold_due(unfolded: u64, fold_bytes: u64, waits_for_disk: impl FnOnce() -> bool) -> bool {
    unfolded >= fold_bytes || (unfolded > 0 && waits_for_disk())
}

/// The outcome of a fold that was due.
enum FoldOutcome {
    Folded,
    /// It cannot be done now, and is tried again later.
    PutOff(Error),
}

/// Folds what is committed. An error ends the run.
fn fold_once(
    store: &Store,
    runtime: &Runtime,
    points: &Points,
    reserve: u64,
) -> Result<FoldOutcome> {
    match fold::remove_leftovers(store) {
        Err(error) if error.kind() == Kind::TryAgain => return Ok(FoldOutcome::PutOff(error)),
        removed => removed?,
    }
    let (free, needed) = (free_bytes(store), store.room_for_fold());
    // Without a reserve nothing is held back for what the disk may need.
    if reserve > 0 && free < needed {
        return Ok(FoldOutcome::PutOff(Error::try_again(format!(
            "{free} bytes are free for {}, and {NO_ROOM} {needed}. Nothing is lost: free some \
             space",
            store.dir().display()
        ))));
    }
    let began = Instant::now();
    // Only the writing has time. RocksDB takes the file with its writes held up, so that commits
    // wait for this thread.
    let fold = match in_background("fold", || Fold::write(store, points)) {
        // The store is as before. A write of the store that failed, or the crash of a test, ends
        // the run.
        Err(error) if error.kind() == Kind::TryAgain && !points.stopped() => {
            return Ok(FoldOutcome::PutOff(error));
        }
        fold => fold?,
    };
    if let Some(fold) = fold {
        let folded = fold.ingest(points)?;
        runtime.show_folded(folded.upto, began.elapsed());
        tracing::debug!(upto = %folded.upto, keys = folded.keys, log_bytes = folded.log_bytes, took = ?began.elapsed(), "folded");
    }
    Ok(FoldOutcome::Folded)
}

fn free_bytes(store: &Store) -> u64 {
    tidemill_state::store::free_bytes(store.dir()).unwrap_or(u64::MAX)
}

/// Watches the disk until the run ends: below the reserve the sources wait. The reserve is what is
/// set, or what the store itself may need soon if that is more; 0 holds nothing back.
pub(crate) fn disk_loop(store: &Store, runtime: &Runtime, points: &Points, set: u64) {
    let mut low = false;
    while runtime.outlets.ends().is_none() && !points.stopped() {
        let free = free_bytes(store);
        let reserve = if set == 0 { 0 } else { set.max(store.room_needed()) };
        // Some slack on the way back, so that it does not go to and fro.
        let now_low = if low { free < reserve + reserve / 8 } else { free < reserve };
        if now_low != low {
            low = now_low;
            let committed = runtime.committed();
            if low {
                let dir = store.dir().display();
                let why = format!(
                    "disk full ({free} bytes free for {dir}, the reserve is {reserve}): waiting \
                     at committed txid {committed}, nothing lost"
                );
                tracing::warn!("{why}");
                runtime.set_full_disk(Some(why));
            } else {
                tracing::info!("there is disk space again: going on after batch {committed}");
                runtime.set_full_disk(None);
            }
        }
        runtime.sleep_unless_stopped(Duration::from_millis(250));
    }
}

#[cfg(test)]
mod tests {
    use crate::run::housekeeping::*;

    #[test]
    fn every_row_of_when_a_fold_is_due() {
        for (unfolded, fold_bytes, waits, due) in [
            (9, 10, false, false),
            (10, 10, false, true),
            // The sources wait for space that the log may take: nothing more would come.
            (9, 10, true, true),
            (0, 10, true, false),
        ] {
            assert_eq!(
                is_fold_due(unfolded, fold_bytes, || waits),
                due,
                "{unfolded} of {fold_bytes}, {waits}"
            );
        }
    }

    #[test]
    fn folds_that_fail_for_long_end_the_run_unless_space_is_missing() {
        let errors = [
            ("writing fold.sst failed: Input/output error", true),
            ("removing fold.sst failed: Stale file handle", true),
            ("writing fold.sst failed: No space left on device", false),
            ("writing fold.sst failed: Disk quota exceeded", false),
            ("7 bytes are free for s, and a fold may need 9", false),
        ];
        for (why, ends) in errors {
            let why = Error::try_again(why);
            let long_ago =
                Instant::now().checked_sub(FOLDS_MAY_FAIL_FOR).expect("the clock began before");
            assert!(!PutOff::now().ends_the_run(&why), "{why}");
            assert_eq!(
                PutOff { since: long_ago, ..PutOff::now() }.ends_the_run(&why),
                ends,
                "{why}"
            );
        }
    }
}
