//! From a message to a record: the decoders, and what is done with a message that they refuse.

use super::identity::Record;
use super::partition::name_of;
use crate::Str;
use rdkafka::Message as _;
use rdkafka::message::{BorrowedMessage, Headers, OwnedMessage};
use serde::de::DeserializeOwned;
use tidemill_engine::source::{DeadLetter, LetterHeader, Records};

/// A message that was read, as a decoder sees it.
#[derive(Debug)]
pub struct Incoming<'a> {
    message: Taken<'a>,
}

/// A message in librdkafka's memory, or in ours.
#[derive(Clone, Copy, Debug)]
enum Taken<'a> {
    Borrowed(&'a BorrowedMessage<'a>),
    Held(&'a OwnedMessage),
}

/// Calls a method of the message, wherever it lies.
macro_rules! of {
    ($taken:expr, $message:ident => $call:expr) => {
        match $taken {
            Taken::Borrowed($message) => $call,
            Taken::Held($message) => $call,
        }
    };
}

impl<'a> Incoming<'a> {
    pub(super) fn new(message: &'a BorrowedMessage<'a>) -> Incoming<'a> {
        Incoming { message: Taken::Borrowed(message) }
    }

    /// A message that was held back.
    pub(super) fn held(message: &'a OwnedMessage) -> Incoming<'a> {
        Incoming { message: Taken::Held(message) }
    }

    /// Returns what a position remembers of it.
    pub(super) fn record(&self) -> Record {
        of!(self.message, message => Record::of(message))
    }

    /// Its topic.
    #[must_use]
    pub fn topic(&self) -> &'a str {
        of!(self.message, message => message.topic())
    }

    /// Its partition.
    #[must_use]
    pub fn partition(&self) -> i32 {
        of!(self.message, message => message.partition())
    }

    /// Its offset.
    #[must_use]
    pub fn offset(&self) -> i64 {
        of!(self.message, message => message.offset())
    }

    /// Its time in milliseconds since 1970, if it has one.
    #[must_use]
    pub fn timestamp(&self) -> Option<i64> {
        of!(self.message, message => message.timestamp().to_millis())
    }

    /// Its key, if it has one.
    #[must_use]
    pub fn key(&self) -> Option<&'a [u8]> {
        of!(self.message, message => message.key())
    }

    /// Its value, if it has one. A message without a value is a tombstone of a compacted topic.
    #[must_use]
    pub fn value(&self) -> Option<&'a [u8]> {
        of!(self.message, message => message.payload())
    }

    /// Its headers, in order: name, and value if it has one (Kafka's null). A name may be there
    /// several times. A header whose name is not UTF-8 is left out.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> {
        let (borrowed, held) = match self.message {
            Taken::Borrowed(message) => (message.headers(), None),
            Taken::Held(message) => (None, message.headers()),
        };
        borrowed.into_iter().flat_map(readable).chain(held.into_iter().flat_map(readable))
    }
}

/// The headers whose names are UTF-8: the crate for Kafka panics at any other, and has no other way
/// to it.
fn readable<H: Headers>(headers: &H) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
    (0..headers.count()).filter_map(|at| {
        let header = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| headers.try_get(at)));
        header.ok().flatten().map(|header| (header.key, header.value))
    })
}

/// Makes records of messages.
pub(super) type Decoder<T> = dyn Fn(&Incoming<'_>) -> Result<T, NoRecord> + Send + Sync;

/// The reason why a decoder has no record of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "schema-registry"),
    allow(dead_code, reason = "only schemas have to be waited for")
)]
pub(super) enum NoRecord {
    /// The message can never be decoded: the source's policy for such messages applies.
    Undecodable(String),
    /// Something that the message needs has not come yet. The decoder is given the message again
    /// later, and nothing after the message is read meanwhile. With the reason, if something
    /// temporary is wrong.
    NotYet(Option<String>),
    /// No message can be decoded before the settings are corrected: the run ends.
    Refused(String),
}

/// The treatment of a message that cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Undecodable {
    /// The topology stops.
    Stop,
    /// It is left out, and counted.
    Skip,
    /// It goes to the dead letters.
    SetAside,
}

pub(super) fn value<'a>(message: &Incoming<'a>) -> Result<&'a [u8], String> {
    message.value().ok_or_else(|| {
        "it has no value (a tombstone); a decoder of your own can take it, see Topics::decode"
            .to_string()
    })
}

pub(super) fn bytes(message: &Incoming<'_>) -> Result<Vec<u8>, String> {
    value(message).map(<[u8]>::to_vec)
}

pub(super) fn utf8(message: &Incoming<'_>) -> Result<Str, String> {
    let bytes = value(message)?;
    Str::from_utf8(bytes).map_err(|why| format!("its value is not UTF-8: {why}"))
}

pub(super) fn json<T: DeserializeOwned>(message: &Incoming<'_>) -> Result<T, String> {
    tidemill_engine::json::from_slice(value(message)?).map_err(|why| {
        format!("its value is not the JSON of a {}: {why}", tidemill_state::type_names::of::<T>())
    })
}

/// The head of some bytes, for an error message.
pub(super) fn head_of(bytes: &[u8]) -> String {
    const HEAD: usize = 64;
    let more =
        if bytes.len() > HEAD { format!("… ({} bytes)", bytes.len()) } else { String::new() };
    format!("\"{}\"{more}", bytes[..bytes.len().min(HEAD)].escape_ascii())
}

/// Decodes a message into `into`. Returns whether it is a record or a dead letter there, or was
/// skipped.
///
/// # Errors
/// The message is undecodable and the source is to stop, or it cannot be decoded now.
pub(super) fn decode<T>(
    decoder: &Decoder<T>,
    undecodable: Undecodable,
    message: &Incoming<'_>,
    into: &mut Records<T>,
) -> std::result::Result<bool, NoRecord> {
    let offset = u64::try_from(message.offset()).unwrap_or_default();
    let bytes = [message.key(), message.value()].into_iter().flatten().map(<[u8]>::len).sum();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| decoder(message)));
    let panicked = || {
        Err(NoRecord::Undecodable("the decoder panicked (its message is in the log)".to_string()))
    };
    let error = match outcome.unwrap_or_else(|_| panicked()) {
        Ok(record) => {
            into.push(offset, bytes, record);
            return Ok(true);
        }
        Err(NoRecord::Undecodable(error)) => error,
        Err(other) => return Err(other),
    };
    match undecodable {
        Undecodable::Skip => Ok(false),
        Undecodable::SetAside => {
            let letter = DeadLetter {
                operator: None,
                source: None,
                partition: Some(name_of(message.topic(), message.partition())),
                offset: Some(offset),
                error,
                key: message.key().map(<[u8]>::to_vec),
                bytes: message.value().map(<[u8]>::to_vec),
                timestamp: message.timestamp(),
                headers: message.headers().map(letter_header).collect(),
            };
            into.set_aside(bytes, letter);
            Ok(true)
        }
        Undecodable::Stop => {
            let head = message.value().map_or("no value".to_string(), head_of);
            Err(NoRecord::Undecodable(format!(
                "offset {offset}: {error}; the value begins {head}. Nothing is lost: mend the \
                 decoder or say what is to be done with such records (skip_undecodable, \
                 dead_letters), and start again"
            )))
        }
    }
}

fn letter_header((name, value): (&str, Option<&[u8]>)) -> LetterHeader {
    LetterHeader { name: name.to_string(), value: value.map(<[u8]>::to_vec) }
}
