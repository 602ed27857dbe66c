//! One source on one worker: its partitions' readers, and the way into the dataflow.

use crate::chunk::{AsBytes, Chunk, Origin, Place, Places, Run};
use crate::context::Context;
use crate::plan::NodeId;
use crate::pond::Range;
use crate::source::{DeadLetter, ReadStatus, Reader, Records, Source, StartFacts};
use crate::work::Meter;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tidemill_state::{Kind, Position, Result, SourceId, Txid};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::core::input::Handle;

/// A source without its type, as the worker loop drives it.
pub(crate) trait Feed {
    /// Gives the source the facts of its start: before the first partition is opened.
    fn adopt(&mut self, facts: &StartFacts);

    /// Opens a partition at a position; `None` is its beginning.
    fn assign(&mut self, partition: &str, from: Option<&Position>) -> Result<()>;

    /// Reads one chunk of one partition into the dataflow. Gives the numbers of records and bytes; none if nothing is there now.
    fn read(&mut self, max_records: u64, max_bytes: u64) -> Result<(u64, u64)>;

    /// Where dead letters go.
    fn give_letters_to(&mut self, input: LettersInput);

    /// The partitions that have moved on without a record in the batch in hand, to where their readers are now.
    fn moved(&mut self) -> Vec<Range>;

    /// Ends the ranges of the batch in hand.
    fn ranges(&mut self) -> Vec<Range>;

    /// Ends the ranges of the batch in hand, and goes on at `txid`.
    fn advance_to(&mut self, txid: Txid) -> Vec<Range>;

    /// How long until it is worth reading again; zero for now, `None` for never.
    fn ready_in(&self, now: Instant) -> Option<Duration>;

    /// What each partition's reader says of itself. It is ahead of what is committed: [`crate::extent`] puts it back to that.
    fn progress(&mut self) -> Vec<PartitionProgress>;
}

pub(crate) type LettersInput = Handle<u64, CapacityContainerBuilder<Chunk<DeadLetter>>>;

/// How far a partition is read.
#[derive(Clone, Debug, PartialEq, Eq, schemars::JsonSchema, serde::Serialize)]
pub struct PartitionProgress {
    /// The source's name.
    pub source: String,
    /// The partition's name.
    pub partition: String,
    /// The first offset that no committed batch covers, in the source's own unit.
    pub offset: u64,
    /// How much is known to come from there on, in the same unit.
    pub lag: Option<u64>,
    /// How many records were skipped by policy in this run, before that offset.
    pub skipped: u64,
    /// Whether the partition is at its end.
    pub ended: bool,
    /// Why nothing comes, if something is wrong that passes by itself.
    pub trouble: Option<String>,
    /// Since when, in milliseconds since 1970.
    pub trouble_since_ms: Option<u64>,
    /// The offset from which the reader itself counts what is left.
    #[serde(skip)]
    pub(crate) reached: u64,
}

enum Ready {
    Now,
    At(Instant),
    Never,
}

struct Partition<T> {
    name: Rc<str>,
    reader: Box<dyn Reader<T>>,
    ready: Ready,
    /// Where the batch in hand begins, and how many records and bytes it has.
    start: u64,
    records: u64,
    bytes: u64,
    /// Where this generation has begun to read it.
    from: u64,
    /// Records skipped since the last range.
    skipped: u64,
    trouble: Option<(String, u64)>,
    /// Whether its position is to be removed: see [`ReadStatus::Retired`].
    retired: bool,
}

pub(crate) struct SourceFeed<S: Source> {
    id: SourceId,
    name: Rc<str>,
    node: NodeId,
    source: S,
    input: Handle<u64, CapacityContainerBuilder<Chunk<S::Item>>>,
    context: Rc<Context>,
    meter: Meter,
    letters: Option<LettersInput>,
    partitions: Vec<Partition<S::Item>>,
    /// The partition to read next, and how many chunks it has given in a row.
    at: usize,
    in_a_row: u32,
}

