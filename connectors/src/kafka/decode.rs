//! From a message to a record: the decoders, and what is done with a message that they refuse.

use super::source::name_of;
use crate::Str;
use rdkafka::Message as _;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Headers as _};
use serde::de::DeserializeOwned;
use tidemill_engine::source::{DeadLetter, LetterHeader, Records};

/// A message that was read, as a decoder sees it.
#[derive(Debug)]
pub struct Incoming<'a> {
    message: &'a BorrowedMessage<'a>,
}

impl<'a> Incoming<'a> {
    pub(super) fn new(message: &'a BorrowedMessage<'a>) -> Incoming<'a> {
        Incoming { message }
    }

    /// Its topic.
    #[must_use]
    pub fn topic(&self) -> &'a str {
        self.message.topic()
    }

    /// Its partition.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.message.partition()
    }

    /// Its offset.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.message.offset()
    }

    /// Its time in milliseconds since 1970, if it has one.
    #[must_use]
    pub fn timestamp(&self) -> Option<i64> {
        self.message.timestamp().to_millis()
    }

    /// Its key, if it has one.
    #[must_use]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.message.key()
    }

    /// Its value, if it has one. A message without a value is a tombstone of a compacted topic.
    #[must_use]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.message.payload()
    }

    /// Its headers, in order: name, and value if it has one (Kafka's null). A name may be there several times. A header
    /// whose name is not UTF-8 is left out.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> {
        let headers = self.message.headers();
        headers.into_iter().flat_map(|headers| (0..headers.count()).filter_map(|at| header(headers, at)))
    }
}

/// A header. `None` if its name is not UTF-8: the crate for Kafka panics at such a name, and has no other way to it.
fn header(headers: &BorrowedHeaders, at: usize) -> Option<(&str, Option<&[u8]>)> {
    let header = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| headers.try_get(at)));
    header.ok().flatten().map(|header| (header.key, header.value))
}

/// Makes records of messages.
pub(super) type Decoder<T> = dyn Fn(&Incoming<'_>) -> Result<T, String> + Send + Sync;

/// What is done with a message that cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Undecodable {
    /// The topology stops.
    Stop,
    /// It is left out, and counted.
    Skip,
    /// It goes to the dead letters.
    SetAside,
}

fn value<'a>(message: &Incoming<'a>) -> Result<&'a [u8], String> {
    message
        .value()
        .ok_or_else(|| "it has no value (a tombstone); a decoder of your own can take it, see Topics::decode".to_string())
}

pub(super) fn bytes(message: &Incoming<'_>) -> Result<Vec<u8>, String> {
    value(message).map(<[u8]>::to_vec)
}

pub(super) fn utf8(message: &Incoming<'_>) -> Result<Str, String> {
    let bytes = value(message)?;
    Str::from_utf8(bytes).map_err(|why| format!("its value is not UTF-8: {why}"))
}

pub(super) fn json<T: DeserializeOwned>(message: &Incoming<'_>) -> Result<T, String> {
    tidemill_engine::json::from_slice(value(message)?)
        .map_err(|why| format!("its value is not the JSON of a {}: {why}", tidemill_state::type_names::of::<T>()))
}

/// The head of some bytes, for an error message.
pub(super) fn head_of(bytes: &[u8]) -> String {
    const HEAD: usize = 64;
    let more = if bytes.len() > HEAD { format!("… ({} bytes)", bytes.len()) } else { String::new() };
    format!("\"{}\"{more}", bytes[..bytes.len().min(HEAD)].escape_ascii())
}

/// Decodes a message into `into`. Gives whether it is a record or a dead letter there, or was skipped.
pub(super) fn decode<T>(
    decoder: &Decoder<T>,
    undecodable: Undecodable,
    message: &BorrowedMessage<'_>,
    into: &mut Records<T>,
) -> std::result::Result<bool, String> {
    let offset = u64::try_from(message.offset()).unwrap_or_default();
    let bytes = message.key_len() + message.payload_len();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| decoder(&Incoming::new(message))));
    let outcome = outcome.unwrap_or_else(|_| Err("the decoder panicked (its message is in the log)".to_string()));
    match (outcome, undecodable) {
        (Ok(record), _) => into.push(offset, bytes, record),
        (Err(_), Undecodable::Skip) => return Ok(false),
        (Err(error), Undecodable::SetAside) => into.set_aside(
            bytes,
            DeadLetter {
                operator: None,
                source: None,
                partition: Some(name_of(message.topic(), message.partition())),
                offset: Some(offset),
                error,
                key: message.key().map(<[u8]>::to_vec),
                bytes: message.payload().map(<[u8]>::to_vec),
                timestamp: message.timestamp().to_millis(),
                headers: headers_of(message),
            },
        ),
        (Err(error), Undecodable::Stop) => {
            let head = message.payload().map_or("no value".to_string(), head_of);
            return Err(format!(
                "offset {offset}: {error}; the value begins {head}. Nothing is lost: mend the decoder or say what is to be done with such records \
                 (skip_undecodable, dead_letters), and start again"
            ));
        }
    }
    Ok(true)
}

/// The headers of a message, for a dead letter.
fn headers_of(message: &BorrowedMessage<'_>) -> Vec<LetterHeader> {
    let header = |(name, value): (&str, Option<&[u8]>)| LetterHeader { name: name.to_string(), value: value.map(<[u8]>::to_vec) };
    Incoming::new(message).headers().map(header).collect()
}
