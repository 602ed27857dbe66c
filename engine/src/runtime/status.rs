//! What runs, as it is told outside.

use crate::batch::report::BatchReport;
use crate::clock::{micros, now_ms};
use crate::runtime::Runtime;
use crate::runtime::history::Batches;
use crate::runtime::progress::WorkerReport;
use crate::runtime::reports::{QueriesStatus, StateStatus, Status};
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};
use tidemill_state::store::Committed;
use tidemill_state::type_names::readable;
use tidemill_state::{SinkId, Txid};

impl Runtime {
    /// Shows a commit to everyone: the number, the reports, and the sinks that have output now.
    pub(crate) fn show_committed(
        &self,
        committed: Committed,
        mut reports: Vec<BatchReport>,
        took: Duration,
        outputs: Vec<(SinkId, Txid, usize)>,
    ) {
        let (commit_us, at) = (micros(took), now_ms());
        let mut inner = self.lock();
        for report in &mut reports {
            (report.commit_us, report.committed_at_ms) = (commit_us, at);
            self.timings.committed(report);
            inner.records += report.records;
            for (operator, count) in &report.set_aside {
                *inner.set_aside.entry(operator.clone()).or_default() += count;
            }
            inner.unfolded_bytes += report.delta_bytes;
            inner.extent.commit(report);
        }
        reports.into_iter().for_each(|report| inner.batches.push(report));
        for (sink, txid, bytes) in outputs {
            for status in inner.sinks.iter_mut().filter(|status| status.id == Some(sink)) {
                status.backlog_bytes += bytes;
                status.last_output = txid;
            }
        }
        inner.first_commit.get_or_insert_with(|| self.facts.started.elapsed());
        self.hub.pins.advance(committed.txid());
        self.apply_hold(&inner);
        if inner.unfolded_bytes >= self.facts.fold_bytes {
            self.fold_alarm.ring();
        }
        self.changed.notify_all();
        drop(inner);
        self.shown.send_replace(());
    }

    /// Sets the notices of a source, and logs those that are new.
    pub(crate) fn set_notices(&self, source: &str, notices: Vec<String>) {
        let mut inner = self.lock();
        let before = inner.notices.get(source).map_or(&[][..], Vec::as_slice);
        let notices: Vec<String> = notices.into_iter().map(|notice| format!("source \"{source}\": {notice}")).collect();
        for notice in notices.iter().filter(|notice| !before.contains(notice)) {
            tracing::warn!("{notice}");
        }
        inner.notices.insert(source.to_string(), notices);
    }

    /// What runs.
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
                keys: inner.extent.keys(index),
            }
        });
        let (batches_per_s, records_per_s) = rates(&inner.batches, now_ms().saturating_sub(self.started_at_ms));
        Status {
            topology: self.facts.topology.clone(),
            phase: if inner.phase == "running" && inner.paused_since_ms.is_some() { "paused" } else { inner.phase },
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
            sources_at_end: inner.intake.as_ref().is_some_and(|intake| intake.all_ended_and_committed()),
            waiting: self.waiting(&inner),
            notices: inner.notices.values().flatten().cloned().collect(),
            partitions,
            states: states.collect(),
            sinks: inner.sinks.iter().map(|sink| sink.as_shown(Instant::now())).collect(),
            unfolded_bytes: inner.unfolded_bytes,
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
    let (count, records) = recent.fold((0u64, 0u64), |(count, records), batch| (count + 1, records + batch.records));
    // Not all of them may be kept: then those that are there have come since the first of them.
    let kept_ms = batches.oldest_of_many().map_or(OVER_MS, |oldest| now_ms().saturating_sub(oldest.committed_at_ms));
    let seconds = age_ms.min(kept_ms).clamp(1000, OVER_MS) as f64 / 1000.0;
    (count as f64 / seconds, records as f64 / seconds)
}
