//! `shuffle` in a query: records spread evenly over the workers.

use crate::plan::NodeKind;
use crate::query::operators::each::each_value;
use crate::query::requests::{Many, Requests};
use crate::record::Data;
use crate::request::item::{Held, Item};
use std::panic::Location;
use timely::dataflow::channels::pact::Exchange;

impl<'q, T: Data, N> Requests<'q, T, N> {
    /// Sends the records to all workers in turn, so that what follows is done by all of them.
    ///
    /// # Contract
    /// Each record goes to one worker.
    ///
    /// ```
    /// # use tidemill_engine::{Requests, aggregates::Count, testing::Kit};
    /// let kit = Kit::with(|settings| settings.workers = 2, |topology, io| {
    ///     topology.source("in", io.source::<u64>("in")).sink("out", io.sink("out"));
    ///     topology.query("count", |n: Requests<u64>| n.flat_map(|n, numbers| numbers.extend(0..n)).shuffle().shuffle().aggregate(Count));
    /// });
    /// assert_eq!(kit.ask::<u64>("count", &100u64).1, 100);
    /// ```
    #[track_caller]
    pub fn shuffle(self) -> Requests<'q, T> {
        let part = self.part.behind(NodeKind::Exchange("shuffle"), Location::caller(), &[]);
        let mut next = part.context.index as u64;
        let in_turn = Exchange::new(move |_: &Item<T>| {
            next = next.wrapping_add(1);
            next
        });
        let raw =
            each_value(self.raw, &part, "shuffle", in_turn, |ticket, weight, value, given| {
                given.push(Item { ticket, weight, held: Held::Value(value) });
                Ok(())
            });
        part.away().requests::<T, Many>(raw)
    }
}
