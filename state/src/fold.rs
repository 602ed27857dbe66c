//! The fold: committed deltas since the last fold are merged. Each changed key is written a single
//! time, in order, into one sorted file of the store.
//!
//! Only committed deltas are folded, never the hot map, which is ahead. The file carries the number
//! up to which it is folded, so that values and number become part of the store in one step; the
//! log before it is dropped later. A crash between any two of these steps is harmless: folding the
//! same deltas again gives the same values.

use crate::background::Turns;
use crate::store::{FOLD, FOLDED_KEY, INGESTED, Store, state_family_options, writing_file};
use crate::{CrashPoint, Points, Result, StateId, Txid, WorkerIndex, codec, delta, system};
use rocksdb::{IngestExternalFileOptions, SstFileWriter};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The result of a fold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Folded {
    /// The batch up to which the store is folded now.
    pub upto: Txid,
    /// The number of bytes of deltas that went in.
    pub log_bytes: u64,
    /// The number of keys that were written or removed.
    pub keys: usize,
}

/// Folds everything that is committed now. Does nothing, and returns `None`, if that is folded
/// already.
///
/// Runs beside commits; only one fold at a time.
///
/// # Errors
/// As [`Fold::write`] and [`Fold::ingest`].
pub fn fold(store: &Store, points: &Points) -> Result<Option<Folded>> {
    Fold::write(store, points)?.map(|fold| fold.ingest(points)).transpose()
}

/// A fold whose file is written, and not part of the store yet.
pub struct Fold<'s> {
    store: &'s Store,
    path: PathBuf,
    folded: Folded,
}

impl<'s> Fold<'s> {
    /// Writes the file of a fold of everything that is committed now. Returns `None` if that is
    /// folded already.
    ///
    /// # Errors
    /// Kind Damaged if a delta cannot be read, TryAgain if the file cannot be written. The store is
    /// as before, and nothing is left of the file: the same fold can be tried again.
    pub fn write(store: &'s Store, points: &Points) -> Result<Option<Fold<'s>>> {
        let (from, upto) = (store.folded(), store.committed().txid());
        if upto <= from {
            return Ok(None);
        }
        points.reach(CrashPoint::FoldBegun)?;
        let (changes, log_bytes) = newest_changes(store, from, upto)?;
        let path = file(store);
        write_file(&path, upto, changes.iter())?;
        let folded = Folded { upto, log_bytes, keys: changes.len() };
        Ok(Some(Fold { store, path, folded }))
    }

    /// Makes the file part of the store.
    ///
    /// # Errors
    /// Kind TryAgain if a write of the store failed: the process must end, as after a failed
    /// commit.
    pub fn ingest(self, points: &Points) -> Result<Folded> {
        let Fold { store, path, folded } = self;
        points.reach(CrashPoint::FoldWritten)?;
        store.ingest(&path)?;
        points.reach(CrashPoint::FoldIngested)?;
        store.set_folded(folded.upto, folded.log_bytes);
        Ok(folded)
    }
}

/// Removes the files that a crash of a fold or of a migration may have left: they take room that
/// the next fold needs. Not while a migration is made.
///
/// # Errors
/// As [`crate::system`] has them: kind TryAgain if it may pass, Config if not. The store is as
/// before.
pub fn remove_leftovers(store: &Store) -> Result<()> {
    INGESTED.iter().try_for_each(|name| remove_file(&store.dir().join(name)))
}

/// Returns the path at which a fold's file is written.
fn file(store: &Store) -> PathBuf {
    store.dir().join(FOLD)
}

/// The last change of a key, in [`Changes::bytes`].
struct Last {
    txid: Txid,
    start: usize,
    key_end: usize,
    end: usize,
}

/// The last changes of keys. Their bytes lie one after the other.
#[derive(Default)]
struct Changes {
    bytes: Vec<u8>,
    last: Vec<Last>,
}

impl Changes {
    fn push(&mut self, txid: Txid, change: &delta::Change<'_>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&change.state.0.to_be_bytes());
        self.bytes.extend_from_slice(&change.group.0.to_be_bytes());
        self.bytes.extend_from_slice(change.key);
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(change.value.unwrap_or_default());
        self.last.push(Last { txid, start, key_end, end: self.bytes.len() });
    }

