//! States as the rest of the engine sees them: typed on their worker, without types elsewhere.

use crate::dataflow::context::Context;
use crate::dataflow::stream::Stream;
use crate::json;
use crate::operators::route::Placement;
use crate::runtime::reads::{PageOf, not_held};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::marker::PhantomData;
use tidemill_state::hot::{Found, HotMap};
use tidemill_state::keys::{self, Key};
use tidemill_state::schema::{StateDecl, TypeDecl};
use tidemill_state::{Error, KeyGroup, Result, StateId, Txid, codec, round_trip, shape, type_names};

/// What a state can hold. Every type with these parts is one, but for those whose attributes keep their values from coming back: see [`crate::Data`].
/// [`crate::conformance::value`] checks one of your own.
pub trait Storable: Clone + Serialize + DeserializeOwned + Send + 'static {}
impl<T: Clone + Serialize + DeserializeOwned + Send + 'static> Storable for T {}

/// A state that a topology maintains: the handle that its one writing operator gives.
///
/// ```
/// use tidemill_engine::testing::Kit;
/// use tidemill_engine::aggregates::Count;
///
/// let mut kit = Kit::new(|topology, io| {
///     let counts = topology.source("words", io.source::<String>("words")).group_by(|word| word.clone()).persistent_aggregate("counts", Count);
///     counts.changes().map(|change| (change.key, change.new)).sink("changes", io.sink("changes"));
/// });
/// kit.feed("words", ["a".to_string(), "b".to_string(), "a".to_string()]);
/// kit.step();
/// assert_eq!(kit.state::<String, u64>("counts")["a"], 2);
/// ```
pub struct State<'s, K: Key, V: Storable> {
    pub(crate) name: String,
    pub(crate) changes: Stream<'s, Change<K, V>>,
    pub(crate) wanted: std::rc::Rc<std::cell::Cell<bool>>,
    /// This worker's part of it.
    pub(crate) reader: std::rc::Rc<TypedState<K, V>>,
}

impl<'s, K: Key, V: Storable> State<'s, K, V> {
    /// The state's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What each batch changed: one record for each key that it touched, with the value before and after the batch, in no particular order.
    /// A key that was touched is there also if its value is as before.
    #[must_use]
    pub fn changes(&self) -> Stream<'s, Change<K, V>> {
        self.wanted.set(true);
        self.changes.clone()
    }
}

/// A state that is one value over all keys: what an ungrouped aggregation keeps. It has the one key `()`.
pub type Value<'s, V> = State<'s, (), V>;

/// What one batch did to one key of a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change<K, V> {
    /// The key.
    pub key: K,
    /// Its value before the batch.
    pub old: Option<V>,
    /// Its value after the batch.
    pub new: Option<V>,
}

/// One worker's part of a state, without its types: to load it, and to answer reads.
pub(crate) trait WorkerState {
    fn id(&self) -> StateId;

    /// Takes over a committed value, or a removal, while the worker starts.
    fn restore(&self, key: &[u8], value: Option<&[u8]>) -> Result<()>;

    /// The encoded value of an encoded key as of the committed batch `at`.
    fn get_at(&self, key: &[u8], at: Txid) -> Result<Option<Vec<u8>>>;

    /// Adds the next rows of a page, some of them. Returns whether it is done, and then whether there may be more behind its last row.
    fn page(&self, page: &mut PageOf) -> Result<Option<bool>>;

    /// How many keys have a value here as of batch `at`.
    fn keys(&self, at: Txid) -> usize;

    /// Lets go of some old values of batches up to `floor`. Returns whether all are gone.
    fn release(&self, floor: Txid) -> bool;

    /// How many bytes the old values take that are kept: what they hold outside themselves is estimated from a few.
    fn kept_bytes(&self) -> usize;
}

pub(crate) struct TypedState<K, V> {
    pub(crate) id: StateId,
    pub(crate) placement: Placement,
    groups: u16,
    pub(crate) map: std::cell::RefCell<HotMap<K, V>>,
    /// How often the bytes of old values were asked for, and how many each of them holds outside itself, about.
    outside: std::cell::Cell<(u32, usize)>,
}

