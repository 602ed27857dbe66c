//! `map`, `try_map` in a query: one record for each record.

use crate::query::operators::each::each_value;
use crate::query::requests::{Many, Requests};
use crate::record::Record;
use crate::request::item::{Held, Item};
use std::fmt::Display;
use std::panic::Location;
use timely::dataflow::channels::pact::Pipeline;

impl<'q, T: Record, N> Requests<'q, T, N> {
    /// Gives `f(record)` for each record.
    ///
    /// # Contract
    /// A panic in `f` is the failure of the request that the record belongs to, and of nothing
    /// else.
    ///
    /// ```
    /// # use tidemill_engine::{Requests, testing::Kit};
    /// let kit = Kit::new(|topology, io| {
    ///     topology.source("in", io.source::<u64>("in")).sink("out", io.sink("out"));
    ///     topology.query("length", |text: Requests<String>| text.map(|text| text.len() as u64));
    /// });
    /// assert_eq!(kit.ask::<Vec<u64>>("length", &"tide").1, [4]);
    /// ```
    #[track_caller]
    pub fn map<U: Record>(self, mut f: impl FnMut(T) -> U + 'static) -> Requests<'q, U> {
        let part = self.part.then("map", Location::caller());
        let raw =
            each_value(self.raw, &part, "map", Pipeline, move |ticket, weight, value, given| {
                given.push(Item { ticket, weight, held: Held::Value(f(value)) });
                Ok(())
            });
        part.requests::<U, Many>(raw)
    }

    /// Gives the value of `f(record)` for each record. An `Err` is the failure of its request, with
    /// the error's text.
    #[track_caller]
    pub fn try_map<U: Record, E: Display>(
        self,
        mut f: impl FnMut(T) -> Result<U, E> + 'static,
    ) -> Requests<'q, U> {
        let part = self.part.then("try_map", Location::caller());
        let behind = part.clone();
        let raw = each_value(
            self.raw,
            &part,
            "try_map",
            Pipeline,
            move |ticket, weight, value, given| {
                let held =
                    Held::Value(f(value).map_err(|why| behind.failure(&format!("failed: {why}")))?);
                given.push(Item { ticket, weight, held });
                Ok(())
            },
        );
        part.requests::<U, Many>(raw)
    }
}
