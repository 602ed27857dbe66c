//! The suite for sources: partitions, records, restarts, and an input that was damaged.

use crate::source::{ReadStatus, Reader, Records, Source};
use std::fmt::Debug;
use std::time::{Duration, Instant};
use tidemill_state::{Error, Kind, Position};

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
