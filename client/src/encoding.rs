//! Arguments and results as bytes, as the server has them, and their types: the encoding of the
//! crate `tidemill-codec`.

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_codec::{shape, trace, type_names};
use tidemill_proto::QueryTypes;

/// The arguments of a request.
#[derive(Clone, Debug)]
pub(crate) struct EncodedArguments {
    pub(crate) bytes: Vec<u8>,
    /// Their type, which the server compares with the query's: the bytes do not show it.
    pub(crate) types: QueryTypes,
}

pub(crate) fn encode<A: Serialize + ?Sized>(value: &A) -> Result<EncodedArguments, String> {
    let mut bytes = Vec::new();
    tidemill_codec::encode(value, &mut bytes)?;
    let written = trace::of(value)?;
    let types = QueryTypes {
        argument_kinds: written.trace.kinds,
        argument_names: written.trace.names,
        arguments: with_shape(type_names::of::<A>(), &written.text),
        ..QueryTypes::default()
    };
    Ok(EncodedArguments { bytes, types })
}

/// Adds the result's type.
pub(crate) fn expect<R: DeserializeOwned>(types: QueryTypes) -> QueryTypes {
    QueryTypes {
        result_shape: shape::known::<R>().to_string(),
        result: type_names::of::<R>(),
        ..types
    }
}

/// A type in an error: its name, and its parts if the name does not show them.
fn with_shape(name: String, shape: &str) -> String {
    if name == shape { name } else { format!("{name}, {shape}") }
}

pub(crate) fn decode<R: DeserializeOwned>(bytes: &[u8]) -> Result<R, String> {
    tidemill_codec::decode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_and_what_is_none_is_found() {
        let value = ("tide".to_string(), 300u64, Some(-1i32));
        let EncodedArguments { bytes, types } = encode(&value).expect("it encodes");
        // The format, a length, the text, 300 and -1 as variable-length integers.
        assert_eq!(bytes, b"\x01\x04tide\xfb\x2c\x01\x01\x01");
        assert_eq!(types.arguments, "(String, u64, Option<i32>), (text, u64, option i32)");
        assert_eq!(decode::<(String, u64, Option<i32>)>(&bytes), Ok(value));
        assert!(decode::<(String, u64)>(&bytes).is_err(), "bytes left over");
        assert!(decode::<u64>(&[]).is_err(), "empty");
        assert!(decode::<u64>(&[2, 1]).expect_err("another format").contains("format 2"));
    }
}
