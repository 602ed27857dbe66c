//! Dead letters of a sink: messages that its topic refused for good.

use super::decode::head_of;
use super::message::{Encoded, OVERHEAD_BYTES};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value as Json, json};
use tidemill_state::Txid;

/// A dead letter, as it is sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Letter {
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Vec<u8>,
}

/// The facts about a refusal.
#[derive(Clone, Copy)]
pub(super) struct Refusal<'a> {
    pub(super) topic: &'a str,
    pub(super) txid: Txid,
    pub(super) reason: &'a str,
}

/// Makes the dead letter of a message: all of it, if the topic of dead letters takes so many bytes;
/// else the heads of its value, and of its key if that is what does not fit.
pub(super) fn letter(refusal: Refusal<'_>, message: &Encoded<'_>, takes: usize) -> Letter {
    let fits = |letter: &Letter| {
        letter.key.as_ref().map_or(0, Vec::len) + letter.value.len() + OVERHEAD_BYTES <= takes
    };
    let about = |more: Map<String, Json>| {
        let mut letter = Map::new();
        letter.insert("topic".into(), json!(refusal.topic));
        letter.insert("batch".into(), json!(refusal.txid.0));
        letter.insert("error".into(), json!(refusal.reason));
        letter.insert("bytes".into(), json!(message.value.map(<[u8]>::len)));
        letter.extend(more);
        Json::Object(letter).to_string().into_bytes()
    };
    let headers: Vec<Json> =
        message.headers.iter().map(|(name, value)| json!([name, value.map(readable)])).collect();
    let mut letter = Letter { key: message.key.map(<[u8]>::to_vec), value: Vec::new() };
    for (name, value) in forms(message.value) {
        letter.value = about(Map::from_iter([
            (name.to_string(), value),
            ("headers".to_string(), json!(headers)),
            ("partition".to_string(), json!(message.partition)),
            ("timestamp".to_string(), json!(message.timestamp)),
        ]));
        if fits(&letter) {
            return letter;
        }
    }
    let head = Map::from_iter([("head".to_string(), json!(message.value.map(head_of)))]);
    let letter = Letter { value: about(head.clone()), ..letter };
    if fits(&letter) {
        return letter;
    }
    let mut heads = head;
    heads.insert("key_bytes".into(), json!(message.key.map(<[u8]>::len)));
    heads.insert("key_head".into(), json!(message.key.map(head_of)));
    Letter { key: None, value: about(heads) }
}

/// A value as JSON in the forms that are tried, each with the name that it has in a letter: a text
/// if it is one, and base 64, which is shorter where JSON has to escape much.
fn forms(value: Option<&[u8]>) -> impl Iterator<Item = (&'static str, Json)> {
    let text = match value {
        Some(value) => std::str::from_utf8(value).ok().map(|text| json!(text)),
        None => Some(Json::Null),
    };
    let base64 = value.map(|value| ("value_base64", json!(BASE64_STANDARD.encode(value))));
    text.map(|text| ("value", text)).into_iter().chain(base64)
}

/// Bytes as JSON: a text if they are one, else numbers.
fn readable(bytes: &[u8]) -> Json {
    std::str::from_utf8(bytes).map_or_else(|_| json!(bytes), |text| json!(text))
}

#[cfg(test)]
mod tests {
    use super::super::message::Message;
    use super::*;

    #[test]
    fn a_letter_has_the_whole_message_where_it_fits() {
        let refusal = Refusal { topic: "out", txid: Txid(7), reason: "no" };
        let sent = |message: Message, takes| {
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            let letter = letter(refusal, &Encoded::read(&bytes).expect("it was written so"), takes);
            assert!(letter.value.len() + letter.key.as_ref().map_or(0, Vec::len) <= takes);
            let value: Json = serde_json::from_slice(&letter.value).expect("it is JSON");
            (letter.key, value)
        };
        let full = || {
            Message::new()
                .key("k")
                .value("v".repeat(300))
                .header("h", [0, 255])
                .null_header("n")
                .timestamp(5)
                .partition(3)
        };
        let (key, value) = sent(full(), 2000);
        let expected = json!({
            "topic": "out", "batch": 7, "error": "no", "bytes": 300, "value": "v".repeat(300),
            "headers": [["h", [0, 255]], ["n", null]], "partition": 3, "timestamp": 5,
        });
        assert_eq!((key.as_deref(), &value), (Some(&b"k"[..]), &expected));
        let (key, value) = sent(full(), 500);
        let head = head_of("v".repeat(300).as_bytes());
        assert_eq!(
            (key.as_deref(), &value["head"], &value["value"]),
            (Some(&b"k"[..]), &json!(head), &Json::Null)
        );
        let (key, value) = sent(full().key("K".repeat(5000)), 1000);
        assert_eq!((key, &value["key_bytes"], &value["bytes"]), (None, &json!(5000), &json!(300)));
        // Its size was not the reason: all of it is kept, whatever its bytes are.
        for bytes in [vec![0xff; 300_000], vec![1; 300_000]] {
            let (_, value) = sent(Message::new().value(bytes.clone()), 1_000_000);
            let back = BASE64_STANDARD
                .decode(value["value_base64"].as_str().expect("it is there"))
                .expect("it is base 64");
            assert_eq!((back, &value["bytes"]), (bytes, &json!(300_000)));
        }
        let (key, value) = sent(Message::new().key("k"), 1000);
        assert_eq!(
            (key.as_deref(), &value["value"], &value["bytes"]),
            (Some(&b"k"[..]), &Json::Null, &Json::Null)
        );
    }
}
