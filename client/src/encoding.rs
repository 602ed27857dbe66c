//! Arguments and results as bytes, as the server has them: bincode 1.3 with variable-length integers, after one byte for the format.

use bincode::Options;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The format byte.
const FORMAT: u8 = 1;

/// No length above this is believed: the server writes no larger value.
const MOST_BYTES: u64 = 256 << 20;

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_limit(MOST_BYTES)
}

pub(crate) fn encode<A: Serialize + ?Sized>(value: &A) -> Result<Vec<u8>, String> {
    let mut bytes = vec![FORMAT];
    options().serialize_into(&mut bytes, value).map_err(|why| why.to_string())?;
    Ok(bytes)
}

pub(crate) fn decode<R: DeserializeOwned>(bytes: &[u8]) -> Result<R, String> {
    match bytes.split_first() {
        Some((&FORMAT, rest)) => options().deserialize(rest).map_err(|why| why.to_string()),
        Some((format, _)) => Err(format!("it is in format {format}, and this client knows {FORMAT}")),
        None => Err("it is empty".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_and_what_is_none_is_found() {
        let value = ("tide".to_string(), 300u64, Some(-1i32));
        let bytes = encode(&value).expect("it encodes");
        // The format, a length, the text, 300 and -1 as variable-length integers.
        assert_eq!(bytes, b"\x01\x04tide\xfb\x2c\x01\x01\x01");
        assert_eq!(decode::<(String, u64, Option<i32>)>(&bytes), Ok(value));
        assert!(decode::<(String, u64)>(&bytes).is_err(), "bytes left over");
        assert!(decode::<u64>(&[]).is_err(), "empty");
        assert!(decode::<u64>(&[2, 1]).expect_err("another format").contains("format 2"));
    }
}
