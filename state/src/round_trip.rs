//! Checks that values and keys come back from their bytes, and equal, before anything of them is
//! committed.
//!
//! A type's own code decides what it writes and what it reads, and the two may not agree. Three
//! checks find that, each as early as it can:
//!
//! 1. The type alone, when a topology is built ([`of_values`], [`of_keys`]): parts that can only be
//!    read from bytes with names and kinds, and values made from nothing that do not come back.
//! 2. Every value, when it is encoded ([`crate::codec::exact`]): fields that are left out, and
//!    parts other than announced.
//! 3. Some values, when they are encoded ([`Values`], [`Keys`]): the first one with each
//!    alternative of its type, and one in a thousand, are read back and compared.
//!
//! Keys are compared as such. Values have no equality: theirs is that of their bytes, so a field
//! with `#[serde(skip)]` is beyond these checks.

use crate::codec::{self, exact::Alternatives};
use crate::keys::{self, Key};
use crate::type_names;
use crate::{Error, Result, shape};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The number of values of which one is read back.
const ONE_IN: u64 = 1000;

/// The longest value that an error shows, in bytes.
const SHOWN: usize = 200;

/// Returns why values of this type could not be read back, as far as the type alone shows.
///
/// ```
/// use tidemill_state::round_trip;
///
/// assert_eq!(round_trip::of_values::<Vec<(u64, Option<String>)>>(), None);
/// let refused = round_trip::of_values::<(u64, serde_json::Value)>().expect("it cannot be read back");
/// assert!(refused.contains("any valid JSON value"), "{refused}");
/// ```
#[must_use]
pub fn of_values<V: Serialize + DeserializeOwned>() -> Option<String> {
    let encode = |value: &V, taken: &Alternatives, into: &mut Vec<u8>| {
        tidemill_codec::encode_noting(value, taken, into)
    };
    of_type(encode, codec::decode).0
}

/// Returns why keys of this type could not be read back, as far as the type alone shows.
///
/// ```
/// use tidemill_state::round_trip;
///
/// assert_eq!(round_trip::of_keys::<(std::net::IpAddr, u16)>(), None);
/// ```
#[must_use]
pub fn of_keys<K: Key>() -> Option<String> {
    let encode = |key: &K, taken: &Alternatives, into: &mut Vec<u8>| {
        keys::encode_key_noting(key, taken, into).map_err(|why| why.to_string())
    };
    let (refusal, has_maps) = of_type(encode, keys::decode_key);
    refusal.or_else(|| {
        has_maps.then(|| {
            "it holds a map, which has no encoding that keeps an order: take a \
            sorted `Vec` of pairs"
                .into()
        })
    })
}

/// The refusal of a type, and whether it holds maps.
fn of_type<T: Serialize + DeserializeOwned>(
    encode: impl Fn(&T, &Alternatives, &mut Vec<u8>) -> std::result::Result<(), String>,
    decode: impl Fn(&[u8]) -> Result<T>,
) -> (Option<String>, bool) {
    let mut refusal = None;
    let look = shape::look::<T>(|made| {
        // Its own code may refuse a value that it would not make, or panic at it: that shows
        // nothing.
        let comes_back = || {
            let (taken, mut bytes) = (Alternatives::default(), Vec::new());
            match encode(&made, &taken, &mut bytes) {
                Ok(()) => differs(&made, &bytes, &decode, &encode),
                Err(why) => taken.has_refused().then_some(why),
            }
        };
        if refusal.is_none() {
            refusal = catch_unwind(AssertUnwindSafe(comes_back)).unwrap_or_default();
        }
    });
    (look.unreadable.or(refusal), look.has_maps)
}

/// Returns how a value differs from what is read from its bytes, if it does.
fn differs<T: Serialize>(
    value: &T,
    bytes: &[u8],
    decode: impl FnOnce(&[u8]) -> Result<T>,
    encode: impl FnOnce(&T, &Alternatives, &mut Vec<u8>) -> std::result::Result<(), String>,
) -> Option<String> {
    let back = match decode(bytes) {
        Ok(back) => back,
        Err(why) => {
            return Some(format!(
                "{} is written as bytes that are not read: {why}. {CAUSES}",
                shown(value)
            ));
        }
    };
    let (taken, mut again) = (Alternatives::default(), Vec::new());
    match encode(&back, &taken, &mut again) {
        Ok(()) if bytes == again || (taken.holds_many() && are_reordered(bytes, &again)) => None,
        Ok(()) => Some(format!("{} would be read as {}. {CAUSES}", shown(value), shown(&back))),
        Err(why) => Some(format!(
            "{} would be read as what cannot be written: {why}. {CAUSES}",
            shown(value)
        )),
    }
}

