//! Values, log entries and outbox entries as bytes: the encoding of the crate `tidemill-codec`,
//! with this crate's errors.

use crate::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
pub use tidemill_codec::{FORMAT, MAX_VALUE_BYTES, Unwritten, append, decode_traced, exact, trace};

/// Appends the format byte and `value` to `into`.
///
/// # Errors
/// The value cannot be serialized or could not be read back, or it is larger than
/// [`MAX_VALUE_BYTES`]. `into` may then hold a part of it.
pub fn encode<V: Serialize + ?Sized>(value: &V, into: &mut Vec<u8>) -> Result<()> {
    tidemill_codec::encode(value, into).map_err(|why| unwritten::<V>(&why))
}

/// The error of a value that cannot be encoded.
pub(crate) fn unwritten<V: ?Sized>(why: &str) -> Error {
    Error::user_code(format!(
        "a value of type {} cannot be serialized: {why}",
        crate::type_names::of::<V>()
    ))
}

/// Decodes what [`encode`] wrote, all of it.
///
/// # Errors
/// Another format, bytes of another type, or bytes left over.
pub fn decode<V: DeserializeOwned>(bytes: &[u8]) -> Result<V> {
    tidemill_codec::decode(bytes).map_err(|why| unread::<V>(bytes, &why))
}

/// As [`decode`], for bytes that come from outside: what is nested more than 128 levels deep is an
/// error, before it takes the stack of whoever reads it.
///
/// # Errors
/// As [`decode`].
pub fn decode_from_outside<V: DeserializeOwned>(bytes: &[u8]) -> Result<V> {
    tidemill_codec::decode_from_outside(bytes).map_err(|why| unread::<V>(bytes, &why))
}

fn unread<V>(bytes: &[u8], why: &str) -> Error {
    let name = crate::type_names::of::<V>();
    Error::damaged(format!("a value of {} bytes is not a {name}: {why}", bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A type that contains itself.
    #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
    enum Tree {
        Leaf { name: String, weight: Option<u64> },
        Not(Box<Tree>),
        All(Vec<Tree>),
        Two(Box<Tree>, Box<Tree>),
    }

    fn nested(levels: u32) -> Tree {
        let leaf = || Tree::Leaf { name: "tide".into(), weight: Some(3) };
        (0..levels).fold(leaf(), |tree, level| match level % 3 {
            0 => Tree::Not(Box::new(tree)),
            1 => Tree::All(vec![leaf(), tree]),
            _ => Tree::Two(Box::new(tree), Box::new(leaf())),
        })
    }

    #[test]
    fn what_is_nested_too_deeply_is_an_error_and_all_else_comes_back() {
        let encoded = |tree: &Tree| {
            let mut bytes = Vec::new();
            encode(tree, &mut bytes).expect("it encodes");
            bytes
        };
        for levels in [0, 1, 2, 3, 50] {
            let tree = nested(levels);
            assert_eq!(decode_from_outside::<Tree>(&encoded(&tree)).expect("it decodes"), tree);
        }
        let map: std::collections::BTreeMap<(i8, char), (f32, Option<bool>, u128)> =
            [((-1, 'ü'), (0.5, None, 1 << 100))].into();
        let mut bytes = Vec::new();
        encode(&map, &mut bytes).expect("it encodes");
        assert_eq!(
            decode_from_outside::<std::collections::BTreeMap<(i8, char), (f32, Option<bool>, u128)>>(&bytes).expect("it decodes"),
            map
        );
        let deep =
            decode_from_outside::<Tree>(&encoded(&nested(200))).expect_err("too deep").to_string();
        assert!(deep.contains("128 levels"), "{deep}");
        // As many levels as a request has bytes.
        let mut bytes = vec![FORMAT];
        bytes.resize(1 << 20, 1);
        assert!(decode_from_outside::<Tree>(&bytes).is_err());
    }

    #[test]
    fn values_come_back_and_damage_is_found() {
        let mut bytes = Vec::new();
        encode(&("a", 1u64, Some(2.5f64)), &mut bytes).expect("it encodes");
        let back: (String, u64, Option<f64>) = decode(&bytes).expect("it decodes");
        assert_eq!(back, ("a".into(), 1, Some(2.5)));
        assert!(decode::<(String, u64)>(&bytes).is_err(), "bytes left over");
        assert!(decode::<u64>(&[]).is_err(), "empty");
        bytes[0] = 9;
        assert!(
            decode::<(String, u64, Option<f64>)>(&bytes)
                .expect_err("format")
                .to_string()
                .contains("format 9")
        );
    }

    #[test]
    fn a_huge_length_is_not_believed() {
        let mut bytes = vec![FORMAT, 253];
        bytes.extend_from_slice(&u64::MAX.to_le_bytes());
        assert!(decode::<Vec<u8>>(&bytes).is_err());
    }
}
