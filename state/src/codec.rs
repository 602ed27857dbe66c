//! Values, log entries and outbox entries as bytes: bincode 1.3, with limits, a format byte in front.

use crate::depth::{DEEPEST, Limited};
use crate::{Error, Result};
use bincode::Options;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

/// The format byte of everything this version writes.
pub const FORMAT: u8 = 1;

/// The largest encoded value, 256 MiB: nothing larger is written, and a length above it is not believed when read.
pub const MAX_VALUE_BYTES: u64 = 256 << 20;

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_limit(MAX_VALUE_BYTES)
}

/// Appends the format byte and `value` to `into`.
///
/// # Errors
/// The value cannot be serialized, or is larger than [`MAX_VALUE_BYTES`]. `into` may then hold a part of it.
pub fn encode<V: Serialize + ?Sized>(value: &V, into: &mut Vec<u8>) -> Result<()> {
    into.push(FORMAT);
    options()
        .serialize_into(into, value)
        .map_err(|why| Error::user_code(format!("a value of type {} cannot be serialized: {why}", std::any::type_name::<V>())))
}

/// Appends `value` alone, without the format byte: as an element of something that has it.
///
/// # Errors
/// As bincode has them: the value cannot be serialized, or the writer takes no more.
pub fn append<V: Serialize + ?Sized>(value: &V, into: &mut impl std::io::Write) -> std::result::Result<(), Box<Unwritten>> {
    options().serialize_into(into, value)
}

/// Why [`append`] did not write.
pub type Unwritten = bincode::ErrorKind;

/// Decodes what [`encode`] wrote, all of it.
///
/// # Errors
/// Another format, bytes of another type, or bytes left over.
pub fn decode<V: DeserializeOwned>(bytes: &[u8]) -> Result<V> {
    decode_as(std::any::type_name::<V>(), bytes)
}

fn decode_as<V: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<V> {
    let wrong = |why: String| Error::damaged(format!("a value of {} bytes is not a {name}: {why}", bytes.len()));
    match bytes.split_first() {
        Some((&FORMAT, rest)) => options().deserialize(rest).map_err(|why| wrong(why.to_string())),
        Some((format, _)) => Err(wrong(format!("format {format} is not known to this version, which writes {FORMAT}"))),
        None => Err(wrong("it is empty".into())),
    }
}

/// As [`decode`], for bytes that come from outside: what is nested more than 128 levels deep is an error, before it takes the stack of whoever reads it.
///
/// # Errors
/// As [`decode`].
pub fn decode_from_outside<V: DeserializeOwned>(bytes: &[u8]) -> Result<V> {
    decode_as::<Shallow<V>>(std::any::type_name::<V>(), bytes).map(|Shallow(value)| value)
}

/// A value that is not nested too deeply.
struct Shallow<V>(V);

impl<'de, V: DeserializeOwned> Deserialize<'de> for Shallow<V> {
    fn deserialize<D: Deserializer<'de>>(inner: D) -> std::result::Result<Shallow<V>, D::Error> {
        V::deserialize(Limited { inner, left: DEEPEST }).map(Shallow)
    }
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
        let map: std::collections::BTreeMap<(i8, char), (f32, Option<bool>, u128)> = [((-1, 'ü'), (0.5, None, 1 << 100))].into();
        let mut bytes = Vec::new();
        encode(&map, &mut bytes).expect("it encodes");
        assert_eq!(
            decode_from_outside::<std::collections::BTreeMap<(i8, char), (f32, Option<bool>, u128)>>(&bytes).expect("it decodes"),
            map
        );
        let deep = decode_from_outside::<Tree>(&encoded(&nested(200))).expect_err("too deep").to_string();
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
        assert!(decode::<(String, u64, Option<f64>)>(&bytes).expect_err("format").to_string().contains("format 9"));
    }

    #[test]
    fn a_huge_length_is_not_believed() {
        let mut bytes = vec![FORMAT, 253];
        bytes.extend_from_slice(&u64::MAX.to_le_bytes());
        assert!(decode::<Vec<u8>>(&bytes).is_err());
    }
}
