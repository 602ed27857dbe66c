//! The common part of `lookup_before` and `lookup_after`: each record meets the value of its key,
//! once the state has come far enough.

use super::open_batches::{OpenBatches, Progress};
use super::route::{Parcel, Routing, by_owner, number_in, route};
use crate::batch::chunk::Chunk;
use crate::batch::slice::TimeSlice;
use crate::dataflow::guard::Guard;
use crate::dataflow::state::State;
use crate::dataflow::stream::{Stream, activator};
use crate::plan::NodeKind;
use crate::record::{Data, Record, Storable};
use crate::table::part::TypedState;
use std::collections::VecDeque;
use std::panic::Location;
use std::rc::Rc;
use tidemill_state::Txid;
use tidemill_state::hot::Found;
use tidemill_state::keys::Key;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::frontier::MutableAntichain;

/// As of when a state is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// Before the record's batch.
    Before,
    /// After it.
    After,
}

/// A batch's records at the owners of their keys.
struct Waiting<K, T> {
    capability: Capability<u64>,
    parcels: VecDeque<Parcel<K, T>>,
}

impl<K: Key, T> Waiting<K, T> {
    /// Returns the next records with the values of their keys as of the batch `at`, until the slice
    /// is over.
    fn look_up<V: Storable>(
        &mut self,
        state: &TypedState<K, V>,
        at: Txid,
        slice: &mut TimeSlice,
    ) -> Vec<(T, Option<V>)> {
        let (map, mut found) = (state.map.borrow(), Vec::new());
        while let Some(mut parcel) = self.parcels.pop_front() {
            for (hash, key, record) in parcel.items.drain(..) {
                let value = match map.get_at(hash, &key, at) {
                    Found::Value(value) => Some(value.clone()),
                    Found::Absent => None,
                    Found::Cold => unreachable!("every key is kept in memory"),
                };
                found.push((record, value));
            }
            slice.look();
            if slice.was_over() {
                break;
            }
        }
        found
    }
}

impl<'s, T: Record + Data> Stream<'s, T> {
    /// Puts beside each record the value that its key has before or after the record's batch.
    pub(super) fn looked_up<K: Key, V: Storable>(
        self,
        kind: &'static str,
        at: &'static Location<'static>,
        state: &State<'s, K, V>,
        key: impl FnMut(&T) -> K + 'static,
        when: When,
    ) -> Stream<'s, (T, Option<V>)> {
        let site = self.site.behind(NodeKind::Exchange(kind), at, &[state.changes.site.node]);
        let reader = Rc::clone(&state.reader);
        let routing = Routing { placement: reader.placement, ..Routing::WHOLE };
        let parcels = route(self.group_by(key), &site, routing, |record| record);
        let guard = Guard::new(&site);
        let mut builder = OperatorBuilder::new(kind.to_string(), parcels.scope());
        let activator = activator(&parcels, &builder.operator_info());
        let mut input = builder.new_input(parcels, by_owner());
        // Of the changes only this is of interest: how far they have come, and so how far the state
        // has.
        let mut changes = builder.new_input(state.changes.clone().read().0, Pipeline);
        let (mut output, raw) = builder.new_output::<Chunk<(T, Option<V>)>>();
        builder.build(move |_| {
            let mut open: OpenBatches<Waiting<K, T>> = OpenBatches::new();
            move |frontiers: &[MutableAntichain<u64>]| {
                let _busy = guard.meter.busy();
                changes.for_each(|_, _| {});
                input.for_each(|capability, parcels: &mut Vec<Parcel<K, T>>| {
                    if let Some(capability) = capability.retain_least(0) {
                        guard.meter.received(number_in(parcels));
                        let waiting = open.entry(*capability.time(), || Waiting {
                            capability,
                            parcels: VecDeque::new(),
                        });
                        waiting.parcels.extend(parcels.drain(..));
                    }
                });
                let mut slice = TimeSlice::begin();
                let mut session = output.activate();
                let work = |txid: Txid, waiting: &mut Waiting<K, T>, slice: &mut TimeSlice| {
                    let (ready, at) = match when {
                        When::Before => (!frontiers[1].less_than(&txid.0), Txid(txid.0 - 1)),
                        When::After => (!frontiers[1].less_equal(&txid.0), txid),
                    };
                    if !ready {
                        return Progress::Waits;
                    }
                    let found = waiting.look_up(&reader, at, slice);
                    session.give(&waiting.capability, &mut Chunk::of(found));
                    if waiting.parcels.is_empty() { Progress::Done } else { Progress::More }
                };
                if open.advance(&frontiers[0], &guard, &mut slice, work) == Progress::More {
                    activator.activate();
                }
            }
        });
        Stream::at(site, raw)
    }
}
