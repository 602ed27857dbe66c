//! Checks the conformance suites: implementations with one planted mistake each, which the suites
//! must find.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use tidemill_engine::conformance::{damaged_source, sink, source};
use tidemill_engine::sink::{Delivery, Entry, Marker, Outcome, Owner, Prepared, Publisher, Sink};
use tidemill_engine::source::{ReadStatus, Reader, Records, Source};
use tidemill_state::{Error, Position, Result, Txid};

/// What the suite says of a broken implementation.
fn complaint(suite: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(suite)).expect_err("the suite found nothing");
    panic
        .downcast_ref::<String>()
        .cloned()
        .unwrap_or_else(|| panic.downcast_ref::<&str>().expect("panics carry text").to_string())
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum SourceFault {
    None,
    RepeatsAfterRestart,
    SkipsAfterRestart,
    IgnoresLimit,
    Swaps,
    ListsTwice,
    RepeatsARecord,
    LosesTheLast,
    KeepsNoWitness,
}

/// The numbers 0 to 9.
#[derive(Clone, Copy)]
struct Digits(SourceFault);

struct DigitReader(SourceFault, u64);

impl Source for Digits {
    type Item = u64;

    fn kind(&self) -> String {
        "digits".into()
    }

    fn partitions(&self) -> Result<Vec<String>> {
        Ok(vec!["d".into(); if self.0 == SourceFault::ListsTwice { 2 } else { 1 }])
    }

    fn open(&self, _: &str, from: Option<&Position>) -> Result<Box<dyn Reader<u64>>> {
        let at = from.map_or(0, |from| from.offset);
        Ok(Box::new(DigitReader(
            self.0,
            match self.0 {
                SourceFault::RepeatsAfterRestart if at == 6 => 5,
                SourceFault::SkipsAfterRestart if at == 6 => 7,
                _ => at,
            },
        )))
    }
}

impl Reader<u64> for DigitReader {
    fn read(&mut self, into: &mut Records<u64>) -> Result<ReadStatus> {
        let end = if self.0 == SourceFault::LosesTheLast { 9 } else { 10 };
        while self.1 < end && (self.0 == SourceFault::IgnoresLimit || !into.is_full()) {
            let swapped = self.0 == SourceFault::Swaps && self.1 > 7;
            into.push(self.1, 1, if swapped { 17 - self.1 } else { self.1 });
            if self.0 == SourceFault::RepeatsARecord && self.1 == 4 && !into.is_full() {
                into.push(4, 1, 4);
            }
            self.1 += 1;
        }
        Ok(if self.1 < end { ReadStatus::More } else { ReadStatus::End })
    }

    fn position(&self) -> Position {
        Position::at(self.1)
    }
}

#[test]
fn broken_sources_are_found() {
    for (fault, clause) in [
        (SourceFault::RepeatsAfterRestart, "where it was opened"),
        (SourceFault::SkipsAfterRestart, "where it was opened"),
        (SourceFault::IgnoresLimit, "there was room for"),
        (SourceFault::Swaps, "clause 3"),
        (SourceFault::RepeatsARecord, "clause 3"),
        (SourceFault::ListsTwice, "clause 2"),
        (SourceFault::LosesTheLast, "clause 3"),
    ] {
        let said = complaint(|| source(|| Digits(fault), &[("d", (0..10).collect())]));
        assert!(said.contains(clause), "{fault:?}: {said}");
    }
    let said = complaint(|| damaged_source(|| Digits(SourceFault::KeepsNoWitness), "d", 5, || {}));
    assert!(said.contains("clause 4"), "{said}");
    source(|| Digits(SourceFault::None), &[("d", (0..10).collect())]);
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum SinkFault {
    None,
    PublishesTwice,
    LosesARecord,
    PublishesOnDrop,
    KeepsUncommitted,
    NeverMarks,
    NeverFences,
    ClaimLosesOutput,
}

/// A target in memory: what it holds, how much of that is covered by the marker, and the marker.
#[derive(Default)]
struct Target {
    records: Vec<Vec<u8>>,
    covered: usize,
    marker: Option<Marker>,
}

#[derive(Clone)]
struct MemorySink(SinkFault, Arc<Mutex<Target>>);

struct MemoryPublisher(MemorySink, Owner);

struct MemoryPrepared<'a>(&'a MemoryPublisher, Vec<Entry>);

