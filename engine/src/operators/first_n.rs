//! `first_n`: the first records of each batch.

use crate::aggregates::FirstN;
use crate::dataflow::stream::Stream;
use crate::record::{Data, Record};
use std::panic::Location;

impl<'s, T: Record + Data> Stream<'s, T> {
    /// Gives the first `n` records of each batch.
    ///
    /// # Contract
    /// Of the whole batch, on one worker; fewer if it has fewer. First is by the order of the
    /// source partition; which partition comes first is not defined. For the greatest or least
    /// records see [`crate::aggregates::top_k_by`].
    ///
    /// ```
    /// # use tidemill_engine::testing::Kit;
    /// let mut kit = Kit::new(|topology, io| {
    ///     topology.source("in", io.source::<u64>("in")).first_n(2).sink("out", io.sink("out"));
    /// });
    /// kit.feed("in", [7u64, 5, 9]);
    /// kit.step();
    /// assert_eq!(kit.output::<u64>("out"), [7, 5]);
    /// ```
    #[must_use]
    #[track_caller]
    pub fn first_n(self, n: usize) -> Stream<'s, T> {
        self.aggregate_as("first_n", Location::caller(), FirstN(n))
            .flat_map(|first, records| records.extend(first))
    }
}
