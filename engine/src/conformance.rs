//! The suites that every [`Source`], every [`Sink`], every aggregation and every type of a state
//! runs, also a user's own: the clauses of their contracts that can be checked. They panic, as a
//! test's assertions do, with the clause that is broken and where. Call them from tests:
//!
//! ```
//! # use tidemill_engine::source::{ReadStatus, Reader, Records, Source};
//! # use tidemill_state::{Error, Position, Result};
//! # struct Squares(u64); struct From(u64, u64);
//! # impl Source for Squares {
//! #     type Item = u64;
//! #     fn kind(&self) -> String { "squares".into() } fn partitions(&self) -> Result<Vec<String>> { Ok(vec!["all".into()]) }
//! #     fn open(&self, _: &str, from: Option<&Position>) -> Result<Box<dyn Reader<u64>>> {
//! #         Ok(Box::new(From(from.map_or(0, |from| from.offset), self.0)))
//! #     }
//! # }
//! # impl Reader<u64> for From {
//! #     fn read(&mut self, into: &mut Records<u64>) -> Result<ReadStatus> {
//! #         while self.0 < self.1 && !into.is_full() {
//! #             into.push(self.0, 8, self.0 * self.0);
//! #             self.0 += 1;
//! #         }
//! #         Ok(if self.0 < self.1 { ReadStatus::More } else { ReadStatus::End })
//! #     }
//! #     fn position(&self) -> Position { Position::at(self.0) } }
//! use tidemill_engine::conformance;
//!
//! // Squares(n) is a source of the first n squares, in one partition named "all".
//! conformance::source(|| Squares(5), &[("all", vec![0, 1, 4, 9, 16])]);
//! ```

mod combiner;
mod reducer;
mod round_trip;

pub use combiner::{combiner, combiner_by, combiner_in_order};
pub use reducer::{batch_aggregator, reducer};
pub use round_trip::{key, key_in_order, value};

use crate::sink::{Delivery, Entry, Marker, Outcome, Owner, Publisher, Sink};
use crate::source::{ReadStatus, Reader, Records, Source};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidemill_state::outbox::PayloadWriter;
use tidemill_state::{Error, Incarnation, Kind, Position, Txid};

/// The time the suite waits for a record that is due.
const PATIENCE: Duration = Duration::from_secs(10);

/// At most so many places to restart at, spread over the partition.
const MOST_RESTARTS: usize = 200;

/// Checks clauses 1 to 3 of [`Source`]'s contract: that `make`'s source has exactly the partitions
/// in `expected`, and that each gives exactly the records there, in order, read at once or in
/// pieces, with a restart (a new source and reader) at every place in between.
///
/// The input may not change meanwhile. A source without an end (one that follows) is read until it
/// says that it is idle.
///
/// # Panics
/// When a clause is broken, or a call fails.
pub fn source<S>(make: impl Fn() -> S, expected: &[(impl AsRef<str>, Vec<S::Item>)])
where
    S: Source,
    S::Item: PartialEq + Debug,
{
    assert_eq!(make().kind(), make().kind(), "clause 1: kind() does not change");
    let partitions = make().partitions().expect("partitions() succeeds");
    let mut listed: Vec<&str> = partitions.iter().map(String::as_str).collect();
    let mut wanted: Vec<&str> = expected.iter().map(|(name, _)| name.as_ref()).collect();
    listed.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(listed, wanted, "clause 2: partitions() lists every partition, each once");
    assert_eq!(
        partitions,
        make().partitions().expect("partitions() succeeds"),
        "clause 2: in a stable order"
    );
    for (partition, records) in expected {
        let case = Case { make: &make, partition: partition.as_ref(), records };
        for (max_records, max_bytes) in
            [(usize::MAX, usize::MAX), (1, usize::MAX), (7, usize::MAX), (1_000, 1)]
        {
            case.whole(max_records, max_bytes);
        }
        let step = records.len().div_ceil(MOST_RESTARTS).max(1);
        for cut in (0..=records.len()).step_by(step) {
            case.restart_at(cut);
        }
        for piece in [1.max(step), 3.max(step), 64] {
            case.restart_every(piece);
        }
    }
}

