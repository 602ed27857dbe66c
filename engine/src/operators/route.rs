//! The way of records to the worker that owns their key.

use super::group_by::Grouped;
use super::open_batches::{OpenBatches, Progress};
use crate::batch::chunk::Chunk;
use crate::batch::slice::TimeSlice;
use crate::dataflow::context::Site;
use crate::dataflow::guard::Guard;
use crate::dataflow::stream::Raw;
use crate::record::{Data, Record};
use crate::table::placement::Placement;
use serde::{Deserialize, Serialize};
use tidemill_state::hot::TOUCHED_AT_ONCE;
use tidemill_state::keys::{self, Key};
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::frontier::MutableAntichain;

/// A parcel of items whose keys one worker owns, on its way to that worker. Each key comes with its
/// stable hash.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound(deserialize = "K: serde::de::DeserializeOwned, V: serde::de::DeserializeOwned"))]
pub(crate) struct Parcel<K, V> {
    pub(crate) to: u64,
    /// Which part of its owner's key groups all of its keys are in.
    pub(crate) part: usize,
    pub(crate) items: Vec<(u64, K, V)>,
}

/// Returns the number of these items.
pub(crate) fn number_in<K, V>(parcels: &[Parcel<K, V>]) -> usize {
    parcels.iter().map(|parcel| parcel.items.len()).sum()
}

/// In how many parts a worker's key groups are divided. A state applies a batch part by part and
/// encodes each at once, while it is in the processor's cache.
pub(crate) const PARTS: usize = 8;

/// Returns the exchange by which parcels reach the worker that owns their keys.
pub(crate) fn by_owner<K: Key, V: Data>()
-> Exchange<Parcel<K, V>, impl FnMut(&Parcel<K, V>) -> u64 + 'static> {
    Exchange::new(|parcel: &Parcel<K, V>| parcel.to)
}

/// Sorts what has keys into parcels, one for each worker and part.
pub(crate) struct Sorter<K, V> {
    placement: Placement,
    groups: u16,
    peers: usize,
    parts: usize,
    most: usize,
    /// By owner and part.
    parcels: Vec<Parcel<K, V>>,
    encoded: Vec<u8>,
}

impl<K: Key, V> Sorter<K, V> {
    /// For parcels of `most` items at most.
    pub(crate) fn new(site: &Site, parts: usize, most: usize) -> Sorter<K, V> {
        let (groups, peers) = (site.context.shared.key_groups, site.context.shared.peers);
        let parcel =
            |at: usize| Parcel { to: (at / parts) as u64, part: at % parts, items: Vec::new() };
        let parcels = (0..peers * parts).map(parcel).collect();
        Sorter {
            placement: Placement::ByKey,
            groups,
            peers,
            parts,
            most,
            parcels,
            encoded: Vec::new(),
        }
    }

    /// Puts an item into its owner's parcel; gives the parcel if it is full.
    pub(crate) fn sort(
        &mut self,
        key: K,
        value: V,
    ) -> tidemill_state::Result<Option<Parcel<K, V>>> {
        keys::encode_key(&key, &mut self.encoded)?;
        let hash = self.placement.hash(&self.encoded, self.groups);
        let group = keys::group_of(hash, self.groups);
        let part = usize::from(group.0) / self.peers % self.parts;
        let parcel = &mut self.parcels[group.owner(self.peers) * self.parts + part];
        if parcel.items.capacity() == 0 {
            parcel.items.reserve_exact(self.most);
        }
        parcel.items.push((hash, key, value));
        let full = parcel.items.len() >= self.most;
        Ok(full.then(|| Parcel {
            to: parcel.to,
            part: parcel.part,
            items: std::mem::take(&mut parcel.items),
        }))
    }

