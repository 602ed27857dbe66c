//! `shuffle`: records spread evenly over the workers.

use super::exchange::To;
use crate::dataflow::stream::Stream;
use crate::record::{Data, Record};
use std::panic::Location;

impl<'s, T: Record + Data> Stream<'s, T> {
    /// Spreads the records evenly over the workers: before work that is heavy, behind a source with
    /// few partitions.
    ///
    /// # Contract
    /// Each record goes to one worker, in its batch. Nothing says to which, and records of one
    /// partition go different ways: their order is lost.
    ///
    /// ```
    /// # use tidemill_engine::testing::Kit;
    /// let mut kit = Kit::new(|topology, io| {
    ///     topology.source("in", io.source::<u64>("in")).shuffle().map(|n| n * n).sink("out", io.sink("out"));
    /// });
    /// kit.feed("in", [1u64, 2]);
    /// kit.step();
    /// assert_eq!(kit.output::<u64>("out"), [1, 4]);
    /// ```
    #[must_use]
    #[track_caller]
    pub fn shuffle(self) -> Stream<'s, T> {
        let mut next = self.site.context.index;
        self.exchange("shuffle", Location::caller(), move |_, _| {
            next = next.wrapping_add(1);
            Ok(To::Worker(next))
        })
    }
}
