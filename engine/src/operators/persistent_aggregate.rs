//! `persistent_aggregate`: results that are kept in a state, over all batches.

use super::combine::{PARTS, Parcel, by_owner, combine};
use super::group_by::Grouped;
use crate::aggregates::Combiner;
use crate::chunk::Chunk;
use crate::context::Context;
use crate::failure::Guard;
use crate::plan::NodeKind;
use crate::slice::Slice;
use crate::states::{self, Change, State, TypedState, Value, WorkerState};
use crate::stream::{Raw, Record, Stream, activator};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::Location;
use std::rc::Rc;
use tidemill_state::delta::{Before, Section};
use tidemill_state::hot::TOUCHED_AT_ONCE;
use tidemill_state::keys::{self, Key};
use tidemill_state::{Txid, codec};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::frontier::MutableAntichain;

impl<'s, K: Key, T: Record, F: FnMut(&T) -> K + 'static> Grouped<'s, K, T, F> {
    /// Keeps the result of each key in the state `name`, over all batches, exactly once.
    ///
    /// # Contract
    /// Each record of each committed batch counts once, whatever was killed. The state is at a batch only when that batch is committed. The name is
    /// unique and stays the same: it is how a restart finds the state again. Changing the type of key or value, or leaving the state out, is refused at start.
    ///
    /// See [`State`] for an example.
    #[track_caller]
    pub fn persistent_aggregate<A: Combiner<T>>(self, name: &str, aggregation: A) -> State<'s, K, A::Value> {
        let context = Rc::clone(&self.stream.context);
        let node = context.plan.borrow_mut().add(NodeKind::State(name.to_string()), Location::caller(), &[self.stream.node]);
        let id = states::declare::<K, A::Value>(&context, name);
        let typed = Rc::new(TypedState::<K, A::Value>::new(id, &context));
        context.declared.borrow_mut().states.push(Rc::clone(&typed) as Rc<dyn WorkerState>);
        let reader = Rc::clone(&typed);
        let aggregation = Rc::new(aggregation);
        let parcels = combine(self, Rc::clone(&aggregation), node);
        let wanted = Rc::new(Cell::new(false));
        let applier = Applier {
            guard: Guard::new(&context, node),
            context: Rc::clone(&context),
            state: typed,
            merge: move |into: &mut Option<A::Value>, other| match into {
                Some(into) => aggregation.combine(into, other),
                None => *into = Some(other),
            },
            wanted: Rc::clone(&wanted),
            waiting: BTreeMap::new(),
            encoded: (Vec::new(), Vec::new()),
        };
        let raw = apply(parcels, applier);
        let changes = Stream { raw, context, node };
        changes.end();
        State { name: name.to_string(), changes, wanted, reader }
    }
}

impl<'s, T: Record> Stream<'s, T> {
    /// Keeps one result over all records of all batches in the state `name`: a state with the one key `()`.
    ///
    /// # Contract
    /// As for [`Grouped::persistent_aggregate`]. It has no value before the first record.
    ///
    /// ```
    /// # use tidemill_engine::{aggregates::Sum, testing::Kit};
    /// let mut kit = Kit::new(|topology, io| {
    ///     topology.source("in", io.source::<u64>("in")).persistent_aggregate("total", Sum);
    /// });
    /// kit.feed("in", [1u64, 2]);
    /// kit.step();
    /// kit.feed("in", [3u64]);
    /// kit.step();
    /// assert_eq!(kit.state::<(), u64>("total")[&()], 6);
    /// ```
    #[track_caller]
    pub fn persistent_aggregate<A: Combiner<T>>(self, name: &str, aggregation: A) -> State<'s, (), A::Value> {
        self.group_by(|_| ()).persistent_aggregate(name, aggregation)
    }
}

/// A batch that has come to the state's owner: applied when all of it is there, part by part.
struct Waiting<K, V> {
    capability: Capability<u64>,
    parts: [Vec<Parcel<K, V>>; PARTS],
    /// The part that is being applied or encoded.
    part: usize,
    /// How many of its changes are encoded.
    encoded: usize,
    section: Section,
}

/// Applies batches to one worker's part of a state, in order, and makes their deltas.
struct Applier<K: Key, V: Value, M> {
    guard: Guard,
    context: Rc<Context>,
    state: Rc<TypedState<K, V>>,
    merge: M,
    wanted: Rc<Cell<bool>>,
    waiting: BTreeMap<u64, Waiting<K, V>>,
    encoded: (Vec<u8>, Vec<u8>),
}

/// How many changes are encoded between two looks at the clock.
const CHANGES_PER_LOOK: usize = 256;