/// Checks clause 4 of [`Source`]'s contract: reads up to `records` records of `partition`, lets
/// `damage` change the input before that position, and expects that a reader opened there fails
/// with kind [`Kind::SourceLost`], at the latest when it is read, without having given anything.
///
/// # Panics
/// When the clause is broken, or a call fails that should not.
pub fn damaged_source<S: Source>(
    make: impl Fn() -> S,
    partition: &str,
    records: usize,
    damage: impl FnOnce(),
) {
    let mut reader = make().open(partition, None).expect("open() succeeds before the damage");
    let mut given = Tape::new();
    take(&mut *reader, records, usize::MAX, &mut given);
    let position = reader.position();
    drop(reader);
    damage();
    let error = first_error(&make(), partition, &position);
    assert_eq!(
        error.kind(),
        Kind::SourceLost,
        "clause 4: a damaged input is SourceLost; the error is: {error}"
    );
    assert!(!error.to_string().is_empty(), "the error says what, where and what to do");
}

/// The error that reading from `position` ends with, before it gives anything.
fn first_error<S: Source>(source: &S, partition: &str, position: &Position) -> Error {
    let mut reader = match source.open(partition, Some(position)) {
        Ok(reader) => reader,
        Err(why) => return why,
    };
    let started = Instant::now();
    loop {
        let mut into = Records::with_limits(16, usize::MAX);
        match reader.read(&mut into) {
            Err(why) => return why,
            Ok(status) => assert!(
                into.is_empty() && status != ReadStatus::End && started.elapsed() < PATIENCE,
                "clause 4: partition {partition} was opened at offset {} after its input was \
                 damaged, and gave {} records and {status:?} instead of an error",
                position.offset,
                into.len()
            ),
        }
    }
}

/// One partition and what it must give.
struct Case<'a, M, T> {
    make: &'a M,
    partition: &'a str,
    records: &'a [T],
}

impl<M, S> Case<'_, M, S::Item>
where
    M: Fn() -> S,
    S: Source,
    S::Item: PartialEq + Debug,
{
    fn open(&self, from: Option<&Position>) -> Box<dyn Reader<S::Item>> {
        (self.make)().open(self.partition, from).unwrap_or_else(|why| {
            panic!("clause 3: partition {}: open({from:?}): {why}", self.partition)
        })
    }

    fn whole(&self, max_records: usize, max_bytes: usize) {
        let mut reader = self.open(None);
        let mut tape = Tape::new();
        loop {
            let left = self.records.len() - tape.records.len();
            if left == 0 || !take(&mut *reader, left.min(max_records), max_bytes, &mut tape) {
                break;
            }
        }
        self.compare(
            &tape,
            &format!("read with limits of {max_records} records and {max_bytes} bytes"),
        );
        self.expect_no_more(&mut *reader);
    }

    fn restart_at(&self, cut: usize) {
        let mut reader = self.open(None);
        let mut tape = Tape::new();
        take(&mut *reader, cut, usize::MAX, &mut tape);
        let position = reader.position();
        assert_eq!(position, reader.position(), "position() does not change while nothing is read");
        drop(reader);
        let mut reader = self.open(Some(&position));
        assert_eq!(
            reader.position().offset,
            position.offset,
            "a reader that has read nothing is where it was opened"
        );
        tape.restarted(&position);
        take(&mut *reader, self.records.len() - cut, usize::MAX, &mut tape);
        self.compare(
            &tape,
            &format!("restarted after {cut} records, at offset {}", position.offset),
        );
        self.expect_no_more(&mut *reader);
    }

    fn restart_every(&self, piece: usize) {
        let mut position = None;
        let mut tape = Tape::new();
        while tape.records.len() < self.records.len() {
            let mut reader = self.open(position.as_ref());
            let left = self.records.len() - tape.records.len();
            if !take(&mut *reader, piece.min(left), usize::MAX, &mut tape) {
                break;
            }
            let after = reader.position();
            tape.restarted(&after);
            position = Some(after);
        }
        self.compare(&tape, &format!("restarted after every {piece} records"));
        self.expect_no_more(&mut *self.open(position.as_ref()));
    }

    fn compare(&self, tape: &Tape<S::Item>, how: &str) {
        let partition = self.partition;
        for (index, (given, wanted)) in tape.records.iter().zip(self.records).enumerate() {
            assert_eq!(
                given, wanted,
                "clause 3: partition {partition}, {how}: record {index} is another one"
            );
        }
        assert_eq!(
            tape.records.len(),
            self.records.len(),
            "clause 3: partition {partition}, {how}: the number of records"
        );
    }

    /// At the end of what is expected a reader says so, or that it is idle, and gives nothing.
    fn expect_no_more(&self, reader: &mut dyn Reader<S::Item>) {
        let started = Instant::now();
        loop {
            let mut more = Records::with_limits(1, usize::MAX);
            let status = reader
                .read(&mut more)
                .unwrap_or_else(|why| panic!("partition {}: read(): {why}", self.partition));
            assert!(
                more.is_empty(),
                "clause 3: partition {} gives a record too many: {:?}",
                self.partition,
                more.items
            );
            if status != ReadStatus::More {
                return;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "partition {} says More for ever, and gives nothing",
                self.partition
            );
        }
    }
}

