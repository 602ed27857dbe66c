//! `merge` in a query: two branches as one.

use crate::plan::NodeKind;
use crate::query::requests::{Many, Requests};
use crate::record::Record;
use std::panic::Location;
use timely::dataflow::operators::Concat;

impl<'q, T: Record, N> Requests<'q, T, N> {
    /// Gives the records of both.
    ///
    /// # Contract
    /// Both belong to the same query. A branch is a clone: each of its arms has all of the
    /// request's weight, and behind the merge a request is complete when both arms are.
    ///
    /// ```
    /// # use tidemill_engine::{Requests, testing::Kit};
    /// let kit = Kit::new(|topology, io| {
    ///     topology.source("in", io.source::<u64>("in")).sink("out", io.sink("out"));
    ///     topology.query("both", |n: Requests<i64>| n.clone().map(|n| n + 1).merge(n.map(|n| -n)));
    /// });
    /// let (_, mut answer) = kit.ask::<Vec<i64>>("both", &4i64);
    /// answer.sort();
    /// assert_eq!(answer, [-4, 5]);
    /// ```
    #[track_caller]
    pub fn merge<M>(self, other: Requests<'q, T, M>) -> Requests<'q, T> {
        let mut part =
            self.part.behind(NodeKind::Operator("merge"), Location::caller(), &[other.part.node]);
        part.whole = self.part.whole.plus(other.part.whole);
        part.home = self.part.home && other.part.home;
        part.requests::<T, Many>(self.raw.concat(other.raw))
    }
}