fn apply<'s, K: Key, V: Value, M>(
    parcels: Raw<'s, Vec<Parcel<K, V>>>,
    mut applier: Applier<K, V, M>,
) -> Raw<'s, Chunk<Change<K, V>>>
where
    M: FnMut(&mut Option<V>, V) + 'static,
{
    let mut builder = OperatorBuilder::new("apply".to_string(), parcels.scope());
    let activator = activator(&parcels, &builder.operator_info());
    let mut input = builder.new_input(parcels, by_owner());
    let (mut output, changes) = builder.new_output::<Chunk<Change<K, V>>>();
    builder.build(move |_| {
        move |frontiers: &[MutableAntichain<u64>]| {
            input.for_each(|capability, parcels: &mut Vec<Parcel<K, V>>| {
                if let Some(capability) = capability.retain_least(0) {
                    applier.receive(capability, parcels);
                }
            });
            let mut slice = Slice::begin();
            let mut session = output.activate();
            let released = applier.state.release(applier.context.pins.floor());
            let mut more = !released;
            while applier.guard.is_running()
                && let Some((&txid, _)) = applier.waiting.first_key_value()
                && !frontiers[0].less_equal(&txid)
            {
                let done = applier.advance(txid, &mut slice, |capability, changes| session.give(capability, changes));
                if !done {
                    more = applier.guard.is_running();
                    break;
                }
            }
            if more {
                activator.activate();
            }
        }
    });
    changes
}

impl<K: Key, V: Value, M: FnMut(&mut Option<V>, V)> Applier<K, V, M> {
    fn receive(&mut self, capability: Capability<u64>, parcels: &mut Vec<Parcel<K, V>>) {
        let id = self.state.id;
        let waiting = self.waiting.entry(*capability.time()).or_insert_with(|| Waiting {
            capability,
            parts: Default::default(),
            part: 0,
            encoded: 0,
            section: Section::new(id),
        });
        for parcel in parcels.drain(..) {
            waiting.parts[parcel.part].push(parcel);
        }
    }

    /// Goes on with a batch that is complete. Returns whether it is done, else the slice is over.
    fn advance(
        &mut self,
        txid: u64,
        slice: &mut Slice,
        mut give: impl FnMut(&Capability<u64>, &mut Chunk<Change<K, V>>),
    ) -> bool {
        self.guard.at_batch(Some(txid));
        while self.waiting[&txid].part < PARTS {
            if !self.apply_part(txid, slice) || !self.encode_part(txid, slice, &mut give) {
                return false;
            }
            self.waiting.get_mut(&txid).expect("the caller has found it").part += 1;
        }
        let batch = self.waiting.remove(&txid).expect("it was there above");
        self.context.in_batch(Txid(txid), |made| made.sections.push(batch.section));
        true
    }

    /// Applies what is left of the part in hand. Returns whether that is all of it.
    fn apply_part(&mut self, txid: u64, slice: &mut Slice) -> bool {
        let Applier { guard, state, merge, waiting, .. } = self;
        let batch = waiting.get_mut(&txid).expect("the caller has found it");
        let (parcels, mut map) = (&mut batch.parts[batch.part], state.map.borrow_mut());
        let well = guard.run(None, |_| {
            while let Some(parcel) = parcels.last_mut().filter(|_| !slice.was_over()) {
                let from = parcel.items.len().saturating_sub(TOUCHED_AT_ONCE);
                map.update_all(Txid(txid), &mut parcel.items, from, &mut *merge);
                if parcel.items.is_empty() {
                    parcels.pop();
                }
                slice.look();
            }
            Ok(())
        });
        well && parcels.is_empty()
    }

    /// Encodes the changes that are applied and not encoded. Returns whether that is all of them.
    fn encode_part(
        &mut self,
        txid: u64,
        slice: &mut Slice,
        give: &mut impl FnMut(&Capability<u64>, &mut Chunk<Change<K, V>>),
    ) -> bool {
        let Applier { guard, state, waiting, encoded, wanted, .. } = self;
        let batch = waiting.get_mut(&txid).expect("the caller has found it");
        let map = state.map.borrow();
        let changed = map.changed_in(Txid(txid));
        while batch.encoded < changed {
            let (from, upto) = (batch.encoded, (batch.encoded + CHANGES_PER_LOOK).min(changed));
            let mut changes = Vec::new();
            for (number, change) in (from..upto).zip(map.changes(Txid(txid), from..upto)) {
                if (number - from) % TOUCHED_AT_ONCE == 0 {
                    map.touch_changes(number..(number + TOUCHED_AT_ONCE).min(upto));
                }
                if let Err(error) = push_change(Txid(txid), &mut batch.section, &change, encoded) {
                    guard.fail(&error.to_string(), None);
                    return false;
                }
                if wanted.get() {
                    changes.push(Change { key: change.key.clone(), old: change.old.cloned(), new: change.new.cloned() });
                }
            }
            give(&batch.capability, &mut Chunk::of(changes));
            batch.encoded = upto;
            slice.look();
            if slice.was_over() {
                return batch.encoded == changed;
            }
        }
        true
    }
}

fn push_change<K: Key, V: Value>(
    txid: Txid,
    section: &mut Section,
    change: &tidemill_state::hot::HotChange<'_, K, V>,
    (key, value): &mut (Vec<u8>, Vec<u8>),
) -> tidemill_state::Result<()> {
    keys::encode_key(change.key, key)?;
    value.clear();
    if let Some(new) = change.new {
        codec::encode(new, value)?;
    }
    let before = change.before.map(|(before, change)| Before { batches: txid.0 - before.0, change });
    section.push(change.group, key, change.new.is_some().then_some(&value[..]), before);
    Ok(())
}
