//! `group_by` in a query: the records of a request by a key of theirs, for an aggregation.

use super::gather::{How, gather_at_home, gather_here};
use crate::aggregates::Combiner;
use crate::plan::NodeKind;
use crate::query::requests::{Many, Requests};
use crate::record::Record;
use hashbrown::hash_map::{Entry, HashMap};
use std::marker::PhantomData;
use std::panic::Location;
use std::rc::Rc;
use tidemill_state::keys::Key;

/// Records of a query that have a key: what [`Requests::group_by`] gives. Aggregate it.
pub struct GroupedRequests<'q, K, T: Record, N, F> {
    requests: Requests<'q, T, N>,
    key: F,
    keys: PhantomData<fn() -> K>,
}

type ByKey<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

impl<'q, T: Record, N> Requests<'q, T, N> {
    /// Groups the records of each request by `key(record)`.
    ///
    /// ```
    /// # use tidemill_engine::{Requests, aggregates::Count, testing::Kit};
    /// let kit = Kit::new(|topology, io| {
    ///     topology.source("in", io.source::<u64>("in")).sink("out", io.sink("out"));
    ///     topology.query("letters", |text: Requests<String>| {
    ///         text.flat_map(|text, letters| letters.extend(text.chars())).group_by(|letter| *letter).aggregate(Count)
    ///     });
    /// });
    /// let (_, mut answer) = kit.ask::<Vec<(char, u64)>>("letters", &"ebb");
    /// answer.sort();
    /// assert_eq!(answer, [('b', 2), ('e', 1)]);
    /// ```
    pub fn group_by<K: Key, F: FnMut(&T) -> K + 'static>(
        self,
        key: F,
    ) -> GroupedRequests<'q, K, T, N, F> {
        GroupedRequests { requests: self, key, keys: PhantomData }
    }
}

impl<'q, K: Key, T: Record, N, F: FnMut(&T) -> K + 'static> GroupedRequests<'q, K, T, N, F> {
    /// Gives one `(key, result)` for each key that the request has.
    ///
    /// # Contract
    /// Each key comes once for each request, where the request arrived, in no particular order.
    #[track_caller]
    pub fn aggregate<A: Combiner<T>>(self, aggregation: A) -> Requests<'q, (K, A::Value)> {
        let GroupedRequests { requests: Requests { raw, part, .. }, mut key, .. } = self;
        let part = part.behind(NodeKind::Exchange("aggregate"), Location::caller(), &[]);
        let here = Rc::new(aggregation);
        let at_home = Rc::clone(&here);
        let partial = How {
            add: move |into: &mut ByKey<K, A::Value>, record: T| match into.entry(key(&record)) {
                Entry::Occupied(mut into) => here.add(into.get_mut(), &record),
                Entry::Vacant(place) => {
                    place.insert(here.init(&record));
                }
            },
            finish: |results: ByKey<K, A::Value>| results.into_iter(),
            held: |results: &ByKey<K, A::Value>| results.len(),
        };
        let whole = How {
            add: move |into: &mut ByKey<K, A::Value>, (key, other): (K, A::Value)| match into
                .entry(key)
            {
                Entry::Occupied(mut into) => at_home.combine(into.get_mut(), other),
                Entry::Vacant(place) => {
                    place.insert(other);
                }
            },
            finish: |results: ByKey<K, A::Value>| results.into_iter(),
            held: |results: &ByKey<K, A::Value>| results.len(),
        };
        let raw = gather_at_home(gather_here(raw, &part, partial), &part.counted(), whole);
        part.at_home().requests::<(K, A::Value), Many>(raw)
    }
}
