//! A message that is sent, and how it lies in the outbox.

use super::payload::{Cursor, push_bytes, push_number};
use tidemill_state::{Error, Result};

/// The message that a sink sends for one record. Every part may be left out. A message without a
/// value is a tombstone of a compacted topic.
///
/// ```
/// use tidemill_connectors::kafka::Message;
/// let message = Message::new().key("the").value(7.to_string()).header("lang", "en");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Vec<(String, Option<Vec<u8>>)>,
    pub(super) timestamp: Option<i64>,
    pub(super) partition: Option<i32>,
}

impl Message {
    /// An empty message.
    #[must_use]
    pub fn new() -> Message {
        Message::default()
    }

    /// Its key. Messages of one key go to one partition, the same as with Kafka's Java clients.
    #[must_use]
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Message {
        self.key = Some(key.into());
        self
    }

    /// Its value.
    #[must_use]
    pub fn value(mut self, value: impl Into<Vec<u8>>) -> Message {
        self.value = Some(value.into());
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Message {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    /// Adds a header without a value, which is not one with an empty value.
    #[must_use]
    pub fn null_header(mut self, name: impl Into<String>) -> Message {
        self.headers.push((name.into(), None));
        self
    }

    /// Its time, in milliseconds since 1970; else that of sending. 0 is refused: librdkafka takes
    /// it for the time of sending.
    #[must_use]
    pub fn timestamp(mut self, ms: i64) -> Message {
        self.timestamp = Some(ms);
        self
    }

    /// Its partition; else its key chooses, or chance. One below 0 is refused.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Message {
        self.partition = Some(partition);
        self
    }

    /// Why it can never be sent as it is, if so.
    pub(super) fn cannot_be_sent(&self) -> Option<String> {
        match (self.timestamp, self.partition) {
            (Some(0), _) => Some(
                "has the time 0, which librdkafka takes for the time of sending: leave the \
                    time out, or give 1"
                    .to_string(),
            ),
            (_, Some(partition)) if partition < 0 => Some(format!(
                "is for partition {partition}: partitions are numbered from 0; leave \
                    it out to let the key choose"
            )),
            _ => None,
        }
    }

    /// Returns the number of bytes of a topic's limit it takes: those of a batch with this message
    /// alone, uncompressed.
    pub(super) fn bytes(&self) -> usize {
        let part =
            |bytes: Option<&[u8]>| bytes.map_or(1, |bytes| length_bytes(bytes.len()) + bytes.len());
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| part(Some(name.as_bytes())) + part(value.as_deref()));
        let headers = length_bytes(self.headers.len()) + headers.sum::<usize>();
        // Attributes, and time and offset after the batch's own: a byte each.
        let record = 3 + part(self.key.as_deref()) + part(self.value.as_deref()) + headers;
        BATCH_OVERHEAD_BYTES + length_bytes(record) + record
    }

    /// Appends it as it lies in the outbox: a byte of which parts there are, then each. Headers
    /// have a byte each that says whether there is a value if one of them has none.
    pub(super) fn encode(&self, into: &mut Vec<u8>) {
        let nulls = self.headers.iter().any(|(_, value)| value.is_none());
        let parts = [
            self.key.is_some(),
            self.value.is_some(),
            self.timestamp.is_some(),
            self.partition.is_some(),
            nulls,
        ];
        into.push(
            parts.iter().enumerate().fold(0, |bits, (at, there)| bits | u8::from(*there) << at),
        );
        for bytes in [&self.key, &self.value].into_iter().flatten() {
            push_bytes(into, bytes);
        }
        if let Some(timestamp) = self.timestamp {
            into.extend_from_slice(&timestamp.to_le_bytes());
        }
        if let Some(partition) = self.partition {
            into.extend_from_slice(&partition.to_le_bytes());
        }
        push_number(into, self.headers.len() as u64);
        for (name, value) in &self.headers {
            push_bytes(into, name.as_bytes());
            if nulls {
                into.push(u8::from(value.is_some()));
            }
            value.iter().for_each(|value| push_bytes(into, value));
        }
    }
}

/// More than the format of a batch of one message adds to its parts.
pub(super) const OVERHEAD_BYTES: usize = 128;

/// The number of bytes before the records of a batch.
const BATCH_OVERHEAD_BYTES: usize = 61;