    /// Sorts by key, and leaves the newest change of each.
    fn finish(&mut self, turns: &Turns) {
        let Changes { bytes, last } = self;
        let key = |last: &Last| &bytes[last.start..last.key_end];
        last.sort_unstable_by(|a, b| {
            turns.pass();
            key(a).cmp(key(b)).then(b.txid.cmp(&a.txid))
        });
        last.dedup_by(|later, first| key(later) == key(first));
    }

    fn len(&self) -> usize {
        self.last.len()
    }

    /// Keys as they stand in the family `state`, in order; a value is never empty, so an empty one
    /// is a removal.
    fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.last.iter().map(|last| {
            (&self.bytes[last.start..last.key_end], &self.bytes[last.key_end..last.end])
        })
    }
}

/// Which changes of one worker and state later ones have overwritten: by batch after the last fold,
/// a bit for each change of its section.
#[derive(Default)]
struct Marks(Vec<Vec<u64>>);

impl Marks {
    /// Marks a change of a batch, given by its distance from the last fold; one that is folded
    /// already needs no mark.
    fn set(&mut self, batch: Option<u64>, change: u32) {
        let Some(batch) = batch.filter(|batch| *batch > 0) else { return };
        let (batch, word) = (batch as usize, change as usize / 64);
        if batch >= self.0.len() {
            self.0.resize_with(batch + 1, Vec::new);
        }
        let words = &mut self.0[batch];
        if word >= words.len() {
            words.resize(word + 1, 0);
        }
        words[word] |= 1 << (change % 64);
    }

    fn is_set(&self, batch: u64, change: u32) -> bool {
        let words = self.0.get(batch as usize);
        words
            .and_then(|words| words.get(change as usize / 64))
            .is_some_and(|word| word & (1 << (change % 64)) != 0)
    }
}

/// The newest change of each key, sorted by key.
fn newest_changes(store: &Store, from: Txid, upto: Txid) -> Result<(Changes, u64)> {
    let (mut merge, mut log_bytes) = (DeltaMerge::after(from), 0);
    // Entries of one batch come from different workers, and so are of different keys.
    store.read_log_back(from, upto, |txid, worker, blob| {
        log_bytes += blob.len() as u64;
        merge.add(txid, worker, blob)
    })?;
    Ok((merge.finish(), log_bytes))
}

/// The merge of the deltas after a batch, from the newest to the oldest.
///
/// A change that a later one names as its predecessor is passed over by its number alone; what is
/// left are the last changes of each run and worker, few more than there are keys, and those are
/// sorted.
struct DeltaMerge {
    from: Txid,
    overwritten: HashMap<(WorkerIndex, StateId), Marks>,
    changes: Changes,
    turns: Turns,
}

impl DeltaMerge {
    fn after(from: Txid) -> DeltaMerge {
        DeltaMerge {
            from,
            overwritten: HashMap::new(),
            changes: Changes::default(),
            turns: Turns::default(),
        }
    }

    /// Adds a delta of a batch that is not after those before.
    fn add(&mut self, txid: Txid, worker: WorkerIndex, blob: &[u8]) -> Result<()> {
        let DeltaMerge { from, overwritten, changes, turns } = self;
        let mut current: Option<(StateId, Marks)> = None;
        delta::read(blob, |change| {
            turns.pass();
            if current.as_ref().is_none_or(|(state, _)| *state != change.state) {
                if let Some((state, marks)) = current.take() {
                    overwritten.insert((worker, state), marks);
                }
                current = Some((
                    change.state,
                    overwritten.remove(&(worker, change.state)).unwrap_or_default(),
                ));
            }
            let (_, marks) = current.as_mut().expect("it was set above");
            if let Some(before) = change.before {
                marks.set(
                    txid.0.checked_sub(before.batches).and_then(|named| named.checked_sub(from.0)),
                    before.change,
                );
            }
            if !marks.is_set(txid.0 - from.0, change.number) {
                changes.push(txid, &change);
            }
            Ok(())
        })?;
        if let Some((state, marks)) = current {
            overwritten.insert((worker, state), marks);
        }
        Ok(())
    }

