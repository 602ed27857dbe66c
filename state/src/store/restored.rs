//! The file of an ingestion that failed half-way, given back to the database.
//!
//! If the manifest's sync fails at an ingestion, RocksDB removes the file that it has linked into
//! the database, although the manifest may name it from then on: the store could not be opened any
//! more. The file is still there under its first name. RocksDB compares its size and unique id with
//! the manifest's, so that another file is not taken for it.

use crate::{Error, Result};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The names under which files are written that become part of the database.
pub(crate) const INGESTED: [&str; 2] = [FOLD, MIGRATION];
/// A fold's.
pub(crate) const FOLD: &str = "fold.sst";
/// A migration's.
pub(crate) const MIGRATION: &str = "migration.sst";

/// Opens with `open`. If tables are missing, it is tried again with the files that may be them;
/// without success everything is as before.
pub(super) fn open<T>(
    database: &Path,
    open: impl Fn() -> std::result::Result<T, rocksdb::Error>,
) -> Result<std::result::Result<T, rocksdb::Error>> {
    let opened = open();
    let Err(why) = &opened else { return Ok(opened) };
    let candidates = INGESTED.map(|name| database.with_file_name(name));
    let mut there: Vec<&Path> = Vec::new();
    for path in &candidates {
        if is_there(path)? {
            there.push(path);
        }
    }
    let candidates = there;
    Ok(open_with(database, why, &candidates, &open)?.map_or(opened, Ok))
}

/// Opens with one of the candidates as the table that is missing, and with another as the next one.
fn open_with<T>(
    database: &Path,
    why: &rocksdb::Error,
    candidates: &[&Path],
    open: &impl Fn() -> std::result::Result<T, rocksdb::Error>,
) -> Result<Option<T>> {
    let Some(missing) = missing_table(database, why.as_ref())? else { return Ok(None) };
    for candidate in candidates {
        link(candidate, &missing)?;
        let others: Vec<&Path> =
            candidates.iter().copied().filter(|other| other != candidate).collect();
        let opened = match open() {
            Ok(db) => Some(db),
            Err(why) => open_with(database, &why, &others, open)?,
        };
        if opened.is_some() {
            tracing::warn!(
                "{} is part of the database again: an earlier run failed while it took the file in",
                missing.display()
            );
            return Ok(opened);
        }
        fs::remove_file(&missing).map_err(|why| failed(&missing, &why))?;
    }
    Ok(None)
}

/// The table that RocksDB does not find, if that is what its message reports.
fn missing_table(database: &Path, why: &str) -> Result<Option<PathBuf>> {
    let Some((before, _)) = why.split_once(".sst: No such file or directory") else {
        return Ok(None);
    };
    let number = before.rsplit('/').next().unwrap_or_default();
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let table = database.join(format!("{number}.sst"));
    Ok((is_number && !is_there(&table)?).then_some(table))
}

/// Returns whether there is such a file. One that cannot be looked at may be there.
fn is_there(path: &Path) -> Result<bool> {
    path.try_exists().map_err(|why| failed(path, &why))
}

fn link(from: &Path, to: &Path) -> Result<()> {
    let linked = fs::hard_link(from, to).and_then(|()| {
        let folder = to.parent().unwrap_or(to);
        File::open(folder)?.sync_all()
    });
    linked.map_err(|why| failed(to, &why))
}

fn failed(path: &Path, why: &std::io::Error) -> Error {
    Error::try_again(format!(
        "restoring {} failed: {why}. Nothing is lost: make sure that the disk is healthy, then \
         start again",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Batch, Durability};
    use crate::{KeyGroup, Kind, Points, StateId, Store, Txid, WorkerIndex, delta, fold};

    /// A store with two folds; returns their tables, the first one first.
    fn folded_twice(dir: &Path) -> Vec<PathBuf> {
        let points = Points::none();
        let store = Store::create(dir, Durability::Sync, None).expect("created");
        for txid in 1..=2 {
            let mut section = delta::Section::new(StateId(1));
            section.push(
                KeyGroup(7),
                &[u8::try_from(txid).expect("small")],
                Some(b"\x01\x07"),
                None,
            );
            let delta = delta::assemble(&[section]).expect("small");
            let deltas = vec![(WorkerIndex(0), delta)];
            store
                .commit(&[Batch { txid: Txid(txid), deltas, ..Batch::default() }], &points)
                .expect("committed");
            fold::fold(&store, &points).expect("folded").expect("something to fold");
        }
        store.close(&points).expect("closed");
        let entries = fs::read_dir(dir.join("db"))
            .expect("listed")
            .map(|entry| entry.expect("an entry").path());
        let mut tables: Vec<PathBuf> =
            entries.filter(|path| path.extension().is_some_and(|end| end == "sst")).collect();
        tables.sort();
        tables
    }

    fn keys(dir: &Path) -> Result<u64> {
        let store = Store::inspect(dir)?;
        let mut keys = 0;
        store.scan(StateId(1), |_, _| {
            keys += 1;
            Ok(true)
        })?;
        Ok(keys)
    }

    #[test]
    fn a_table_that_a_failed_ingestion_has_removed_is_given_back() {
        for name in INGESTED {
            let dir = tempfile::tempdir().expect("a folder");
            let table = folded_twice(dir.path()).pop().expect("two");
            fs::rename(&table, dir.path().join(name)).expect("moved");
            assert_eq!(keys(dir.path()).expect("opened"), 2, "{name}");
            assert!(table.exists());
        }
    }

    #[test]
    fn both_files_are_given_back_at_once() {
        for swapped in [false, true] {
            let dir = tempfile::tempdir().expect("a folder");
            let tables = folded_twice(dir.path());
            for (table, name) in
                tables.iter().zip(if swapped { [MIGRATION, FOLD] } else { INGESTED })
            {
                fs::rename(table, dir.path().join(name)).expect("moved");
            }
            assert_eq!(keys(dir.path()).expect("opened"), 2);
            assert!(tables.iter().all(|table| table.exists()));
        }
    }

    #[test]
    fn another_file_is_not_taken_for_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let tables = folded_twice(dir.path());
        fs::copy(&tables[0], dir.path().join(FOLD)).expect("copied");
        fs::remove_file(&tables[1]).expect("removed");
        let error = keys(dir.path()).expect_err("a part is missing");
        assert_eq!(error.kind(), Kind::Damaged, "{error}");
        assert!(!tables[1].exists(), "nothing was changed");
        fs::remove_file(dir.path().join(FOLD)).expect("removed");
        assert_eq!(keys(dir.path()).expect_err("a part is missing").kind(), Kind::Damaged);
    }
}
