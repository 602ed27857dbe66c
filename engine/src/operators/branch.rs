//! `branch`: a stream as two.

use crate::dataflow::stream::Stream;
use crate::record::Record;
use std::panic::Location;

impl<'s, T: Record> Stream<'s, T> {
    /// Gives the records for which `f` is true, and the others.
    ///
    /// # Contract
    /// Each record is in one of the two, in order. A panic in `f` is a failure of the record
    /// ([`crate::Topology::on_failure`]).
    ///
    /// ```
    /// # use tidemill_engine::testing::Kit;
    /// let mut kit = Kit::new(|topology, io| {
    ///     let (even, odd) = topology.source("in", io.source::<u64>("in")).branch(|n| n % 2 == 0);
    ///     even.sink("even", io.sink("even"));
    ///     odd.sink("odd", io.sink("odd"));
    /// });
    /// kit.feed("in", [1u64, 2, 3]);
    /// kit.step();
    /// assert_eq!((kit.output::<u64>("even"), kit.output::<u64>("odd")), (vec![2], vec![1, 3]));
    /// ```
    #[track_caller]
    pub fn branch(self, mut f: impl FnMut(&T) -> bool + 'static) -> (Stream<'s, T>, Stream<'s, T>) {
        self.two_ways("branch", Location::caller(), move |record, yes, no| {
            if f(&record) {
                yes.push(record)
            } else {
                no.push(record)
            }
            Ok(())
        })
    }
}
