//! The first half of every aggregation that combines: one result per key, worker and batch, sent to the worker that owns the key.

use super::group_by::Grouped;
use crate::aggregates::Combiner;
use crate::chunk::Chunk;
use crate::failure::Guard;
use crate::plan::NodeId;
use crate::slice::Slice;
use crate::stream::{Raw, Record, activator};
use hashbrown::HashTable;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::rc::Rc;
use tidemill_state::keys::{self, Key};
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::frontier::MutableAntichain;

/// Results on their way to the worker that owns their keys. Each key comes with its stable hash.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound(deserialize = "K: serde::de::DeserializeOwned, V: serde::de::DeserializeOwned"))]
pub(crate) struct Parcel<K, V> {
    pub(crate) to: u64,
    /// Which part of its owner's key groups all of its keys are in.
    pub(crate) part: usize,
    pub(crate) items: Vec<(u64, K, V)>,
}

/// How many results travel together.
const PARCEL_ITEMS: usize = 256;

/// In how many parts a worker's key groups are divided. A state applies a batch part by part and encodes each at once, while it is in the processor's cache.
pub(crate) const PARTS: usize = 8;

/// One batch's results on one worker. They lie in the order in which their keys came first, so that those of frequent keys lie close together and stay in
/// the processor's cache; a hash table of the results themselves would scatter them.
struct Results<K, V> {
    hasher: foldhash::fast::FixedState,
    /// Where in `results` a key's result is.
    index: HashTable<u32>,
    results: Vec<Partial<K, V>>,
}

/// The result of one key.
struct Partial<K, V> {
    hash: u64,
    key: K,
    value: V,
}

impl<K, V> Default for Results<K, V> {
    fn default() -> Self {
        Results { hasher: foldhash::fast::FixedState::with_seed(RESULTS_SEED), index: HashTable::new(), results: Vec::new() }
    }
}

/// Any number: the keys are spread by another hash over workers, so this one need not be random per run to keep tables even.
const RESULTS_SEED: u64 = 0x7469_6465_6d69_6c6c;

/// How many records are looked up together.
const RECORDS_AT_ONCE: usize = 32;

impl<K: Key, V> Results<K, V> {
    /// Adds these records, whose keys and their hashes are `keys`, to their keys' results.
    ///
    /// First every record's result is looked for, without using it: the reads do not depend on each other, and so overlap. One after the other, each would wait
    /// for memory.
    fn add_all<T, A: Combiner<T, Value = V>>(
        &mut self,
        records: &[T],
        keys: &mut Vec<(u64, K)>,
        aggregation: &A,
        mut at: impl FnMut(usize),
    ) {
        let mut places = [u32::MAX; RECORDS_AT_ONCE];
        for ((hash, _), first) in keys.iter().zip(&mut places) {
            // The first place that may be the key's nearly always is: it is not compared here.
            self.index.find(*hash, |place| {
                *first = *place;
                true
            });
        }
        let touched =
            places.iter().filter_map(|place| self.results.get(*place as usize)).fold(0, |seen, partial| seen ^ partial.hash);
        std::hint::black_box(touched);
        for (number, ((record, (hash, key)), place)) in records.iter().zip(keys.drain(..)).zip(places).enumerate() {
            at(number);
            match self.results.get_mut(place as usize) {
                Some(partial) if partial.hash == hash && partial.key == key => aggregation.add(&mut partial.value, record),
                _ => self.add(hash, key, record, aggregation),
            }
        }
    }

    fn add<T, A: Combiner<T, Value = V>>(&mut self, hash: u64, key: K, record: &T, aggregation: &A) {
        let Results { index, results, .. } = self;
        let same = |place: &u32| {
            let partial = &results[*place as usize];
            partial.hash == hash && partial.key == key
        };
        if let Some(place) = index.find(hash, same) {
            aggregation.add(&mut results[*place as usize].value, record);
            return;
        }
        let place = u32::try_from(results.len()).expect("a batch has fewer than 2^32 keys on one worker");
        results.push(Partial { hash, key, value: aggregation.init(record) });
        index.insert_unique(hash, place, |moved| results[*moved as usize].hash);
    }

    /// Makes it ready for another batch; the memory is kept.
    fn clear(&mut self) {
        self.index.clear();
        self.results.clear();
    }
}

/// One batch that is being filled, or drained in slices.
struct Open<K, V> {
    capability: Capability<u64>,
    results: Results<K, V>,
}

