//! A state's one writing operator: it applies batches to its worker's part of the state, in order,
//! and makes their deltas.

use super::emit::Emit;
use super::open_batches::{OpenBatches, Progress};
use super::route::{PARTS, Parcel, by_owner, number_in};
use crate::batch::Batch;
use crate::batch::chunk::Chunk;
use crate::batch::slice::TimeSlice;
use crate::dataflow::context::{Context, Site};
use crate::dataflow::guard::Guard;
use crate::dataflow::state::{Change, State};
use crate::dataflow::stream::{Raw, Stream, activator};
use crate::panics::naming;
use crate::record::{Data, Record, Storable};
use crate::table::codec::{StateCodec, TypedCodec, refused_type, type_decl};
use crate::table::part::{TypedState, WorkerState};
use crate::table::placement::Placement;
use std::cell::Cell;
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::rc::Rc;
use tidemill_state::delta::{Before, Section};
use tidemill_state::hot::{HotChange, TOUCHED_AT_ONCE};
use tidemill_state::keys::{self, Key};
use tidemill_state::schema::StateDecl;
use tidemill_state::{Error, StateId, Txid, round_trip, type_names};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::frontier::MutableAntichain;

/// The application of incoming items to a state.
pub(crate) trait Apply<P>: 'static {
    type Key: Key;
    type Value: Storable;
    /// The output besides the state's changes.
    type Out: Record;

    /// Applies some or all of these parcels, which are of one batch and one part, and takes them
    /// out. It stops when the slice is over, if it can.
    ///
    /// # Errors
    /// What the user's code said.
    fn apply(
        &mut self,
        batch: &Batch,
        parcels: &mut VecDeque<P>,
        state: &TypedState<Self::Key, Self::Value>,
        slice: &mut TimeSlice,
        emit: &mut Emit<Self::Out>,
    ) -> Result<(), String>;
}

/// Merges each item into its key's value.
pub(crate) struct Merge<K, V, M> {
    merge: M,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V, M> Merge<K, V, M> {
    pub(crate) fn new(merge: M) -> Merge<K, V, M> {
        Merge { merge, types: PhantomData }
    }
}

impl<K: Key, V: Storable, P: Data, M: FnMut(&mut Option<V>, P) + 'static> Apply<Parcel<K, P>>
    for Merge<K, V, M>
{
    type Key = K;
    type Value = V;
    type Out = ();

    fn apply(
        &mut self,
        batch: &Batch,
        parcels: &mut VecDeque<Parcel<K, P>>,
        state: &TypedState<K, V>,
        slice: &mut TimeSlice,
        _: &mut Emit<()>,
    ) -> Result<(), String> {
        let mut map = state.map.borrow_mut();
        while let Some(parcel) = parcels.front_mut().filter(|_| !slice.was_over()) {
            // One group of items in order, or the last of several, whose order is of no importance
            // then.
            let from = parcel.items.len().saturating_sub(TOUCHED_AT_ONCE);
            map.update_all(batch.txid, &mut parcel.items, from, |key, into, item| {
                naming(key, || (self.merge)(into, item))
            });
            if parcel.items.is_empty() {
                parcels.pop_front();
            }
            slice.look();
        }
        Ok(())
    }
}

/// A state, and what its operator gives besides.
type UnsentGuard<'s, A, P> =
    (State<'s, <A as Apply<P>>::Key, <A as Apply<P>>::Value>, Stream<'s, <A as Apply<P>>::Out>);

/// Makes the state `name` with the operator that writes it. The second stream is what the operator
/// gives besides.
pub(crate) fn keep<'s, PK: Key, P: Data, A: Apply<Parcel<PK, P>>>(
    parcels: Raw<'s, Vec<Parcel<PK, P>>>,
    site: Site,
    name: &str,
    placement: Placement,
    apply: A,
) -> UnsentGuard<'s, A, Parcel<PK, P>> {
    let context = &site.context;
    let id = declare::<A::Key, A::Value>(context, name, placement);
    let state = Rc::new(TypedState::<A::Key, A::Value>::new(
        id,
        placement,
        context.shared.key_groups,
        context.shared.after,
    ));
    context.declared.borrow_mut().states.push(Rc::clone(&state) as Rc<dyn WorkerState>);
    let wanted = Rc::new(Cell::new(false));
    let applier = Applier {
        guard: Rc::new(Guard::new(&site)),
        context: Rc::clone(context),
        state: Rc::clone(&state),
        apply,
        wanted: Rc::clone(&wanted),
        encoder: Encoder { state: name.to_string(), ..Encoder::default() },
    };
    let (changes, given) = operator(parcels, applier);
    let changes = Stream::at(site.clone(), changes);
    changes.end();
    (State { name: name.to_string(), changes, wanted, reader: state }, Stream::at(site, given))
}

