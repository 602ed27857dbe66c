//! The first half of every aggregation that combines: one result per key, worker and batch, sent to the worker that owns the key.

use super::group_by::Grouped;
use crate::aggregates::Combiner;
use crate::chunk::Chunk;
use crate::failure::Guard;
use crate::plan::NodeId;
use crate::slice::Slice;
use crate::stream::{Raw, Record, activator};
use hashbrown::hash_map::{Entry, HashMap};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
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
    pub(crate) items: Vec<(u64, K, V)>,
}

/// How many results travel together.
const PARCEL_ITEMS: usize = 256;

type Results<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// One batch's results on one worker: filled while records come, then drained in slices.
struct Open<K, V> {
    capability: Capability<u64>,
    results: Results<K, V>,
}

/// The way of one batch's results out of the worker.
struct Draining<K, V> {
    capability: Capability<u64>,
    results: hashbrown::hash_map::IntoIter<K, V>,
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
        let mut draining: Option<Draining<K, A::Value>> = None;
        let mut expected = 0;
        let mut sorter = Sorter::new(peers, groups);
        move |frontiers: &[MutableAntichain<u64>]| {
            input.for_each(|capability, chunk: &mut Chunk<T>| {
                let Some(capability) = capability.retain_least(0) else { return };
                guard.at_batch(Some(*capability.time()));
                if !guard.is_running() {
                    return;
                }
                let batch = open.entry(*capability.time()).or_insert_with(|| Open {
                    capability,
                    results: HashMap::with_capacity_and_hasher(expected, foldhash::fast::RandomState::default()),
                });
                let chunk = std::mem::take(chunk);
                guard.run(chunk.origin.as_ref(), |at| {
                    for (index, record) in chunk.items.iter().enumerate() {
                        at.set(index);
                        match batch.results.entry(key(record)) {
                            Entry::Occupied(mut result) => aggregation.add(result.get_mut(), record),
                            Entry::Vacant(place) => {
                                place.insert(aggregation.init(record));
                            }
                        }
                    }
                    Ok(())
                });
            });
            let mut slice = Slice::begin();
            let mut session = output.activate();
            while guard.is_running() && !slice.was_over() {
                if draining.is_none() {
                    match open.first_entry() {
                        Some(batch) if !frontiers[0].less_equal(batch.key()) => {
                            let Open { capability, results } = batch.remove();
                            expected = results.len();
                            draining = Some(Draining { capability, results: results.into_iter() });
                        }
                        _ => break,
                    }
                }
                let Some(batch) = &mut draining else { break };
                guard.at_batch(Some(*batch.capability.time()));
                for (key, value) in batch.results.by_ref() {
                    match sorter.sort(key, value) {
                        Ok(Some(parcel)) => session.give(&batch.capability, &mut vec![parcel]),
                        Ok(None) => {}
                        Err(error) => guard.fail(&error.to_string(), None),
                    }
                    if slice.is_over() {
                        break;
                    }
                }
                if batch.results.len() == 0 {
                    session.give(&batch.capability, &mut sorter.rest());
                    draining = None;
                }
            }
            if draining.is_some() || slice.was_over() {
                activator.activate();
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
    parcels: Vec<Parcel<K, V>>,
    encoded: Vec<u8>,
}

impl<K: Key, V> Sorter<K, V> {
    fn new(peers: usize, groups: u16) -> Sorter<K, V> {
        let parcels = (0..peers as u64).map(|to| Parcel { to, items: Vec::new() }).collect();
        Sorter { groups, parcels, encoded: Vec::new() }
    }

    /// Puts a result into its owner's parcel; gives the parcel if it is full.
    fn sort(&mut self, key: K, value: V) -> tidemill_state::Result<Option<Parcel<K, V>>> {
        keys::encode_key(&key, &mut self.encoded)?;
        let hash = keys::hash_key(&self.encoded);
        let owner = keys::group_of(hash, self.groups).owner(self.parcels.len());
        let parcel = &mut self.parcels[owner];
        if parcel.items.capacity() == 0 {
            parcel.items.reserve_exact(PARCEL_ITEMS);
        }
        parcel.items.push((hash, key, value));
        let full = parcel.items.len() >= PARCEL_ITEMS;
        Ok(full.then(|| Parcel { to: parcel.to, items: std::mem::take(&mut parcel.items) }))
    }

    /// The parcels that are not full.
    fn rest(&mut self) -> Vec<Parcel<K, V>> {
        let parcels = self.parcels.iter_mut().filter(|parcel| !parcel.items.is_empty());
        parcels.map(|parcel| Parcel { to: parcel.to, items: std::mem::take(&mut parcel.items) }).collect()
    }
}
