//! Committed output that its sink has not confirmed yet: how a batch's records are laid out in an
//! outbox entry.
//!
//! A payload is a sequence of records, each a length (u32, little-endian) and that many bytes. An
//! entry on disk is the format byte, the txid of the sink's previous entry (u64, little-endian) and
//! the payload.

use crate::{Error, Result, Txid, codec::FORMAT};

/// Collects the records that one worker gives to one sink in one batch.
#[derive(Clone, Debug, Default)]
pub struct PayloadWriter {
    bytes: Vec<u8>,
    /// The end of the last whole record.
    end: usize,
    records: usize,
}

impl PayloadWriter {
    /// Appends one record, encoded by `encode`.
    ///
    /// # Errors
    /// Those of `encode`; a record of 4 GiB or more. The payload is then as before.
    pub fn push(&mut self, encode: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
        // What is there beyond was left by an `encode` that panicked.
        let start = self.end;
        self.bytes.truncate(start);
        self.bytes.extend_from_slice(&[0; 4]);
        encode(&mut self.bytes)?;
        let Ok(length) = u32::try_from(self.bytes.len() - start - 4) else {
            return Err(Error::user_code("a record for a sink is 4 GiB or larger"));
        };
        self.bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
        (self.end, self.records) = (self.bytes.len(), self.records + 1);
        Ok(())
    }

    /// The bytes so far.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.end]
    }

    /// The number of records so far.
    #[must_use]
    pub fn records(&self) -> usize {
        self.records
    }
}

/// The records of a payload that [`PayloadWriter`] made. Stops at the first one that is cut off.
pub fn records(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = payload;
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).expect("a usize holds a u32");
        let record = after.get(..length)?;
        rest = &after[length..];
        Some(record)
    })
}

/// The number of bytes by which an entry is longer than its payload.
pub const ENTRY_HEADER_BYTES: usize = 9;

/// Lays out an entry: what the sink had before, and this batch's payloads of all workers.
#[must_use]
pub fn encode_entry<'a>(prev: Txid, payloads: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut entry = vec![FORMAT];
    entry.extend_from_slice(&prev.0.to_le_bytes());
    for payload in payloads {
        entry.extend_from_slice(payload);
    }
    entry
}

/// Splits an entry into the txid of the sink's previous entry and the payload.
///
/// # Errors
/// The bytes are not an entry of a known format.
pub fn decode_entry(bytes: &[u8]) -> Result<(Txid, &[u8])> {
    match bytes.split_first() {
        Some((&FORMAT, rest)) => match rest.split_first_chunk::<8>() {
            Some((prev, payload)) => Ok((Txid(u64::from_le_bytes(*prev)), payload)),
            None => Err(Error::damaged("an outbox entry is cut off")),
        },
        Some((format, _)) => {
            Err(Error::damaged(format!("an outbox entry has the unknown format {format}")))
        }
        None => Err(Error::damaged("an outbox entry is empty")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_in_order() {
        let mut a = PayloadWriter::default();
        a.push(|into| {
            into.extend_from_slice(b"one");
            Ok(())
        })
        .expect("pushed");
        a.push(|_| Ok(())).expect("an empty record is a record");
        assert!(
            a.push(|into| {
                into.push(1);
                Err(Error::user_code("no"))
            })
            .is_err()
        );
        let mut b = PayloadWriter::default();
        b.push(|into| {
            into.extend_from_slice(b"two");
            Ok(())
        })
        .expect("pushed");
        let entry = encode_entry(Txid(4), [a.bytes(), b.bytes()].into_iter());
        let (prev, payload) = decode_entry(&entry).expect("it decodes");
        assert_eq!((prev, entry.len() - payload.len()), (Txid(4), ENTRY_HEADER_BYTES));
        assert_eq!(records(payload).collect::<Vec<_>>(), [&b"one"[..], b"", b"two"]);
        assert!(decode_entry(&entry[..5]).is_err());
    }
}
