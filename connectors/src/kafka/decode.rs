//! From a message to a record: the decoders, and what is done with a message that they refuse.

use crate::Str;
use rdkafka::Message as _;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Headers as _};
use serde::de::DeserializeOwned;
use std::panic::{AssertUnwindSafe, catch_unwind};

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

    /// Its headers, in order. A name may be there several times. A header whose name is no UTF-8 is left out.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> {
        let headers = self.message.headers();
        // The crate panics at such a name, and has no other way to one.
        let header =
            |headers: &'a BorrowedHeaders, at: usize| catch_unwind(AssertUnwindSafe(|| headers.try_get(at))).ok().flatten();
        let all = headers.into_iter().flat_map(move |headers| (0..headers.count()).filter_map(move |at| header(headers, at)));
        all.map(|header| (header.key, header.value))
    }
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
        .map_err(|why| format!("its value is not the JSON of a {}: {why}", std::any::type_name::<T>()))
}

/// The head of some bytes, for an error message.
pub(super) fn head_of(bytes: &[u8]) -> String {
    const HEAD: usize = 64;
    let more = if bytes.len() > HEAD { format!("… ({} bytes)", bytes.len()) } else { String::new() };
    format!("\"{}\"{more}", bytes[..bytes.len().min(HEAD)].escape_ascii())
}