/// The records that were read so far, over all restarts.
struct Tape<T> {
    records: Vec<T>,
    /// No record may have a smaller offset.
    next_offset: u64,
}

impl<T> Tape<T> {
    fn new() -> Tape<T> {
        Tape { records: Vec::new(), next_offset: 0 }
    }

    fn restarted(&mut self, at: &Position) {
        self.next_offset = at.offset;
    }
}

/// Reads until `wanted` more records are there. Returns whether they are: false if the reader is
/// exhausted before.
fn take<T>(
    reader: &mut dyn Reader<T>,
    wanted: usize,
    max_bytes: usize,
    tape: &mut Tape<T>,
) -> bool {
    let mut left = wanted;
    let mut last_news = Instant::now();
    while left > 0 {
        let mut into = Records::with_limits(left, max_bytes);
        let status = reader.read(&mut into).unwrap_or_else(|why| panic!("read(): {why}"));
        assert!(
            into.len() <= left,
            "a read gave {} records, and there was room for {left}",
            into.len()
        );
        assert!(
            max_bytes > 1 || into.len() <= 1,
            "a read went on for {} records after the limit of {max_bytes} bytes",
            into.len()
        );
        for offset in &into.offsets {
            assert!(
                *offset >= tape.next_offset,
                "clause 3: a record has offset {offset}, and should have {} or more",
                tape.next_offset
            );
            tape.next_offset = offset + 1;
        }
        let position = reader.position().offset;
        assert_eq!(reader.offset(), position, "offset() is that of position()");
        assert!(
            position >= tape.next_offset,
            "position() is {position} after a record at {}",
            tape.next_offset.saturating_sub(1)
        );
        if !into.is_empty() {
            last_news = Instant::now();
        }
        left -= into.len();
        tape.records.extend(into.items);
        match status {
            ReadStatus::End | ReadStatus::Retired => return left == 0,
            ReadStatus::Idle(wait) if left > 0 => {
                std::thread::sleep(wait.min(Duration::from_millis(10)))
            }
            ReadStatus::Idle(_) | ReadStatus::More => {}
        }
        assert!(
            last_news.elapsed() < PATIENCE,
            "no record for {PATIENCE:?}, and {left} more are expected"
        );
    }
    true
}