/// A batch that has come to the state's owner: applied when all of it is there, part by part.
struct Waiting<P> {
    /// To give changes, and what is given besides.
    capabilities: [Capability<u64>; 2],
    parts: [VecDeque<P>; PARTS],
    /// The part that is being applied or encoded.
    part: usize,
    /// The number of the batch's changes that are encoded.
    encoded: usize,
    section: Section,
}

impl<P> Waiting<P> {
    fn new(state: StateId, capabilities: [Capability<u64>; 2]) -> Waiting<P> {
        let (parts, section) = (Default::default(), Section::new(state));
        Waiting { capabilities, parts, part: 0, encoded: 0, section }
    }
}

struct Applier<P, A: Apply<P>> {
    guard: Rc<Guard>,
    context: Rc<Context>,
    state: Rc<TypedState<A::Key, A::Value>>,
    apply: A,
    wanted: Rc<Cell<bool>>,
    encoder: Encoder,
}

/// The number of changes that are encoded between two looks at the clock.
const CHANGES_PER_LOOK: usize = 256;

type Changes<A, P> = Chunk<Change<<A as Apply<P>>::Key, <A as Apply<P>>::Value>>;

#[allow(clippy::type_complexity, reason = "two outputs of one operator")]
fn operator<'s, PK: Key, P: Data, A: Apply<Parcel<PK, P>>>(
    parcels: Raw<'s, Vec<Parcel<PK, P>>>,
    mut applier: Applier<Parcel<PK, P>, A>,
) -> (Raw<'s, Changes<A, Parcel<PK, P>>>, Raw<'s, Chunk<A::Out>>) {
    let mut builder = OperatorBuilder::new("apply".to_string(), parcels.scope());
    let activator = activator(&parcels, &builder.operator_info());
    let mut input = builder.new_input(parcels, by_owner());
    let (mut changes_output, changes) = builder.new_output();
    let (mut given_output, given) = builder.new_output();
    let (guard, id) = (Rc::clone(&applier.guard), applier.state.id);
    builder.build(move |_| {
        let mut open: OpenBatches<Waiting<Parcel<PK, P>>> = OpenBatches::new();
        move |frontiers: &[MutableAntichain<u64>]| {
            let _busy = guard.meter.busy();
            input.for_each(|capability, parcels: &mut Vec<Parcel<PK, P>>| {
                guard.meter.received(number_in(parcels));
                if let (Some(changes), Some(given)) =
                    (capability.retain_least(0), capability.retain_least(1))
                {
                    let capabilities = [changes, given];
                    let waiting =
                        open.entry(*capabilities[0].time(), || Waiting::new(id, capabilities));
                    for parcel in parcels.drain(..) {
                        waiting.parts[parcel.part].push_back(parcel);
                    }
                }
            });
            let mut slice = TimeSlice::begin();
            let (mut changes, mut given) = (changes_output.activate(), given_output.activate());
            let old_is_left = !applier.state.release(applier.context.shared.hub.pins.floor());
            let work = |txid, batch: &mut Waiting<Parcel<PK, P>>, slice: &mut TimeSlice| {
                let done = applier.advance(txid, batch, slice, |[first, second], one, two| {
                    changes.give(first, one);
                    given.give(second, two);
                });
                if done { Progress::Done } else { Progress::More }
            };
            let left = open.advance(&frontiers[0], &guard, &mut slice, work);
            if (left == Progress::More && guard.is_running()) || old_is_left {
                activator.activate();
            }
        }
    });
    (changes, given)
}

impl<PK, P, A: Apply<Parcel<PK, P>>> Applier<Parcel<PK, P>, A> {
    /// Goes on with a batch that is complete. Returns whether it is done, else the slice is over.
    fn advance(
        &mut self,
        txid: Txid,
        batch: &mut Waiting<Parcel<PK, P>>,
        slice: &mut TimeSlice,
        mut give: impl FnMut(&[Capability<u64>; 2], &mut Changes<A, Parcel<PK, P>>, &mut Chunk<A::Out>),
    ) -> bool {
        while batch.part < PARTS {
            let mut emit = Emit::of_batch();
            let applied = self.apply_part(txid, batch, slice, &mut emit);
            give(
                &batch.capabilities,
                &mut Chunk::default(),
                &mut Chunk::of(std::mem::take(emit.records())),
            );
            if !applied || !self.encode_part(txid, batch, slice, &mut give) {
                return false;
            }
            batch.part += 1;
        }
        let section = std::mem::replace(&mut batch.section, Section::new(self.state.id));
        self.context.in_batch(txid, |made| made.sections.push(section));
        true
    }

    /// Applies what is left of the part in hand. Returns whether that is all of it.
    fn apply_part(
        &mut self,
        txid: Txid,
        batch: &mut Waiting<Parcel<PK, P>>,
        slice: &mut TimeSlice,
        emit: &mut Emit<A::Out>,
    ) -> bool {
        let Applier { guard, state, apply, .. } = self;
        let parcels = &mut batch.parts[batch.part];
        let batch = self.context.batch(txid);
        parcels.is_empty()
            || (guard.run(|| apply.apply(&batch, parcels, state, slice, emit))
                && parcels.is_empty())
    }

