//! `flat_map`, `try_flat_map` in a query: any number of records for each record.

use crate::operators::emit::{Emit, OF_REQUEST};
use crate::query::operators::each::each_value;
use crate::query::requests::{Many, Requests};
use crate::record::Record;
use crate::request::item::give_shared;
use std::fmt::Display;
use std::panic::Location;
use timely::dataflow::channels::pact::Pipeline;

impl<'q, T: Record, N> Requests<'q, T, N> {
    /// Gives what `f` puts into its second argument, any number of records for each record.
    ///
    /// # Contract
    /// As for [`Requests::map`]. All that one call gives is in memory at once, up to 64 MiB; it
    /// cannot be interrupted. More is the failure of its request.
    ///
    /// ```
    /// # use tidemill_engine::{Requests, testing::Kit};
    /// let kit = Kit::new(|topology, io| {
    ///     topology.source("in", io.source::<u64>("in")).sink("out", io.sink("out"));
    ///     topology.query("upto", |n: Requests<u64>| n.flat_map(|n, numbers| numbers.extend(0..n)));
    /// });
    /// assert_eq!(kit.ask::<Vec<u64>>("upto", &3u64).1, [0, 1, 2]);
    /// ```
    #[track_caller]
    pub fn flat_map<U: Record>(
        self,
        mut f: impl FnMut(T, &mut Emit<U>) + 'static,
    ) -> Requests<'q, U> {
        let part = self.part.then("flat_map", Location::caller());
        let mut emit = Emit::of_record(0);
        let raw = each_value(
            self.raw,
            &part,
            "flat_map",
            Pipeline,
            move |ticket, weight, value, given| {
                // A call that panicked may have left something.
                emit.records().clear();
                emit.begin_call(OF_REQUEST);
                f(value, &mut emit);
                give_shared(ticket, weight, emit.records(), given);
                Ok(())
            },
        );
        part.requests::<U, Many>(raw)
    }

    /// As [`Requests::flat_map`]; an `Err` is the failure of its request, with the error's text.
    #[track_caller]
    pub fn try_flat_map<U: Record, E: Display>(
        self,
        mut f: impl FnMut(T, &mut Emit<U>) -> Result<(), E> + 'static,
    ) -> Requests<'q, U> {
        let part = self.part.then("try_flat_map", Location::caller());
        let (behind, mut emit) = (part.clone(), Emit::of_record(0));
        let raw = each_value(
            self.raw,
            &part,
            "try_flat_map",
            Pipeline,
            move |ticket, weight, value, given| {
                emit.records().clear();
                emit.begin_call(OF_REQUEST);
                f(value, &mut emit).map_err(|why| behind.failure(&format!("failed: {why}")))?;
                give_shared(ticket, weight, emit.records(), given);
                Ok(())
            },
        );
        part.requests::<U, Many>(raw)
    }
}
