//! `filter_map`, `try_filter_map`: one record or none for each record.

use super::flat_map::expand_chunk;
use crate::dataflow::stream::Stream;
use crate::record::Record;
use std::fmt::Display;
use std::panic::Location;

impl<'s, T: Record> Stream<'s, T> {
    /// Gives the value of `f(record)` where it has one.
    ///
    /// # Contract
    /// Keeps the order. A panic in `f` is a failure of the record: it stops the topology (exit code
    /// 69), unless another policy is given ([`crate::Topology::on_failure`]).
    ///
    /// ```
    /// # use tidemill_engine::testing::Kit;
    /// let mut kit = Kit::new(|topology, io| {
    ///     topology.source("in", io.source::<String>("in")).filter_map(|text| text.parse::<u64>().ok()).sink("out", io.sink("out"));
    /// });
    /// kit.feed("in", ["1".to_string(), "x".to_string(), "3".to_string()]);
    /// kit.step();
    /// assert_eq!(kit.output::<u64>("out"), [1, 3]);
    /// ```
    #[track_caller]
    pub fn filter_map<U: Record>(
        self,
        mut f: impl FnMut(T) -> Option<U> + 'static,
    ) -> Stream<'s, U> {
        let mut expected = 0;
        self.per_chunk("filter_map", Location::caller(), move |guard, chunk, given| {
            expand_chunk(guard, chunk, given, &mut expected, |record, emit| {
                if let Some(record) = f(record) {
                    emit.push(record);
                }
                Ok(())
            });
        })
    }

    /// As [`Stream::filter_map`]; an `Err` is a failure of the record as a panic is, with the
    /// error's text.
    #[track_caller]
    pub fn try_filter_map<U: Record, E: Display>(
        self,
        mut f: impl FnMut(T) -> Result<Option<U>, E> + 'static,
    ) -> Stream<'s, U> {
        let mut expected = 0;
        self.per_chunk("try_filter_map", Location::caller(), move |guard, chunk, given| {
            expand_chunk(guard, chunk, given, &mut expected, |record, emit| {
                if let Some(record) = f(record).map_err(|error| error.to_string())? {
                    emit.push(record);
                }
                Ok(())
            });
        })
    }
}
