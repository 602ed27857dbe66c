//! The layout of keys in the store's column families. Numbers are big-endian, so that they sort.

use crate::ids::{SinkId, SourceId, StateId, WorkerIndex};
use crate::{KeyGroup, Result, Txid};

pub(super) fn sink_key(sink: SinkId) -> String {
    format!("sink/{}", sink.0)
}

pub(super) fn position_key(source: SourceId, partition: &str) -> Result<Vec<u8>> {
    let mut key = Vec::new();
    crate::keys::encode_key(&(source, partition), &mut key)?;
    Ok(key)
}

pub(super) fn log_key(txid: Txid, worker: WorkerIndex) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&txid.0.to_be_bytes());
    key[8..].copy_from_slice(&worker.0.to_be_bytes());
    key
}

pub(super) fn outbox_key(sink: SinkId, txid: Txid) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&sink.0.to_be_bytes());
    key[4..].copy_from_slice(&txid.0.to_be_bytes());
    key
}

/// The key of a value in the family `state`.
pub(super) fn state_key(state: StateId, group: KeyGroup, key: &[u8], into: &mut Vec<u8>) {
    into.clear();
    into.extend_from_slice(&state.0.to_be_bytes());
    into.extend_from_slice(&group.0.to_be_bytes());
    into.extend_from_slice(key);
}

/// The reserved key of the family `state`: the batch up to which it is folded. Sorts before every
/// state's keys.
pub(crate) const FOLDED_KEY: &[u8] = b"\0\0\0\0folded";
