//! Values, log entries and outbox entries as bytes: bincode 1.3, with limits, a format byte in front.

use crate::{Error, Result};
use bincode::Options;
use serde::Serialize;
use serde::de::DeserializeOwned;

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
    let wrong =
        |why: String| Error::damaged(format!("a value of {} bytes is not a {}: {why}", bytes.len(), std::any::type_name::<V>()));
    match bytes.split_first() {
        Some((&FORMAT, rest)) => options().deserialize(rest).map_err(|why| wrong(why.to_string())),
        Some((format, _)) => Err(wrong(format!("format {format} is not known to this version, which writes {FORMAT}"))),
        None => Err(wrong("it is empty".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
