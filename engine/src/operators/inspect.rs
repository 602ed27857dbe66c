//! `inspect`, `try_inspect`: a look at each record.

use crate::batch::chunk::{Chunk, leave_out};
use crate::dataflow::guard::Guard;
use crate::dataflow::stream::Stream;
use crate::record::Record;
use std::fmt::Display;
use std::panic::Location;

impl<'s, T: Record> Stream<'s, T> {
    /// Calls `f` with each record and gives the records on as they are.
    ///
    /// # Contract
    /// Keeps the order. What `f` sees is **not** committed yet, and is seen again when a batch is
    /// done again after a failure: print and count for debugging only. A panic in `f` is a failure
    /// of the record: it stops the topology (exit code 69), unless another policy is given
    /// ([`crate::Topology::on_failure`]).
    ///
    /// ```
    /// # use tidemill_engine::testing::Kit;
    /// let mut kit = Kit::new(|topology, io| {
    ///     topology.source("in", io.source::<u64>("in")).inspect(|n| eprintln!("saw {n}")).sink("out", io.sink("out"));
    /// });
    /// kit.feed("in", [7u64]);
    /// kit.step();
    /// assert_eq!(kit.output::<u64>("out"), [7]);
    /// ```
    #[track_caller]
    pub fn inspect(self, mut f: impl FnMut(&T) + 'static) -> Stream<'s, T> {
        self.per_chunk("inspect", Location::caller(), move |guard, chunk, given| {
            inspect_chunk(guard, chunk, given, |record| {
                f(record);
                Ok(())
            });
        })
    }

    /// As [`Stream::inspect`]; an `Err` is a failure of the record as a panic is, with the error's
    /// text: an assertion about the records.
    #[track_caller]
    pub fn try_inspect<E: Display>(
        self,
        mut f: impl FnMut(&T) -> Result<(), E> + 'static,
    ) -> Stream<'s, T> {
        self.per_chunk("try_inspect", Location::caller(), move |guard, chunk, given| {
            inspect_chunk(guard, chunk, given, |record| {
                f(record).map_err(|error| error.to_string())
            });
        })
    }
}

fn inspect_chunk<T>(
    guard: &Guard,
    chunk: &mut Chunk<T>,
    given: &mut Chunk<T>,
    f: impl FnMut(&T) -> Result<(), String>,
) {
    let Chunk { mut items, origin } = std::mem::take(chunk);
    let records = items.len();
    let Some(set_aside) = guard.each(origin.as_ref(), &items, f) else { return };
    leave_out(&mut items, &set_aside);
    *given = Chunk { items, origin: origin.map(|origin| origin.without(&set_aside, records)) };
}