/// Puts the operator behind `grouped`. The results come out at their batch, on the worker that sends them; read them with [`by_owner`].
pub(crate) fn combine<'s, K, T, F, A>(
    grouped: Grouped<'s, K, T, F>,
    aggregation: Rc<A>,
    node: NodeId,
) -> Raw<'s, Vec<Parcel<K, A::Value>>>
where
    K: Key,
    T: Record,
    F: FnMut(&T) -> K + 'static,
    A: Combiner<T>,
{
    let Grouped { stream, mut key, .. } = grouped;
    let (raw, context) = (stream.raw, stream.context);
    let guard = Guard::new(&context, node);
    let (peers, groups) = (context.peers, context.key_groups);
    let mut builder = OperatorBuilder::new("combine".to_string(), raw.scope());
    let activator = activator(&raw, &builder.operator_info());
    let mut input = builder.new_input(raw, Pipeline);
    let (mut output, parcels) = builder.new_output::<Vec<Parcel<K, A::Value>>>();
    builder.build(move |_| {
        let mut open: BTreeMap<u64, Open<K, A::Value>> = BTreeMap::new();
        let mut spare: Vec<Results<K, A::Value>> = Vec::new();
        let mut sorter = Sorter::new(peers, groups);
        let mut keys = Vec::with_capacity(RECORDS_AT_ONCE);
        move |frontiers: &[MutableAntichain<u64>]| {
            input.for_each(|capability, chunk: &mut Chunk<T>| {
                let Some(capability) = capability.retain_least(0) else { return };
                guard.at_batch(Some(*capability.time()));
                if !guard.is_running() {
                    return;
                }
                let batch = open.entry(*capability.time());
                let batch = batch.or_insert_with(|| Open { capability, results: spare.pop().unwrap_or_default() });
                let chunk = std::mem::take(chunk);
                guard.run(chunk.origin.as_ref(), |at| {
                    for (group, records) in chunk.items.chunks(RECORDS_AT_ONCE).enumerate() {
                        let first = group * RECORDS_AT_ONCE;
                        keys.clear();
                        for (number, record) in records.iter().enumerate() {
                            at.set(first + number);
                            let key = key(record);
                            keys.push((batch.results.hasher.hash_one(&key), key));
                        }
                        batch.results.add_all(records, &mut keys, &*aggregation, |number| at.set(first + number));
                    }
                    Ok(())
                });
            });
            let mut slice = Slice::begin();
            let mut session = output.activate();
            while guard.is_running()
                && let Some(mut first) = open.first_entry()
                && !frontiers[0].less_equal(first.key())
            {
                guard.at_batch(Some(*first.key()));
                let batch = first.get_mut();
                while let Some(Partial { key, value, .. }) = batch.results.results.pop() {
                    match sorter.sort(key, value) {
                        Ok(Some(parcel)) => session.give(&batch.capability, &mut vec![parcel]),
                        Ok(None) => {}
                        Err(error) => guard.fail(&error.to_string(), None),
                    }
                    if slice.is_over() {
                        break;
                    }
                }
                if !batch.results.results.is_empty() {
                    activator.activate();
                    return;
                }
                session.give(&batch.capability, &mut sorter.rest());
                let mut drained = first.remove().results;
                drained.clear();
                spare.push(drained);
            }
        }
    });
    parcels
}

/// How parcels find the worker that owns their keys.
pub(crate) fn by_owner<K: Key, V: crate::states::Value>() -> Exchange<Parcel<K, V>, impl FnMut(&Parcel<K, V>) -> u64 + 'static> {
    Exchange::new(|parcel: &Parcel<K, V>| parcel.to)
}

/// Sorts results into parcels, one for each worker.
struct Sorter<K, V> {
    groups: u16,
    peers: usize,
    /// By owner and part.
    parcels: Vec<Parcel<K, V>>,
    encoded: Vec<u8>,
}

impl<K: Key, V> Sorter<K, V> {
    fn new(peers: usize, groups: u16) -> Sorter<K, V> {
        let parcel = |at: usize| Parcel { to: (at / PARTS) as u64, part: at % PARTS, items: Vec::new() };
        Sorter { groups, peers, parcels: (0..peers * PARTS).map(parcel).collect(), encoded: Vec::new() }
    }

    /// Puts a result into its owner's parcel; gives the parcel if it is full.
    fn sort(&mut self, key: K, value: V) -> tidemill_state::Result<Option<Parcel<K, V>>> {
        keys::encode_key(&key, &mut self.encoded)?;
        let hash = keys::hash_key(&self.encoded);
        let group = keys::group_of(hash, self.groups);
        let part = usize::from(group.0) / self.peers % PARTS;
        let parcel = &mut self.parcels[group.owner(self.peers) * PARTS + part];
        if parcel.items.capacity() == 0 {
            parcel.items.reserve_exact(PARCEL_ITEMS);
        }
        parcel.items.push((hash, key, value));
        let full = parcel.items.len() >= PARCEL_ITEMS;
        Ok(full.then(|| Parcel { to: parcel.to, part: parcel.part, items: std::mem::take(&mut parcel.items) }))
    }

    /// The parcels that are not full.
    fn rest(&mut self) -> Vec<Parcel<K, V>> {
        let parcels = self.parcels.iter_mut().filter(|parcel| !parcel.items.is_empty());
        parcels.map(|parcel| Parcel { to: parcel.to, part: parcel.part, items: std::mem::take(&mut parcel.items) }).collect()
    }
}
