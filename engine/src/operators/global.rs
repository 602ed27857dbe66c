//! `global`: all records on one worker.

use super::exchange::To;
use crate::dataflow::stream::Stream;
use crate::record::{Data, Record};
use std::panic::Location;

impl<'s, T: Record + Data> Stream<'s, T> {
    /// Sends all records to one worker, the same for all batches.
    ///
    /// # Contract
    /// Records of one source partition stay in order; between partitions there is none. One worker
    /// does everything behind it: see [`Stream::batch_global`] for one that changes from batch to
    /// batch.
    ///
    /// ```
    /// # use tidemill_engine::{aggregates::Count, testing::Kit};
    /// let mut kit = Kit::with(|settings| settings.workers = 2, |topology, io| {
    ///     topology.source("in", io.source::<u64>("in")).shuffle().global().partition_aggregate(Count).filter(|n| *n > 0).sink("out", io.sink("out"));
    /// });
    /// kit.feed("in", [7u64, 8, 9]);
    /// kit.step();
    /// assert_eq!(kit.output::<u64>("out"), [3]);
    /// ```
    #[must_use]
    #[track_caller]
    pub fn global(self) -> Stream<'s, T> {
        self.exchange("global", Location::caller(), |_, _| Ok(To::Worker(0)))
    }
}
