//! `aggregate` in a query: one result over all records of a request.

use super::gather::{How, gather_at_home, gather_here};
use crate::aggregates::Combiner;
use crate::plan::NodeKind;
use crate::query::requests::{One, Requests};
use crate::record::Record;
use std::panic::Location;
use std::rc::Rc;

impl<'q, T: Record, N> Requests<'q, T, N> {
    /// Gives one result for each request, over all of its records here.
    ///
    /// # Contract
    /// Exactly one value for each request: the aggregation's zero if no record of it comes here.
    /// One without a zero ([`crate::aggregates::Min`], [`crate::aggregates::Max`]) gives nothing
    /// for such a request, which is answered with `null` if this is the query's last operator. Each
    /// worker combines what it has; the rest happens where the request arrived. See
    /// [`crate::Topology::query`] for an example.
    #[track_caller]
    pub fn aggregate<A: Combiner<T>>(self, aggregation: A) -> Requests<'q, A::Value, One> {
        let part = self.part.behind(NodeKind::Exchange("aggregate"), Location::caller(), &[]);
        let here = Rc::new(aggregation);
        let (at_home, zero) = (Rc::clone(&here), Rc::clone(&here));
        let partial = How {
            add: move |into: &mut Option<A::Value>, record: T| match into {
                Some(into) => here.add(into, &record),
                None => *into = Some(here.init(&record)),
            },
            finish: |result: Option<A::Value>| result.into_iter(),
            held: |_: &Option<A::Value>| 1,
        };
        let whole = How {
            add: move |into: &mut Option<A::Value>, other: A::Value| match into {
                Some(into) => at_home.combine(into, other),
                None => *into = Some(other),
            },
            finish: move |result: Option<A::Value>| result.or_else(|| zero.zero()).into_iter(),
            held: |_: &Option<A::Value>| 1,
        };
        let raw = gather_at_home(gather_here(self.raw, &part, partial), &part.counted(), whole);
        part.at_home().requests::<A::Value, One>(raw)
    }
}
