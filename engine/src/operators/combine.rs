//! The first half of every aggregation that combines: one result per key, worker and batch, sent to
//! the worker that owns the key.

use super::group_by::Grouped;
use super::route::{PARTS, Parcel, Sorter};
use crate::aggregates::Combiner;
use crate::batch::chunk::{Chunk, leave_out};
use crate::batch::slice::TimeSlice;
use crate::dataflow::context::Site;
use crate::dataflow::guard::Guard;
use crate::dataflow::stream::{Raw, activator};
use crate::panics::naming;
use crate::record::Record;
use hashbrown::HashTable;
use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::rc::Rc;
use tidemill_state::keys::Key;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::frontier::MutableAntichain;

/// One batch's results on one worker. They lie in the order in which their keys came first, so that
/// those of frequent keys lie close together and stay in the processor's cache; a hash table of the
/// results themselves would scatter them.
struct Results<K, V> {
    hasher: foldhash::fast::FixedState,
    /// The index in `results` of a key's result.
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
        Results {
            hasher: foldhash::fast::FixedState::with_seed(RESULTS_SEED),
            index: HashTable::new(),
            results: Vec::new(),
        }
    }
}

/// Any number: the keys are spread by another hash over workers, so this one need not be random per
/// run to keep tables even.
const RESULTS_SEED: u64 = 0x7469_6465_6d69_6c6c;

/// The number of results that travel together.
const RESULTS_AT_ONCE: usize = 256;

/// The number of records that are looked up together.
const RECORDS_AT_ONCE: usize = 32;

impl<K: Key, V> Results<K, V> {
    /// Adds these records, whose keys and their hashes are `keys`, to their keys' results.
    ///
    /// First every record's result is looked for, without using it: the reads do not depend on each
    /// other, and so overlap. One after the other, each would wait for memory.
    fn add_all<T, A: Combiner<T, Value = V>>(
        &mut self,
        records: &[T],
        keys: &mut Vec<(u64, K)>,
        aggregation: &A,
    ) {
        let mut places = [u32::MAX; RECORDS_AT_ONCE];
        for ((hash, _), first) in keys.iter().zip(&mut places) {
            // The first place that may be the key's nearly always is: it is not compared here.
            self.index.find(*hash, |place| {
                *first = *place;
                true
            });
        }
        let touched = places
            .iter()
            .filter_map(|place| self.results.get(*place as usize))
            .fold(0, |seen, partial| seen ^ partial.hash);
        std::hint::black_box(touched);
        for ((record, (hash, key)), place) in records.iter().zip(keys.drain(..)).zip(places) {
            match self.results.get_mut(place as usize) {
                Some(partial) if partial.hash == hash && partial.key == key => {
                    naming(&partial.key, || aggregation.add(&mut partial.value, record));
                }
                _ => self.add(hash, key, record, aggregation),
            }
        }
    }

    fn add<T, A: Combiner<T, Value = V>>(
        &mut self,
        hash: u64,
        key: K,
        record: &T,
        aggregation: &A,
    ) {
        let Results { index, results, .. } = self;
        let same = |place: &u32| {
            let partial = &results[*place as usize];
            partial.hash == hash && partial.key == key
        };
        if let Some(place) = index.find(hash, same) {
            let partial = &mut results[*place as usize];
            naming(&partial.key, || aggregation.add(&mut partial.value, record));
            return;
        }
        let place =
            u32::try_from(results.len()).expect("a batch has fewer than 2^32 keys on one worker");
        let value = naming(&key, || aggregation.init(record));
        results.push(Partial { hash, key, value });
        index.insert_unique(hash, place, |moved| results[*moved as usize].hash);
    }

    /// Sorts results by their owners, and sends the parcels that are full, until the slice is over.
    /// Returns whether no result is left.
    fn drain(
        &mut self,
        slice: &mut TimeSlice,
        sorter: &mut Sorter<K, V>,
        guard: &Guard,
        mut send: impl FnMut(Parcel<K, V>),
    ) -> bool {
        while let Some(Partial { key, value, .. }) = self.results.pop() {
            match sorter.sort(key, value) {
                Ok(Some(parcel)) => send(parcel),
                Ok(None) => {}
                Err(error) => guard.fail(&error.to_string()),
            }
            if slice.is_over() {
                break;
            }
        }
        self.results.is_empty()
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

/// Puts the operator behind `grouped`. The results come out at their batch, on the worker that
/// sends them; read them with [`by_owner`].
pub(crate) fn combine<'s, K, T, F, A>(
    grouped: Grouped<'s, K, T, F>,
    aggregation: Rc<A>,
    site: &Site,
) -> Raw<'s, Vec<Parcel<K, A::Value>>>
where
    K: Key,
    T: Record,
    F: FnMut(&T) -> K + 'static,
    A: Combiner<T>,
{
    let Grouped { stream, mut key, .. } = grouped;
    let (raw, guard) = (stream.read().0, Guard::new(site));
    let site = site.clone();
    let mut builder = OperatorBuilder::new("combine".to_string(), raw.scope());
    let activator = activator(&raw, &builder.operator_info());
    let mut input = builder.new_input(raw, Pipeline);
    let (mut output, parcels) = builder.new_output::<Vec<Parcel<K, A::Value>>>();
    builder.build(move |_| {
        let mut open: BTreeMap<u64, Open<K, A::Value>> = BTreeMap::new();
        let mut spare: Vec<Results<K, A::Value>> = Vec::new();
        let mut sorter = Sorter::new(&site, PARTS, RESULTS_AT_ONCE);
        let (mut keys, mut few) = (Vec::new(), Vec::with_capacity(RECORDS_AT_ONCE));
        move |frontiers: &[MutableAntichain<u64>]| {
            let _busy = guard.meter.busy();
            input.for_each(|capability, chunk: &mut Chunk<T>| {
                let Some(capability) = capability.retain_least(0) else { return };
                guard.at_batch(Some(*capability.time()));
                guard.meter.took(chunk.items.len());
                if !guard.is_running() {
                    return;
                }
                let batch = open.entry(*capability.time());
                let batch = batch.or_insert_with(|| Open {
                    capability,
                    results: spare.pop().unwrap_or_default(),
                });
                let chunk = std::mem::take(chunk);
                // A record whose key fails is set aside, so that what is counted are the others.
                let mut records = chunk.items;
                let Some(set_aside) = guard.each(chunk.origin.as_ref(), &records, |record| {
                    let key = key(record);
                    keys.push((batch.results.hasher.hash_one(&key), key));
                    Ok(())
                }) else {
                    return;
                };
                leave_out(&mut records, &set_aside);
                guard.run(|| {
                    let mut keys = keys.drain(..);
                    for records in records.chunks(RECORDS_AT_ONCE) {
                        few.clear();
                        few.extend(keys.by_ref().take(records.len()));
                        batch.results.add_all(records, &mut few, &*aggregation);
                    }
                    Ok(())
                });
            });
            let mut slice = TimeSlice::begin();
            let mut session = output.activate();
            while guard.is_running()
                && let Some(mut first) = open.first_entry()
                && !frontiers[0].less_equal(first.key())
            {
                guard.at_batch(Some(*first.key()));
                let Open { capability, results } = first.get_mut();
                let send = |parcel| session.give(capability, &mut vec![parcel]);
                if !results.drain(&mut slice, &mut sorter, &guard, send) {
                    activator.activate();
                    return;
                }
                session.give(capability, &mut sorter.rest());
                let mut drained = first.remove().results;
                drained.clear();
                spare.push(drained);
            }
        }
    });
    parcels
}
