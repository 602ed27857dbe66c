//! The status of a run, and what it follows: commits, publications, the disk.

use crate::batch::Range;
use crate::batch::commit::{Commit, OnCommit};
use crate::batch::publish::OnPublish;
use crate::clock::{micros, now_ms};
use crate::ids::StateIndex;
use crate::runtime::Runtime;
use crate::runtime::history::Batches;
use crate::runtime::progress::WorkerReport;
use crate::runtime::reports::{QueriesStatus, StateStatus, Status};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tidemill_state::type_names::readable;
use tidemill_state::{Error, Txid};

/// The status, the queries and the sinks follow a commit.
impl OnCommit for Runtime {
    fn committed(&self, commit: Commit) {
        let Commit { committed, mut reports, took, outputs } = commit;
        let (commit_us, at) = (micros(took), now_ms());
        let mut inner = self.lock();
        for report in &mut reports {
            (report.commit_us, report.committed_at_ms) = (commit_us, at);
            self.timings.committed(report);
            inner.records += report.records;
            for (operator, count) in &report.set_aside {
                *inner.set_aside.entry(operator.clone()).or_default() += count;
            }
            inner.extent.commit(report);
        }
        let delta_bytes = reports.iter().map(|report| report.delta_bytes).sum();
        reports.into_iter().for_each(|report| inner.batches.push(report));
        inner.first_commit.get_or_insert_with(|| self.facts.started.elapsed());
        self.hub.pins.advance(committed.txid());
        self.outlets.add(outputs);
        if self.backpressure.commit(delta_bytes, self.outlets.backlog_bytes())
            >= self.facts.fold_bytes
        {
            self.fold_alarm.ring();
        }
        drop(inner);
        self.shown.send_replace(());
    }

    fn moved_on(&self, ranges: &[Range]) {
        let mut inner = self.lock();
        for range in ranges {
            inner.extent.cover(
                &range.source_name,
                &range.partition,
                range.end.offset,
                range.skipped,
            );
        }
        drop(inner);
        self.shown.send_replace(());
    }

    fn retired(&self, partitions: Vec<(String, String)>) {
        let mut inner = self.lock();
        for (source, partition) in partitions {
            inner.extent.forget(&source, &partition);
            inner.retired.push((source, partition));
        }
    }
}

impl OnPublish for Runtime {
    fn committed(&self) -> Txid {
        Runtime::committed(self)
    }

    fn published(&self, sink: &str, took: Duration) {
        self.timings.published(sink, took);
    }

    fn confirmed(&self, sink: &str, batches: &mut dyn Iterator<Item = Txid>) {
        let mut inner = self.lock();
        inner.batches.published(sink, batches);
        self.backpressure.set_backlog(self.outlets.backlog_bytes());
    }

    fn failed(&self, error: &Error) {
        self.note_error(error);
    }

    fn pause(&self, how_long: Duration) {
        self.sleep_unless_stopped(how_long);
    }
}

impl Runtime {
    /// The disk has too little space, for this reason; or enough. The sources wait meanwhile.
    pub(crate) fn set_full_disk(&self, why: Option<String>) {
        if why.is_some() {
            // A fold gives room back.
            self.fold_alarm.ring();
        }
        self.backpressure.set_full_disk(why);
    }

    /// Returns the number of bytes of changes that are not folded, and how many the store's tables
    /// have.
    pub(crate) fn set_stored(&self, unfolded: u64, tables: u64) {
        self.lock().store_bytes = tables;
        self.backpressure.set_unfolded(unfolded);
    }

    /// Sets the notices of a source, and logs those that are new.
    pub(crate) fn set_notices(&self, source: &str, notices: Vec<String>) {
        let mut inner = self.lock();
        let before = inner.notices.get(source).map_or(&[][..], Vec::as_slice);
        let notices: Vec<String> =
            notices.into_iter().map(|notice| format!("source \"{source}\": {notice}")).collect();
        for notice in notices.iter().filter(|notice| !before.contains(notice)) {
            tracing::warn!("{notice}");
        }
        inner.notices.insert(source.to_string(), notices);
    }

    /// Returns the status of the run.
    #[must_use]
    pub fn status(&self) -> Status {
        let inner = self.lock();
        let told = inner.workers.iter().flat_map(WorkerReport::partitions);
        let read = told.map(|told| inner.extent.as_committed(told));
        let partitions = read.chain(inner.left_out.partitions()).collect();
        let states = self.facts.codecs.iter().enumerate().map(|(index, codec)| {
            let decl = codec.decl();
            StateStatus {
                name: decl.name,
                key: readable(&decl.key),
                value: readable(&decl.value),
                keys: inner.extent.keys(StateIndex(index)),
            }
        });
        let (batches_per_s, records_per_s) =
            rates(&inner.batches, now_ms().saturating_sub(self.started_at_ms));
        Status {
            topology: self.facts.topology.clone(),
            phase: if inner.phase == "running" && self.backpressure.is_paused() {
                "paused"
            } else {
                inner.phase
            },
            controls: self.controls.load(SeqCst),
            committed: self.committed(),
            lineage: self.facts.lineage.to_string(),
            incarnation: self.facts.incarnation.to_string(),
            workers: self.facts.workers,
            started_at_ms: self.started_at_ms,
            records: inner.records,
            set_aside: inner.set_aside.clone(),
            records_per_s,
            batches_per_s,
            sources_at_end: inner
                .intake
                .as_ref()
                .is_some_and(|intake| intake.all_ended_and_committed()),
            waiting: self.backpressure.reason(),
            notices: inner.notices.values().flatten().cloned().collect(),
            partitions,
            states: states.collect(),
            sinks: self.outlets.statuses(),
            unfolded_bytes: self.backpressure.unfolded_bytes(),
            store_bytes: inner.store_bytes,
            longest_slice_us: micros(inner.longest_slice),
            queries: QueriesStatus {
                requests: self.hub.outstanding.load(SeqCst),
                kept_bytes: self.hub.pins.kept_bytes(),
                cancelled: self.hub.pins.cancelled(),
                held_up_by: self.held_up_by(),
            },
            generations: inner.generations,
            last_error: inner.last_error.clone(),
        }
    }
}

/// Batches and records per second over the last ten seconds, of a run that is so old.
fn rates(batches: &Batches, age_ms: u64) -> (f64, f64) {
    const OVER_MS: u64 = 10_000;
    let since = now_ms().saturating_sub(OVER_MS);
    let recent = batches.newest().take_while(|batch| batch.committed_at_ms >= since);
    let (count, records) =
        recent.fold((0u64, 0u64), |(count, records), batch| (count + 1, records + batch.records));
    // Not all of them may be kept: then those that are there have come since the first of them.
    let kept_ms = batches
        .oldest_of_many()
        .map_or(OVER_MS, |oldest| now_ms().saturating_sub(oldest.committed_at_ms));
    let seconds = age_ms.min(kept_ms).clamp(1000, OVER_MS) as f64 / 1000.0;
    (count as f64 / seconds, records as f64 / seconds)
}
