//! One batch's records of each key, gathered by the worker that owns it: the second half of every
//! aggregation of a batch.

use super::emit::Emit;
use super::open_batches::{OpenBatches, Progress};
use super::route::{Parcel, number_in};
use crate::batch::Batch;
use crate::batch::chunk::Chunk;
use crate::batch::slice::TimeSlice;
use crate::dataflow::context::Site;
use crate::dataflow::guard::Guard;
use crate::dataflow::stream::{Raw, Stream, activator};
use crate::panics::naming;
use crate::record::{Data, Record};
use hashbrown::hash_map::{HashMap, IntoIter};
use std::collections::VecDeque;
use tidemill_state::keys::{self, Key};
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::frontier::MutableAntichain;

/// The treatment of the items of each key of a batch.
pub(crate) trait Gather<K, P>: 'static {
    /// The state of a key while its items come.
    type Slot;
    /// The output at the end of the batch.
    type Out: Record;

    fn begin(&mut self, batch: &Batch) -> Self::Slot;

    /// Takes an item: those of a key come in the order of their source partition.
    fn add(&mut self, slot: &mut Self::Slot, item: P);

    fn finish(&mut self, key: K, slot: Self::Slot, emit: &mut Emit<Self::Out>);

    /// The same for as long as the slice lasts: what is not given yet comes back, and is gone on
    /// with. For a key that may give far more than it has items.
    fn finish_some(
        &mut self,
        key: K,
        slot: Self::Slot,
        emit: &mut Emit<Self::Out>,
        slice: &mut TimeSlice,
    ) -> Option<(K, Self::Slot)> {
        let _ = slice;
        self.finish(key, slot, emit);
        None
    }
}

/// Which keys a batch has.
pub(crate) enum Keys<K> {
    /// Those of its items.
    OfItems,
    /// This one, also without items, on the worker that owns it.
    One(K),
    /// This one, also without items, on every worker.
    OnePerWorker(K),
}

impl<K: Key> Keys<K> {
    /// The key that a batch has here without any item.
    fn always(self, site: &Site) -> Option<K> {
        let here = |key: &K| {
            let mut encoded = Vec::new();
            keys::encode_key(key, &mut encoded).expect("the unit can be a key");
            let group = keys::group_of(keys::hash_key(&encoded), site.context.shared.key_groups);
            group.owner(site.context.shared.peers) == site.context.index
        };
        match self {
            Keys::OfItems => None,
            Keys::One(key) => Some(key).filter(here),
            Keys::OnePerWorker(key) => Some(key),
        }
    }
}

/// One batch at the owner of its keys.
struct Open<K, P, S> {
    capability: Capability<u64>,
    parcels: VecDeque<Parcel<K, P>>,
    /// The items of the parcel in hand.
    items: std::vec::IntoIter<(u64, K, P)>,
    slots: HashMap<K, S, foldhash::fast::RandomState>,
    finishing: Option<IntoIter<K, S>>,
    /// The key in hand, of which not all is given.
    rest: Option<(K, S)>,
}

impl<K: Key, P, S> Open<K, P, S> {
    fn new(capability: Capability<u64>) -> Open<K, P, S> {
        Open {
            capability,
            parcels: VecDeque::new(),
            items: Vec::new().into_iter(),
            slots: HashMap::default(),
            finishing: None,
            rest: None,
        }
    }

    fn next_item(&mut self) -> Option<(K, P)> {
        loop {
            if let Some((_, key, item)) = self.items.next() {
                return Some((key, item));
            }
            self.items = self.parcels.pop_front()?.items.into_iter();
        }
    }

    /// Goes on with a batch that is complete. Returns whether it is done, else the slice is over.
    fn advance<G: Gather<K, P, Slot = S>>(
        &mut self,
        gathering: &mut G,
        batch: &Batch,
        always: Option<&K>,
        slice: &mut TimeSlice,
        emit: &mut Emit<G::Out>,
    ) -> bool {
        while let Some((key, item)) = self.next_item() {
            match self.slots.get_mut(&key) {
                Some(slot) => naming(&key, || gathering.add(slot, item)),
                None => {
                    let slot = naming(&key, || {
                        let mut slot = gathering.begin(batch);
                        gathering.add(&mut slot, item);
                        slot
                    });
                    self.slots.insert(key, slot);
                }
            }
            if slice.is_over() {
                return false;
            }
        }
        let Open { slots, finishing, rest, .. } = self;
        let finishing = finishing.get_or_insert_with(|| {
            if let Some(key) = always.filter(|_| slots.is_empty()) {
                slots.insert(key.clone(), gathering.begin(batch));
            }
            std::mem::take(slots).into_iter()
        });
        while let Some((key, slot)) = rest.take().or_else(|| finishing.next()) {
            *rest = gathering.finish_some(key, slot, emit, slice);
            if slice.is_over() {
                break;
            }
        }
        finishing.len() == 0 && rest.is_none()
    }
}

/// Puts the operator behind `parcels`.
pub(crate) fn gather<'s, K: Key, P: Data, G: Gather<K, P>>(
    parcels: Raw<'s, Vec<Parcel<K, P>>>,
    site: Site,
    keys: Keys<K>,
    mut gathering: G,
) -> Stream<'s, G::Out> {
    let (guard, context) = (Guard::new(&site), std::rc::Rc::clone(&site.context));
    let here = matches!(keys, Keys::OnePerWorker(_)).then_some(site.context.index as u64);
    let always = keys.always(&site);
    let mut builder = OperatorBuilder::new("gather".to_string(), parcels.scope());
    let activator = activator(&parcels, &builder.operator_info());
    let mut input = builder
        .new_input(parcels, Exchange::new(move |parcel: &Parcel<K, P>| here.unwrap_or(parcel.to)));
    let (mut output, raw) = builder.new_output::<Chunk<G::Out>>();
    builder.build(move |mut capabilities| {
        // Moved on with the frontier: the right to give something for a batch of which no record
        // comes.
        let mut held = capabilities.pop().filter(|_| always.is_some());
        let (mut open, mut next) = (OpenBatches::new(), context.shared.after.next().0);
        move |frontiers: &[MutableAntichain<u64>]| {
            let _busy = guard.meter.busy();
            input.for_each(|capability, parcels: &mut Vec<Parcel<K, P>>| {
                if let Some(capability) = capability.retain_least(0) {
                    guard.meter.received(number_in(parcels));
                    let batch = open.entry(*capability.time(), || Open::new(capability));
                    batch.parcels.extend(parcels.drain(..));
                }
            });
            if let (Some(held), Some(frontier)) =
                (&mut held, frontiers[0].frontier().first().copied())
            {
                for txid in next..frontier {
                    open.entry(txid, || Open::new(held.delayed(&txid)));
                }
                next = next.max(frontier);
                if *held.time() < frontier {
                    held.downgrade(&frontier);
                }
            }
            let mut slice = TimeSlice::begin();
            let mut session = output.activate();
            let work = |txid, open: &mut Open<K, P, G::Slot>, slice: &mut TimeSlice| {
                let (batch, mut emit, mut done) = (context.batch(txid), Emit::of_batch(), false);
                let well = guard.run(|| {
                    done = open.advance(&mut gathering, &batch, always.as_ref(), slice, &mut emit);
                    Ok(())
                });
                if !well {
                    return Progress::Waits;
                }
                session.give(&open.capability, &mut Chunk::of(std::mem::take(emit.records())));
                if done { Progress::Done } else { Progress::More }
            };
            if open.advance(&frontiers[0], &guard, &mut slice, work) == Progress::More {
                activator.activate();
            }
        }
    });
    Stream::at(site, raw)
}
