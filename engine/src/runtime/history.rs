//! The reports of the last batches: made at their commit, and completed when sinks have confirmed
//! their output and their changes are folded.
//!
//! Each change of a report has a number, so that a follower receives what has changed since, and
//! nothing twice.

use crate::batch::report::{BatchReport, Publication, Retry};
use crate::clock::{micros, now_ms};
use crate::ids::GenerationNumber;
use crate::runtime::Runtime;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use tidemill_state::{Error, Txid};

/// The most recent batches that are kept for reports, and how many ranges of partitions they have
/// in all: there may be a thousand in each.
const BATCHES_KEPT: usize = 10_000;
const RANGES_KEPT: usize = 200_000;

/// The most failures that are told of one batch.
const RETRIES_TOLD: usize = 8;

struct Kept {
    report: BatchReport,
    committed: Instant,
    /// The number of its last change.
    changed: u64,
}

/// The batches that were on their way when a generation failed, and why it did.
struct Failure {
    first: Txid,
    last: Txid,
    retry: Retry,
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Batches {
    /// One after the other, without a gap.
    kept: VecDeque<Kept>,
    ranges: usize,
    /// True if there were more.
    forgotten: bool,
    changes: u64,
    failures: Vec<Failure>,
}

impl Batches {
    /// Those whose reports have changed after change `after`, newest first.
    fn changed(&self, after: u64) -> impl Iterator<Item = &BatchReport> {
        self.kept.iter().rev().filter(move |kept| kept.changed > after).map(|kept| &kept.report)
    }

    /// Takes the report of the batch that was committed just now.
    pub(super) fn push(&mut self, mut report: BatchReport) {
        let txid = report.txid;
        let failures =
            self.failures.iter().filter(|failure| (failure.first..=failure.last).contains(&txid));
        report.retries = failures.map(|failure| failure.retry.clone()).collect();
        self.failures.retain(|failure| failure.last > txid);
        // They have been counted, and are told by the status.
        report.keys = Vec::new();
        self.changes += 1;
        self.ranges += report.ranges.len();
        self.kept.push_back(Kept { report, committed: Instant::now(), changed: self.changes });
        while self.kept.len() > BATCHES_KEPT || self.ranges > RANGES_KEPT && self.kept.len() > 1 {
            self.ranges -= self.kept.pop_front().map_or(0, |kept| kept.report.ranges.len());
            self.forgotten = true;
        }
    }

    fn at(&mut self, txid: Txid) -> Option<&mut Kept> {
        let first = self.kept.front()?.report.txid;
        let index = usize::try_from(txid.0.checked_sub(first.0)?).ok()?;
        self.kept.get_mut(index)
    }

    /// Records that the batches from `first` to `last` were on their way when a generation failed,
    /// and are rebuilt.
    fn failed(&mut self, first: Txid, last: Txid, retry: Retry) {
        // An earlier failure is reported for the batches that both failures have met. Only the last
        // `RETRIES_TOLD` failures are kept.
        self.failures.push(Failure { first, last, retry });
        let extra = self.failures.len().saturating_sub(RETRIES_TOLD);
        self.failures.drain(..extra);
    }

    pub(super) fn published(&mut self, sink: &str, txids: impl Iterator<Item = Txid>) {
        self.changes += 1;
        let changes = self.changes;
        for txid in txids {
            // Those of an earlier run, and those that are no longer kept, have none.
            if let Some(kept) = self.at(txid) {
                kept.report.publish.push(Publication {
                    sink: sink.to_string(),
                    us: micros(kept.committed.elapsed()),
                });
                kept.changed = changes;
            }
        }
    }

    fn folded(&mut self, upto: Txid, took: Duration) {
        self.changes += 1;
        let changes = self.changes;
        if let Some(kept) = self.at(upto) {
            (kept.report.fold_us, kept.changed) = (Some(micros(took)), changes);
        }
    }

    /// The oldest that is kept, if there were others before it in this run.
    pub(super) fn oldest_of_many(&self) -> Option<&BatchReport> {
        self.kept.front().filter(|_| self.forgotten).map(|kept| &kept.report)
    }

    /// The newest first.
    pub(super) fn newest(&self) -> impl Iterator<Item = &BatchReport> {
        self.kept.iter().rev().map(|kept| &kept.report)
    }
}

impl Runtime {
    /// The most recent batches, newest first, at most `limit`.
    #[must_use]
    pub fn batches(&self, limit: usize) -> Vec<BatchReport> {
        self.lock().batches.newest().take(limit).cloned().collect()
    }

    /// The same in brief: without what each worker did, and without ranges.
    #[doc(hidden)]
    pub fn batches_in_brief(&self, limit: usize) -> Vec<BatchReport> {
        self.lock().batches.newest().take(limit).map(in_brief).collect()
    }

    /// The number of the last change of a report.
    #[doc(hidden)]
    pub fn last_change(&self) -> u64 {
        self.lock().batches.changes
    }

    /// Returns the reports that have changed after change `after`: if more than `limit`, the
    /// newest.
    #[doc(hidden)]
    pub fn batches_changed(&self, after: u64, limit: usize) -> Changed {
        let inner = self.lock();
        let mut changed = inner.batches.changed(after);
        let batches = changed.by_ref().take(limit).map(in_brief).collect();
        Changed { batches, left_out: changed.count(), last: inner.batches.changes }
    }

    /// One batch, if it is among those that are kept.
    #[doc(hidden)]
    pub fn batch(&self, txid: Txid) -> Option<BatchReport> {
        self.lock().batches.at(txid).map(|kept| kept.report.clone())
    }