/// The advice for a value that does not come back.
const CAUSES: &str = "What its `Serialize` writes its `Deserialize` must read: look for a \
    `#[serde(skip)]` on a variant that is not the last, for `skip_serializing` or \
    `skip_deserializing` alone, and for a `serialize_with` or `deserialize_with` without its \
    counterpart. A value that was read back must be written as the same bytes again: one that its \
    own code compacts or normalises as it reads is to be made so before it is written";

/// A value as an error shows it.
fn shown<T: Serialize>(value: &T) -> String {
    let mut text = match serde_json::to_string(value) {
        Ok(text) => text,
        Err(_) => return "a value".into(),
    };
    if let Some(most) =
        (0..=SHOWN).rev().find(|at| text.is_char_boundary(*at)).filter(|most| *most < text.len())
    {
        text.truncate(most);
        text.push('…');
    }
    text
}

/// Returns whether these are the same bytes in another order: that of the entries of a hash map
/// that was read back.
fn are_reordered(one: &[u8], other: &[u8]) -> bool {
    let histogram = |bytes: &[u8]| {
        let mut counts = [0usize; 256];
        bytes.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
        counts
    };
    one.len() == other.len() && histogram(one) == histogram(other)
}

/// Which values of a type are read back.
#[derive(Debug, Default)]
struct Sample {
    taken: Alternatives,
    written: u64,
}

impl Sample {
    /// Returns whether the value that was just encoded is one of them.
    #[inline]
    fn is_due(&mut self) -> bool {
        let is_due = self.taken.take_new() || self.written.is_multiple_of(ONE_IN);
        self.written += 1;
        is_due
    }
}

/// The encoding of the values that one operator writes to a state.
#[derive(Debug, Default)]
pub struct Values(Sample);

impl Values {
    /// Encodes a value, and reads it back now and then.
    ///
    /// # Errors
    /// Kind UserCode: it cannot be serialized, or it does not come back.
    pub fn encode<V: Serialize + DeserializeOwned>(
        &mut self,
        value: &V,
        into: &mut Vec<u8>,
    ) -> Result<()> {
        let start = into.len();
        tidemill_codec::encode_noting(value, &self.0.taken, into)
            .map_err(|why| codec::unwritten::<V>(&why))?;
        if self.0.is_due() { value_comes_back(value, &into[start..]) } else { Ok(()) }
    }
}

/// The encoding of the keys that one operator writes to a state.
#[derive(Debug, Default)]
pub struct Keys(Sample);

impl Keys {
    /// Encodes a key into `into`, which is cleared first, and reads it back now and then.
    ///
    /// # Errors
    /// Kind UserCode: it cannot be serialized, or it does not come back.
    pub fn encode<K: Key>(&mut self, key: &K, into: &mut Vec<u8>) -> Result<()> {
        keys::encode_key_noting(key, &self.0.taken, into)?;
        if self.0.is_due() { key_comes_back(key, into) } else { Ok(()) }
    }
}

/// Checks that a value is read back from its bytes, and written as the same bytes again.
///
/// # Errors
/// Kind UserCode: it is not.
pub fn value_comes_back<V: Serialize + DeserializeOwned>(value: &V, bytes: &[u8]) -> Result<()> {
    let encode = |value: &V, taken: &Alternatives, into: &mut Vec<u8>| {
        tidemill_codec::encode_noting(value, taken, into)
    };
    let differs = caught(|| differs(value, bytes, codec::decode, encode));
    differs.map_or(Ok(()), |how| Err(lost::<V>("value", &how)))
}

/// Checks that a key is read back from its bytes, and is equal.
///
/// # Errors
/// Kind UserCode: it is not.
pub fn key_comes_back<K: Key>(key: &K, bytes: &[u8]) -> Result<()> {
    let differs = caught(|| {
        let encode = |key: &K, taken: &Alternatives, into: &mut Vec<u8>| {
            keys::encode_key_noting(key, taken, into).map_err(|why| why.to_string())
        };
        differs(key, bytes, keys::decode_key, encode).or_else(|| {
            let is_equal = keys::decode_key::<K>(bytes).is_ok_and(|back| back == *key);
            (!is_equal).then(|| {
                format!("{} would be read as a key that is not equal to it. {SKIPPED}", shown(key))
            })
        })
    });
    differs.map_or(Ok(()), |how| Err(lost::<K>("key", &how)))
}

/// The advice for two different keys that are one in the store.
pub const SKIPPED: &str = "Look for a field with `#[serde(skip)]` that counts for `Eq` and \
    `Hash`: remove the attribute, or leave the field out of the key";

fn caught(compare: impl FnOnce() -> Option<String>) -> Option<String> {
    catch_unwind(AssertUnwindSafe(compare))
        .unwrap_or_else(|_| Some("its own code panicked when it was read back".into()))
}

fn lost<T>(what: &str, how: &str) -> Error {
    Error::user_code(format!(
        "a {what} of type {} would not be there after a restart: {how}",
        type_names::of::<T>()
    ))
}

#[cfg(test)]
mod shapes;
#[cfg(test)]
mod tests;
