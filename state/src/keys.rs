//! Keys on disk: an order-preserving encoding, a stable hash of it, and the key group that follows
//! from the hash.
//!
//! The encoding is that of the crate `memcomparable` (the scheme of MySQL's and RisingWave's index
//! keys): comparing two encoded keys as bytes gives the order of the keys. The hash is xxh3 (64
//! bits, seed 0) of the encoded key. Both are on users' disks.

mod owned;
mod padded;

use crate::codec::exact::{Alternatives, Exact};
use crate::{Error, KeyGroup, Result};
use padded::Padded;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::Cell;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The name of the key hash, as recorded in every store.
pub const KEY_HASH: &str = "xxh3-64";

/// The number of key groups of a new store.
pub const KEY_GROUPS: u16 = 256;

/// A type of keys: of a state, or of a grouping. Every type with these parts is one.
///
/// Not every serde type has an order-preserving encoding: maps and borrowed data have none, and are
/// refused with an error.
///
/// # Contract
///
/// 1. *Checked by the suite.* Keys that are equal encode equally, and keys that differ encode
///    differently. A field with `#[serde(skip)]` that counts for `Eq` breaks this. A state refuses
///    two keys that differ and encode equally when it meets the second one.
/// 2. *Checked by the suite.* A key is read back from its encoding, and equal: see the attributes
///    that `tidemill_engine::Data` lists.
/// 3. *Not checkable.* A key does not change while it is one.
pub trait Key: Serialize + DeserializeOwned + Hash + Eq + Clone + Send + 'static {}
impl<T: Serialize + DeserializeOwned + Hash + Eq + Clone + Send + 'static> Key for T {}

/// Encodes `key` into `into`, which is cleared first.
///
/// # Errors
/// The type has no order-preserving encoding, or the key could not be read back.
pub fn encode_key<K: Serialize + ?Sized>(key: &K, into: &mut Vec<u8>) -> Result<()> {
    write_key(Exact::new(key), into)
}

/// As [`encode_key`]; the alternatives that the key takes are noted.
pub(crate) fn encode_key_noting<K: Serialize>(
    key: &K,
    taken: &Alternatives,
    into: &mut Vec<u8>,
) -> Result<()> {
    write_key(Exact::noting(key, taken), into)
}

fn write_key<K: Serialize + ?Sized>(key: Exact<'_, K>, into: &mut Vec<u8>) -> Result<()> {
    into.clear();
    let mut serializer = memcomparable::Serializer::new(into);
    key.serialize(&mut serializer).map_err(|why| {
        Error::user_code(format!(
            "a key of type {} cannot be serialized: {why}; use integers, strings, byte strings, \
             enums, tuples and structs of them",
            crate::type_names::of::<K>()
        ))
    })
}

/// Returns the bytes with which the encodings of all texts begin that begin with `text`: for scans
/// by prefix. If `text` ends with a NUL, those of some texts before it begin so too.
///
/// memcomparable writes a text as a 1, blocks of eight bytes each followed by a 9, and a last block
/// that is filled up with zeros and followed by its length.
#[must_use]
pub fn text_prefix(text: &str) -> Vec<u8> {
    let mut prefix = Vec::with_capacity(1 + text.len() + text.len() / 8);
    for (number, block) in text.as_bytes().chunks(8).enumerate() {
        prefix.push(if number == 0 { 1 } else { 9 });
        prefix.extend_from_slice(block);
    }
    prefix
}

/// Decodes what [`encode_key`] wrote.
///
/// # Errors
/// The bytes are not such a key.
pub fn decode_key<K: DeserializeOwned>(bytes: &[u8]) -> Result<K> {
    let wrong = |why: &dyn std::fmt::Display| {
        Error::damaged(format!(
            "a key of {} bytes is not a {}: {why}",
            bytes.len(),
            crate::type_names::of::<K>()
        ))
    };
    let cut_off = Cell::new(false);
    // The type's own code may panic at bytes that it did not write.
    let decoded = catch_unwind(AssertUnwindSafe(|| {
        let mut deserializer = memcomparable::Deserializer::new(Padded::new(bytes, &cut_off));
        let key = K::deserialize(owned::Owned(&mut deserializer, &cut_off));
        key.map(|key| (key, deserializer.into_inner().rest().len()))
    }));
    match decoded {
        _ if cut_off.get() => Err(wrong(&"it is cut off")),
        Ok(Ok((key, 0))) => Ok(key),
        Ok(Ok(_)) => Err(wrong(&"bytes are left over")),
        Ok(Err(why)) => Err(wrong(&why)),
        Err(_) => Err(wrong(&"its own code panicked")),
    }
}

