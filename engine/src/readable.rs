//! Bytes that a person may read: where a format is for people, such as JSON, a text if they are
//! one, else an array of numbers.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// For `#[serde(serialize_with)]`.
pub(crate) fn serialize<S: Serializer>(
    bytes: &Option<Vec<u8>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match bytes {
        Some(bytes) if serializer.is_human_readable() => match std::str::from_utf8(bytes) {
            Ok(text) => serializer.serialize_some(text),
            Err(_) => serializer.serialize_some(bytes),
        },
        bytes => bytes.serialize(serializer),
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Readable {
    Text(String),
    Bytes(Vec<u8>),
}

/// For `#[serde(deserialize_with)]`.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<u8>>, D::Error> {
    if !deserializer.is_human_readable() {
        return Option::deserialize(deserializer);
    }
    Ok(Option::<Readable>::deserialize(deserializer)?.map(|readable| match readable {
        Readable::Text(text) => text.into_bytes(),
        Readable::Bytes(bytes) => bytes,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_state::codec;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Letter {
        #[serde(with = "crate::readable")]
        bytes: Option<Vec<u8>>,
    }

    #[test]
    fn a_text_is_shown_as_one_and_all_comes_back() {
        let rows: [(Option<&[u8]>, &str); 4] = [
            (None, "null"),
            (Some(b""), "\"\""),
            (Some("{\"t\u{e4}g\": 1".as_bytes()), "\"{\\\"t\u{e4}g\\\": 1\""),
            (Some(&[0xff, 0]), "[255,0]"),
        ];
        for (bytes, shown) in rows {
            let letter = Letter { bytes: bytes.map(<[u8]>::to_vec) };
            let json = serde_json::to_string(&letter).expect("it can be shown");
            assert_eq!(json, format!("{{\"bytes\":{shown}}}"));
            assert_eq!(serde_json::from_str::<Letter>(&json).expect("it comes back"), letter);
            let mut stored = Vec::new();
            codec::encode(&letter, &mut stored).expect("it can be stored");
            assert_eq!(codec::decode::<Letter>(&stored).expect("it comes back"), letter);
        }
    }
}
