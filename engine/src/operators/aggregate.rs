//! `aggregate`: results per batch, grouped or over the whole batch.

use super::combine::combine;
use super::emit::Emit;
use super::gather::{Gather, Keys, gather};
use super::group_by::Grouped;
use crate::aggregates::Combiner;
use crate::batch::Batch;
use crate::dataflow::stream::Stream;
use crate::plan::NodeKind;
use crate::record::Record;
use std::marker::PhantomData;
use std::panic::Location;
use std::rc::Rc;
use tidemill_state::keys::Key;

impl<'s, K: Key, T: Record, F: FnMut(&T) -> K + 'static> Grouped<'s, K, T, F> {
    /// Gives, for each batch, one `(key, result)` for each key that the batch has.
    ///
    /// # Contract
    /// Each key comes once per batch, on the worker that owns it, in no particular order. See
    /// [`Stream::group_by`] for an example.
    #[track_caller]
    pub fn aggregate<A: Combiner<T>>(self, aggregation: A) -> Stream<'s, (K, A::Value)> {
        let site =
            self.stream.site.behind(NodeKind::Exchange("aggregate"), Location::caller(), &[]);
        let aggregation = Rc::new(aggregation);
        let parcels = combine(self, Rc::clone(&aggregation), &site);
        gather(parcels, site, Keys::OfItems, ByKey(Combining(aggregation, PhantomData)))
    }
}

/// Combines results; those of no records are the zero.
pub(super) struct Combining<A, T>(pub(super) Rc<A>, pub(super) PhantomData<fn() -> T>);

impl<T: 'static, A: Combiner<T>> Combining<A, T> {
    fn take(&self, slot: &mut Option<A::Value>, result: A::Value) {
        match slot {
            Some(into) => self.0.combine(into, result),
            None => *slot = Some(result),
        }
    }
}

/// Each key with its result.
struct ByKey<A, T>(Combining<A, T>);

impl<K: Key, T: 'static, A: Combiner<T>> Gather<K, A::Value> for ByKey<A, T> {
    type Slot = Option<A::Value>;
    type Out = (K, A::Value);

    fn begin(&mut self, _: &Batch) -> Option<A::Value> {
        None
    }

    fn add(&mut self, slot: &mut Option<A::Value>, result: A::Value) {
        self.0.take(slot, result);
    }

    fn finish(&mut self, key: K, slot: Option<A::Value>, emit: &mut Emit<(K, A::Value)>) {
        emit.records().extend(slot.map(|result| (key, result)));
    }
}

/// The one result, or the zero.
impl<T: 'static, A: Combiner<T>> Gather<(), A::Value> for Combining<A, T> {
    type Slot = Option<A::Value>;
    type Out = A::Value;

    fn begin(&mut self, _: &Batch) -> Option<A::Value> {
        None
    }

    fn add(&mut self, slot: &mut Option<A::Value>, result: A::Value) {
        self.take(slot, result);
    }

    fn finish(&mut self, (): (), slot: Option<A::Value>, emit: &mut Emit<A::Value>) {
        emit.records().extend(slot.or_else(|| self.0.zero()));
    }
}

impl<'s, T: Record> Stream<'s, T> {
    /// Gives one result for each batch, over all of its records here.
    ///
    /// # Contract
    /// Exactly one value per batch, on one worker: the aggregation's zero if no record of the batch
    /// reaches it. An aggregation without a zero ([`crate::aggregates::Min`],
    /// [`crate::aggregates::Max`]) gives nothing for such a batch.
    ///
    /// ```
    /// # use tidemill_engine::{aggregates::Count, testing::Kit};
    /// let mut kit = Kit::new(|topology, io| {
    ///     topology.source("in", io.source::<u64>("in")).filter(|n| *n > 1).aggregate(Count).sink("out", io.sink("out"));
    /// });
    /// kit.feed("in", [1u64, 2, 3]);
    /// kit.step();
    /// kit.feed("in", [1u64]);
    /// kit.step();
    /// assert_eq!(kit.output::<u64>("out"), [2, 0]);
    /// ```
    #[track_caller]
    pub fn aggregate<A: Combiner<T>>(self, aggregation: A) -> Stream<'s, A::Value> {
        self.aggregate_as("aggregate", Location::caller(), aggregation)
    }

    /// As [`Stream::aggregate`], for an operator that goes by another name.
    pub(super) fn aggregate_as<A: Combiner<T>>(
        self,
        kind: &'static str,
        at: &'static Location<'static>,
        aggregation: A,
    ) -> Stream<'s, A::Value> {
        let site = self.site.behind(NodeKind::Exchange(kind), at, &[]);
        let aggregation = Rc::new(aggregation);
        let parcels = combine(self.group_by(|_| ()), Rc::clone(&aggregation), &site);
        gather(parcels, site, Keys::One(()), Combining(aggregation, PhantomData))
    }
}