    /// The parcels that are not full.
    pub(crate) fn rest(&mut self) -> Vec<Parcel<K, V>> {
        let parcels = self.parcels.iter_mut().filter(|parcel| !parcel.items.is_empty());
        parcels
            .map(|parcel| Parcel {
                to: parcel.to,
                part: parcel.part,
                items: std::mem::take(&mut parcel.items),
            })
            .collect()
    }
}

/// The settings by which records are sorted on their way.
#[derive(Clone, Copy)]
pub(crate) struct Routing {
    /// In how many parts.
    pub(crate) parts: usize,
    /// The number of items that travel together at most.
    pub(crate) most: usize,
    pub(crate) placement: Placement,
}

impl Routing {
    /// For what gathers a batch by key.
    pub(crate) const WHOLE: Routing = Routing { parts: 1, most: 256, placement: Placement::ByKey };

    /// For a state that takes each key's records in order: as many as are read ahead at once.
    pub(crate) const IN_ORDER: Routing =
        Routing { parts: PARTS, most: TOUCHED_AT_ONCE, placement: Placement::ByKey };
}

/// Sends each record to the worker that owns its key, `pack`ed. The records of a key stay in the
/// order of their source partition: read them with [`by_owner`].
pub(crate) fn route<'s, K, T, F, P>(
    grouped: Grouped<'s, K, T, F>,
    site: &Site,
    routing: Routing,
    mut pack: impl FnMut(T) -> P + 'static,
) -> Raw<'s, Vec<Parcel<K, P>>>
where
    K: Key,
    T: Record,
    F: FnMut(&T) -> K + 'static,
    P: Data,
{
    let Grouped { stream, mut key, .. } = grouped;
    let (raw, guard, site) = (stream.read().0, Guard::new(site), site.clone());
    let mut builder = OperatorBuilder::new("route".to_string(), raw.scope());
    let mut input = builder.new_input(raw, Pipeline);
    let (mut output, parcels) = builder.new_output::<Vec<Parcel<K, P>>>();
    builder.build(move |_| {
        let mut open: OpenBatches<(Capability<u64>, Sorter<K, P>)> = OpenBatches::new();
        move |frontiers: &[MutableAntichain<u64>]| {
            let (mut session, _busy) = (output.activate(), guard.meter.busy());
            input.for_each(|capability, chunk: &mut Chunk<T>| {
                let Some(capability) = capability.retain_least(0) else { return };
                let chunk = std::mem::take(chunk);
                guard.meter.took(chunk.items.len());
                guard.at_batch(Some(*capability.time()));
                if !guard.is_running() {
                    return;
                }
                let (capability, sorter) = open.entry(*capability.time(), || {
                    let sorter = Sorter {
                        placement: routing.placement,
                        ..Sorter::new(&site, routing.parts, routing.most)
                    };
                    (capability, sorter)
                });
                let mut full = Vec::new();
                guard.each(chunk.origin.as_ref(), chunk.items, |record| {
                    let key = key(&record);
                    full.extend(sorter.sort(key, pack(record)).map_err(|error| error.to_string())?);
                    Ok(())
                });
                session.give(capability, &mut full);
            });
            let slice = &mut TimeSlice::begin();
            open.advance(&frontiers[0], &guard, slice, |_, (capability, sorter), _| {
                session.give(capability, &mut sorter.rest());
                Progress::Done
            });
        }
    });
    parcels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_placed_together_is_in_one_group_and_keeps_different_hashes() {
        for groups in [256, 255, 7] {
            let placed = |n: u64| Placement::Together.hash(&n.to_be_bytes(), groups);
            let mut unit = Vec::new();
            keys::encode_key(&(), &mut unit).expect("the unit can be a key");
            let group = keys::group_of(Placement::ByKey.hash(&unit, groups), groups);
            let hashes: std::collections::BTreeSet<u64> = (0..1000).map(placed).collect();
            assert_eq!(hashes.len(), 1000);
            assert!(hashes.iter().all(|hash| keys::group_of(*hash, groups) == group));
        }
    }
}