/// How many chunks one partition gives before another has its turn: many small files are then read, and closed, one after the other.
const CHUNKS_IN_A_ROW: u32 = 16;

impl<S: Source> SourceFeed<S> {
    pub(crate) fn new(
        (id, node): (SourceId, NodeId),
        name: &str,
        source: S,
        input: Handle<u64, CapacityContainerBuilder<Chunk<S::Item>>>,
        context: &Rc<Context>,
    ) -> SourceFeed<S> {
        let (meter, context) = (context.meter(node), Rc::clone(context));
        let (name, letters, partitions) = (name.into(), None, Vec::new());
        SourceFeed { id, name, node, source, input, context, meter, letters, partitions, at: 0, in_a_row: 0 }
    }

    fn give(&mut self, at: usize, mut records: Records<S::Item>) {
        if !records.set_aside.is_empty() {
            let (txid, operator) = (Txid(*self.input.time()), self.context.plan.borrow().describe(self.node));
            let count = records.set_aside.len() as u64;
            self.context.in_batch(txid, |made| *made.set_aside.entry(operator).or_default() += count);
        }
        if let Some(letters) = self.letters.as_mut().filter(|_| !records.set_aside.is_empty()) {
            for letter in &mut records.set_aside {
                letter.source = Some(self.name.to_string());
            }
            letters.send_batch(&mut Chunk::of(std::mem::take(&mut records.set_aside)));
        }
        self.leave_out(at, &mut records);
        if records.is_empty() {
            return;
        }
        let partition = &self.partitions[at];
        let places = Places { source: (&*self.name).into(), partition: (&*partition.name).into(), offsets: records.offsets };
        let kept = self.context.keeps_records.get().then(|| Box::new(records.items.clone()) as Box<dyn AsBytes>);
        let run = Run { places: Some(places), records: kept };
        self.input.send_batch(&mut Chunk { items: records.items, origin: Some(Origin::of(run)) });
    }
}

impl<S: Source> SourceFeed<S> {
    /// Lets go of the partitions that have ended for good and of which the batch in hand has nothing.
    fn take_retired(&mut self) -> Vec<Range> {
        let over = self.partitions.extract_if(.., |partition| partition.retired && partition.records == 0);
        let retired = over.map(|partition| Range {
            source: self.id,
            source_name: self.name.to_string(),
            partition: partition.name.to_string(),
            start: partition.start,
            end: partition.reader.position(),
            records: 0,
            bytes: 0,
            skipped: partition.skipped,
            retired: true,
        });
        retired.collect()
    }

    /// In a trial, up to where a partition is read, if it is.
    fn trial_end(&self, at: usize) -> Option<Option<u64>> {
        let trial = self.context.trial.as_ref()?;
        Some(trial.end_of(&self.name, &self.partitions[at].name))
    }

    /// Takes the records out that are known to make their batch fail, and sets them aside; and in a trial those that are not tried.
    fn leave_out(&self, at: usize, records: &mut Records<S::Item>) {
        let partition = &self.partitions[at].name;
        if let Some(excluded) = self.context.excluded.of_partition(&self.name, partition) {
            for (record, why) in records.take_those(|offset| excluded.get(&offset).cloned()) {
                let place = Place { source: self.name.to_string(), partition: partition.to_string(), offset: record.0 };
                let letters = self.context.letters.borrow();
                let letters = why.letters.and_then(|id| letters.iter().find(|letters| letters.id == id));
                let (txid, bytes) = (Txid(*self.input.time()), || vec![record.1].bytes(0));
                let set_aside = self.context.set_aside(txid, letters, why.operator, &why.message, Some(place), bytes);
                if let Err(error) = set_aside {
                    self.context.latch.fail(error);
                }
            }
        }
        if let Some(trial) = &self.context.trial {
            let mut chosen = trial.choose(&self.name, partition, &records.offsets).into_iter();
            records.take_those(|_| if chosen.next() == Some(true) { None } else { Some(()) });
        }
    }

