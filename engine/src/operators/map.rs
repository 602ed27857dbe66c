//! `map`, `try_map`: one record for each record.

use crate::batch::chunk::Chunk;
use crate::dataflow::guard::Guard;
use crate::dataflow::stream::Stream;
use crate::record::Record;
use std::fmt::Display;
use std::panic::Location;

impl<'s, T: Record> Stream<'s, T> {
    /// Gives `f(record)` for each record.
    ///
    /// # Contract
    /// Keeps the order. A panic in `f` is a failure of the record: it stops the topology (exit code
    /// 69), unless another policy is given ([`crate::Topology::on_failure`]).
    ///
    /// ```
    /// # use tidemill_engine::testing::Kit;
    /// let mut kit = Kit::new(|topology, io| {
    ///     topology.source("in", io.source::<u64>("in")).map(|n| n * 2).sink("out", io.sink("out"));
    /// });
    /// kit.feed("in", [1u64, 2]);
    /// kit.step();
    /// assert_eq!(kit.output::<u64>("out"), [2, 4]);
    /// ```
    #[track_caller]
    pub fn map<U: Record>(self, mut f: impl FnMut(T) -> U + 'static) -> Stream<'s, U> {
        self.per_chunk("map", Location::caller(), move |guard, chunk, given| {
            let (items, origin) = (std::mem::take(&mut chunk.items), chunk.origin.take());
            let records = items.len();
            if let Some((items, set_aside)) = guard.map(origin.as_ref(), items, &mut f) {
                (given.items, given.origin) =
                    (items, origin.map(|origin| origin.without(&set_aside, records)));
            }
        })
    }

    /// As [`Stream::map`], but a panic is not caught: the benchmark's yardstick for what catching
    /// costs.
    #[doc(hidden)]
    #[track_caller]
    pub fn map_uncaught<U: Record>(self, mut f: impl FnMut(T) -> U + 'static) -> Stream<'s, U> {
        self.per_chunk("map_uncaught", Location::caller(), move |_, chunk, given| {
            given.items = std::mem::take(&mut chunk.items).into_iter().map(&mut f).collect();
            given.origin = chunk.origin.take();
        })
    }

    /// Gives the value of `f(record)` for each record. An `Err` is a failure of the record as a
    /// panic is, with the error's text.
    #[track_caller]
    pub fn try_map<U: Record, E: Display>(
        self,
        mut f: impl FnMut(T) -> Result<U, E> + 'static,
    ) -> Stream<'s, U> {
        self.per_chunk("try_map", Location::caller(), move |guard, chunk, given| {
            map_chunk(guard, chunk, given, |record| f(record).map_err(|error| error.to_string()));
        })
    }
}

fn map_chunk<T, U>(
    guard: &Guard,
    chunk: &mut Chunk<T>,
    given: &mut Chunk<U>,
    mut f: impl FnMut(T) -> Result<U, String>,
) {
    let (items, origin) = (std::mem::take(&mut chunk.items), chunk.origin.take());
    let (records, mut out) = (items.len(), Vec::with_capacity(items.len()));
    let well = guard.each(origin.as_ref(), items, |record| {
        out.push(f(record)?);
        Ok(())
    });
    if let Some(set_aside) = well {
        (given.items, given.origin) =
            (out, origin.map(|origin| origin.without(&set_aside, records)));
    }
}
