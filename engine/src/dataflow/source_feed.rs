//! One source on one worker: its partitions' readers, and the way into the dataflow.

use crate::batch::Range;
use crate::batch::chunk::{AsBytes, Chunk, Origin, Place, Places, SourceRun};
use crate::batch::feed::{DeadLetterInput, Feed, PartitionProgress};
use crate::batch::turns::{Turn, Turns};
use crate::clock::{A_YEAR, now_ms};
use crate::dataflow::context::Context;
use crate::dataflow::meter::Meter;
use crate::plan::NodeId;
use crate::source::{ReadStatus, Reader, Records, Source, StartFacts};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tidemill_state::{Kind, Position, Result, SourceId, Txid};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::core::input::Handle;

struct Partition<T> {
    name: Rc<str>,
    reader: Box<dyn Reader<T>>,
    /// The start of the batch in hand, and its numbers of records and bytes.
    start: u64,
    records: u64,
    bytes: u64,
    /// The offset at which this generation has begun to read the partition.
    from: u64,
    /// Records skipped since the last range.
    skipped: u64,
    trouble: Option<(String, u64)>,
    /// True if its position is to be removed: see [`ReadStatus::Retired`].
    retired: bool,
}

/// The records that a generation reads of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadExtent {
    Everything,
    /// In a trial: those whose offset is less.
    Before(u64),
    /// In a trial of other partitions.
    Nothing,
}

pub(crate) struct SourceFeed<S: Source> {
    id: SourceId,
    node: NodeId,
    name: Rc<str>,
    source: S,
    input: Handle<u64, CapacityContainerBuilder<Chunk<S::Item>>>,
    context: Rc<Context>,
    meter: Meter,
    letters: Option<DeadLetterInput>,
    /// By slot; none where one has ended for good.
    partitions: Vec<Option<Partition<S::Item>>>,
    turns: Turns,
    /// Partitions that were read since they last had nothing to report: only these can have moved.
    touched: BTreeSet<usize>,
    /// Partitions that were read since their progress was reported, and those that have ended for
    /// good.
    unreported: BTreeSet<usize>,
    /// Partitions whose readers wake nobody: what they report may change without a read.
    unwatched: BTreeSet<usize>,
    /// Partitions with trouble, as last reported.
    troubled: BTreeSet<usize>,
}

/// The time for which readers that have nothing are tried in turn before the worker does something
/// else.
const READS: Duration = Duration::from_micros(150);

impl<S: Source> SourceFeed<S> {
    pub(crate) fn new(
        (id, node): (SourceId, NodeId),
        name: &str,
        source: S,
        input: Handle<u64, CapacityContainerBuilder<Chunk<S::Item>>>,
        context: &Rc<Context>,
    ) -> SourceFeed<S> {
        let (meter, context) = (context.meter(node), Rc::clone(context));
        let (name, letters, partitions, turns) = (name.into(), None, Vec::new(), Turns::new());
        let (touched, unreported, unwatched, troubled) = Default::default();
        SourceFeed {
            id,
            node,
            name,
            source,
            input,
            context,
            meter,
            letters,
            partitions,
            turns,
            touched,
            unreported,
            unwatched,
            troubled,
        }
    }

    fn partition(&self, slot: usize) -> &Partition<S::Item> {
        self.partitions[slot].as_ref().expect("only partitions that are read have turns")
    }

    fn partition_mut(&mut self, slot: usize) -> &mut Partition<S::Item> {
        self.partitions[slot].as_mut().expect("only partitions that are read have turns")
    }

    fn is_woken(&self, slot: usize) -> bool {
        self.partitions[slot].as_ref().is_some_and(|partition| partition.reader.woken())
    }