    /// Sees what trouble the readers have. The log is told of the first that has some, and when the last is over.
    fn note_troubles(&mut self) {
        let before = self.partitions.iter().filter(|partition| partition.trouble.is_some()).count();
        for partition in &mut self.partitions {
            let since = partition.trouble.take().map(|(_, since)| since);
            partition.trouble = partition.reader.trouble().map(|why| (why, since.unwrap_or_else(now_ms)));
        }
        let mut troubled = self.partitions.iter().filter_map(|partition| partition.trouble.as_ref().zip(Some(&partition.name)));
        match troubled.next() {
            Some(((why, _), partition)) if before == 0 => {
                tracing::warn!(source = &*self.name, partition = &**partition, why, "nothing can be read; it goes on by itself");
            }
            None if before > 0 => tracing::info!(source = &*self.name, "it can be read again"),
            _ => {}
        }
    }
}

impl<S: Source> Feed for SourceFeed<S> {
    fn adopt(&mut self, facts: &StartFacts) {
        self.source.adopt(facts);
    }

    fn assign(&mut self, partition: &str, from: Option<&Position>) -> Result<()> {
        let reader =
            self.source.open(partition, from).map_err(|error| error.while_doing(&format!("source \"{}\"", self.name)))?;
        let start = from.map_or(0, |from| from.offset);
        self.partitions.push(Partition {
            name: partition.into(),
            reader,
            ready: Ready::Now,
            start,
            records: 0,
            bytes: 0,
            from: start,
            skipped: 0,
            trouble: None,
            retired: false,
        });
        Ok(())
    }

    fn read(&mut self, max_records: u64, max_bytes: u64) -> Result<(u64, u64)> {
        let now = Instant::now();
        for _ in 0..self.partitions.len() {
            let at = self.at % self.partitions.len();
            let partition = &mut self.partitions[at];
            let ready = match partition.ready {
                Ready::Now => true,
                Ready::At(when) => when <= now || partition.reader.woken(),
                Ready::Never => false,
            };
            if ready {
                let limit = |limit: u64| usize::try_from(limit).unwrap_or(usize::MAX);
                let end = self.trial_end(at);
                let partition = &mut self.partitions[at];
                if end == Some(None) {
                    partition.ready = Ready::Never;
                    continue;
                }
                let mut records = Records::with_limits(limit(max_records), limit(max_bytes));
                let read = partition.reader.read(&mut records);
                let read = read.map_err(|error| error.while_doing(&format!("source \"{}\"", self.name)));
                let (status, lost) = match read {
                    Ok(status) => (status, None),
                    // What was read before the loss is committed: it may be nowhere else any more.
                    Err(error) if error.kind() == Kind::SourceLost && self.context.trial.is_none() => {
                        (ReadStatus::End, Some(error))
                    }
                    Err(error) => return Err(error),
                };
                partition.ready = match status {
                    ReadStatus::More => Ready::Now,
                    ReadStatus::Idle(wait) => Ready::At(now + wait),
                    ReadStatus::End | ReadStatus::Retired => Ready::Never,
                };
                partition.retired = status == ReadStatus::Retired;
                if let Some(Some(end)) = end {
                    records.cut_at(end);
                    if partition.reader.offset() >= end {
                        partition.ready = Ready::Never;
                    }
                }
                partition.skipped += partition.reader.take_skipped();
                self.in_a_row += 1;
                // A dead letter is a record of its batch like any other.
                let taken = records.len() + records.set_aside.len();
                let counts = (taken as u64, records.bytes() as u64);
                (partition.records, partition.bytes) = (partition.records + counts.0, partition.bytes + counts.1);
                let over = matches!(partition.ready, Ready::Never);
                if status != ReadStatus::More || over || self.in_a_row >= CHUNKS_IN_A_ROW {
                    (self.at, self.in_a_row) = ((at + 1) % self.partitions.len(), 0);
                }
                if counts.0 > 0 {
                    self.meter.took(taken);
                    self.give(at, records);
                    self.meter.worked(now.elapsed());
                }
                if let Some(lost) = lost {
                    self.context.pond.end_with(lost);
                    return Ok(counts);
                }
                if counts.0 > 0 {
                    return Ok(counts);
                }
                if status == ReadStatus::More {
                    return Ok((0, 0));
                }
            } else {
                (self.at, self.in_a_row) = ((at + 1) % self.partitions.len(), 0);
            }
        }
        Ok((0, 0))
    }

