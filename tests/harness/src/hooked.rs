//! A source as another one sees it: every read of it is told, and may be answered otherwise.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;
use tidemill::source::{
    Begun, DeadLetterSink, ReadStatus, Reader, Records, Source, Start, StartFacts,
};
use tidemill::{Position, Result};

/// A read: of which partition, where the reader is after it, how many records it gave, and what it
/// said.
pub struct Read<'a> {
    /// The partition that was read.
    pub partition: &'a str,
    /// The reader's position afterwards.
    pub position: Position,
    /// The number of records that the call returned.
    pub given: usize,
    /// What the reader said of what is to come.
    pub status: ReadStatus,
}

/// What is made of a read.
type OnRead = Arc<dyn Fn(&Read<'_>) -> ReadStatus + Send + Sync>;

/// A source with a hook at its reads.
pub struct Hooked<S> {
    source: S,
    on_read: OnRead,
}

impl<S> Hooked<S> {
    /// A source whose reads call `hook`.
    pub fn new(
        source: S,
        on_read: impl Fn(&Read<'_>) -> ReadStatus + Send + Sync + 'static,
    ) -> Hooked<S> {
        Hooked { source, on_read: Arc::new(on_read) }
    }
}

impl<S: Source> Source for Hooked<S> {
    type Item = S::Item;

    fn kind(&self) -> String {
        self.source.kind()
    }

    fn partitions(&self) -> Result<Vec<String>> {
        self.source.partitions()
    }

    fn discover_every(&self) -> Option<Duration> {
        self.source.discover_every()
    }

    fn discover(
        &self,
        known: &BTreeMap<String, Option<Position>>,
    ) -> Result<Vec<(String, Option<Position>)>> {
        self.source.discover(known)
    }

    fn left_out(&self) -> Vec<(String, String)> {
        self.source.left_out()
    }

    fn begin(&self, start: &Start<'_>) -> Result<Begun> {
        self.source.begin(start)
    }

    fn is_bounded(&self) -> bool {
        self.source.is_bounded()
    }

    fn adopt(&self, facts: &StartFacts) {
        self.source.adopt(facts);
    }

    fn notices(&self) -> Vec<String> {
        self.source.notices()
    }

    fn committed(&self, positions: &[(String, Position)]) {
        self.source.committed(positions);
    }

    fn dead_letters(&self) -> Option<DeadLetterSink> {
        self.source.dead_letters()
    }

    fn open(&self, partition: &str, from: Option<&Position>) -> Result<Box<dyn Reader<S::Item>>> {
        let reader = self.source.open(partition, from)?;
        Ok(Box::new(HookedReader {
            partition: partition.to_string(),
            reader,
            on_read: Arc::clone(&self.on_read),
        }))
    }
}

struct HookedReader<T> {
    partition: String,
    reader: Box<dyn Reader<T>>,
    on_read: OnRead,
}

impl<T> Reader<T> for HookedReader<T> {
    fn read(&mut self, into: &mut Records<T>) -> Result<ReadStatus> {
        let before = into.len();
        let status = self.reader.read(into)?;
        let read = Read {
            partition: &self.partition,
            position: self.reader.position(),
            given: into.len() - before,
            status,
        };
        Ok((self.on_read)(&read))
    }

    fn position(&self) -> Position {
        self.reader.position()
    }

    fn lag(&self) -> Option<u64> {
        self.reader.lag()
    }

    fn wake_with(&mut self, waker: Waker) -> bool {
        self.reader.wake_with(waker)
    }

    fn woken(&self) -> bool {
        self.reader.woken()
    }

    fn trouble(&self) -> Option<String> {
        self.reader.trouble()
    }

    fn take_skipped(&mut self) -> u64 {
        self.reader.take_skipped()
    }
}
