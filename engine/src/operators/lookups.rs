//! The common part of `lookup_before` and `lookup_after`: each record meets the value of its key,
//! once the state has come far enough.

use super::route::{Parcel, Routing, by_owner, number_in, route};
use crate::batch::chunk::Chunk;
use crate::batch::slice::TimeSlice;
use crate::dataflow::guard::Guard;
use crate::dataflow::state::State;
use crate::dataflow::stream::{Stream, activator};
use crate::plan::NodeKind;
use crate::record::{Data, Record, Storable};
use std::collections::{BTreeMap, VecDeque};
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

impl<'s, T: Record + Data> Stream<'s, T> {
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
            let mut open: BTreeMap<u64, Waiting<K, T>> = BTreeMap::new();
            move |frontiers: &[MutableAntichain<u64>]| {
                let _busy = guard.meter.busy();
                changes.for_each(|_, _| {});
                input.for_each(|capability, parcels: &mut Vec<Parcel<K, T>>| {
                    if let Some(capability) = capability.retain_least(0) {
                        guard.meter.received(number_in(parcels));
                        let waiting = open.entry(*capability.time());
                        let waiting = waiting
                            .or_insert_with(|| Waiting { capability, parcels: VecDeque::new() });
                        waiting.parcels.extend(parcels.drain(..));
                    }
                });
                let mut slice = TimeSlice::begin();
                let mut session = output.activate();
                while guard.is_running()
                    && let Some(mut first) = open.first_entry()
                    && !frontiers[0].less_equal(first.key())
                {
                    let txid = *first.key();
                    let (ready, at) = match when {
                        When::Before => (!frontiers[1].less_than(&txid), Txid(txid - 1)),
                        When::After => (!frontiers[1].less_equal(&txid), Txid(txid)),
                    };
                    if !ready {
                        return;
                    }
                    let waiting = first.get_mut();
                    let (map, mut found) = (reader.map.borrow(), Vec::new());
                    while let Some(mut parcel) = waiting.parcels.pop_front() {
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
                    session.give(&waiting.capability, &mut Chunk::of(found));
                    if !waiting.parcels.is_empty() {
                        activator.activate();
                        return;
                    }
                    first.remove();
                }
            }
        });
        Stream::at(site, raw)
    }
}