/// Returns the number of bytes a length takes in a record: a signed number in groups of seven bits.
fn length_bytes(length: usize) -> usize {
    usize::try_from((usize::BITS - length.leading_zeros() + 1).div_ceil(7)).expect("it is small")
}

/// A message as it lies in the outbox.
#[derive(Debug)]
pub(super) struct Encoded<'a> {
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: Vec<(&'a str, Option<&'a [u8]>)>,
    pub(super) timestamp: Option<i64>,
    pub(super) partition: Option<i32>,
}

impl<'a> Encoded<'a> {
    /// Reads what [`Message::encode`] wrote.
    ///
    /// # Errors
    /// Kind Damaged: the bytes are something else.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Encoded<'a>> {
        Encoded::parse(bytes).ok_or_else(|| {
            Error::damaged(
                "a message in the outbox is damaged: restore the state, or begin anew \
                with --start-over",
            )
        })
    }

    fn parse(bytes: &'a [u8]) -> Option<Encoded<'a>> {
        let mut rest = Cursor(bytes);
        let parts = *rest.take(1)?.first()?;
        let has = |at: u8| parts & 1 << at != 0;
        let key = if has(0) { Some(rest.bytes()?) } else { None };
        let value = if has(1) { Some(rest.bytes()?) } else { None };
        let timestamp =
            if has(2) { Some(i64::from_le_bytes(rest.take(8)?.try_into().ok()?)) } else { None };
        let partition =
            if has(3) { Some(i32::from_le_bytes(rest.take(4)?.try_into().ok()?)) } else { None };
        let mut headers = Vec::new();
        for _ in 0..rest.number()? {
            let name = std::str::from_utf8(rest.bytes()?).ok()?;
            let is_null = has(4) && *rest.take(1)?.first()? == 0;
            headers.push((name, if is_null { None } else { Some(rest.bytes()?) }));
        }
        rest.0.is_empty().then_some(Encoded { key, value, headers, timestamp, partition })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back_from_the_outbox() {
        let full = Message::new()
            .key("k")
            .value(vec![7; 300])
            .header("a", "")
            .header("b", [0, 255])
            .timestamp(-5)
            .partition(3);
        let nulls =
            Message::new().header("a", "1").null_header("b").header("c", "").null_header("b");
        for message in
            [Message::new(), Message::new().key(""), Message::new().value("v"), full, nulls]
        {
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            let read = Encoded::read(&bytes).expect("it was written so");
            assert_eq!((read.key, read.value), (message.key.as_deref(), message.value.as_deref()));
            assert_eq!((read.timestamp, read.partition), (message.timestamp, message.partition));
            let headers: Vec<(&str, Option<&[u8]>)> = message
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_deref()))
                .collect();
            assert_eq!(read.headers, headers);
            for cut in 0..bytes.len() {
                assert!(Encoded::read(&bytes[..cut]).is_err(), "cut at {cut}");
            }
        }
    }
    #[test]
    fn a_message_without_null_headers_lies_there_as_it_always_did() {
        let mut bytes = Vec::new();
        Message::new().key("k").header("a", "1").timestamp(-1).encode(&mut bytes);
        assert_eq!(bytes, b"\x05\x01k\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01a\x011");
    }

    #[test]
    fn a_message_has_the_bytes_of_its_batch() {
        assert_eq!([0, 63, 64, 8191, 8192].map(length_bytes), [1, 1, 2, 2, 3]);
        // The batch, the record's length, three numbers, the lengths of key, value and headers.
        assert_eq!(Message::new().bytes(), 61 + 1 + 3 + 1 + 1 + 1);
        let full = Message::new().key("k").value("v".repeat(100)).header("h", "1").null_header("n");
        assert_eq!(full.bytes(), 61 + 2 + 3 + 2 + 102 + 1 + 4 + 3);
    }

    #[test]
    fn what_librdkafka_would_take_for_something_else_cannot_be_sent() {
        let why = |message: Message| message.cannot_be_sent().unwrap_or_default();
        assert!(why(Message::new().timestamp(0)).contains("time 0"));
        assert!(why(Message::new().timestamp(5).partition(-1)).contains("partition -1"));
        assert_eq!(why(Message::new().timestamp(1).partition(0)), "");
    }
}