    /// The first and the last batch that are kept.
    #[doc(hidden)]
    pub fn batches_kept(&self) -> Option<(Txid, Txid)> {
        let inner = self.lock();
        let newest = inner.batches.newest().next()?.txid;
        inner.batches.kept.front().map(|oldest| (oldest.report.txid, newest))
    }

    /// Changes up to batch `upto` were folded.
    pub(crate) fn show_folded(&self, upto: Txid, took: Duration) {
        self.timings.folded(took);
        self.lock().batches.folded(upto, took);
    }

    /// Records that a generation has failed, and is followed by another: the batches after the last
    /// committed one, up to `begun`, are rebuilt.
    pub(crate) fn show_retry(&self, begun: Txid, generation: GenerationNumber, error: &Error) {
        let retry = Retry { generation: generation.0, error: error.to_string(), at_ms: now_ms() };
        let first = self.committed().next();
        let mut inner = self.lock();
        inner.last_error = Some(retry.error.clone());
        // Even if none was begun, the next one comes later than it would have.
        inner.batches.failed(first, begun.max(first), retry);
    }
}

/// Reports that have changed.
pub struct Changed {
    /// In brief, newest first.
    pub batches: Vec<BatchReport>,
    /// The number of further reports.
    pub left_out: usize,
    /// The number of the last change.
    pub last: u64,
}

fn in_brief(report: &BatchReport) -> BatchReport {
    let BatchReport { set_aside, publish, retries, .. } = report;
    BatchReport {
        set_aside: set_aside.clone(),
        publish: publish.clone(),
        retries: retries.clone(),
        ranges: Vec::new(),
        workers: Vec::new(),
        keys: Vec::new(),
        ..*report
    }
}

#[cfg(test)]
mod tests {
    use crate::batch::report::RangeReport;
    use crate::runtime::history::*;
    use std::collections::BTreeMap;

    fn report(txid: u64) -> BatchReport {
        BatchReport {
            txid: Txid(txid),
            records: 1,
            bytes: 1,
            changes: 0,
            delta_bytes: 0,
            output_records: 0,
            set_aside: BTreeMap::new(),
            fill_us: 0,
            compute_us: 0,
            commit_us: 0,
            committed_at_ms: 0,
            publish: Vec::new(),
            fold_us: None,
            workers: Vec::new(),
            retries: Vec::new(),
            ranges: Vec::new(),
            keys: Vec::new(),
        }
    }

    fn failure(generation: u64) -> Retry {
        Retry { generation, error: "away".into(), at_ms: 1 }
    }

    fn changed(batches: &Batches, after: u64) -> Vec<u64> {
        batches.changed(after).map(|report| report.txid.0).collect()
    }

    #[test]
    fn who_follows_is_told_of_each_change_once() {
        let mut batches = Batches::default();
        (7..=9).for_each(|txid| batches.push(report(txid)));
        assert_eq!(changed(&batches, 0), [9, 8, 7]);
        let seen = batches.changes;
        assert!(changed(&batches, seen).is_empty());
        // The first of these is of an earlier run, the last is not known.
        batches.published("out", [6, 7, 8, 10].map(Txid).into_iter());
        batches.folded(Txid(8), Duration::from_micros(5));
        batches.folded(Txid(3), Duration::from_micros(5));
        assert_eq!(changed(&batches, seen), [8, 7]);
        let publications: Vec<usize> =
            batches.newest().map(|report| report.publish.len()).collect();
        assert_eq!(publications, [0, 1, 1]);
        assert_eq!(
            batches.newest().map(|report| report.fold_us).collect::<Vec<_>>(),
            [None, Some(5), None]
        );
    }

    #[test]
    fn only_the_newest_are_kept() {
        let mut batches = Batches::default();
        (1..=BATCHES_KEPT as u64 + 5).for_each(|txid| batches.push(report(txid)));
        assert_eq!(batches.kept.len(), BATCHES_KEPT);
        assert!(batches.at(Txid(5)).is_none());
        assert_eq!(batches.at(Txid(6)).map(|kept| kept.report.txid), Some(Txid(6)));
        // Of batches that cover many partitions there are fewer.
        let range =
            RangeReport { source: "s".into(), partition: "p".into(), start: 0, end: 1, skipped: 0 };
        let wide =
            |txid| BatchReport { ranges: vec![range.clone(); RANGES_KEPT / 2], ..report(txid) };
        let next = BATCHES_KEPT as u64 + 6;
        (next..next + 3).for_each(|txid| batches.push(wide(txid)));
        assert_eq!((batches.kept.len(), batches.ranges), (2, RANGES_KEPT));
        assert!(batches.at(Txid(next)).is_none() && batches.at(Txid(next + 1)).is_some());
    }

    #[test]
    fn failures_are_told_of_the_batches_that_they_have_met() {
        let mut batches = Batches::default();
        batches.failed(Txid(1), Txid(2), failure(1));
        batches.failed(Txid(1), Txid(1), failure(2));
        (1..=3).for_each(|txid| batches.push(report(txid)));
        let generations = |report: &BatchReport| {
            report.retries.iter().map(|retry| retry.generation).collect::<Vec<_>>()
        };
        assert_eq!(
            batches.newest().map(generations).collect::<Vec<_>>(),
            [vec![], vec![1], vec![1, 2]]
        );
        assert!(batches.failures.is_empty(), "nothing of them is kept");
        (0..100).for_each(|generation| batches.failed(Txid(4), Txid(4), failure(generation)));
        batches.push(report(4));
        assert_eq!(batches.newest().next().map(generations), Some((92..100).collect()));
    }
}
