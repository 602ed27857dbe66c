//! `broadcast`: every record to every worker.

use super::exchange::To;
use crate::dataflow::stream::Stream;
use crate::record::{Data, Record};
use std::panic::Location;

impl<'s, T: Record + Data> Stream<'s, T> {
    /// Gives each record on every worker.
    ///
    /// # Contract
    /// What is behind sees each record as often as there are workers, and their number may differ
    /// from run to run: count behind it what is per worker, not what is per record. Records of one
    /// source partition stay in order.
    ///
    /// ```
    /// # use tidemill_engine::{aggregates::Count, testing::Kit};
    /// let mut kit = Kit::with(|settings| settings.workers = 3, |topology, io| {
    ///     topology.source("in", io.source::<u64>("in")).broadcast().aggregate(Count).sink("out", io.sink("out"));
    /// });
    /// kit.feed("in", [7u64]);
    /// kit.step();
    /// assert_eq!(kit.output::<u64>("out"), [3]);
    /// ```
    #[must_use]
    #[track_caller]
    pub fn broadcast(self) -> Stream<'s, T> {
        self.exchange("broadcast", Location::caller(), |_, _| Ok(To::All))
    }
}
