//! A source of records in memory: nothing but the engine is measured.

use std::sync::Arc;
use tidemill::Position;
use tidemill::prelude::*;
use tidemill::source::{ReadStatus, Reader, Records, Source};

/// Records in memory, an equal run of them in each partition.
pub(crate) struct Embedded<T> {
    pub(crate) records: Arc<Vec<T>>,
    pub(crate) partitions: usize,
}

impl<T> Clone for Embedded<T> {
    fn clone(&self) -> Self {
        Embedded { records: Arc::clone(&self.records), partitions: self.partitions }
    }
}

impl<T: Data + Sync> Source for Embedded<T> {
    type Item = T;

    fn kind(&self) -> String {
        "embedded".into()
    }

    fn partitions(&self) -> Result<Vec<String>> {
        Ok((0..self.partitions).map(|partition| partition.to_string()).collect())
    }

    fn open(&self, partition: &str, from: Option<&Position>) -> Result<Box<dyn Reader<T>>> {
        let partition: usize =
            partition.parse().map_err(|_| Error::config("partitions are numbers"))?;
        let start = |partition: usize| self.records.len() * partition / self.partitions;
        let at =
            from.map_or(start(partition), |from| usize::try_from(from.offset).expect("an index"));
        Ok(Box::new(EmbeddedReader {
            records: Arc::clone(&self.records),
            at,
            end: start(partition + 1),
        }))
    }
}

struct EmbeddedReader<T> {
    records: Arc<Vec<T>>,
    at: usize,
    end: usize,
}

impl<T: Data + Sync> Reader<T> for EmbeddedReader<T> {
    fn read(&mut self, into: &mut Records<T>) -> Result<ReadStatus> {
        while self.at < self.end && !into.is_full() {
            into.push(self.at as u64, 32, self.records[self.at].clone());
            self.at += 1;
        }
        Ok(if self.at < self.end { ReadStatus::More } else { ReadStatus::End })
    }

    fn position(&self) -> Position {
        Position::at(self.at as u64)
    }
}
