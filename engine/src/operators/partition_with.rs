//! `partition_with`: records to workers as the program says.

use super::exchange::To;
use crate::dataflow::stream::Stream;
use crate::record::{Data, Record};
use std::panic::Location;

impl<'s, T: Record + Data> Stream<'s, T> {
    /// Sends each record to the worker of the number `worker(record)`, modulo the number of
    /// workers.
    ///
    /// # Contract
    /// Records of one source partition that go to the same worker stay in order. The number of
    /// workers may differ from run to run. A panic in `worker` is a failure of the record
    /// ([`crate::Topology::on_failure`]).
    ///
    /// ```
    /// # use tidemill_engine::testing::Kit;
    /// let mut kit = Kit::new(|topology, io| {
    ///     topology.source("in", io.source::<u64>("in")).partition_with(|n| if *n < 100 { 0 } else { 1 }).sink("out", io.sink("out"));
    /// });
    /// kit.feed("in", [1u64, 2]);
    /// kit.step();
    /// assert_eq!(kit.output::<u64>("out"), [1, 2]);
    /// ```
    #[must_use]
    #[track_caller]
    pub fn partition_with(self, mut worker: impl FnMut(&T) -> usize + 'static) -> Stream<'s, T> {
        self.exchange("partition_with", Location::caller(), move |record, _| {
            Ok(To::Worker(worker(record)))
        })
    }
}
