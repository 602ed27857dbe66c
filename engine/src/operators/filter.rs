//! `filter`, `try_filter`: some of the records.

use super::flat_map::expand_chunk;
use crate::dataflow::stream::Stream;
use crate::record::Record;
use std::fmt::Display;
use std::panic::Location;

impl<'s, T: Record> Stream<'s, T> {
    /// Gives the records for which `f` is true.
    ///
    /// # Contract
    /// Keeps the order. A panic in `f` is a failure of the record: it stops the topology (exit code
    /// 69), unless another policy is given ([`crate::Topology::on_failure`]).
    ///
    /// ```
    /// # use tidemill_engine::testing::Kit;
    /// let mut kit = Kit::new(|topology, io| {
    ///     topology.source("in", io.source::<u64>("in")).filter(|n| n % 2 == 1).sink("out", io.sink("out"));
    /// });
    /// kit.feed("in", [1u64, 2, 3]);
    /// kit.step();
    /// assert_eq!(kit.output::<u64>("out"), [1, 3]);
    /// ```
    #[track_caller]
    pub fn filter(self, mut f: impl FnMut(&T) -> bool + 'static) -> Stream<'s, T> {
        let mut expected = 0;
        self.per_chunk("filter", Location::caller(), move |guard, chunk, given| {
            expand_chunk(guard, chunk, given, &mut expected, |record, emit| {
                if f(&record) {
                    emit.push(record);
                }
                Ok(())
            });
        })
    }

    /// As [`Stream::filter`]; an `Err` is a failure of the record as a panic is, with the error's
    /// text.
    #[track_caller]
    pub fn try_filter<E: Display>(
        self,
        mut f: impl FnMut(&T) -> Result<bool, E> + 'static,
    ) -> Stream<'s, T> {
        let mut expected = 0;
        self.per_chunk("try_filter", Location::caller(), move |guard, chunk, given| {
            expand_chunk(guard, chunk, given, &mut expected, |record, emit| {
                if f(&record).map_err(|error| error.to_string())? {
                    emit.push(record);
                }
                Ok(())
            });
        })
    }
}
