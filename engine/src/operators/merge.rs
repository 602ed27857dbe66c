//! `merge`: two streams as one.

use crate::dataflow::stream::Stream;
use crate::plan::NodeKind;
use crate::record::Record;
use std::panic::Location;
use timely::dataflow::operators::Concat;

impl<'s, T: Record> Stream<'s, T> {
    /// Gives the records of both streams.
    ///
    /// # Contract
    /// Each stream keeps its order; between the two there is none. A record stays in its batch.
    ///
    /// ```
    /// # use tidemill_engine::testing::Kit;
    /// let mut kit = Kit::new(|topology, io| {
    ///     let left = topology.source("left", io.source::<u64>("left"));
    ///     let right = topology.source("right", io.source::<u64>("right"));
    ///     left.merge(right).sink("out", io.sink("out"));
    /// });
    /// kit.feed("left", [1u64]);
    /// kit.feed("right", [2u64]);
    /// kit.step();
    /// let mut out = kit.output::<u64>("out");
    /// out.sort();
    /// assert_eq!(out, [1, 2]);
    /// ```
    #[track_caller]
    pub fn merge(self, other: Stream<'s, T>) -> Stream<'s, T> {
        let site =
            self.site.behind(NodeKind::Operator("merge"), Location::caller(), &[other.site.node]);
        Stream::at(site, self.read().0.concat(other.read().0))
    }
}
