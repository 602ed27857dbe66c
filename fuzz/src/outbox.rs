//! Target: entries of the outbox. What is read is written again with the same bytes, up to a record
//! that is cut off.

use crate::{Seed, is_explained};
use tidemill_state::Txid;
use tidemill_state::outbox::{
    ENTRY_HEADER_BYTES, PayloadWriter, decode_entry, encode_entry, records,
};

/// Runs the target: the input is an entry.
pub fn run(input: &[u8]) {
    let Some((prev, payload)) = is_explained(decode_entry(input)) else { return };
    assert_eq!(input.len() - payload.len(), ENTRY_HEADER_BYTES);
    let mut again = PayloadWriter::default();
    for record in records(payload) {
        let copied = again.push(|into| {
            into.extend_from_slice(record);
            Ok(())
        });
        copied.expect("an input is short");
    }
    assert_eq!(again.records(), records(payload).count());
    let entry = encode_entry(prev, std::iter::once(again.bytes()));
    let (same, rest) = input.split_at_checked(entry.len()).expect("records are within the payload");
    assert_eq!(same, entry);
    if let Some((length, left)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_le_bytes(*length)).expect("a usize holds a u32");
        assert!(length > left.len(), "only a record that is cut off is passed over");
    }
}

/// Returns entries with and without records.
pub fn seeds() -> Vec<Seed> {
    let payload = |records: &[&[u8]]| {
        let mut writer = PayloadWriter::default();
        for record in records {
            let pushed = writer.push(|into| {
                into.extend_from_slice(record);
                Ok(())
            });
            pushed.expect("a record is short");
        }
        writer.bytes().to_vec()
    };
    let entry = |prev: u64, payloads: &[Vec<u8>]| {
        encode_entry(Txid(prev), payloads.iter().map(Vec::as_slice))
    };
    vec![
        ("empty", entry(0, &[])),
        ("one-worker", entry(4, &[payload(&[b"one", b"", b"two"])])),
        ("two-workers", entry(u64::MAX, &[payload(&[b"one"]), payload(&[&[7; 300]])])),
    ]
}
