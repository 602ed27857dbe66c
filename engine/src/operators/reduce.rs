//! `reduce`: results per batch of an aggregation that has no partial results.

use super::emit::Emit;
use super::gather::{Gather, Keys, gather};
use super::group_by::Grouped;
use super::route::{Routing, route};
use crate::aggregates::Reducer;
use crate::batch::Batch;
use crate::dataflow::stream::Stream;
use crate::plan::NodeKind;
use crate::record::{Data, Record};
use std::marker::PhantomData;
use std::panic::Location;
use tidemill_state::keys::Key;

struct Reducing<R, T>(R, PhantomData<fn() -> T>);

/// Each key with its result.
struct ByKey<R, T>(Reducing<R, T>);

impl<K: Key, T: Data, R: Reducer<T>> Gather<K, T> for ByKey<R, T> {
    type Slot = R::Value;
    type Out = (K, R::Value);

    fn begin(&mut self, _: &Batch) -> R::Value {
        self.0.0.init()
    }

    fn add(&mut self, slot: &mut R::Value, record: T) {
        self.0.0.reduce(slot, record);
    }

    fn finish(&mut self, key: K, slot: R::Value, emit: &mut Emit<(K, R::Value)>) {
        emit.records().push((key, slot));
    }
}

impl<T: Data, R: Reducer<T>> Gather<(), T> for Reducing<R, T> {
    type Slot = R::Value;
    type Out = R::Value;

    fn begin(&mut self, _: &Batch) -> R::Value {
        self.0.init()
    }

    fn add(&mut self, slot: &mut R::Value, record: T) {
        self.0.reduce(slot, record);
    }

    fn finish(&mut self, (): (), slot: R::Value, emit: &mut Emit<R::Value>) {
        emit.records().push(slot);
    }
}

impl<'s, K: Key, T: Record + Data, F: FnMut(&T) -> K + 'static> Grouped<'s, K, T, F> {
    /// Gives, for each batch, one `(key, result)` for each key that the batch has.
    ///
    /// # Contract
    /// All records travel to the worker that owns their key, and are taken in there in the order of
    /// their source partition; between partitions there is none. Each key comes once per batch. A
    /// panic in the reducer names the key; what is done about it is
    /// [`crate::Topology::on_failure`]'s.
    ///
    /// ```
    /// # use tidemill_engine::{aggregates::fold, testing::Kit};
    /// let mut kit = Kit::new(|topology, io| {
    ///     let words = topology.source("in", io.source::<String>("in")).group_by(|word| word.len());
    ///     words.reduce(fold(String::new, |text: &mut String, word: String| text.push_str(&word))).sink("out", io.sink("out"));
    /// });
    /// kit.feed("in", ["ab", "c", "de"].map(String::from));
    /// kit.step();
    /// let mut out = kit.output::<(usize, String)>("out");
    /// out.sort();
    /// assert_eq!(out, [(1, "c".to_string()), (2, "abde".to_string())]);
    /// ```
    #[track_caller]
    pub fn reduce<R: Reducer<T>>(self, reducer: R) -> Stream<'s, (K, R::Value)> {
        let site = self.stream.site.behind(NodeKind::Exchange("reduce"), Location::caller(), &[]);
        let parcels = route(self, &site, Routing::WHOLE, |record| record);
        gather(parcels, site, Keys::OfItems, ByKey(Reducing(reducer, PhantomData)))
    }
}

impl<'s, T: Record + Data> Stream<'s, T> {
    /// Gives one result for each batch, over all of its records here.
    ///
    /// # Contract
    /// Exactly one value per batch, on one worker: that of no records if none reaches it. Else as
    /// for [`Grouped::reduce`].
    #[track_caller]
    pub fn reduce<R: Reducer<T>>(self, reducer: R) -> Stream<'s, R::Value> {
        let site = self.site.behind(NodeKind::Exchange("reduce"), Location::caller(), &[]);
        let parcels = route(self.group_by(|_| ()), &site, Routing::WHOLE, |record| record);
        gather(parcels, site, Keys::One(()), Reducing(reducer, PhantomData))
    }
}
