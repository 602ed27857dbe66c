//! `batch_global`: all records of a batch on one worker.

use super::exchange::To;
use crate::dataflow::stream::Stream;
use crate::record::{Data, Record};
use std::panic::Location;

impl<'s, T: Record + Data> Stream<'s, T> {
    /// Sends all records of a batch to one worker, another one for the next batch.
    ///
    /// # Contract
    /// As for [`Stream::global`], but that the workers take turns.
    ///
    /// ```
    /// # use tidemill_engine::{aggregates::Count, testing::Kit};
    /// let mut kit = Kit::with(|settings| settings.workers = 2, |topology, io| {
    ///     topology.source("in", io.source::<u64>("in")).batch_global().partition_aggregate(Count).filter(|n| *n > 0).sink("out", io.sink("out"));
    /// });
    /// kit.feed("in", [7u64, 8, 9]);
    /// kit.step();
    /// assert_eq!(kit.output::<u64>("out"), [3]);
    /// ```
    #[must_use]
    #[track_caller]
    pub fn batch_global(self) -> Stream<'s, T> {
        self.exchange("batch_global", Location::caller(), |_, txid| {
            Ok(To::Worker(usize::try_from(txid.0).expect("a usize holds a u64")))
        })
    }
}