/// Checks clauses 1 and 3 to 5 of [`Sink`]'s contract (4 and 5 for [`Delivery::ExactlyOnce`])
/// against a target that is empty at first: publishing, crashes between `prepare` and `commit` and
/// after it, and a newer run that takes the sink over.
///
/// `make` gives a sink for the same target each time; `items` are at least 6 records to publish,
/// all different; `read_back` reads the records that the target holds now, in order, as
/// [`Sink::encode`] made them.
///
/// # Panics
/// When a clause is broken, or a call fails that should not.
pub fn sink<S: Sink>(
    make: impl Fn() -> S,
    items: &[S::Item],
    read_back: impl Fn() -> Vec<Vec<u8>>,
) {
    assert!(items.len() >= 6, "the suite needs at least 6 records, and was given {}", items.len());
    assert_eq!(
        (make().kind(), make().delivery()),
        (make().kind(), make().delivery()),
        "clause 1: kind() and delivery() do not change"
    );
    let suite = Suite::new(make, items, read_back);
    suite.nothing_at_first();
    suite.publishes_in_order();
    if suite.delivery == Delivery::ExactlyOnce {
        suite.takes_back_what_was_not_committed();
        suite.keeps_what_was_committed();
        suite.fences_older_runs();
    }
}

struct Suite<M, R> {
    make: M,
    read_back: R,
    delivery: Delivery,
    /// Six batches, from txid 1, each with its records.
    batches: Vec<Vec<Vec<u8>>>,
}

impl<S: Sink, M: Fn() -> S, R: Fn() -> Vec<Vec<u8>>> Suite<M, R> {
    fn new(make: M, items: &[S::Item], read_back: R) -> Suite<M, R> {
        let sink = make();
        let encoded: Vec<Vec<u8>> = items
            .iter()
            .map(|item| {
                let mut bytes = Vec::new();
                sink.encode(item, &mut bytes).unwrap_or_else(|why| panic!("encode(): {why}"));
                bytes
            })
            .collect();
        for (index, record) in encoded.iter().enumerate() {
            assert!(
                !encoded[..index].contains(record),
                "the suite needs records that are all different: record {index} is there twice"
            );
        }
        let mut with_prefix = b"kept".to_vec();
        sink.encode(&items[0], &mut with_prefix).unwrap_or_else(|why| panic!("encode(): {why}"));
        assert_eq!(
            with_prefix,
            [b"kept", encoded[0].as_slice()].concat(),
            "encode() appends, and keeps what was there"
        );
        let size = encoded.len() / 6;
        let batches = (0..6)
            .map(|n| {
                if n < 5 {
                    encoded[n * size..(n + 1) * size].to_vec()
                } else {
                    encoded[5 * size..].to_vec()
                }
            })
            .collect();
        Suite { delivery: sink.delivery(), make, read_back, batches }
    }

    fn entry(&self, txid: usize) -> Entry {
        let mut payload = PayloadWriter::default();
        for record in &self.batches[txid - 1] {
            payload
                .push(|into| {
                    into.extend_from_slice(record);
                    Ok(())
                })
                .expect("a record of a test fits");
        }
        Entry { txid: self.txid(txid), payload: Arc::from(payload.bytes()) }
    }

    fn txid(&self, txid: usize) -> Txid {
        Txid(u64::try_from(txid).expect("it is small"))
    }

    fn owner(run: u64) -> Owner {
        let incarnation =
            Incarnation { counter: run, nonce: run.wrapping_mul(0x9e37_79b9_7f4a_7c15) };
        Owner {
            topology: "conformance".into(),
            sink: "under-test".into(),
            incarnation,
            points: Arc::default(),
        }
    }

    fn open(&self, run: u64) -> Box<dyn Publisher> {
        (self.make)()
            .open(&Self::owner(run))
            .unwrap_or_else(|why| panic!("open() of run {run}: {why}"))
    }

