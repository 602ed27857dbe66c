//! `flat_map`, `try_flat_map`: any number of records for each record.

use super::emit::Emit;
use crate::batch::chunk::Chunk;
use crate::dataflow::guard::Guard;
use crate::dataflow::stream::Stream;
use crate::record::Record;
use std::fmt::Display;
use std::panic::Location;

impl<'s, T: Record> Stream<'s, T> {
    /// Gives what `f` puts into its second argument, any number of records for each record.
    ///
    /// # Contract
    /// Keeps the order. A panic in `f` is a failure of the record: it stops the topology (exit code
    /// 69), unless another policy is given ([`crate::Topology::on_failure`]). So is more for one
    /// record than [`Emit`] takes.
    ///
    /// ```
    /// # use tidemill_engine::testing::Kit;
    /// let mut kit = Kit::new(|topology, io| {
    ///     topology
    ///         .source("lines", io.source::<String>("lines"))
    ///         .flat_map(|line: String, words| words.extend(line.split_whitespace().map(String::from)))
    ///         .sink("out", io.sink("out"));
    /// });
    /// kit.feed("lines", ["the tide".to_string(), "".to_string(), "turns".to_string()]);
    /// kit.step();
    /// assert_eq!(kit.output::<String>("out"), ["the", "tide", "turns"]);
    /// ```
    #[track_caller]
    pub fn flat_map<U: Record>(
        self,
        mut f: impl FnMut(T, &mut Emit<U>) + 'static,
    ) -> Stream<'s, U> {
        let mut expected = 0;
        self.per_chunk("flat_map", Location::caller(), move |guard, chunk, given| {
            expand_chunk(guard, chunk, given, &mut expected, |record, emit| {
                f(record, emit);
                Ok(())
            });
        })
    }

    /// As [`Stream::flat_map`]; an `Err` is a failure of the record as a panic is, with the error's
    /// text.
    #[track_caller]
    pub fn try_flat_map<U: Record, E: Display>(
        self,
        mut f: impl FnMut(T, &mut Emit<U>) -> Result<(), E> + 'static,
    ) -> Stream<'s, U> {
        let mut expected = 0;
        self.per_chunk("try_flat_map", Location::caller(), move |guard, chunk, given| {
            expand_chunk(guard, chunk, given, &mut expected, |record, emit| {
                f(record, emit).map_err(|error| error.to_string())
            });
        })
    }
}

/// Runs `f` over a chunk, and keeps track of which source record each given record came from.
/// `expected` is how many records it is likely to give: from one chunk to the next.
pub(super) fn expand_chunk<T, U>(
    guard: &Guard,
    chunk: &mut Chunk<T>,
    given: &mut Chunk<U>,
    expected: &mut usize,
    mut f: impl FnMut(T, &mut Emit<U>) -> Result<(), String>,
) {
    let (items, origin) = (std::mem::take(&mut chunk.items), chunk.origin.take());
    let mut emit = Emit::of_record(items.len().max(*expected));
    let (records, traced) = (items.len(), origin.is_some());
    let mut after = Vec::with_capacity(if traced { records } else { 0 });
    let mut whole = 0;
    let well = guard.each(origin.as_ref(), items, |record| {
        // What is there beyond is from a record before, which then failed.
        emit.records().truncate(whole);
        emit.next_record();
        f(record, &mut emit)?;
        let count = emit.records().len();
        let given = u32::try_from(count)
            .map_err(|_| "it gave 2^32 records or more for one chunk of its input")?;
        whole = count;
        if traced {
            after.push(given);
        }
        Ok(())
    });
    let records_given = emit.records();
    records_given.truncate(whole);
    // Growing step by step would copy most of the records again for each chunk.
    *expected = records_given.len() + records_given.len() / 8;
    let Some(set_aside) = well else { return };
    given.items = std::mem::take(records_given);
    given.origin = origin.map(|origin| origin.without(&set_aside, records).through(after));
}
