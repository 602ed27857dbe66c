//! Changes that are written together with the next commit: confirmations of sinks, positions that
//! moved without a record, the folded log.

use super::layout::{log_key, outbox_key};
use super::write::{StoreWrite, delete_positions, put_positions};
use super::{Store, family};
use crate::ids::{Position, SinkId, SourceId, WorkerIndex};
use crate::{CrashPoint, Points, Result, Txid};

/// Changes that are written together with the next commit.
#[derive(Default)]
pub(super) struct Housekeeping {
    pub(super) trim_log: Option<Txid>,
    pub(super) confirmed: Vec<(SinkId, Txid)>,
    pub(super) moved: Vec<(SourceId, String, Position)>,
    pub(super) retired: Vec<(SourceId, String)>,
}

impl Housekeeping {
    fn is_empty(&self) -> bool {
        self.trim_log.is_none()
            && self.confirmed.is_empty()
            && self.moved.is_empty()
            && self.retired.is_empty()
    }
}

impl Store {
    /// Puts what waits into a write. Returns whether the log is trimmed by it.
    pub(super) fn add_housekeeping(&self, write: &mut StoreWrite) -> Result<bool> {
        let tidy =
            std::mem::take(&mut *self.housekeeping.lock().expect("no holder of this lock panics"));
        put_positions(write, family(&self.db, "positions"), &tidy.moved)?;
        delete_positions(write, family(&self.db, "positions"), &tidy.retired)?;
        for (sink, txid) in tidy.confirmed {
            write.delete_cf(family(&self.db, "outbox"), outbox_key(sink, txid));
        }
        if let Some(folded) = tidy.trim_log {
            write.delete_range_cf(
                family(&self.db, "log"),
                log_key(Txid::NONE, WorkerIndex(0)),
                log_key(folded.next(), WorkerIndex(0)),
            );
        }
        Ok(tidy.trim_log.is_some())
    }

    /// Lets the next commit record that these partitions have moved on without a record: to the end
    /// of an aborted transaction, say. Everything before such a position must be committed.
    pub fn move_on(&self, positions: impl IntoIterator<Item = (SourceId, String, Position)>) {
        let mut tidy = self.housekeeping.lock().expect("no holder of this lock panics");
        for (source, partition, position) in positions {
            // A new partition may have the name of one that has just ended.
            tidy.retired.retain(|retired| *retired != (source, partition.clone()));
            tidy.moved.push((source, partition, position));
        }
    }

    /// Lets the next commit remove the positions of these partitions: they have ended for good, and
    /// everything read from them is committed.
    pub fn retire(&self, partitions: impl IntoIterator<Item = (SourceId, String)>) {
        let mut tidy = self.housekeeping.lock().expect("no holder of this lock panics");
        for retired in partitions {
            tidy.moved
                .retain(|(source, partition, _)| (*source, partition) != (retired.0, &retired.1));
            tidy.retired.push(retired);
        }
    }

    /// Lets the next commit remove these entries from the outbox: their sink has confirmed them.
    pub fn confirm(&self, sink: SinkId, txids: impl IntoIterator<Item = Txid>) {
        let mut tidy = self.housekeeping.lock().expect("no holder of this lock panics");
        tidy.confirmed.extend(txids.into_iter().map(|txid| (sink, txid)));
    }

    /// Writes the changes that wait for the next commit without one, if there are any. For when no
    /// commit comes, and for a clean stop.
    ///
    /// # Errors
    /// Kind TryAgain if the write failed.
    pub fn tidy(&self, points: &Points) -> Result<()> {
        if self.housekeeping.lock().expect("no holder of this lock panics").is_empty() {
            return Ok(());
        }
        points.reach(CrashPoint::BeforeWrite)?;
        let mut write = StoreWrite::default();
        let trimmed = self.add_housekeeping(&mut write)?;
        self.write_synced(write)?;
        if trimmed { points.reach(CrashPoint::LogTrimmed) } else { Ok(()) }
    }
}
