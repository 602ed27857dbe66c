//! `co_group_batch`: the records of two streams that have the same key, in each batch. Trident's
//! `multiReduce`.

use super::emit::{Emit, OF_BATCH};
use super::gather::{Gather, Keys, gather};
use super::group_by::Grouped;
use super::route::{Routing, route};
use crate::batch::Batch;
use crate::dataflow::stream::Stream;
use crate::plan::NodeKind;
use crate::record::{Data, Record};
use serde::{Deserialize, Serialize};
use std::marker::PhantomData;
use std::panic::Location;
use tidemill_state::keys::Key;
use timely::dataflow::operators::Concat;

/// A record of one of two streams.
#[derive(Clone, Serialize, Deserialize)]
pub(super) enum Side<L, R> {
    Left(L),
    Right(R),
}

struct CoGrouping<L, R, U, C> {
    call: C,
    types: PhantomData<fn(L, R) -> U>,
}

impl<K, L, R, U, C> Gather<K, Side<L, R>> for CoGrouping<L, R, U, C>
where
    L: Data,
    R: Data,
    U: Record,
    C: FnMut(K, Vec<L>, Vec<R>, &mut Emit<U>) + 'static,
{
    type Slot = (Vec<L>, Vec<R>);
    type Out = U;

    fn begin(&mut self, _: &Batch) -> Self::Slot {
        (Vec::new(), Vec::new())
    }

    fn add(&mut self, slot: &mut Self::Slot, item: Side<L, R>) {
        match item {
            Side::Left(left) => slot.0.push(left),
            Side::Right(right) => slot.1.push(right),
        }
    }

    fn finish(&mut self, key: K, (left, right): Self::Slot, emit: &mut Emit<U>) {
        emit.begin_call(OF_BATCH);
        (self.call)(key, left, right, emit);
    }
}

impl<'s, K: Key, L: Record + Data, F: FnMut(&L) -> K + 'static> Grouped<'s, K, L, F> {
    /// Calls `f`, for each key of each batch, with the records of both streams that have it in that
    /// batch; what it emits is the result.
    ///
    /// # Contract
    /// Each key once per batch that has it on either side, on the worker that owns it; the other
    /// side may be empty. Each side's records are in the order of their source partition. Records
    /// of other batches do not meet here: look those up in a state.
    ///
    /// ```
    /// # use tidemill_engine::testing::Kit;
    /// let mut kit = Kit::new(|topology, io| {
    ///     let orders = topology.source("orders", io.source::<(String, u64)>("orders")).group_by(|(item, _)| item.clone());
    ///     let stock = topology.source("stock", io.source::<(String, u64)>("stock")).group_by(|(item, _)| item.clone());
    ///     let short = orders.co_group_batch(stock, |item, orders, stock, short| {
    ///         let sum = |side: &[(String, u64)]| side.iter().map(|(_, n)| n).sum::<u64>();
    ///         if sum(&orders) > sum(&stock) {
    ///             short.push(item);
    ///         }
    ///     });
    ///     short.sink("short", io.sink("short"));
    /// });
    /// kit.feed("orders", [("tea", 2u64), ("tea", 3), ("milk", 1)].map(|(item, n)| (item.to_string(), n)));
    /// kit.feed("stock", [("tea", 4u64), ("milk", 1)].map(|(item, n)| (item.to_string(), n)));
    /// kit.step();
    /// assert_eq!(kit.output::<String>("short"), ["tea"]);
    /// ```
    #[track_caller]
    pub fn co_group_batch<R: Record + Data, G: FnMut(&R) -> K + 'static, U: Record>(
        self,
        other: Grouped<'s, K, R, G>,
        f: impl FnMut(K, Vec<L>, Vec<R>, &mut Emit<U>) + 'static,
    ) -> Stream<'s, U> {
        self.co_gathered(
            "co_group_batch",
            Location::caller(),
            other,
            CoGrouping { call: f, types: PhantomData },
        )
    }

    pub(super) fn co_gathered<
        R: Record + Data,
        G: FnMut(&R) -> K + 'static,
        B: Gather<K, Side<L, R>>,
    >(
        self,
        kind: &'static str,
        at: &'static Location<'static>,
        other: Grouped<'s, K, R, G>,
        gathering: B,
    ) -> Stream<'s, B::Out> {
        let site = self.stream.site.behind(NodeKind::Exchange(kind), at, &[other.stream.site.node]);
        let left = route(self, &site, Routing::WHOLE, Side::Left);
        let right = route(other, &site, Routing::WHOLE, Side::Right);
        gather(left.concat(right), site, Keys::OfItems, gathering)
    }
}