    fn finish(self) -> Changes {
        let DeltaMerge { mut changes, turns, .. } = self;
        changes.finish(&turns);
        changes
    }
}

/// The rows that a fold of these deltas of one worker writes, for a fuzz target.
#[doc(hidden)]
pub fn rows_of<'d>(
    after: Txid,
    newest_first: impl Iterator<Item = (Txid, &'d [u8])>,
) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut merge = DeltaMerge::after(after);
    for (txid, blob) in newest_first {
        merge.add(txid, WorkerIndex(0), blob)?;
    }
    Ok(merge.finish().iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect())
}

/// Writes rows of the family `state`, sorted, into a file that says that the store is folded up to
/// `upto`. An empty value is a removal.
///
/// # Errors
/// Kind TryAgain, or Config if the disk's error does not pass. Nothing is left of the file then:
/// what it has of a disk that is full is given back.
pub(crate) fn write_file<'r>(
    path: &Path,
    upto: Txid,
    rows: impl Iterator<Item = (&'r [u8], &'r [u8])>,
) -> Result<()> {
    remove_file(path)?;
    write_new_file(path, upto, rows).inspect_err(|_| {
        if let Err(error) = remove_file(path) {
            tracing::warn!("{error}");
        }
    })
}

/// Removes a file, if it is there.
fn remove_file(path: &Path) -> Result<()> {
    // A crash during an ingestion may have left this name on a file that is part of the store:
    // writing over it would damage the store for good.
    match std::fs::remove_file(path) {
        Err(why) if why.kind() != std::io::ErrorKind::NotFound => {
            Err(system::error(format!("removing {} failed, nothing is lost", path.display()), &why))
        }
        _ => Ok(()),
    }
}

fn write_new_file<'r>(
    path: &Path,
    upto: Txid,
    rows: impl Iterator<Item = (&'r [u8], &'r [u8])>,
) -> Result<()> {
    let failed = |why: rocksdb::Error| writing_file(path, &why);
    let options = state_family_options();
    let mut writer = SstFileWriter::create(&options);
    writer.open(path).map_err(failed)?;
    let mut number = Vec::new();
    codec::encode(&upto, &mut number)?;
    writer.put(FOLDED_KEY, &number).map_err(failed)?;
    let turns = Turns::default();
    for (key, value) in rows {
        turns.pass();
        if value.is_empty() { writer.delete(key) } else { writer.put(key, value) }
            .map_err(failed)?;
    }
    writer.finish().map_err(failed)
}

