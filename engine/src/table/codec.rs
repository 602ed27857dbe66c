//! The rows of a state as JSON, and the names and fingerprints of their types.

use crate::json;
use crate::record::Storable;
use crate::table::placement::Placement;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;
use tidemill_state::keys::{self, Key};
use tidemill_state::schema::{StateDecl, TypeDecl};
use tidemill_state::{Error, KeyGroup, Result, codec, shape, type_names};

/// The types of a state, kept so that its bytes can be shown to a person and found by one.
pub trait StateCodec: Send + Sync {
    /// The state as it is declared.
    fn decl(&self) -> StateDecl;

    /// A key as a person writes it (text for a string, else JSON), encoded; and its group in a
    /// store with so many groups.
    ///
    /// # Errors
    /// The text is no such key.
    fn parse_key(&self, text: &str, groups: u16) -> Result<(Vec<u8>, KeyGroup)>;

    /// Returns whether its keys are texts: then they have prefixes.
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

    /// Writes an encoded key and its value as `{"key":…,"value":…}`. Without a value the object has
    /// no `value`. An error names the key.
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

impl<K, V> TypedCodec<K, V> {
    pub(crate) fn new(decl: StateDecl, placement: Placement) -> TypedCodec<K, V> {
        TypedCodec { decl, placement, types: PhantomData }
    }
}

impl<K: Key, V: Storable> StateCodec for TypedCodec<K, V> {
    fn decl(&self) -> StateDecl {
        self.decl.clone()
    }

    fn parse_key(&self, text: &str, groups: u16) -> Result<(Vec<u8>, KeyGroup)> {
        let key: K = json::from_text(text).map_err(|why| {
            Error::config(format!(
                "\"{text}\" is no key of state \"{}\", whose keys are {}: {why}. Write a string \
                 as it is, anything else as JSON",
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
        let read =
            keys::decode_key::<K>(key).and_then(|_| value.map(codec::decode::<V>).transpose());
        read.map(drop).map_err(|why| unreadable(why, &self.decl.name, self.key_to_json(key).ok()))
    }
}

/// The error of a row that a state's types cannot read, with the way out.
fn unreadable(why: Error, state: &str, key: Option<String>) -> Error {
    let key =
        key.map_or_else(|| "a key that cannot be read".to_string(), |key| format!("key {key}"));
    let out = "Nothing was changed. Start the program that wrote it; or restore the folder from a \
        copy; or let the state go with topology.migration(name).drop_state(state); or begin anew \
        with --start-over (the folder is moved aside, never deleted)";
    Error::new(why.kind(), format!("state \"{state}\", {key}: {why}. {out}"))
}

fn write_json(value: &impl Serialize, into: &mut Vec<u8>) -> Result<()> {
    json::write(value, into)
        .map_err(|why| Error::user_code(format!("it cannot be shown as JSON: {why}")))
}

/// The name of a type as it is recorded: what the compiler calls it.
pub(crate) fn type_name<T>() -> String {
    std::any::type_name::<T>().to_string()
}

/// A type as it is recorded: its name, and what it is made of.
pub(crate) fn type_decl<T: DeserializeOwned>() -> TypeDecl {
    // Its own code is not prepared for this: if it panics, nobody needs to know.
    let parts = crate::panics::caught(true, || Ok(shape::of::<T>())).unwrap_or_default();
    TypeDecl { name: type_name::<T>(), parts }
}

/// Refuses a type of a state whose values could not be read back.
pub(crate) fn refused_type<T>(
    state: &str,
    what: &str,
    look: fn() -> Option<String>,
) -> Option<Error> {
    // Its own code is not prepared for this, as above.
    let why = crate::panics::caught(true, || Ok(look())).unwrap_or_default()?;
    Some(Error::config(format!(
        "state \"{state}\" cannot have {what} of type {}, which could not be read back from their \
         bytes: {why}. The bytes hold no names and no kinds: remove the attribute or put another \
         type in its place, such as the part as JSON text",
        type_names::of::<T>()
    )))
}
