//! `filter`, `filter_map` in a query: some of the records.

use crate::query::operators::each::each_value;
use crate::query::requests::{Many, Requests};
use crate::record::Record;
use crate::request::item::{Held, Item, give_nothing};
use std::panic::Location;
use timely::dataflow::channels::pact::Pipeline;

impl<'q, T: Record, N> Requests<'q, T, N> {
    /// Gives the records of which `keep(&record)` is true.
    ///
    /// # Contract
    /// As for [`Requests::map`].
    ///
    /// ```
    /// # use tidemill_engine::{Requests, testing::Kit};
    /// let kit = Kit::new(|topology, io| {
    ///     topology.source("in", io.source::<u64>("in")).sink("out", io.sink("out"));
    ///     topology.query("even", |n: Requests<u64>| n.flat_map(|n, numbers| numbers.extend(0..n)).filter(|n| n % 2 == 0));
    /// });
    /// assert_eq!(kit.ask::<Vec<u64>>("even", &4u64).1, [0, 2]);
    /// ```
    #[track_caller]
    pub fn filter(self, mut keep: impl FnMut(&T) -> bool + 'static) -> Requests<'q, T> {
        let part = self.part.then("filter", Location::caller());
        let raw =
            each_value(self.raw, &part, "filter", Pipeline, move |ticket, weight, value, given| {
                match keep(&value) {
                    true => given.push(Item { ticket, weight, held: Held::Value(value) }),
                    false => give_nothing(ticket, weight, given),
                }
                Ok(())
            });
        part.requests::<T, Many>(raw)
    }

    /// Gives the value of `f(record)` for the records for which there is one.
    #[track_caller]
    pub fn filter_map<U: Record>(
        self,
        mut f: impl FnMut(T) -> Option<U> + 'static,
    ) -> Requests<'q, U> {
        let part = self.part.then("filter_map", Location::caller());
        let raw = each_value(
            self.raw,
            &part,
            "filter_map",
            Pipeline,
            move |ticket, weight, value, given| {
                match f(value) {
                    Some(value) => given.push(Item { ticket, weight, held: Held::Value(value) }),
                    None => give_nothing(ticket, weight, given),
                }
                Ok(())
            },
        );
        part.requests::<U, Many>(raw)
    }
}