/// The stable hash of an encoded key.
#[must_use]
pub fn hash_key(encoded: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(encoded)
}

/// The key group of a hash, in a store with `groups` key groups.
///
/// # Panics
/// If `groups` is 0.
#[must_use]
pub fn group_of(hash: u64, groups: u16) -> KeyGroup {
    // The usual number is a power of two: a division here would cost as much as the hash.
    let group = if groups.is_power_of_two() {
        hash & u64::from(groups - 1)
    } else {
        hash % u64::from(groups)
    };
    KeyGroup(u16::try_from(group).expect("a remainder of a u16 is a u16"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded<K: Serialize>(key: &K) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_key(key, &mut bytes).expect("the key can be encoded");
        bytes
    }

    fn check_order<K: Key + Ord + std::fmt::Debug>(keys: &[K]) {
        for a in keys {
            assert_eq!(&decode_key::<K>(&encoded(a)).expect("it decodes"), a);
            for b in keys {
                assert_eq!(a.cmp(b), encoded(a).cmp(&encoded(b)), "{a:?} and {b:?}");
            }
        }
    }

    #[test]
    fn encoded_keys_keep_their_order_and_come_back() {
        check_order(
            &["", "a", "a\0", "a\0b", "ab", "abcdefgh", "abcdefgh\0", "abcdefghi", "b", "ä"]
                .map(String::from),
        );
        check_order(&[i64::MIN, -1, 0, 1, i64::MAX]);
        check_order(&[(1u32, "b".to_string()), (1, "a".to_string()), (0, "z".to_string())]);
        check_order(&[None, Some(0u8), Some(255)]);
    }

    #[test]
    fn a_text_begins_with_another_if_its_encoding_does() {
        let texts = [
            "",
            "a",
            "ab",
            "abcdefg",
            "abcdefgh",
            "abcdefghi",
            "abcdefgh\0",
            "abcdefghijklmnop",
            "abcdefghijklmnopq",
            "b",
            "ä",
            "\0",
            "\0\0",
            "a\0",
            "a\0b",
        ];
        for text in texts {
            for prefix in texts {
                let begins = encoded(&text).starts_with(&text_prefix(prefix));
                let is_before = encoded(&text) < encoded(&prefix);
                assert_eq!(begins && !is_before, text.starts_with(prefix), "{text:?}, {prefix:?}");
            }
        }
    }

    #[test]
    fn damaged_keys_are_errors() {
        let whole = encoded(&("tide".to_string(), 7u64));
        for cut in 0..whole.len() {
            assert!(decode_key::<(String, u64)>(&whole[..cut]).is_err(), "cut at {cut}");
        }
        assert!(
            decode_key::<String>(&whole).expect_err("left over").to_string().contains("left over")
        );
    }

    /// The encoding and hash are on users' disks: this test must never be changed to pass.
    #[test]
    fn the_format_on_disk_is_fixed() {
        assert_eq!(encoded(&"the"), [1, b't', b'h', b'e', 0, 0, 0, 0, 0, 3]);
        assert_eq!(encoded(&7u64), [0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(hash_key(&encoded(&"the")), 0xf3ac_0268_7346_5fa6_u64);
        assert_eq!(group_of(hash_key(&encoded(&"the")), 256), KeyGroup(0xa6));
    }

    /// The serializer has always written the form that is not for people, which stores hold; it was
    /// read as the other one.
    #[test]
    fn addresses_are_read_as_stores_hold_them() {
        use std::net::{IpAddr, SocketAddr};
        check_order(
            &["10.0.0.1", "10.0.0.2", "::1"]
                .map(|text| text.parse::<IpAddr>().expect("an address")),
        );
        check_order(
            &["10.0.0.1:80", "10.0.0.1:443"]
                .map(|text| text.parse::<SocketAddr>().expect("an address")),
        );
        assert_eq!(encoded(&IpAddr::from([10, 0, 0, 1])), [0, 10, 0, 0, 1]);
        assert_eq!(
            decode_key::<(IpAddr, u8)>(&[0, 10, 0, 0, 1, 7]).expect("it decodes"),
            (IpAddr::from([10, 0, 0, 1]), 7)
        );
    }

    #[test]
    fn a_key_without_an_order_is_refused() {
        let key = std::collections::HashMap::from([(1, 2)]);
        let error = encode_key(&key, &mut Vec::new()).expect_err("a map has no order");
        assert!(error.to_string().contains("cannot be serialized"), "{error}");
    }
}
