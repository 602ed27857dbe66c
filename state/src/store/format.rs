//! The format of a store as a whole: its number, refusing what is newer, upgrading what is older.
//!
//! `meta/format` holds the number as four bytes, big-endian, without a format byte in front: every
//! version can read it, whatever else changes. A store without that row has format 1.
//! `meta/format_by` holds the name of the program that wrote the number.
//!
//! | format | what changed |
//! | --- | --- |
//! | 1 | the first |
//! | 2 | positions may carry identities in their witnesses; `meta/format`, `meta/format_by` |
//!
//! A start upgrades a store in one synced write, after its incarnation is raised. Everything before
//! (the decision of the start, `check`, `state`) reads every format from 1 on. To add a format,
//! raise [`STORE_FORMAT`], add an arm to `Store::put_step` and a row above, and keep a store of
//! the new format in `tests/fixtures/`. A row of `meta` that has to hold more gets a new key,
//! never a new field.

use super::write::{StoreWrite, put};
use super::{Made, PROGRAM, Store, family, read};
use crate::{CrashPoint, Error, Points, Result};
use rocksdb::DB;
use std::path::Path;

/// The format that this version writes, and the newest that it reads.
pub const STORE_FORMAT: u32 = 2;

/// The format of a store that has no number yet.
const FIRST: u32 = 1;

const NUMBER: &str = "format";
const WRITTEN_BY: &str = "format_by";

/// Puts the present format's number, and this program as its writer.
pub(super) fn stamp(write: &mut StoreWrite, db: &DB) -> Result<()> {
    write.put_cf(family(db, "meta"), NUMBER, STORE_FORMAT.to_be_bytes())?;
    put(write, family(db, "meta"), WRITTEN_BY.as_bytes(), &PROGRAM)
}

/// Returns the format of the store in `dir`.
///
/// # Errors
/// Kind Config if it is newer than this version, Damaged if the number cannot be read.
pub(super) fn read_format(db: &DB, dir: &Path) -> Result<u32> {
    let number = match read::meta_bytes(db, NUMBER)? {
        None => FIRST,
        Some(bytes) => bytes.try_into().map(u32::from_be_bytes).unwrap_or_default(),
    };
    if number < FIRST {
        return Err(Error::damaged(format!(
            "the number of the format of {} cannot be read: it is damaged",
            dir.display()
        )));
    }
    if number > STORE_FORMAT {
        // In a newer format these may be something else.
        let made = || read::meta::<Made>(db, "store").ok().flatten().map(|made| made.by);
        let by = read::meta::<String>(db, WRITTEN_BY).ok().flatten().or_else(made);
        return Err(Error::config(format!(
            "the state in {} has format {number}, written by {}, and this program ({PROGRAM}) \
             reads formats up to {STORE_FORMAT}. Nothing was changed: run a program built with \
             that version, or give another --state folder",
            dir.display(),
            by.as_deref().unwrap_or("a newer version")
        )));
    }
    Ok(number)
}

impl Store {
    /// The format of what is in the folder now.
    #[must_use]
    pub fn format(&self) -> u32 {
        self.format
    }

    /// Brings the store to the present format, in one synced write. Returns the format that it had,
    /// if that was an earlier one.
    ///
    /// # Errors
    /// Kind TryAgain if the write failed.
    pub fn upgrade(&mut self, points: &Points) -> Result<Option<u32>> {
        let before = self.format;
        if before == STORE_FORMAT {
            return Ok(None);
        }
        let mut write = StoreWrite::default();
        for format in before..STORE_FORMAT {
            self.put_step(format, &mut write)?;
        }
        stamp(&mut write, &self.db)?;
        self.write_synced(write)?;
        self.format = STORE_FORMAT;
        points.reach(CrashPoint::StoreUpgraded)?;
        Ok(Some(before))
    }

