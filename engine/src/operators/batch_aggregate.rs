//! `batch_aggregate`: any number of records for each batch, by an aggregation that sees the batch.

use super::emit::{Emit, OF_BATCH};
use super::gather::{Gather, Keys, gather};
use super::group_by::Grouped;
use super::route::{Routing, route};
use crate::aggregates::BatchAggregator;
use crate::batch::Batch;
use crate::dataflow::stream::Stream;
use crate::plan::NodeKind;
use crate::record::{Data, Record};
use std::marker::PhantomData;
use std::panic::Location;
use tidemill_state::keys::Key;

/// Gives what `A` gives, each with its key.
struct ByKey<A, T>(A, PhantomData<fn() -> T>);

impl<K: Key, T: Data, A: BatchAggregator<T>> Gather<K, T> for ByKey<A, T> {
    type Slot = A::State;
    type Out = (K, A::Output);

    fn begin(&mut self, batch: &Batch) -> A::State {
        self.0.begin(batch)
    }

    fn add(&mut self, slot: &mut A::State, record: T) {
        self.0.add(slot, record);
    }

    fn finish(&mut self, key: K, slot: A::State, emit: &mut Emit<(K, A::Output)>) {
        let mut given = Emit::of_batch();
        self.0.finish(slot, &mut given);
        emit.begin_call(OF_BATCH);
        emit.extend(given.records().drain(..).map(|record| (key.clone(), record)));
    }
}

/// Gives what `A` gives.
struct Alone<A, T>(A, PhantomData<fn() -> T>);

impl<T: Data, A: BatchAggregator<T>> Gather<(), T> for Alone<A, T> {
    type Slot = A::State;
    type Out = A::Output;

    fn begin(&mut self, batch: &Batch) -> A::State {
        self.0.begin(batch)
    }

    fn add(&mut self, slot: &mut A::State, record: T) {
        self.0.add(slot, record);
    }

    fn finish(&mut self, (): (), slot: A::State, emit: &mut Emit<A::Output>) {
        emit.begin_call(OF_BATCH);
        self.0.finish(slot, emit);
    }
}

impl<'s, K: Key, T: Record + Data, F: FnMut(&T) -> K + 'static> Grouped<'s, K, T, F> {
    /// Gives, for each batch and key that it has, what the aggregation gives, each with the key.
    ///
    /// # Contract
    /// As [`BatchAggregator`] says: one beginning and one end for each key of each batch. See there
    /// for an example.
    #[track_caller]
    pub fn batch_aggregate<A: BatchAggregator<T>>(
        self,
        aggregation: A,
    ) -> Stream<'s, (K, A::Output)> {
        let site =
            self.stream.site.behind(NodeKind::Exchange("batch_aggregate"), Location::caller(), &[]);
        let parcels = route(self, &site, Routing::WHOLE, |record| record);
        gather(parcels, site, Keys::OfItems, ByKey(aggregation, PhantomData))
    }
}

impl<'s, T: Record + Data> Stream<'s, T> {
    /// Gives, for each batch, what the aggregation gives for all of its records here.
    ///
    /// # Contract
    /// As [`BatchAggregator`] says: one beginning and one end for each batch, on one worker, also
    /// when no record of the batch reaches it.
    #[track_caller]
    pub fn batch_aggregate<A: BatchAggregator<T>>(self, aggregation: A) -> Stream<'s, A::Output> {
        let site = self.site.behind(NodeKind::Exchange("batch_aggregate"), Location::caller(), &[]);
        let parcels = route(self.group_by(|_| ()), &site, Routing::WHOLE, |record| record);
        gather(parcels, site, Keys::One(()), Alone(aggregation, PhantomData))
    }
}