    fn give(&mut self, at: usize, mut records: Records<S::Item>) {
        if !records.set_aside.is_empty() {
            let (txid, operator) =
                (Txid(*self.input.time()), self.context.plan.borrow().describe(self.node));
            let count = records.set_aside.len() as u64;
            self.context
                .in_batch(txid, |made| *made.set_aside.entry(operator).or_default() += count);
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
        let partition = self.partition(at);
        let places = Places {
            source: (&*self.name).into(),
            partition: (&*partition.name).into(),
            offsets: records.offsets,
        };
        let kept = self
            .context
            .keeps_records
            .get()
            .then(|| Box::new(records.items.clone()) as Box<dyn AsBytes>);
        let run = SourceRun { places: Some(places), records: kept };
        self.input.send_batch(&mut Chunk { items: records.items, origin: Some(Origin::of(run)) });
    }
}

impl<S: Source> SourceFeed<S> {
    /// Lets go of the partitions that have ended for good and of which the batch in hand has
    /// nothing.
    fn take_retired(&mut self) -> Vec<Range> {
        let is_over = |slot: &usize| {
            let partition = self.partitions[*slot].as_ref();
            partition.is_some_and(|partition| partition.retired && partition.records == 0)
        };
        let over: Vec<usize> = self.touched.iter().copied().filter(is_over).collect();
        let mut retired = Vec::with_capacity(over.len());
        for slot in over {
            let partition = self.partitions[slot].take().expect("it is over, and was there");
            for slots in [&mut self.touched, &mut self.unwatched, &mut self.troubled] {
                slots.remove(&slot);
            }
            self.unreported.insert(slot);
            retired.push(Range {
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
        }
        retired
    }

    /// Ends the range of a partition in the batch in hand, or before it.
    fn range(&mut self, slot: usize, end: Position) -> Range {
        let (source, source_name) = (self.id, self.name.to_string());
        self.unreported.insert(slot);
        let partition = self.partition_mut(slot);
        let start = std::mem::replace(&mut partition.start, end.offset);
        Range {
            source,
            source_name,
            partition: partition.name.to_string(),
            start,
            end,
            records: std::mem::take(&mut partition.records),
            bytes: std::mem::take(&mut partition.bytes),
            skipped: std::mem::take(&mut partition.skipped),
            retired: false,
        }
    }

    /// Returns how far a partition is read.
    fn extent(&self, at: usize) -> ReadExtent {
        let Some(trial) = &self.context.shared.trial else { return ReadExtent::Everything };
        let end = trial.end_of(&self.name, &self.partition(at).name);
        end.map_or(ReadExtent::Nothing, ReadExtent::Before)
    }

    /// Takes the records out that are known to make their batch fail, and sets them aside; and in a
    /// trial those that are not tried.
    fn leave_out(&self, at: usize, records: &mut Records<S::Item>) {
        let partition = &self.partition(at).name;
        if let Some(excluded) = self.context.shared.excluded.of_partition(&self.name, partition) {
            for (record, why) in records.take_those(|offset| excluded.get(&offset).cloned()) {
                let place = Place {
                    source: self.name.to_string(),
                    partition: partition.to_string(),
                    offset: record.0,
                };
                let letters = self.context.letters.borrow();
                let letters =
                    why.letters.and_then(|id| letters.iter().find(|letters| letters.id == id));
                let (txid, bytes) = (Txid(*self.input.time()), || vec![record.1].bytes(0));
                let set_aside = self.context.set_aside(
                    txid,
                    letters,
                    why.operator,
                    &why.message,
                    Some(place),
                    bytes,
                );
                if let Err(error) = set_aside {
                    self.context.shared.latch.fail(error);
                }
            }
        }
        if let Some(trial) = &self.context.shared.trial {
            let mut chosen = trial.choose(&self.name, partition, &records.offsets).into_iter();
            records.take_those(|_| if chosen.next() == Some(true) { None } else { Some(()) });
        }
    }

    /// Looks whether these partitions' readers have trouble. The first that has some is logged, and
    /// the end of the last.
    fn note_troubles(&mut self, slots: &BTreeSet<usize>) {
        let before = self.troubled.len();
        for slot in slots {
            let Some(partition) = &mut self.partitions[*slot] else { continue };
            let since = partition.trouble.take().map(|(_, since)| since);
            partition.trouble =
                partition.reader.trouble().map(|why| (why, since.unwrap_or_else(now_ms)));
            match &partition.trouble {
                Some((why, _)) => {
                    if self.troubled.insert(*slot) && before == 0 && self.troubled.len() == 1 {
                        tracing::warn!(
                            source = &*self.name,
                            partition = &*partition.name,
                            why,
                            "nothing can be read; it goes on by itself"
                        );
                    }
                }
                None => drop(self.troubled.remove(slot)),
            }
        }
        if before > 0 && self.troubled.is_empty() {
            tracing::info!(source = &*self.name, "it can be read again");
        }
    }

    /// Reads one chunk of the partition whose turn it is. Returns the numbers of records and bytes,
    /// and whether it had nothing.
    fn read_one(
        &mut self,
        slot: usize,
        began: Instant,
        (max_records, max_bytes): (u64, u64),
    ) -> Result<((u64, u64), bool)> {
        let limit = |limit: u64| usize::try_from(limit).unwrap_or(usize::MAX);
        let extent = self.extent(slot);
        if extent == ReadExtent::Nothing {
            self.turns.note(Turn::Over);
            return Ok(((0, 0), true));
        }
        let mut records = Records::with_limits(limit(max_records), limit(max_bytes));
        let read = self.partition_mut(slot).reader.read(&mut records);
        let read = read.map_err(|error| error.while_doing(&format!("source \"{}\"", self.name)));
        let (status, lost) = match read {
            Ok(status) => (status, None),
            // What was read before the loss is committed: it may be nowhere else any more.
            Err(error)
                if error.kind() == Kind::SourceLost && self.context.shared.trial.is_none() =>
            {
                (ReadStatus::End, Some(error))
            }
            Err(error) => return Err(error),
        };
        let mut turn = match status {
            ReadStatus::More => Turn::Ready,
            ReadStatus::Idle(wait) => Turn::Idle(began + wait.min(A_YEAR)),
            ReadStatus::End | ReadStatus::Retired => Turn::Over,
        };
        let partition = self.partition_mut(slot);
        partition.retired = status == ReadStatus::Retired;
        if let ReadExtent::Before(end) = extent {
            records.cut_at(end);
            if partition.reader.offset() >= end {
                turn = Turn::Over;
            }
        }
        partition.skipped += partition.reader.take_skipped();
        // A dead letter is a record of its batch like any other.
        let taken = records.len() + records.set_aside.len();
        let counts = (taken as u64, records.bytes() as u64);
        (partition.records, partition.bytes) =
            (partition.records + counts.0, partition.bytes + counts.1);
        self.turns.note(turn);
        self.touched.insert(slot);
        self.unreported.insert(slot);
        if counts.0 > 0 {
            self.meter.took(taken);
            self.give(slot, records);
            self.meter.worked(began.elapsed());
        }
        let ends = lost.is_some();
        lost.into_iter().for_each(|lost| self.context.shared.intake.end_with(lost));
        Ok((counts, counts.0 == 0 && !ends && status != ReadStatus::More))
    }
}

impl<S: Source> Feed for SourceFeed<S> {
    fn adopt(&mut self, facts: &StartFacts) {
        self.source.adopt(facts);
    }

    fn assign(&mut self, partition: &str, from: Option<&Position>) -> Result<()> {
        let opened = self.source.open(partition, from);
        let mut reader =
            opened.map_err(|error| error.while_doing(&format!("source \"{}\"", self.name)))?;
        let start = from.map_or(0, |from| from.offset);
        let free = self.partitions.iter().position(Option::is_none);
        let slot = free.unwrap_or(self.partitions.len());
        let rings = reader.wake_with(self.turns.add(slot));
        self.turns.rings(slot, rings);
        let (name, records, bytes, skipped) = (partition.into(), 0, 0, 0);
        let (trouble, retired) = (None, false);
        let added = Partition {
            name,
            reader,
            start,
            records,
            bytes,
            from: start,
            skipped,
            trouble,
            retired,
        };
        match free {
            Some(slot) => self.partitions[slot] = Some(added),
            None => self.partitions.push(Some(added)),
        }
        self.unreported.insert(slot);
        if !rings {
            self.unwatched.insert(slot);
        }
        Ok(())
    }

    fn read(&mut self, max_records: u64, max_bytes: u64) -> Result<(u64, u64)> {
        let began = Instant::now();
        let mut now = began;
        let (turns, partitions) = (&mut self.turns, &self.partitions);
        turns.wake(now, |slot| {
            partitions[slot].as_ref().is_some_and(|partition| partition.reader.woken())
        });
        while let Some(slot) = self.turns.first() {
            let (counts, had_nothing) = self.read_one(slot, now, (max_records, max_bytes))?;
            now = Instant::now();
            if !had_nothing || now - began >= READS {
                return Ok(counts);
            }
        }
        Ok((0, 0))
    }

    fn give_letters_to(&mut self, input: DeadLetterInput) {
        self.letters = Some(input);
    }

    fn moved(&mut self) -> Vec<Range> {
        let mut moved = Vec::new();
        for slot in self.touched.clone() {
            let over = self.turns.of(slot) == Turn::Over;
            let partition = self.partition_mut(slot);
            if partition.records > 0 {
                continue;
            }
            // An exhausted partition is where its last batch left it, but for what was skipped
            // since. Most partitions have not moved: a position is made only of those that have.
            if (partition.skipped > 0 || !over) && partition.reader.offset() != partition.start {
                moved.push((slot, partition.reader.position()));
            }
            if !partition.retired && partition.skipped == 0 {
                self.touched.remove(&slot);
            }
        }
        let mut moved: Vec<Range> =
            moved.into_iter().map(|(slot, end)| self.range(slot, end)).collect();
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
        let mut moved = Vec::new();
        for slot in &self.touched {
            let partition =
                self.partitions[*slot].as_ref().expect("only partitions that are read have turns");
            // A position that moved without a record is reported by `moved`.
            let end = (partition.records > 0 || partition.skipped > 0)
                .then(|| partition.reader.position());
            moved.extend(
                end.filter(|end| partition.records > 0 || end.offset != partition.start)
                    .map(|end| (*slot, end)),
            );
        }
        moved.into_iter().map(|(slot, end)| self.range(slot, end)).collect()
    }

    fn ready_in(&self, now: Instant) -> Option<Duration> {
        self.turns.wait(now, |slot| self.is_woken(slot))
    }

    fn has_news(&self) -> bool {
        !self.unreported.is_empty()
    }

    fn progress(&mut self) -> Vec<(usize, Option<PartitionProgress>)> {
        let mut changed = std::mem::take(&mut self.unreported);
        changed.extend(&self.unwatched);
        self.note_troubles(&changed);
        let progress = |slot: usize| {
            let partition = self.partitions[slot].as_ref()?;
            Some(PartitionProgress {
                source: self.name.to_string(),
                partition: partition.name.to_string(),
                offset: partition.from,
                lag: partition.reader.lag(),
                skipped: 0,
                ended: self.turns.of(slot) == Turn::Over,
                trouble: partition.trouble.as_ref().map(|(why, _)| why.clone()),
                trouble_since_ms: partition.trouble.as_ref().map(|(_, since)| *since),
                reached: if partition.records > 0 {
                    partition.reader.offset()
                } else {
                    partition.start
                },
            })
        };
        changed.into_iter().map(|slot| (slot, progress(slot))).collect()
    }
}