    /// A publisher of `run` that has read the marker and claimed the sink at `holds`.
    fn claimed(&self, run: u64, holds: usize) -> Box<dyn Publisher> {
        let mut publisher = self.open(run);
        self.expect_marker(&mut *publisher, holds, None, "before the claim");
        let seen = publisher.marker().unwrap_or_else(|why| panic!("marker(): {why}"));
        let taken =
            publisher.take_over().unwrap_or_else(|why| panic!("take_over() of run {run}: {why}"));
        assert_eq!(
            taken, seen,
            "clause 4: take_over() gives the marker that is there when nobody else publishes"
        );
        publisher
            .claim(self.txid(holds))
            .unwrap_or_else(|why| panic!("claim() of run {run}: {why}"));
        self.expect_marker(&mut *publisher, holds, Some(run), "after the claim");
        publisher
    }

    /// Publishes as the engine does: a commit that cannot be trusted is followed by a new
    /// publisher, which reads the marker.
    fn publish(&self, publisher: &mut Box<dyn Publisher>, run: u64, txids: &[usize]) {
        let entries: Vec<Entry> = txids.iter().map(|txid| self.entry(*txid)).collect();
        let last = entries.last().expect("a test publishes something").txid;
        loop {
            let prepared = publisher
                .prepare(&entries)
                .unwrap_or_else(|why| panic!("prepare({txids:?}): {why}"));
            if prepared.commit().unwrap_or_else(|why| panic!("commit({txids:?}): {why}"))
                == Outcome::Confirmed
            {
                return;
            }
            *publisher = self.open(run);
            let marker = publisher
                .take_over()
                .unwrap_or_else(|why| panic!("take_over() of run {run}: {why}"));
            if marker.is_some_and(|marker| marker.txid == last) {
                return;
            }
        }
    }

    fn expect_marker(
        &self,
        publisher: &mut dyn Publisher,
        txid: usize,
        run: Option<u64>,
        when: &str,
    ) {
        let marker = publisher.marker().unwrap_or_else(|why| panic!("marker() {when}: {why}"));
        if self.delivery == Delivery::AtLeastOnce {
            assert_eq!(marker, None, "a sink that delivers at least once keeps no marker");
            return;
        }
        let Marker { topology, txid: holds, incarnation } =
            marker.unwrap_or_else(|| panic!("clause 4: there is no marker {when}"));
        assert_eq!(
            topology, "conformance",
            "clause 4: the marker names the topology that wrote it"
        );
        assert_eq!(
            holds,
            self.txid(txid),
            "clause 4: the marker {when} names the last batch that the sink holds"
        );
        if let Some(run) = run {
            assert_eq!(
                incarnation,
                Self::owner(run).incarnation,
                "clause 4: the marker {when} names the run that wrote it"
            );
        }
    }

    /// The sink holds exactly the batches up to `txid`.
    fn expect_output(&self, txid: usize, clause: &str, when: &str) {
        let wanted = self.batches[..txid].concat();
        let given = (self.read_back)();
        for (index, (given, wanted)) in given.iter().zip(&wanted).enumerate() {
            assert!(
                given == wanted,
                "{clause}: {when}: record {index} is {:?}, and should be {:?}",
                text(given),
                text(wanted)
            );
        }
        assert_eq!(
            given.len(),
            wanted.len(),
            "{clause}: {when}: the number of records that the sink holds"
        );
    }

    fn nothing_at_first(&self) {
        assert_eq!((self.read_back)().len(), 0, "the suite needs an empty target");
        let mut publisher = self.open(1);
        let marker =
            publisher.marker().unwrap_or_else(|why| panic!("marker() of an empty target: {why}"));
        assert_eq!(marker, None, "an empty target has no marker");
        self.expect_output(
            0,
            "open() and marker() change nothing",
            "before anything was published",
        );
        publisher
            .claim(Txid::NONE)
            .unwrap_or_else(|why| panic!("claim() of an empty target: {why}"));
        self.expect_marker(&mut *publisher, 0, Some(1), "after the first claim");
    }

