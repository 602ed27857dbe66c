//! `aggregate`: results per batch, grouped or over the whole batch.

use super::combine::{Parcel, by_owner, combine};
use super::group_by::Grouped;
use crate::aggregates::Combiner;
use crate::chunk::Chunk;
use crate::failure::Guard;
use crate::plan::NodeKind;
use crate::slice::Slice;
use crate::stream::{Record, Stream, activator};
use hashbrown::hash_map::{Entry, HashMap};
use std::collections::BTreeMap;
use std::panic::Location;
use std::rc::Rc;
use tidemill_state::keys::{self, Key};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::frontier::MutableAntichain;

impl<'s, K: Key, T: Record, F: FnMut(&T) -> K + 'static> Grouped<'s, K, T, F> {
    /// Gives, for each batch, one `(key, result)` for each key that the batch has.
    ///
    /// # Contract
    /// Each key comes once per batch, on the worker that owns it, in no particular order. See [`Stream::group_by`] for an example.
    #[track_caller]
    pub fn aggregate<A: Combiner<T>>(self, aggregation: A) -> Stream<'s, (K, A::Value)> {
        let context = Rc::clone(&self.stream.context);
        let node = context.plan.borrow_mut().add(NodeKind::Exchange("aggregate"), Location::caller(), &[self.stream.node]);
        let (aggregation, guard) = (Rc::new(aggregation), Guard::new(&context, node));
        let parcels = combine(self, Rc::clone(&aggregation), node);
        let mut builder = OperatorBuilder::new("aggregate".to_string(), parcels.scope());
        let activator = activator(&parcels, &builder.operator_info());
        let mut input = builder.new_input(parcels, by_owner());
        let (mut output, raw) = builder.new_output::<Chunk<(K, A::Value)>>();
        builder.build(move |_| {
            let mut open: BTreeMap<u64, Batch<K, A::Value>> = BTreeMap::new();
            move |frontiers: &[MutableAntichain<u64>]| {
                input.for_each(|capability, parcels: &mut Vec<Parcel<K, A::Value>>| {
                    if let Some(capability) = capability.retain_least(0) {
                        open.entry(*capability.time()).or_insert_with(|| Batch::new(capability)).parcels.append(parcels);
                    }
                });
                let mut slice = Slice::begin();
                let mut session = output.activate();
                while guard.is_running()
                    && let Some((txid, batch)) =
                        open.first_key_value().map(|(txid, _)| *txid).and_then(|txid| Some((txid, open.get_mut(&txid)?)))
                    && !frontiers[0].less_equal(&txid)
                {
                    guard.at_batch(Some(txid));
                    let well = guard.run(None, |_| {
                        batch.merge(&*aggregation, &mut slice);
                        Ok(())
                    });
                    if !well {
                        return;
                    }
                    let mut results = Chunk::of(batch.take_results(&mut slice));
                    session.give(&batch.capability, &mut results);
                    if slice.was_over() {
                        activator.activate();
                        return;
                    }
                    open.remove(&txid);
                }
            }
        });
        Stream { raw, context, node }
    }
}

/// One batch's partial results at their owner.
struct Batch<K, V> {
    capability: Capability<u64>,
    parcels: Vec<Parcel<K, V>>,
    merged: HashMap<K, V, foldhash::fast::RandomState>,
    results: Option<hashbrown::hash_map::IntoIter<K, V>>,
}

impl<K: Key, V: crate::states::Value> Batch<K, V> {
    fn new(capability: Capability<u64>) -> Batch<K, V> {
        Batch { capability, parcels: Vec::new(), merged: HashMap::default(), results: None }
    }

    fn merge<T, A: Combiner<T, Value = V>>(&mut self, aggregation: &A, slice: &mut Slice) {
        while let Some(parcel) = self.parcels.last_mut() {
            while let Some((_, key, value)) = parcel.items.pop() {
                match self.merged.entry(key) {
                    Entry::Occupied(mut into) => aggregation.combine(into.get_mut(), value),
                    Entry::Vacant(place) => {
                        place.insert(value);
                    }
                }
                if slice.is_over() {
                    return;
                }
            }
            self.parcels.pop();
        }
    }

    /// The next results, once all is merged; all of them if the slice is not over.
    fn take_results(&mut self, slice: &mut Slice) -> Vec<(K, V)> {
        let mut taken = Vec::new();
        if slice.was_over() {
            return taken;
        }
        let results = self.results.get_or_insert_with(|| std::mem::take(&mut self.merged).into_iter());
        for result in results {
            taken.push(result);
            if slice.is_over() {
                break;
            }
        }
        taken
    }
}

impl<'s, T: Record> Stream<'s, T> {
    /// Gives one result for each batch, over all of its records here.
    ///
    /// # Contract
    /// Exactly one value per batch, on one worker: the aggregation's zero if no record of the batch reaches it. An aggregation without a zero
    /// ([`crate::aggregates::Min`], [`crate::aggregates::Max`]) gives nothing for such a batch.
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
        let context = Rc::clone(&self.context);
        let node = context.plan.borrow_mut().add(NodeKind::Exchange("aggregate"), Location::caller(), &[self.node]);
        let (aggregation, guard) = (Rc::new(aggregation), Guard::new(&context, node));
        let parcels = combine(self.group_by(|_| ()), Rc::clone(&aggregation), node);
        let mut encoded = Vec::new();
        keys::encode_key(&(), &mut encoded).expect("the unit can be a key");
        let owner = keys::group_of(keys::hash_key(&encoded), context.key_groups).owner(context.peers);
        let (is_owner, mut next) = (owner == context.index, context.after.next().0);
        let mut builder = OperatorBuilder::new("aggregate".to_string(), parcels.scope());
        let mut input = builder.new_input(parcels, by_owner());
        let (mut output, raw) = builder.new_output::<Chunk<A::Value>>();
        builder.build(move |mut capabilities| {
            // Held by the owner, and moved on with the frontier: the right to give a value for a batch of which no record comes.
            let mut held = capabilities.pop().filter(|_| is_owner);
            let mut results: BTreeMap<u64, A::Value> = BTreeMap::new();
            move |frontiers: &[MutableAntichain<u64>]| {
                input.for_each(|capability, parcels: &mut Vec<Parcel<(), A::Value>>| {
                    let Some(txid) = capability.least().copied() else { return };
                    guard.at_batch(Some(txid));
                    for (_, (), value) in parcels.drain(..).flat_map(|parcel| parcel.items) {
                        guard.run(None, |_| {
                            match results.remove(&txid) {
                                Some(mut into) => {
                                    aggregation.combine(&mut into, value);
                                    results.insert(txid, into);
                                }
                                None => {
                                    results.insert(txid, value);
                                }
                            }
                            Ok(())
                        });
                    }
                });
                let (Some(held), Some(frontier)) = (&mut held, frontiers[0].frontier().first().copied()) else { return };
                let mut session = output.activate();
                while next < frontier && guard.is_running() {
                    if let Some(value) = results.remove(&next).or_else(|| aggregation.zero()) {
                        session.give(&held.delayed(&next), &mut Chunk::of(vec![value]));
                    }
                    next += 1;
                }
                if *held.time() < frontier {
                    held.downgrade(&frontier);
                }
            }
        });
        Stream { raw, context, node }
    }
}