impl<K: Key, V: Storable> TypedState<K, V> {
    pub(crate) fn new(id: StateId, placement: Placement, context: &Context) -> TypedState<K, V> {
        TypedState {
            id,
            placement,
            groups: context.key_groups,
            map: std::cell::RefCell::new(match placement {
                Placement::ByKey => HotMap::new(context.key_groups, context.after),
                Placement::Together => HotMap::together(context.key_groups, Placement::group(context.key_groups), context.after),
            }),
            outside: std::cell::Cell::default(),
        }
    }

    /// The hash of an encoded key.
    pub(crate) fn hash(&self, key: &[u8]) -> u64 {
        self.placement.hash(key, self.groups)
    }
}

impl<K: Key, V: Storable> WorkerState for TypedState<K, V> {
    fn id(&self) -> StateId {
        self.id
    }

    fn restore(&self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        let value = value.map(codec::decode).transpose()?;
        self.map.borrow_mut().restore(self.hash(key), keys::decode_key(key)?, value);
        Ok(())
    }

    fn get_at(&self, key: &[u8], at: Txid) -> Result<Option<Vec<u8>>> {
        let map = self.map.borrow();
        if !map.holds(at) {
            return Err(not_held());
        }
        match map.get_at(self.hash(key), &keys::decode_key(key)?, at) {
            Found::Value(value) => {
                let mut bytes = Vec::new();
                codec::encode(value, &mut bytes)?;
                Ok(Some(bytes))
            }
            Found::Absent => Ok(None),
            Found::Cold => Err(Error::bug("a key is not in memory, though every key is kept there")),
        }
    }

    fn page(&self, page: &mut PageOf) -> Result<Option<bool>> {
        let mut map = self.map.borrow_mut();
        if !map.holds(page.at) {
            return Err(not_held());
        }
        if !map.order(encode::<K>, KEYS_AT_ONCE) {
            return Ok(None);
        }
        let PageOf { range, rows, limit, bytes, .. } = page;
        let mut failed = None;
        let on = map.range_at(range, page.at, KEYS_AT_ONCE, |key, _, value| {
            let mut encoded = Vec::new();
            failed = codec::encode(value, &mut encoded).err();
            *bytes = bytes.saturating_sub(key.len() + encoded.len());
            rows.push((key.to_vec(), encoded));
            failed.is_none() && rows.len() < *limit && *bytes > 0
        });
        failed.map_or(Ok(()), Err)?;
        Ok(match on {
            Some(from) if rows.len() < *limit && *bytes > 0 => {
                range.from = from;
                None
            }
            on => Some(on.is_some()),
        })
    }

    fn keys(&self, at: Txid) -> usize {
        self.map.borrow().len_at(at)
    }

    fn release(&self, floor: Txid) -> bool {
        self.map.borrow_mut().release(floor, RELEASED_AT_ONCE)
    }

    fn kept_bytes(&self) -> usize {
        let (asked, outside) = self.outside.get();
        let map = self.map.borrow();
        if map.kept_bytes(0) == 0 {
            return 0;
        }
        let outside = if asked % CALLS_PER_SAMPLE == 0 { encoded_size(map.sample_kept(SAMPLED)) } else { outside };
        self.outside.set((asked.wrapping_add(1), outside));
        map.kept_bytes(outside)
    }
}

/// How many keys a page looks at before the worker goes on with other work.
const KEYS_AT_ONCE: usize = 256;

/// How many old values are let go of at once.
const RELEASED_AT_ONCE: usize = 4096;

/// How often a worker asks for the bytes of old values before some are looked at again.
const CALLS_PER_SAMPLE: u32 = 256;

/// How many old values are looked at.
const SAMPLED: usize = 16;

/// The most bytes that are encoded for a sample: one value of a large kind is enough.
const SAMPLED_BYTES: usize = 64 << 10;

/// How many bytes these values have on average once they are encoded: about what they hold outside themselves.
fn encoded_size<'v, V: Storable>(values: impl Iterator<Item = Option<&'v V>>) -> usize {
    let (mut counted, mut number) = (Counted(0), 0);
    for value in values {
        number += 1;
        // One that is larger than all of a sample counts as that. One that cannot be encoded stops its batch before long.
        if value.is_some_and(|value| codec::append(value, &mut counted).is_err()) {
            break;
        }
    }
    counted.0 / number.max(1)
}

