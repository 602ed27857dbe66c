//! The identity of a topic: the id that its cluster gave it, and a position's witness, which keeps
//! it.
//!
//! A topic that was deleted and made again has its old name and another id. The crate for Kafka has
//! no call that returns ids. librdkafka names them in its log, in the debug context `metadata`: one
//! line for each topic whose id is not the one before, written before anything of the new topic can
//! be fetched. This module reads that line.

use super::payload::{Cursor, push_number};
use rdkafka::Message;
use std::fmt;
use tidemill_state::Position;
use xxhash_rust::xxh3::Xxh3;

/// The id of a topic in its cluster. A name can come again, an id cannot.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct TopicId([u8; TopicId::BYTES]);

impl TopicId {
    const BYTES: usize = 16;
    /// The id in base 64, without the padding.
    const LETTERS: usize = 22;

    /// Reads an id as librdkafka writes it. `None` for anything else, and for the id of zeros that
    /// stands for none.
    fn parse(text: &str) -> Option<TopicId> {
        if text.len() != TopicId::LETTERS {
            return None;
        }
        let mut bits = 0_u128;
        for (at, letter) in text.bytes().enumerate() {
            let six = match letter {
                b'A'..=b'Z' => letter - b'A',
                b'a'..=b'z' => letter - b'a' + 26,
                b'0'..=b'9' => letter - b'0' + 52,
                b'+' | b'-' => 62,
                b'/' | b'_' => 63,
                _ => return None,
            };
            // The last letter holds two bits more than there are.
            let last = at == TopicId::LETTERS - 1;
            bits =
                if last { bits << 2 | u128::from(six >> 4) } else { bits << 6 | u128::from(six) };
        }
        (bits != 0).then_some(TopicId(bits.to_be_bytes()))
    }
}

/// As Kafka's own tools write it: base 64 for URLs, without padding.
impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let bits = u128::from_be_bytes(self.0);
        for at in 0..TopicId::LETTERS {
            let end = 128_usize.checked_sub(6 * (at + 1));
            let six = end.map_or(bits << 4, |end| bits >> end) & 0x3f;
            write!(f, "{}", char::from(LETTERS[usize::try_from(six).unwrap_or_default()]))?;
        }
        Ok(())
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Reads the topic and its new id from a line of librdkafka's log: "[thrd:main]: Topic orders
/// changed id from AAAAAAAAAAAAAAAAAAAAAA to dYNAj3CJSWu3YTZRiUVC/w". `None` for every other line,
/// and where the new id is none.
pub(super) fn changed_id(line: &str) -> Option<(&str, TopicId)> {
    let (before, ids) = line.split_once(" changed id from ")?;
    let topic = before.rsplit(' ').next()?;
    let (_, new) = ids.split_once(" to ")?;
    Some((topic, TopicId::parse(new.trim_end())?))
}

/// A position's witness: whose position it is, and what the last record before it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Witness {
    /// The id of the topic. `None` in positions of earlier versions, and of clusters that have no
    /// ids.
    pub(super) topic: Option<TopicId>,
    /// The last record. `None` if there was none.
    pub(super) record: Option<Record>,
}

/// A record, as a position remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) offset: i64,
    timestamp: i64,
    checksum: u64,
}

impl Record {
    /// Returns what is remembered of a message.
    pub(super) fn of(message: &impl Message) -> Record {
        let mut hash = Xxh3::new();
        for part in [message.key(), message.payload()] {
            hash.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
            hash.update(part.unwrap_or_default());
        }
        let timestamp = message.timestamp().to_millis().unwrap_or(-1);
        Record { offset: message.offset(), timestamp, checksum: hash.digest() }
    }
}

/// Format 1: a record. Format 2: an id, and a record if there was one.
const RECORD_ALONE: u8 = 1;
const WITH_ID: u8 = 2;