    fn publishes_in_order(&self) {
        let mut publisher = self.claimed(2, 0);
        self.publish(&mut publisher, 2, &[1]);
        self.expect_output(1, "clause 3", "after batch 1");
        self.expect_marker(&mut *publisher, 1, Some(2), "after batch 1");

        drop(publisher.prepare(&[self.entry(2)]).unwrap_or_else(|why| panic!("prepare(): {why}")));
        self.expect_marker(&mut *publisher, 1, Some(2), "after a prepared value was dropped");
        self.publish(&mut publisher, 2, &[2, 3]);
        self.expect_output(
            3,
            "clause 3",
            "after batch 2 was prepared and dropped, and 2 and 3 were committed together",
        );
        self.expect_marker(&mut *publisher, 3, Some(2), "after batches 2 and 3");
    }

    fn takes_back_what_was_not_committed(&self) {
        let mut publisher = self.claimed(3, 3);
        let prepared =
            publisher.prepare(&[self.entry(4)]).unwrap_or_else(|why| panic!("prepare(): {why}"));
        // As a crash does: nothing of the prepared value's own clean-up runs.
        std::mem::forget(prepared);
        drop(publisher);
        let mut publisher = self.claimed(4, 3);
        self.expect_output(
            3,
            "clause 4",
            "after a crash between prepare and commit of batch 4, and a claim",
        );
        self.publish(&mut publisher, 4, &[4]);
        self.expect_output(4, "clause 4", "after batch 4 was sent again");
    }

    fn keeps_what_was_committed(&self) {
        drop(self.claimed(5, 4));
        drop(self.claimed(6, 4));
        self.expect_output(4, "clause 4", "after two starts with nothing to send");
    }

    fn fences_older_runs(&self) {
        let mut old = self.claimed(7, 4);
        match (self.make)().open(&Self::owner(8)) {
            Ok(mut new) => {
                let prepared =
                    old.prepare(&[self.entry(5)]).unwrap_or_else(|why| panic!("prepare(): {why}"));
                new.take_over()
                    .and_then(|_| new.claim(self.txid(4)))
                    .unwrap_or_else(|why| panic!("claim() while an older run is alive: {why}"));
                expect_foreign(
                    prepared.commit(),
                    "commit() of an older run, prepared before the claim of a newer one",
                );
                let again = old.prepare(&[self.entry(5)]).and_then(|prepared| prepared.commit());
                expect_foreign(again, "prepare() and commit() of an older run");
            }
            // The sink itself keeps a second publisher out: then the older run can only come back.
            Err(why) => {
                assert_eq!(
                    why.kind(),
                    Kind::TryAgain,
                    "clause 5: open() beside another run fails with TryAgain, if it fails; the \
                     error is: {why}"
                );
                drop(old);
                drop(self.claimed(8, 4));
            }
        }
        self.expect_output(4, "clause 5", "after an older run tried to publish");
        let late = (self.make)().open(&Self::owner(7)).and_then(|mut old| {
            old.take_over()?;
            old.claim(self.txid(4))?;
            old.prepare(&[self.entry(5)])?.commit()
        });
        expect_foreign(late, "claim(), prepare() and commit() of an older run that came back");
        self.expect_output(4, "clause 5", "after an older run came back");
        let mut publisher = self.claimed(9, 4);
        self.publish(&mut publisher, 9, &[5, 6]);
        self.expect_output(6, "clause 5", "after the newest run went on");
    }
}

fn expect_foreign<T>(result: Result<T, Error>, what: &str) {
    match result {
        Ok(_) => panic!("clause 5: {what} succeeded"),
        Err(why) => assert_eq!(
            why.kind(),
            Kind::Foreign,
            "clause 5: {what} fails with Foreign; the error is: {why}"
        ),
    }
}

fn text(record: &[u8]) -> String {
    String::from_utf8_lossy(record).into_owned()
}