/// Counts what is written, up to [`SAMPLED_BYTES`].
struct Counted(usize);

impl std::io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        if self.0 > SAMPLED_BYTES { Err(std::io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Encodes a key that is in a state already.
pub(crate) fn encode<K: Key>(key: &K, into: &mut Vec<u8>) {
    keys::encode_key(key, into).expect("it was encoded when it came into the state");
}

/// The types of a state, kept so that its bytes can be shown to a person and found by one.
pub trait StateCodec: Send + Sync {
    /// The state as it is declared.
    fn decl(&self) -> StateDecl;

    /// A key as a person writes it (text for a string, else JSON), encoded; and its group in a store with so many groups.
    ///
    /// # Errors
    /// The text is no such key.
    fn parse_key(&self, text: &str, groups: u16) -> Result<(Vec<u8>, KeyGroup)>;

    /// Whether its keys are texts: then they have prefixes.
    fn has_text_keys(&self) -> bool;

    /// Writes an encoded key as JSON, as [`crate::json`] describes it.
    ///
    /// # Errors
    /// The bytes are no such key, or it has no JSON.
    fn write_key(&self, key: &[u8], into: &mut Vec<u8>) -> Result<()>;

    /// Writes an encoded value as JSON, as [`crate::json`] describes it.
    ///
    /// # Errors
    /// The bytes are no such value, or it has no JSON.
    fn write_value(&self, value: &[u8], into: &mut Vec<u8>) -> Result<()>;

    /// Returns an encoded key as JSON.
    ///
    /// # Errors
    /// As [`StateCodec::write_key`].
    fn key_to_json(&self, key: &[u8]) -> Result<String> {
        let mut json = Vec::new();
        self.write_key(key, &mut json)?;
        Ok(text_of(json))
    }

    /// Returns the value of a key as JSON, both encoded. An error names the key.
    ///
    /// # Errors
    /// As [`StateCodec::write_value`].
    fn value_to_json(&self, key: &[u8], value: &[u8]) -> Result<String> {
        let mut json = Vec::new();
        self.write_value(value, &mut json).map_err(|error| at_key(self, key, error))?;
        Ok(text_of(json))
    }

    /// Reads a row as a run would, and forgets it.
    ///
    /// # Errors
    /// Kind Damaged: the bytes are no such key or value.
    fn read_row(&self, key: &[u8], value: Option<&[u8]>) -> Result<()>;

    /// Writes an encoded key and its value as `{"key":…,"value":…}`. Without a value the object has no
    /// `value`. An error names the key.
    ///
    /// # Errors
    /// As [`StateCodec::write_key`] and [`StateCodec::write_value`].
    fn write_row(&self, key: &[u8], value: Option<&[u8]>, into: &mut Vec<u8>) -> Result<()> {
        into.extend_from_slice(b"{\"key\":");
        self.write_key(key, into)?;
        if let Some(value) = value {
            into.extend_from_slice(b",\"value\":");
            self.write_value(value, into).map_err(|error| at_key(self, key, error))?;
        }
        into.push(b'}');
        Ok(())
    }
}

/// Leads an error about the value of a key by the state and the key.
fn at_key(codec: &(impl StateCodec + ?Sized), key: &[u8], error: Error) -> Error {
    let key = codec.key_to_json(key).unwrap_or_else(|_| "that cannot be read".into());
    error.while_doing(&format!("state \"{}\", the value of the key {key}", codec.decl().name))
}

fn text_of(json: Vec<u8>) -> String {
    String::from_utf8(json).expect("JSON is UTF-8")
}

pub(crate) struct TypedCodec<K, V> {
    decl: StateDecl,
    placement: Placement,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: Key, V: Storable> StateCodec for TypedCodec<K, V> {
    fn decl(&self) -> StateDecl {
        self.decl.clone()
    }

    fn parse_key(&self, text: &str, groups: u16) -> Result<(Vec<u8>, KeyGroup)> {
        let key: K = json::from_text(text).map_err(|why| {
            Error::config(format!(
                "\"{text}\" is no key of state \"{}\", whose keys are {}: {why}. Write a string as it is, anything else as JSON",
                self.decl.name,
                type_names::of::<K>()
            ))
        })?;
        let mut encoded = Vec::new();
        keys::encode_key(&key, &mut encoded)?;
        let group = keys::group_of(self.placement.hash(&encoded, groups), groups);
        Ok((encoded, group))
    }

    fn has_text_keys(&self) -> bool {
        // A text, and nothing that is only written as one: it is encoded as the text itself.
        let (text, mut encoded, mut as_text) = ("text", Vec::new(), Vec::new());
        json::as_text::<K>(text).is_ok_and(|key| keys::encode_key(&key, &mut encoded).is_ok())
            && keys::encode_key(text, &mut as_text).is_ok()
            && encoded == as_text
    }

    fn write_key(&self, key: &[u8], into: &mut Vec<u8>) -> Result<()> {
        write_json(&keys::decode_key::<K>(key)?, into)
    }

    fn write_value(&self, value: &[u8], into: &mut Vec<u8>) -> Result<()> {
        write_json(&codec::decode::<V>(value)?, into)
    }

    fn read_row(&self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        let read = keys::decode_key::<K>(key).and_then(|_| value.map(codec::decode::<V>).transpose());
        read.map(drop).map_err(|why| unreadable(why, &self.decl.name, self.key_to_json(key).ok()))
    }
}

/// The error of a row that a state's types cannot read, with the way out.
fn unreadable(why: Error, state: &str, key: Option<String>) -> Error {
    let key = key.map_or_else(|| "a key that cannot be read".to_string(), |key| format!("key {key}"));
    let out = "Nothing was changed. Start the program that wrote it; or restore the folder from a copy; or let the state go \
               with topology.migration(name).drop_state(state); or begin anew with --start-over (the folder is moved aside, \
               never deleted)";
    Error::new(why.kind(), format!("state \"{state}\", {key}: {why}. {out}"))
}

fn write_json(value: &impl Serialize, into: &mut Vec<u8>) -> Result<()> {
    json::write(value, into).map_err(|why| Error::user_code(format!("it cannot be shown as JSON: {why}")))
}

/// The name of a type as it is recorded: what the compiler calls it.
pub(crate) fn type_name<T>() -> String {
    std::any::type_name::<T>().to_string()
}

/// A type as it is recorded: its name, and what it is made of.
pub(crate) fn type_decl<T: DeserializeOwned>() -> TypeDecl {
    // Its own code is not prepared for this: if it panics, nobody needs to know.
    let parts = crate::failure::policy::caught(true, || Ok(shape::of::<T>())).unwrap_or_default();
    TypeDecl { name: type_name::<T>(), parts }
}

/// Refuses a type of a state whose values could not be read back.
fn refused_type<T>(state: &str, what: &str, look: fn() -> Option<String>) -> Option<Error> {
    // Its own code is not prepared for this, as above.
    let why = crate::failure::policy::caught(true, || Ok(look())).unwrap_or_default()?;
    Some(Error::config(format!(
        "state \"{state}\" cannot have {what} of type {}, which could not be read back from their bytes: {why}. The bytes hold no \
         names and no kinds: remove the attribute or put another type in its place, such as the part as JSON text",
        type_names::of::<T>()
    )))
}

/// Registers a state's name, types and number; refuses a name that is taken, and a type that could not be read back.
pub(crate) fn declare<K: Key, V: Storable>(context: &Context, name: &str, placement: Placement) -> StateId {
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
    let codec = TypedCodec::<K, V> { decl, placement, types: PhantomData };
    let mut declared = context.declared.borrow_mut();
    if let Some(error) = refusal {
        declared.error.get_or_insert(error);
    }
    if declared.program.states.iter().any(|state| state.name == name) {
        declared.error.get_or_insert(Error::config(format!("two states are named \"{name}\": give each its own name")));
    }
    declared.program.states.push(codec.decl());
    declared.codecs.push(std::sync::Arc::new(codec));
    context.schema.state(name).unwrap_or(StateId(0))
}
