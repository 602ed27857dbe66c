//! `flat_map`, `try_flat_map`: any number of records for each record.

use crate::chunk::Chunk;
use crate::failure::Guard;
use crate::stream::{Record, Stream};
use std::fmt::Display;
use std::panic::Location;

/// Takes the records that a closure gives: see [`Stream::flat_map`].
pub struct Emit<U>(Vec<U>);

impl<U> Emit<U> {
    pub(crate) fn new() -> Emit<U> {
        Emit(Vec::new())
    }

    /// What was given so far.
    pub(crate) fn records(&mut self) -> &mut Vec<U> {
        &mut self.0
    }

    /// Gives one record.
    pub fn push(&mut self, record: U) {
        self.0.push(record);
    }
}

impl<U> Extend<U> for Emit<U> {
    fn extend<I: IntoIterator<Item = U>>(&mut self, records: I) {
        self.0.extend(records);
    }
}

impl<U> Emit<U> {
    /// Gives each of these records.
    pub fn extend(&mut self, records: impl IntoIterator<Item = U>) {
        self.0.extend(records);
    }
}

impl<'s, T: Record> Stream<'s, T> {
    /// Gives what `f` puts into its second argument, any number of records for each record.
    ///
    /// # Contract
    /// Keeps the order. A panic in `f` is a failure of the record: it stops the topology (exit code 69), unless another policy is given
    /// ([`crate::Topology::on_failure`]).
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
    pub fn flat_map<U: Record>(self, mut f: impl FnMut(T, &mut Emit<U>) + 'static) -> Stream<'s, U> {
        let mut expected = 0;
        self.per_chunk("flat_map", Location::caller(), move |guard, chunk, given| {
            expand_chunk(guard, chunk, given, &mut expected, |record, emit| {
                f(record, emit);
                Ok(())
            });
        })
    }

    /// As [`Stream::flat_map`]; an `Err` is a failure of the record as a panic is, with the error's text.
    #[track_caller]
    pub fn try_flat_map<U: Record, E: Display>(
        self,
        mut f: impl FnMut(T, &mut Emit<U>) -> Result<(), E> + 'static,
    ) -> Stream<'s, U> {
        let mut expected = 0;
        self.per_chunk("try_flat_map", Location::caller(), move |guard, chunk, given| {
            expand_chunk(guard, chunk, given, &mut expected, |record, emit| f(record, emit).map_err(|error| error.to_string()));
        })
    }
}

/// Runs `f` over a chunk, and keeps track of which source record each given record came from. `expected` is how many records it is likely to give: from one
/// chunk to the next.
pub(super) fn expand_chunk<T, U>(
    guard: &Guard,
    chunk: &mut Chunk<T>,
    given: &mut Chunk<U>,
    expected: &mut usize,
    mut f: impl FnMut(T, &mut Emit<U>) -> Result<(), String>,
) {
    let (items, origin) = (std::mem::take(&mut chunk.items), chunk.origin.take());
    let mut emit = Emit(Vec::with_capacity(items.len().max(*expected)));
    let (records, traced) = (items.len(), origin.is_some());
    let mut after = Vec::with_capacity(if traced { records } else { 0 });
    let mut whole = 0;
    let well = guard.each(origin.as_ref(), items, |record| {
        // What is there beyond is from a record before, which then failed.
        emit.0.truncate(whole);
        f(record, &mut emit)?;
        let given = u32::try_from(emit.0.len()).map_err(|_| "it gave 2^32 records or more for one chunk of its input")?;
        whole = emit.0.len();
        if traced {
            after.push(given);
        }
        Ok(())
    });
    emit.0.truncate(whole);
    // Growing step by step would copy most of the records again for each chunk.
    *expected = emit.0.len() + emit.0.len() / 8;
    let Some(set_aside) = well else { return };
    given.items = emit.0;
    given.origin = origin.map(|origin| origin.without(&set_aside, records).through(after));
}