    /// Puts what brings a store of `format` to the one after it. Later steps do not see these rows:
    /// one that builds on an earlier step's rows must read both forms.
    fn put_step(&self, format: u32, _write: &mut StoreWrite) -> Result<()> {
        match format {
            // The new witnesses have a format byte of their own: sources read both, and write the
            // new one wherever they move on.
            1 => Ok(()),
            _ => Err(Error::bug(format!(
                "there is no way from format {format} of a store to the next"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::points::Effect;
    use crate::store::Durability;
    use crate::{Kind, Lineage};

    /// A store whose format is this; none for one that has no row of it.
    fn of_format(dir: &Path, number: Option<u32>) {
        let store = Store::create(dir, Durability::Sync, None).expect("created");
        assert_eq!(store.format(), STORE_FORMAT, "a new store has the present format");
        let mut write = StoreWrite::default();
        let meta = family(&store.db, "meta");
        write.delete_cf(meta, WRITTEN_BY);
        match number {
            None => write.delete_cf(meta, NUMBER),
            Some(number) => {
                write.put_cf(meta, NUMBER, number.to_be_bytes()).expect("short");
                put(&mut write, meta, WRITTEN_BY.as_bytes(), &"tidemill 9.1.0").expect("short");
            }
        }
        store.write_synced(write).expect("written");
        store.close(&Points::none()).expect("closed");
    }

    #[test]
    fn an_older_store_is_upgraded_by_a_start_and_not_by_a_look() {
        let dir = tempfile::tempdir().expect("a folder");
        of_format(dir.path(), None);
        for _ in 0..2 {
            let looked = Store::inspect(dir.path()).expect("every earlier format is read");
            assert_eq!(looked.format(), 1);
            looked.close(&Points::none()).expect("closed");
        }
        let points = Points::none();
        points.arm(CrashPoint::StoreUpgraded, Effect::Stop, 1);
        let mut store = Store::open(dir.path(), Durability::Sync).expect("opened");
        store.upgrade(&points).expect_err("it crashes behind the write");
        drop(store);
        let mut store = Store::open(dir.path(), Durability::Sync).expect("opened");
        assert_eq!(
            (store.format(), store.upgrade(&Points::none()).expect("nothing to do")),
            (STORE_FORMAT, None)
        );
    }

    #[test]
    fn every_format_has_a_step_to_the_next() {
        let dir = tempfile::tempdir().expect("a folder");
        for format in FIRST..STORE_FORMAT {
            let dir = dir.path().join(format.to_string());
            of_format(&dir, Some(format));
            let mut store = Store::open(&dir, Durability::Sync).expect("opened");
            assert_eq!(store.upgrade(&Points::none()).expect("upgraded"), Some(format));
        }
    }

    #[test]
    fn a_newer_store_is_refused_and_named() {
        let dir = tempfile::tempdir().expect("a folder");
        of_format(dir.path(), Some(STORE_FORMAT + 1));
        type Opened = fn(&Path) -> Result<Store>;
        let ways: [Opened; 2] = [|dir| Store::open(dir, Durability::Sync), Store::inspect];
        for open in ways {
            let error = open(dir.path()).err().expect("it is newer");
            assert_eq!(error.kind(), Kind::Config, "{error}");
            for part in
                ["has format 3", "tidemill 9.1.0", PROGRAM, "up to 2", "Nothing was changed"]
            {
                assert!(error.to_string().contains(part), "{part:?} is not in: {error}");
            }
        }
    }

    #[test]
    fn a_store_with_a_family_of_a_newer_version_is_refused_as_such() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut store = Store::create(dir.path(), Durability::Sync, None).expect("created");
        store.db.create_cf("timers", &rocksdb::Options::default()).expect("made");
        drop(store);
        let error = Store::inspect(dir.path()).err().expect("what it holds is not known");
        assert_eq!(error.kind(), Kind::Config, "{error}");
        assert!(
            error.to_string().contains("newer version") && error.to_string().contains("timers"),
            "{error}"
        );
    }

    #[test]
    fn a_number_that_is_none_is_damage() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::create(dir.path(), Durability::Sync, None).expect("created");
        let mut write = StoreWrite::default();
        put(&mut write, family(&store.db, "meta"), NUMBER.as_bytes(), &Lineage(7)).expect("short");
        store.write_synced(write).expect("written");
        drop(store);
        let error = Store::inspect(dir.path()).err().expect("it is damaged");
        assert_eq!(error.kind(), Kind::Damaged, "{error}");
    }
}
