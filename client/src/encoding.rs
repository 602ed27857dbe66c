//! Arguments and results as bytes, as the server has them: the encoding of the crate
//! `tidemill-codec`.

use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) fn encode<A: Serialize + ?Sized>(value: &A) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    tidemill_codec::encode(value, &mut bytes)?;
    Ok(bytes)
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
        let bytes = encode(&value).expect("it encodes");
        // The format, a length, the text, 300 and -1 as variable-length integers.
        assert_eq!(bytes, b"\x01\x04tide\xfb\x2c\x01\x01\x01");
        assert_eq!(decode::<(String, u64, Option<i32>)>(&bytes), Ok(value));
        assert!(decode::<(String, u64)>(&bytes).is_err(), "bytes left over");
        assert!(decode::<u64>(&[]).is_err(), "empty");
        assert!(decode::<u64>(&[2, 1]).expect_err("another format").contains("format 2"));
    }
}