impl Store {
    /// Makes a file of [`write_file`] part of the store.
    pub(crate) fn ingest(&self, path: &Path) -> Result<()> {
        // What the file says is committed must be on the disk before the file is: else, after a
        // power loss, folded > committed.
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
        let store = Store::create(dir.path(), Durability::Sync, None).expect("created");
        let mut expected = BTreeMap::new();
        for txid in 1..=30u64 {
            let key = ["a", "b", "c", "d"][usize::try_from(txid % 4).expect("small")];
            let value = (txid % 5 != 0).then_some(txid);
            store
                .commit(
                    &[batch(txid, &[(u16::try_from(txid % 4).expect("small"), key, value)])],
                    &points,
                )
                .expect("committed");
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
        assert_eq!(
            super::fold(&store, &points).expect("folded").map(|folded| folded.upto),
            Some(Txid(30))
        );
        assert_eq!(super::fold(&store, &points).expect("nothing to do"), None);
        store.close(&points).expect("closed");
        let store = Store::open(dir.path(), Durability::Sync).expect("opened");
        assert_eq!(
            (store.committed().txid(), store.folded(), store.unfolded_bytes()),
            (Txid(30), Txid(30), 0)
        );
        assert_eq!(scan(&store), expected);
    }

    #[test]
    fn a_fold_whose_file_cannot_be_written_leaves_the_store_as_it_was() {
        let dir = tempfile::tempdir().expect("a folder");
        let points = Points::none();
        let store = Store::create(dir.path(), Durability::Sync, None).expect("created");
        store.commit(&[batch(1, &[(1, "a", Some(1))])], &points).expect("committed");
        let in_the_way = dir.path().join("fold.sst");
        std::fs::create_dir(&in_the_way).expect("a folder");
        let error = super::Fold::write(&store, &points).err().expect("its name is taken");
        assert_eq!((error.kind(), store.has_failed()), (crate::Kind::Config, false), "{error}");
        store.commit(&[batch(2, &[(2, "b", Some(2))])], &points).expect("commits go on");
        std::fs::remove_dir(&in_the_way).expect("it is empty");
        let folded = super::fold(&store, &points).expect("folded").expect("something to fold");
        assert_eq!((folded.upto, folded.keys), (Txid(2), 2));
    }

    #[test]
    fn what_crashes_of_folds_and_migrations_have_left_is_removed() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::create(dir.path(), Durability::Sync, None).expect("created");
        let left = ["fold.sst", "migration.sst"].map(|name| dir.path().join(name));
        left.iter().for_each(|path| std::fs::write(path, b"half of it").expect("written"));
        super::remove_leftovers(&store).expect("removed");
        assert!(left.iter().all(|path| !path.exists()));
        super::remove_leftovers(&store).expect("nothing to do");
        std::fs::create_dir(&left[0]).expect("a folder");
        let error = super::remove_leftovers(&store).expect_err("a folder has the name");
        assert!(
            error.kind() == crate::Kind::Config && error.to_string().contains("another path"),
            "{error}"
        );
    }

    #[test]
    fn nothing_is_left_of_a_file_that_was_not_finished() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("fold.sst");
        // Keys out of order are refused when the file is already there.
        let rows = [(&b"b"[..], &b"1"[..]), (b"a", b"1")];
        super::write_file(&path, Txid(1), rows.into_iter()).expect_err("the second row is refused");
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_a_crash_has_left_is_never_written_over() {
        let dir = tempfile::tempdir().expect("a folder");
        let points = Points::none();
        let store = Store::create(dir.path(), Durability::Sync, None).expect("created");
        store
            .commit(&[batch(1, &[(1, "a", Some(1)), (2, "b", Some(1))])], &points)
            .expect("committed");
        super::fold(&store, &points).expect("folded").expect("something to fold");
        // An ingestion links the file into the store and then removes its first name: as if the
        // process had been killed between the two.
        let files = std::fs::read_dir(dir.path().join("db"))
            .expect("a folder")
            .map(|entry| entry.expect("listed").path());
        let ingested =
            files.filter(|path| path.extension().is_some_and(|extension| extension == "sst")).max();
        std::fs::hard_link(ingested.expect("one was ingested"), dir.path().join("fold.sst"))
            .expect("linked");
        store.commit(&[batch(2, &[(3, "c", Some(2))])], &points).expect("committed");
        super::fold(&store, &points).expect("folded").expect("something to fold");
        store.close(&points).expect("closed");
        let store = Store::open(dir.path(), Durability::Sync).expect("it is not damaged");
        assert_eq!(
            scan(&store),
            BTreeMap::from([("a".to_string(), 1), ("b".to_string(), 1), ("c".to_string(), 2)])
        );
    }
}
