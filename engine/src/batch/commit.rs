//! The commit: from the workers' deltas to one write, from top to bottom.
//!
//! One thread per process. The committer collects each worker's part of a batch. When all workers
//! have handed over theirs, and every batch before is committed, the committer makes the one write.
//! Only then does the committer report the commit: to the run, which shows the number and wakes the
//! sinks, to the sources, and to the intake.
//! Batches that became complete while the last write was under way share one write.

use crate::batch::intake::Intake;
use crate::batch::latch::Latch;
use crate::batch::report::{BatchReport, RangeReport, WorkerShare};
use crate::batch::{Range, WorkerDelta};
use crate::clock::micros;
use crate::ids::GenerationNumber;
use crate::source::AnySource;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidemill_state::outbox::{ENTRY_HEADER_BYTES, encode_entry};
use tidemill_state::store::{Committed, Output};
use tidemill_state::{Batch, Points, Position, Result, SinkId, SourceId, Store, Txid};

/// A message to the committer.
pub(crate) enum Message {
    /// A worker has completed a batch.
    Delta(WorkerDelta),
    /// A worker's partitions have moved on without a record (past an aborted transaction of Kafka,
    /// say): written once batch `after` is committed.
    Moved { generation: GenerationNumber, after: Txid, ranges: Vec<Range> },
    /// A generation begins. Whatever an earlier one still sends is dropped. The reply is the number
    /// of the last committed batch: no batch of an earlier generation is committed after it.
    Generation {
        number: GenerationNumber,
        latch: Arc<Latch>,
        intake: Arc<Intake>,
        reply: Sender<Txid>,
    },
    /// A generation has ended without a failure: what is complete is committed, then the reply
    /// comes.
    Finish { reply: Sender<()> },
    /// No more deltas come.
    Stop,
}

/// One write that made batches durable.
pub(crate) struct Commit {
    pub(crate) committed: Committed,
    /// Of each batch, in order.
    pub(crate) reports: Vec<BatchReport>,
    pub(crate) took: Duration,
    /// Of which sink, of which batch, how many bytes.
    pub(crate) outputs: Vec<(SinkId, Txid, usize)>,
}

/// The run around the committer. It is called once something is durable, on the committer's thread.
pub(crate) trait OnCommit: Send + Sync {
    fn committed(&self, commit: Commit);

    /// Partitions have moved on without a record, and every batch before that is committed.
    fn moved_on(&self, ranges: &[Range]);

    /// Partitions, each by its source and its name, have ended for good, and their positions are
    /// removed: the names are free.
    fn retired(&self, partitions: Vec<(String, String)>);
}

pub(crate) struct Committer {
    pub(crate) store: Arc<Store>,
    pub(crate) run: Arc<dyn OnCommit>,
    pub(crate) points: Arc<Points>,
    pub(crate) workers: usize,
    /// The batch of each sink's newest entry, as assembled: the store may not have it yet.
    pub(crate) last_output: BTreeMap<SinkId, Txid>,
    pub(crate) waiting: BTreeMap<Txid, Vec<WorkerDelta>>,
    pub(crate) generation: Option<(GenerationNumber, Arc<Latch>, Arc<Intake>)>,
    /// The ranges that have moved on without a record, each with the batch after which they did.
    pub(crate) moved: Vec<(Txid, Vec<Range>)>,
    /// The program's sources: they are told of what is committed.
    pub(crate) sources: Vec<(SourceId, Arc<dyn AnySource>)>,
}

/// After this long without a commit, confirmations, moved positions and the trimming of the log are
/// written on their own.
const TIDY_AFTER: Duration = Duration::from_secs(1);

/// The number of bytes that go into one write when several batches are complete.
const BYTES_AT_ONCE: usize = 32 << 20;