    fn give_letters_to(&mut self, input: LettersInput) {
        self.letters = Some(input);
    }

    fn moved(&mut self) -> Vec<Range> {
        let (id, name) = (self.id, &self.name);
        // One at its end is where its last batch left it, but for what was skipped since.
        let idle = self
            .partitions
            .iter_mut()
            .filter(|partition| partition.records == 0 && (partition.skipped > 0 || !matches!(partition.ready, Ready::Never)));
        let moved = idle.filter_map(|partition| {
            // Most have not moved: a position is made only of those that have.
            let end = (partition.reader.offset() != partition.start).then(|| partition.reader.position())?;
            let (source_name, name) = (name.to_string(), partition.name.to_string());
            let skipped = std::mem::take(&mut partition.skipped);
            let range = Range {
                source: id,
                source_name,
                partition: name,
                start: partition.start,
                end,
                records: 0,
                bytes: 0,
                skipped,
                retired: false,
            };
            partition.start = range.end.offset;
            Some(range)
        });
        let mut moved: Vec<Range> = moved.collect();
        moved.extend(self.take_retired());
        moved
    }

    fn advance_to(&mut self, txid: Txid) -> Vec<Range> {
        self.input.advance_to(txid.0);
        if let Some(letters) = &mut self.letters {
            letters.advance_to(txid.0);
        }
        self.ranges()
    }

    fn ranges(&mut self) -> Vec<Range> {
        let (id, name) = (self.id, &self.name);
        let moved = self.partitions.iter_mut().filter_map(|partition| {
            // A position that moved without a record is told by `moved`.
            let end = if partition.records > 0 || partition.skipped > 0 { Some(partition.reader.position()) } else { None };
            let end = end.filter(|end| partition.records > 0 || end.offset != partition.start)?;
            let range = Range {
                source: id,
                source_name: name.to_string(),
                partition: partition.name.to_string(),
                start: partition.start,
                end,
                records: std::mem::take(&mut partition.records),
                bytes: std::mem::take(&mut partition.bytes),
                skipped: std::mem::take(&mut partition.skipped),
                retired: false,
            };
            partition.start = range.end.offset;
            Some(range)
        });
        moved.collect()
    }

    fn ready_in(&self, now: Instant) -> Option<Duration> {
        let waits = self.partitions.iter().filter_map(|partition| match partition.ready {
            Ready::Now => Some(Duration::ZERO),
            Ready::At(_) if partition.reader.woken() => Some(Duration::ZERO),
            Ready::At(when) => Some(when.saturating_duration_since(now)),
            Ready::Never => None,
        });
        waits.min()
    }

    fn progress(&mut self) -> Vec<PartitionProgress> {
        self.note_troubles();
        let progress = self.partitions.iter().map(|partition| PartitionProgress {
            source: self.name.to_string(),
            partition: partition.name.to_string(),
            offset: partition.from,
            lag: partition.reader.lag(),
            skipped: 0,
            ended: matches!(partition.ready, Ready::Never),
            trouble: partition.trouble.as_ref().map(|(why, _)| why.clone()),
            trouble_since_ms: partition.trouble.as_ref().map(|(_, since)| *since),
            reached: if partition.records > 0 { partition.reader.offset() } else { partition.start },
        });
        progress.collect()
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