    /// Encodes the changes that are applied and not encoded. Returns whether that is all of them.
    fn encode_part(
        &mut self,
        txid: Txid,
        batch: &mut Waiting<Parcel<PK, P>>,
        slice: &mut TimeSlice,
        give: &mut impl FnMut(&[Capability<u64>; 2], &mut Changes<A, Parcel<PK, P>>, &mut Chunk<A::Out>),
    ) -> bool {
        let Applier { guard, state, encoder, wanted, .. } = self;
        let map = state.map.borrow();
        if let Err(error) =
            map.alike().map_or(Ok(()), |(one, other)| encoder.are_told_apart(one, other))
        {
            guard.fail(&error.to_string());
            return false;
        }
        let changed = map.changed_in(txid);
        while batch.encoded < changed {
            let (from, upto) = (batch.encoded, (batch.encoded + CHANGES_PER_LOOK).min(changed));
            let mut changes = Vec::new();
            for (number, change) in (from..upto).zip(map.changes(txid, from..upto)) {
                if (number - from) % TOUCHED_AT_ONCE == 0 {
                    map.touch_changes(number..(number + TOUCHED_AT_ONCE).min(upto));
                }
                if let Err(error) = encoder.push(txid, &mut batch.section, &change) {
                    guard.fail(&error.to_string());
                    return false;
                }
                if wanted.get() {
                    changes.push(Change {
                        key: change.key.clone(),
                        old: change.old.cloned(),
                        new: change.new.cloned(),
                    });
                }
            }
            give(&batch.capabilities, &mut Chunk::of(changes), &mut Chunk::default());
            batch.encoded = upto;
            slice.look();
            if slice.was_over() {
                return batch.encoded == changed;
            }
        }
        true
    }
}

/// The encoding of what an operator writes to its state.
#[derive(Default)]
struct Encoder {
    /// The state's name.
    state: String,
    keys: round_trip::Keys,
    values: round_trip::Values,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Encoder {
    fn push<K: Key, V: Storable>(
        &mut self,
        txid: Txid,
        section: &mut Section,
        change: &HotChange<'_, K, V>,
    ) -> tidemill_state::Result<()> {
        let Encoder { state, keys, values, key, value } = self;
        value.clear();
        keys.encode(change.key, key)
            .map_err(|why| why.while_doing(&format!("state \"{state}\"")))?;
        if let Some(new) = change.new {
            values.encode(new, value).map_err(|why| why.while_doing(&at_key(state, change.key)))?;
        }
        let before =
            change.before.map(|(before, change)| Before { batches: txid.0 - before.0, change });
        section.push(change.group, key, change.new.is_some().then_some(&value[..]), before);
        Ok(())
    }

    /// Refuses two keys that differ and are written as the same bytes: one would take the other's
    /// place.
    fn are_told_apart<K: Key>(&mut self, one: &K, other: &K) -> tidemill_state::Result<()> {
        let Encoder { state, key, value, .. } = self;
        keys::encode_key(one, key)?;
        keys::encode_key(other, value)?;
        if key != value {
            return Ok(());
        }
        let (at, type_name) = (at_key(state, one), type_names::of::<K>());
        Err(Error::user_code(format!(
            "{at}: two keys of type {type_name} differ, and are written as the same bytes: after \
             a restart one would be gone. {}",
            round_trip::SKIPPED
        )))
    }
}

/// A key of a state in words.
fn at_key<K: Key>(state: &str, key: &K) -> String {
    let key = serde_json::to_string(key).unwrap_or_else(|_| "that JSON cannot show".into());
    format!("state \"{state}\", key {key}")
}

/// Registers a state's name, types and number; refuses a name that is taken, and a type that could
/// not be read back.
pub(crate) fn declare<K: Key, V: Storable>(
    context: &Context,
    name: &str,
    placement: Placement,
) -> StateId {
    let (key, value) = (type_decl::<K>(), type_decl::<V>());
    let refusal = refused_type::<K>(name, "keys", round_trip::of_keys::<K>)
        .or_else(|| refused_type::<V>(name, "values", round_trip::of_values::<V>));
    let decl = StateDecl {
        name: name.to_string(),
        key: key.name,
        value: value.name,
        together: placement == Placement::Together,
        key_parts: key.parts,
        value_parts: value.parts,
    };
    let codec = TypedCodec::<K, V>::new(decl, placement);
    let mut declared = context.declared.borrow_mut();
    if let Some(error) = refusal {
        declared.error.get_or_insert(error);
    }
    if declared.program.states.iter().any(|state| state.name == name) {
        declared.error.get_or_insert(Error::config(format!(
            "two states are named \"{name}\": give each its own name"
        )));
    }
    declared.program.states.push(codec.decl());
    declared.codecs.push(std::sync::Arc::new(codec));
    context.shared.schema.state(name).unwrap_or(StateId(0))
}