impl Committer {
    /// Commits until told to stop. An error means that the outcome of a write is unknown: the
    /// process must end.
    pub(crate) fn run(mut self, messages: &Receiver<Message>) -> Result<()> {
        let mut wrote = Instant::now();
        loop {
            match messages.recv_timeout(TIDY_AFTER) {
                Ok(message) => {
                    // What came in meanwhile is taken first: more batches may then be complete.
                    for message in
                        std::iter::once(message).chain(messages.try_iter().collect::<Vec<_>>())
                    {
                        match message {
                            Message::Delta(delta) => self.take(delta),
                            Message::Moved { generation, after, ranges } => {
                                if self.is_current(generation) {
                                    self.moved.push((after, ranges));
                                }
                            }
                            Message::Generation { number, latch, intake, reply } => {
                                self.commit_complete()?;
                                self.move_on()?;
                                // The next generation begins with what the store has recorded.
                                self.tidy()?;
                                self.waiting.clear();
                                self.moved.clear();
                                self.generation = Some((number, latch, intake));
                                let _ = reply.send(self.store.committed().txid());
                            }
                            Message::Finish { reply } => {
                                self.commit_complete()?;
                                self.move_on()?;
                                let _ = reply.send(());
                            }
                            Message::Stop => {
                                self.commit_complete()?;
                                self.move_on()?;
                                return Ok(());
                            }
                        }
                    }
                    if self.commit_complete()? {
                        wrote = Instant::now();
                    }
                    self.move_on()?;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if wrote.elapsed() >= TIDY_AFTER {
                self.store.tidy(&self.points)?;
                self.sources.iter().for_each(|(_, source)| source.committed(&[]));
                wrote = Instant::now();
            }
        }
    }

    fn take(&mut self, delta: WorkerDelta) {
        if self.is_current(delta.generation) {
            self.waiting.entry(delta.txid).or_default().push(delta);
        }
    }

    fn is_current(&self, generation: GenerationNumber) -> bool {
        self.generation
            .as_ref()
            .is_some_and(|(number, latch, _)| *number == generation && !latch.is_set())
    }

    /// Writes what waits for the next commit, unless a test simulates a crash.
    fn tidy(&self) -> Result<()> {
        if self.points.stopped() { Ok(()) } else { self.store.tidy(&self.points) }
    }

    /// Lets the store record where partitions have moved on without a record, once everything
    /// before is committed, and removes the positions of those that have ended for good.
    fn move_on(&mut self) -> Result<()> {
        let committed = self.store.committed().txid();
        let (due, later) =
            std::mem::take(&mut self.moved).into_iter().partition(|(after, _)| *after <= committed);
        self.moved = later;
        let due: Vec<(Txid, Vec<Range>)> = due;
        let ranges: Vec<Range> = due.into_iter().flat_map(|(_, ranges)| ranges).collect();
        if !ranges.is_empty() {
            self.run.moved_on(&ranges);
            let (retired, moved): (Vec<Range>, Vec<Range>) =
                ranges.into_iter().partition(|range| range.retired);
            let positions: Vec<_> =
                moved.into_iter().map(|range| (range.source, range.partition, range.end)).collect();
            self.tell_sources(positions.iter());
            self.store.move_on(positions);
            for range in &retired {
                tracing::info!(
                    source = range.source_name,
                    partition = range.partition,
                    "a partition has ended for good"
                );
            }
            if !retired.is_empty() && !self.points.stopped() {
                self.store
                    .retire(retired.iter().map(|range| (range.source, range.partition.clone())));
                // Durable before the name is free: another partition that takes it must not find
                // the old position.
                self.tidy()?;
                self.run.retired(
                    retired.into_iter().map(|range| (range.source_name, range.partition)).collect(),
                );
            }
        }
        Ok(())
    }

    /// Brings moves up to date with these batches. A move that was reported after batch A, but is
    /// written with a later batch that has read the same partition, must not take its position back:
    /// it then ends where that batch ends.
    fn catch_up(&mut self, batches: &[Batch]) {
        if self.moved.is_empty() {
            return;
        }
        // The last batch of each partition.
        let mut last: HashMap<(SourceId, &str), (Txid, &Position)> = HashMap::new();
        for batch in batches {
            for (source, partition, end) in &batch.positions {
                last.insert((*source, partition.as_str()), (batch.txid, end));
            }
        }
        for (after, ranges) in &mut self.moved {
            for range in ranges {
                let of_range = last.get(&(range.source, range.partition.as_str()));
                if let Some((_, end)) = of_range.filter(|(txid, _)| *txid > *after) {
                    range.end = (*end).clone();
                }
            }
        }
    }

    /// Tells the sources that everything before these positions is committed.
    fn tell_sources<'a>(&self, positions: impl Iterator<Item = &'a (SourceId, String, Position)>) {
        let mut by_source: BTreeMap<SourceId, BTreeMap<&str, &Position>> = BTreeMap::new();
        for (source, partition, position) in positions {
            by_source.entry(*source).or_default().insert(partition, position);
        }
        for (id, source) in &self.sources {
            let positions = by_source.remove(id).into_iter().flatten();
            let positions: Vec<_> = positions
                .map(|(partition, position)| (partition.to_string(), position.clone()))
                .collect();
            if !positions.is_empty() {
                source.committed(&positions);
            }
        }
    }

    /// Commits every batch that is complete and next in order. Returns whether there was one.
    fn commit_complete(&mut self) -> Result<bool> {
        let mut any = false;
        loop {
            let (batches, reports) = self.next_batches();
            let (Some(last), false) =
                (batches.last().map(|batch| batch.txid), self.points.stopped())
            else {
                return Ok(any);
            };
            let began = Instant::now();
            self.catch_up(&batches);
            let committed = self.store.commit(&batches, &self.points)?;
            assert_eq!(committed.txid(), last, "a commit ends with its last batch");
            let took = began.elapsed();
            // By batch: of those that share a write, the last may have no output for a sink.
            let of_batch = |batch: &Batch, output: &Output| {
                (output.sink, batch.txid, output.entry.len() - ENTRY_HEADER_BYTES)
            };
            let outputs = batches
                .iter()
                .flat_map(|batch| batch.outputs.iter().map(move |output| of_batch(batch, output)));
            let outputs = outputs.collect();
            self.run.committed(Commit { committed, reports, took, outputs });
            self.tell_sources(batches.iter().flat_map(|batch| &batch.positions));
            if let Some((_, _, intake)) = &self.generation {
                intake.committed(committed.txid());
            }
            any = true;
        }
    }

    /// Returns the next complete batches, in order, as they are written, and their reports.
    fn next_batches(&mut self) -> (Vec<Batch>, Vec<BatchReport>) {
        let (mut batches, mut reports) = (Vec::new(), Vec::new());
        let (mut next, mut bytes) = (self.store.committed().txid().next(), 0);
        while bytes < BYTES_AT_ONCE
            // Each worker sends one delta for each batch, also an empty one.
            && self.waiting.get(&next).is_some_and(|deltas| deltas.len() == self.workers)
        {
            let deltas = self.waiting.remove(&next).expect("it was found above");
            reports.push(self.report(next, &deltas));
            let batch = self.assemble(next, deltas);
            bytes += batch.deltas.iter().map(|(_, delta)| delta.len()).sum::<usize>();
            batches.push(batch);
            next = next.next();
        }
        (batches, reports)
    }

    fn assemble(&mut self, txid: Txid, mut deltas: Vec<WorkerDelta>) -> Batch {
        deltas.sort_unstable_by_key(|delta| delta.worker);
        let mut payloads: BTreeMap<SinkId, Vec<&[u8]>> = BTreeMap::new();
        for (sink, payload) in deltas
            .iter()
            .flat_map(|delta| &delta.outputs)
            .filter(|(_, payload)| payload.records() > 0)
        {
            payloads.entry(*sink).or_default().push(payload.bytes());
        }
        let mut outputs = Vec::new();
        for (sink, payloads) in payloads {
            let prev = self
                .last_output
                .insert(sink, txid)
                .expect("every sink of the topology was registered");
            outputs.push(Output { sink, prev, entry: encode_entry(prev, payloads.into_iter()) });
        }
        let positions = deltas
            .iter()
            .flat_map(|delta| &delta.ranges)
            .map(|range| (range.source, range.partition.clone(), range.end.clone()));
        let positions = positions.collect();
        // A delta without changes is a byte of format alone: nothing is written for it.
        let deltas = deltas
            .into_iter()
            .filter(|delta| delta.changes > 0)
            .map(|delta| (delta.worker, delta.delta))
            .collect();
        Batch { txid, positions, deltas, outputs }
    }

    fn report(&self, txid: Txid, deltas: &[WorkerDelta]) -> BatchReport {
        let times = self.generation.as_ref().and_then(|(_, _, intake)| intake.times_of(txid));
        let now = Instant::now();
        let (opened, closed) =
            times.map_or((now, now), |(opened, closed)| (opened, closed.unwrap_or(now)));
        let ranges = deltas.iter().flat_map(|delta| &delta.ranges);
        BatchReport {
            txid,
            records: ranges.clone().map(|range| range.records).sum(),
            bytes: ranges.clone().map(|range| range.bytes).sum(),
            changes: deltas.iter().map(|delta| delta.changes as u64).sum(),
            delta_bytes: deltas.iter().map(|delta| delta.delta.len() as u64).sum(),
            output_records: deltas
                .iter()
                .flat_map(|delta| &delta.outputs)
                .map(|(_, payload)| payload.records() as u64)
                .sum(),
            set_aside: summed(deltas.iter().flat_map(|delta| &delta.set_aside)),
            fill_us: micros(closed.saturating_duration_since(opened)),
            compute_us: micros(now.saturating_duration_since(closed)),
            // What comes later is filled in by the run.
            commit_us: 0,
            committed_at_ms: 0,
            publish: Vec::new(),
            fold_us: None,
            workers: shares(deltas, closed),
            retries: Vec::new(),
            ranges: ranges
                .map(|range| RangeReport {
                    source: range.source_name.clone(),
                    partition: range.partition.clone(),
                    start: range.start,
                    end: range.end.offset,
                    skipped: range.skipped,
                })
                .collect(),
            keys: deltas.iter().map(|delta| (delta.worker, delta.keys.clone())).collect(),
        }
    }
}

fn summed<'a>(counts: impl Iterator<Item = (&'a String, &'a u64)>) -> BTreeMap<String, u64> {
    counts.fold(BTreeMap::new(), |mut sums, (of, count)| {
        *sums.entry(of.clone()).or_default() += count;
        sums
    })
}

/// Returns the share of each worker in a batch that was closed at `closed`.
fn shares(deltas: &[WorkerDelta], closed: Instant) -> Vec<WorkerShare> {
    let mut shares: Vec<WorkerShare> = deltas
        .iter()
        .map(|delta| WorkerShare {
            worker: delta.worker,
            records: delta.ranges.iter().map(|range| range.records).sum(),
            changes: delta.changes as u64,
            delta_bytes: delta.delta.len() as u64,
            compute_us: micros(delta.completed.saturating_duration_since(closed)),
        })
        .collect();
    shares.sort_unstable_by_key(|share| share.worker);
    shares
}