impl MemorySink {
    fn target(&self) -> std::sync::MutexGuard<'_, Target> {
        self.1.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Sink for MemorySink {
    type Item = String;

    fn kind(&self) -> String {
        "memory".into()
    }

    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    fn encode(&self, item: &String, into: &mut Vec<u8>) -> Result<()> {
        into.extend_from_slice(item.as_bytes());
        Ok(())
    }

    fn open(&self, owner: &Owner) -> Result<Box<dyn Publisher>> {
        Ok(Box::new(MemoryPublisher(self.clone(), owner.clone())))
    }
}

impl MemoryPublisher {
    fn check_owner(&self) -> Result<()> {
        let owner = self.0.target().marker.as_ref().map_or(0, |marker| marker.incarnation.counter);
        if owner > self.1.incarnation.counter && self.0.0 != SinkFault::NeverFences {
            return Err(Error::foreign(format!("run {owner} owns it")));
        }
        Ok(())
    }

    fn mark(&self, txid: Txid) {
        let txid = if self.0.0 == SinkFault::NeverMarks { Txid::NONE } else { txid };
        self.0.target().marker = Some(Marker {
            topology: self.1.topology.clone(),
            txid,
            incarnation: self.1.incarnation,
        });
    }
}

impl Publisher for MemoryPublisher {
    fn is_settled(&mut self) -> Result<bool> {
        Ok(true)
    }

    fn marker(&mut self) -> Result<Option<Marker>> {
        Ok(self.0.target().marker.clone())
    }

    fn take_over(&mut self) -> Result<Option<Marker>> {
        self.marker()
    }

    fn claim(&mut self, txid: Txid) -> Result<()> {
        self.check_owner()?;
        let mut target = self.0.target();
        match self.0.0 {
            SinkFault::KeepsUncommitted => target.covered = target.records.len(),
            SinkFault::ClaimLosesOutput if txid > Txid(3) => target.records.clear(),
            _ => {
                let covered = target.covered;
                target.records.truncate(covered);
            }
        }
        drop(target);
        self.mark(txid);
        Ok(())
    }

    fn prepare<'a>(&'a mut self, entries: &[Entry]) -> Result<Box<dyn Prepared + 'a>> {
        self.check_owner()?;
        let mut target = self.0.target();
        let covered = target.covered;
        if self.0.0 != SinkFault::PublishesOnDrop {
            target.records.truncate(covered);
        }
        let times = if self.0.0 == SinkFault::PublishesTwice { 2 } else { 1 };
        let left_out = usize::from(self.0.0 == SinkFault::LosesARecord);
        for record in entries.iter().flat_map(|entry| entry.records().skip(left_out)) {
            for _ in 0..times {
                target.records.push(record.to_vec());
            }
        }
        drop(target);
        Ok(Box::new(MemoryPrepared(self, entries.to_vec())))
    }
}

impl Prepared for MemoryPrepared<'_> {
    fn commit(self: Box<Self>) -> Result<Outcome> {
        self.0.check_owner()?;
        self.0.mark(self.1.last().expect("the suite publishes something").txid);
        let mut target = self.0.0.target();
        target.covered = target.records.len();
        Ok(Outcome::Confirmed)
    }
}

fn check_sink(fault: SinkFault) {
    let memory = MemorySink(fault, Arc::default());
    let items: Vec<String> = (0..8).map(|n| format!("record {n}")).collect();
    sink(|| memory.clone(), &items, || memory.target().records.clone());
}

#[test]
fn broken_sinks_are_found() {
    for (fault, clause) in [
        (SinkFault::PublishesTwice, "clause 3"),
        (SinkFault::LosesARecord, "clause 3"),
        (SinkFault::PublishesOnDrop, "clause 3"),
        (SinkFault::KeepsUncommitted, "clause 4"),
        (SinkFault::NeverMarks, "clause 4"),
        (SinkFault::ClaimLosesOutput, "clause 4"),
        (SinkFault::NeverFences, "clause 5"),
    ] {
        let said = complaint(|| check_sink(fault));
        assert!(said.contains(clause), "{fault:?}: {said}");
    }
    check_sink(SinkFault::None);
}