impl Witness {
    /// Writes the witness. Nothing at all, if nothing is known.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.topic {
            Some(TopicId(id)) => {
                bytes.push(WITH_ID);
                bytes.extend_from_slice(&id);
            }
            None if self.record.is_some() => bytes.push(RECORD_ALONE),
            None => {}
        }
        if let Some(record) = self.record {
            push_number(&mut bytes, u64::try_from(record.offset).unwrap_or_default());
            bytes.extend_from_slice(&record.timestamp.to_le_bytes());
            bytes.extend_from_slice(&record.checksum.to_le_bytes());
        }
        bytes
    }

    /// Reads the witness of a position, of this version or of an earlier one.
    pub(super) fn of(position: &Position) -> Witness {
        Witness::read(&position.witness).unwrap_or_default()
    }

    fn read(bytes: &[u8]) -> Option<Witness> {
        let mut rest = Cursor(bytes);
        let topic = match *rest.take(1)?.first()? {
            RECORD_ALONE => None,
            WITH_ID => Some(TopicId(rest.take(TopicId::BYTES)?.try_into().ok()?)),
            _ => return None,
        };
        if topic.is_some() && rest.0.is_empty() {
            return Some(Witness { topic, record: None });
        }
        let offset = i64::try_from(rest.number()?).ok()?;
        let timestamp = i64::from_le_bytes(rest.take(8)?.try_into().ok()?);
        let checksum = u64::from_le_bytes(rest.take(8)?.try_into().ok()?);
        Some(Witness { topic, record: Some(Record { offset, timestamp, checksum }) })
    }

    /// Returns the position of this witness at `offset`.
    pub(super) fn at(self, offset: i64) -> Position {
        Position { offset: u64::try_from(offset).unwrap_or_default(), witness: self.to_bytes() }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An id of a test.
    pub(in super::super) const fn id(of: u8) -> TopicId {
        TopicId([of; TopicId::BYTES])
    }

    #[test]
    fn an_id_is_read_from_the_log_and_written_as_kafka_writes_it() {
        let line = "[thrd:main]: Topic a.b_c-d changed id from AAAAAAAAAAAAAAAAAAAAAA to \
            dYNAj3CJSWu3YTZRiUVC/w";
        let (topic, id) = changed_id(line).expect("it is such a line");
        assert_eq!((topic, id.to_string().as_str()), ("a.b_c-d", "dYNAj3CJSWu3YTZRiUVC_w"));
        let same = "Topic a.b_c-d changed id from dYNAj3CJSWu3YTZRiUVC/w to dYNAj3CJSWu3YTZRiUVC_w";
        assert_eq!(
            changed_id(same),
            Some(("a.b_c-d", id)),
            "both alphabets, with and without the thread"
        );
        for other in [
            "[thrd:main]: Topic t changed id from dYNAj3CJSWu3YTZRiUVC/w to AAAAAAAAAAAAAAAAAAAAAA",
            "[thrd:main]: Topic t changed id from dYNAj3CJSWu3YTZRiUVC/w to dYNAj3CJSWu3YTZRiUVC",
            "[thrd:main]: Topic t changed id from dYNAj3CJSWu3YTZRiUVC/w to (null)",
            "[thrd:main]: Topic t partition 0 Leader 1 Epoch 0",
            "",
        ] {
            assert_eq!(changed_id(other), None, "{other}");
        }
    }

    #[test]
    fn a_witness_comes_back_with_and_without_an_id_and_a_record() {
        let record = Record { offset: 300, timestamp: -1, checksum: 7 };
        for topic in [None, Some(id(9))] {
            for record in [None, Some(record)] {
                let witness = Witness { topic, record };
                let position = witness.at(301);
                assert_eq!((Witness::of(&position), position.offset), (witness, 301));
                let bytes = witness.to_bytes();
                assert!(
                    (1..bytes.len()).all(|cut| cut == 17 || Witness::read(&bytes[..cut]).is_none())
                );
            }
        }
        assert_eq!(
            Witness::default().to_bytes(),
            [0_u8; 0],
            "nothing is known, and nothing is written"
        );
    }

    #[test]
    fn a_witness_of_the_first_format_is_read() {
        let mut bytes = vec![1, 0xac, 0x02];
        bytes.extend_from_slice(&(-1_i64).to_le_bytes());
        bytes.extend_from_slice(&7_u64.to_le_bytes());
        let read = Witness::of(&Position { offset: 301, witness: bytes });
        assert_eq!(
            read,
            Witness {
                topic: None,
                record: Some(Record { offset: 300, timestamp: -1, checksum: 7 })
            }
        );
    }
}
