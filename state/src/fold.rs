//! The fold: committed deltas since the last fold are merged, and each changed key goes once, in order, into one sorted file of the store.
//!
//! Only committed deltas are folded, never the hot map, which is ahead. The file carries the number up to which it is folded, so that
//! values and number become part of the store in one step; the log before it is dropped later. A crash between any two of these steps is harmless:
//! folding the same deltas again gives the same values.

use crate::store::{FOLDED_KEY, Store, state_family_options, state_key};
use crate::{CrashPoint, Error, Points, Result, StateId, Txid, WorkerIndex, codec, delta};
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
    let mut log = Vec::new();
    store.read_log(from, |txid, worker, blob| {
        if txid <= upto {
            log.push(Logged { txid, worker, blob: blob.to_vec() });
        }
        Ok(())
    })?;
    let log_bytes = log.iter().map(|logged| logged.blob.len() as u64).sum();
    let changes = newest_changes(&log)?;
    let path = store.dir().join("fold.sst");
    write_file(&path, upto, &changes)?;
    points.reach(CrashPoint::FoldWritten)?;
    store.ingest(&path)?;
    points.reach(CrashPoint::FoldIngested)?;
    store.set_folded(upto, log_bytes);
    Ok(Some(Folded { upto, log_bytes, keys: changes.len() }))
}

type Changes<'a> = Vec<(Vec<u8>, Option<&'a [u8]>)>;

/// One delta of the log.
struct Logged {
    txid: Txid,
    worker: WorkerIndex,
    blob: Vec<u8>,
}

/// Which changes of a section a later one has overwritten: a bit each.
#[derive(Default)]
struct Overwritten(Vec<u64>);

impl Overwritten {
    fn set(&mut self, change: u32) {
        let word = change as usize / 64;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (change % 64);
    }

    fn is_set(&self, change: u32) -> bool {
        self.0.get(change as usize / 64).is_some_and(|word| word & (1 << (change % 64)) != 0)
    }
}

/// The newest change of each key, sorted by key.
///
/// Goes from the newest delta to the oldest. A change that a later one names as its predecessor is passed over by its number alone; what is left are the
/// last changes of each run and worker, few more than there are keys, and those are sorted.
fn newest_changes(log: &[Logged]) -> Result<Changes<'_>> {
    let mut overwritten: HashMap<(Txid, WorkerIndex, StateId), Overwritten> = HashMap::new();
    let mut left: Vec<(Vec<u8>, std::cmp::Reverse<Txid>, Option<&[u8]>)> = Vec::new();
    // Later entries of the same batch come from other workers, and so are of other keys.
    for Logged { txid, worker, blob } in log.iter().rev() {
        let mut section: Option<(StateId, Overwritten)> = None;
        let mut earlier: Vec<(u64, Overwritten)> = Vec::new();
        delta::read(blob, |change| {
            if section.as_ref().is_none_or(|(state, _)| *state != change.state) {
                if let Some((state, _)) = &section {
                    keep(&mut overwritten, *txid, *worker, *state, &mut earlier);
                }
                section = Some((change.state, overwritten.remove(&(*txid, *worker, change.state)).unwrap_or_default()));
            }
            if let Some(before) = change.before {
                match earlier.iter_mut().find(|(batches, _)| *batches == before.batches) {
                    Some((_, marks)) => marks.set(before.change),
                    None => {
                        let named = txid.0.checked_sub(before.batches).map(|named| (Txid(named), *worker, change.state));
                        let mut marks = named.and_then(|named| overwritten.remove(&named)).unwrap_or_default();
                        marks.set(before.change);
                        earlier.push((before.batches, marks));
                    }
                }
            }
            if !section.as_ref().is_some_and(|(_, marks)| marks.is_set(change.number)) {
                let mut key = Vec::with_capacity(6 + change.key.len());
                state_key(change.state, change.group, change.key, &mut key);
                left.push((key, std::cmp::Reverse(*txid), change.value));
            }
            Ok(())
        })?;
        if let Some((state, _)) = section {
            keep(&mut overwritten, *txid, *worker, state, &mut earlier);
        }
    }
    left.sort_unstable_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    left.dedup_by(|later, first| later.0 == first.0);
    Ok(left.into_iter().map(|(key, _, value)| (key, value)).collect())
}

/// Puts back the marks of the earlier sections that one section has named.
fn keep(
    overwritten: &mut HashMap<(Txid, WorkerIndex, StateId), Overwritten>,
    txid: Txid,
    worker: WorkerIndex,
    state: StateId,
    earlier: &mut Vec<(u64, Overwritten)>,
) {
    for (batches, marks) in earlier.drain(..) {
        if let Some(named) = txid.0.checked_sub(batches) {
            overwritten.insert((Txid(named), worker, state), marks);
        }
    }
}

fn write_file(path: &std::path::Path, upto: Txid, changes: &Changes<'_>) -> Result<()> {
    let failed = |why: rocksdb::Error| {
        Error::try_again(format!("writing {} failed: {why}. Nothing is lost; make sure that the disk has space", path.display()))
    };
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
            section.push(KeyGroup(*group), key.as_bytes(), value.map(|_| &bytes[..]), None);
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
