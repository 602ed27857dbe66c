//! `partition_aggregate`: results per worker and batch.

use super::aggregate::Combining;
use super::combine::combine;
use super::gather::{Keys, gather};
use crate::aggregates::Combiner;
use crate::dataflow::stream::Stream;
use crate::plan::NodeKind;
use crate::record::Record;
use std::marker::PhantomData;
use std::panic::Location;
use std::rc::Rc;

impl<'s, T: Record> Stream<'s, T> {
    /// Gives one result for each worker and batch, over the records that are there: nothing
    /// travels. Behind [`Stream::partition_by`] and the like.
    ///
    /// # Contract
    /// Exactly one value for each worker and batch: the aggregation's zero if no record of the
    /// batch is there, or nothing if it has no zero. How many workers there are, and which records
    /// are on which, may differ from run to run.
    ///
    /// ```
    /// # use tidemill_engine::{aggregates::Count, testing::Kit};
    /// let mut kit = Kit::with(|settings| settings.workers = 2, |topology, io| {
    ///     topology.source("in", io.source::<u64>("in")).partition_with(|n| *n as usize).partition_aggregate(Count).sink("out", io.sink("out"));
    /// });
    /// kit.feed("in", [1u64, 2, 4]);
    /// kit.step();
    /// let mut out = kit.output::<u64>("out");
    /// out.sort();
    /// assert_eq!(out, [1, 2]);
    /// ```
    #[track_caller]
    pub fn partition_aggregate<A: Combiner<T>>(self, aggregation: A) -> Stream<'s, A::Value> {
        let site =
            self.site.behind(NodeKind::Operator("partition_aggregate"), Location::caller(), &[]);
        let aggregation = Rc::new(aggregation);
        let parcels = combine(self.group_by(|_| ()), Rc::clone(&aggregation), &site);
        gather(parcels, site, Keys::OnePerWorker(()), Combining(aggregation, PhantomData))
    }
}
