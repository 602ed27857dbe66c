//! The fold: committed deltas since the last fold are merged, and each changed key goes once, in order, into one sorted file of the store.
//!
//! Only committed deltas are folded, never the hot map, which is ahead. The file carries the number up to which it is folded, so that
//! values and number become part of the store in one step; the log before it is dropped later. A crash between any two of these steps is harmless:
//! folding the same deltas again gives the same values.

use crate::store::{FOLDED_KEY, Store, state_family_options, state_key};
use crate::{CrashPoint, Error, Points, Result, Txid, codec, delta};
use rocksdb::{IngestExternalFileOptions, SstFileWriter};
use std::collections::HashMap;

/// What a fold did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Folded {
    /// The batch up to which the store is folded now.
    pub upto: Txid,
    /// How many bytes of deltas went in.
    pub log_bytes: u64,
    /// How many keys were written or removed.
    pub keys: usize,
}

/// Folds everything that is committed now. Does nothing, and returns `None`, if that is folded already.
///
/// Runs beside commits; only one fold at a time.
///
/// # Errors
/// Kind Damaged if a delta cannot be read, TryAgain if the file cannot be written: the store is as before then.
pub fn fold(store: &Store, points: &Points) -> Result<Option<Folded>> {
    let (from, upto) = (store.folded(), store.committed().txid());
    if upto <= from {
        return Ok(None);
    }
    points.reach(CrashPoint::FoldBegun)?;
    let mut blobs: Vec<Vec<u8>> = Vec::new();
    store.read_log(from, |txid, _, blob| {
        if txid <= upto {
            blobs.push(blob.to_vec());
        }
        Ok(())
    })?;
    let log_bytes = blobs.iter().map(|blob| blob.len() as u64).sum();
    let changes = newest_changes(&blobs)?;
    let path = store.dir().join("fold.sst");
    write_file(&path, upto, &changes)?;
    points.reach(CrashPoint::FoldWritten)?;
    store.ingest(&path)?;
    points.reach(CrashPoint::FoldIngested)?;
    store.set_folded(upto, log_bytes);
    Ok(Some(Folded { upto, log_bytes, keys: changes.len() }))
}

type Changes<'a> = Vec<(Vec<u8>, Option<&'a [u8]>)>;

/// The newest change of each key, sorted by key. A later delta's change hides an earlier one's.
fn newest_changes(blobs: &[Vec<u8>]) -> Result<Changes<'_>> {
    let mut newest: HashMap<Vec<u8>, Option<&[u8]>, foldhash::fast::RandomState> = HashMap::default();
    let mut full_key = Vec::new();
    for blob in blobs.iter().rev() {
        delta::read(blob, |change| {
            state_key(change.state, change.group, change.key, &mut full_key);
            if !newest.contains_key(&full_key) {
                newest.insert(full_key.clone(), change.value);
            }
            Ok(())
        })?;
    }
    let mut changes: Vec<_> = newest.into_iter().collect();
    changes.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(changes)
}

fn write_file(path: &std::path::Path, upto: Txid, changes: &Changes<'_>) -> Result<()> {
    let failed = |why: rocksdb::Error| Error::try_again(format!("writing {} failed: {why}. Nothing is lost; make sure that the disk has space", path.display()));
    let options = state_family_options();
    let mut writer = SstFileWriter::create(&options);
    writer.open(path).map_err(failed)?;
    let mut number = Vec::new();
    codec::encode(&upto, &mut number)?;
    writer.put(FOLDED_KEY, &number).map_err(failed)?;
    for (key, value) in changes {
        match value {
            Some(value) => writer.put(key, value),
            None => writer.delete(key),
        }
        .map_err(failed)?;
    }
    writer.finish().map_err(failed)
}

impl Store {
    fn ingest(&self, path: &std::path::Path) -> Result<()> {
        // What the file says is committed must be on the disk before the file is: else, after a power loss, folded > committed.
        self.sync_log()?;
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        self.ingest_file(path, &options)
    }
}

#[cfg(test)]
mod tests {
    use crate::store::{Batch, Durability};
    use crate::{KeyGroup, Points, StateId, Store, Txid, WorkerIndex, codec, delta};
    use std::collections::BTreeMap;

    fn batch(txid: u64, changes: &[(u16, &str, Option<u64>)]) -> Batch {
        let mut section = delta::Section::new(StateId(1));
        for (group, key, value) in changes {
            let mut bytes = Vec::new();
            if let Some(value) = value {
                codec::encode(value, &mut bytes).expect("a number encodes");
            }
            section.push(KeyGroup(*group), key.as_bytes(), value.map(|_| &bytes[..]));
        }
        let delta = delta::assemble(&[section]).expect("small");
        Batch { txid: Txid(txid), deltas: vec![(WorkerIndex(0), delta)], ..Batch::default() }
    }

    fn scan(store: &Store) -> BTreeMap<String, u64> {
        let mut rows = BTreeMap::new();
        let mut last = Vec::new();
        store
            .scan(StateId(1), |key, value| {
                assert!(last.as_slice() <= key, "keys come in order");
                last = key.to_vec();
                rows.insert(String::from_utf8(key.to_vec()).expect("text"), codec::decode(value)?);
                Ok(true)
            })
            .expect("the store can be scanned");
        rows
    }

    #[test]
    fn a_fold_changes_nothing_that_can_be_seen() {
        let dir = tempfile::tempdir().expect("a folder");
        let points = Points::none();
        let store = Store::create(dir.path(), Durability::Sync).expect("created");
        let mut expected = BTreeMap::new();
        for txid in 1..=30u64 {
            let key = ["a", "b", "c", "d"][usize::try_from(txid % 4).expect("small")];
            let value = (txid % 5 != 0).then_some(txid);
            store.commit(&[batch(txid, &[(u16::try_from(txid % 4).expect("small"), key, value)])], &points).expect("committed");
            match value {
                Some(value) => expected.insert(key.to_string(), value),
                None => expected.remove(key),
            };
            if txid % 7 == 0 {
                super::fold(&store, &points).expect("folded").expect("something to fold");
                assert_eq!(store.folded(), Txid(txid));
            }
            assert_eq!(scan(&store), expected, "after batch {txid}");
        }
        assert_eq!(super::fold(&store, &points).expect("folded").map(|folded| folded.upto), Some(Txid(30)));
        assert_eq!(super::fold(&store, &points).expect("nothing to do"), None);
        store.close(&points).expect("closed");
        let store = Store::open(dir.path(), Durability::Sync).expect("opened");
        assert_eq!((store.committed().txid(), store.folded(), store.unfolded_bytes()), (Txid(30), Txid(30), 0));
        assert_eq!(scan(&store), expected);
    }
}
