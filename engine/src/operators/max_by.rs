//! `max_by`: the record of the greatest rank in each batch.

use crate::aggregates::MaxBy;
use crate::dataflow::stream::Stream;
use crate::record::{Data, Record};
use std::panic::Location;

impl<'s, T: Record + Data> Stream<'s, T> {
    /// Gives the record of the greatest rank in each batch.
    ///
    /// # Contract
    /// Of the whole batch, over all workers; none if no record of the batch reaches it. Of equal
    /// ranks any; one that does not compare, such as NaN, only if there is no other.
    ///
    /// ```
    /// # use tidemill_engine::testing::Kit;
    /// let mut kit = Kit::new(|topology, io| {
    ///     topology.source("in", io.source::<(String, u64)>("in")).max_by(|(_, n)| *n).sink("out", io.sink("out"));
    /// });
    /// kit.feed("in", [("a", 2u64), ("b", 1), ("c", 3)].map(|(name, n)| (name.to_string(), n)));
    /// kit.step();
    /// assert_eq!(kit.output::<(String, u64)>("out")[0].1, 3);
    /// ```
    #[must_use]
    #[track_caller]
    pub fn max_by<R: PartialOrd + 'static>(
        self,
        rank: impl Fn(&T) -> R + 'static,
    ) -> Stream<'s, T> {
        self.aggregate_as("max_by", Location::caller(), MaxBy(rank))
    }
}
