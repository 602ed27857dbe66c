//! The store: one folder, one RocksDB, and the one write that makes a batch durable.
//!
//! The folder holds `lock` (taken by the running instance, which writes its pid there), `mode` (how
//! the last run wrote) and `db`. Column families, keys and values, all on users' disks:
//!
//! | family | key | value |
//! | --- | --- | --- |
//! | `meta` | `store`, `known_as`, `incarnations`, `schema`, `committed`, `sink/<id>` | see [`read`] |
//! | `meta` | `format`, `format_by` | see [`mod@format`] |
//! | `positions` | source (u32), partition's name | [`Position`] |
//! | `log` | txid (u64), worker (u32) | a delta, see [`crate::delta`] |
//! | `outbox` | sink (u32), txid (u64) | an entry, see [`crate::outbox`] |
//! | `state` | state (u32), key group (u16), encoded key | an encoded value; state 0 holds the number up to which it is folded |
//!
//! Numbers in keys are big-endian, so that they sort.

mod failed;
mod folder;
pub mod format;
mod housekeeping;
mod layout;
mod migrate;
mod options;
pub mod read;
mod restored;
mod space;
mod start;
mod write;

use crate::facts::StoreFacts;
use crate::ids::{Position, SinkId, SourceId, WorkerIndex};
use crate::schema::Schema;
use crate::{CrashPoint, Error, Lineage, Points, Result, Txid};
pub(crate) use failed::writing_file;
use folder::{Folder, Mode};
pub use folder::{free_bytes, move_aside, process_holding};
use housekeeping::Housekeeping;
pub(crate) use layout::FOLDED_KEY;
use layout::{log_key, outbox_key, sink_key};
pub use migrate::Row;
pub(crate) use restored::{FOLD, INGESTED};
use rocksdb::{ColumnFamily, DB, WriteOptions};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};
use write::{MOST_ROW_BYTES, StoreWrite, put, put_positions};

/// This program, as it is recorded in the stores that it writes.
const PROGRAM: &str = concat!("tidemill ", env!("CARGO_PKG_VERSION"));

/// When a commit counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// It is on the disk: it survives a crash of the machine.
    Sync,
    /// The operating system has it: it survives a crash of the process. After one of the machine
    /// the store falls back to an earlier batch, consistently.
    Process,
}

/// Everything that one batch makes durable.
#[derive(Debug, Default)]
pub struct Batch {
    /// Its number: the one after the last committed.
    pub txid: Txid,
    /// The position at which each partition that the batch read is continued.
    pub positions: Vec<(SourceId, String, Position)>,
    /// The batch's changes, worker by worker, see [`crate::delta::assemble`].
    pub deltas: Vec<(WorkerIndex, Vec<u8>)>,
    /// The batch's output to sinks.
    pub outputs: Vec<Output>,
}

/// The output of one batch to one sink.
#[derive(Debug)]
pub struct Output {
    /// The sink.
    pub sink: SinkId,
    /// The batch of the sink's previous entry.
    pub prev: Txid,
    /// The entry as it is stored, see [`crate::outbox::encode_entry`].
    pub entry: Vec<u8>,
}

/// The right to publish and to show a batch: only [`Store::commit`] and a start make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed(Txid);

impl Committed {
    /// The last batch that is durable.
    #[must_use]
    pub fn txid(self) -> Txid {
        self.0
    }
}

/// The parameters with which a store was created, fixed for good.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Made {
    key_groups: u16,
    key_hash: String,
    lineage: Lineage,
    by: String,
}

/// One topology's store, opened. See the module's documentation.
pub struct Store {
    db: DB,
    dir: PathBuf,
    durability: Durability,
    made: Made,
    format: u32,
    most_row_bytes: usize,
    committed: AtomicU64,
    folded: AtomicU64,
    unfolded_bytes: AtomicU64,
    housekeeping: Mutex<Housekeeping>,
    /// The mode in which the run before this one wrote.
    last: Mode,
    /// True if a run has begun on it: only then is there something to note about its end.
    begun: AtomicBool,
    /// True if a write has failed: what it left is unknown, and nothing is written after it.
    failed: AtomicBool,
    folder: Folder,
}

impl Store {
    /// Returns whether there is a store in this folder.
    ///
    /// # Errors
    /// The folder cannot be looked into, so there may be one: Kind TryAgain if that passes, Config
    /// if not.
    pub fn exists(dir: &Path) -> Result<bool> {
        folder::holds_store(dir)
    }

    /// Makes a new store in `dir`, which is made too if it is missing.
    ///
    /// # Errors
    /// Kind Config if the folder cannot be written or holds something else, TryAgain if another
    /// instance holds it.
    ///
    /// `known_as` is what the topology is called outside, if that is not its name.
    pub fn create(dir: &Path, durability: Durability, known_as: Option<&str>) -> Result<Store> {
        let folder = Folder::lock(dir, true)?;
        folder.make_database(|path| {
            let db = options::open(path, Durability::Sync, true)?;
            let made = Made {
                key_groups: crate::keys::KEY_GROUPS,
                key_hash: crate::keys::KEY_HASH.into(),
                lineage: Lineage(rand::random()),
                by: PROGRAM.into(),
            };
            let mut batch = StoreWrite::default();
            format::stamp(&mut batch, &db)?;
            put(&mut batch, family(&db, "meta"), b"store", &made)?;
            put(&mut batch, family(&db, "meta"), b"committed", &Txid::NONE)?;
            if let Some(known_as) = known_as {
                put(&mut batch, family(&db, "meta"), b"known_as", &known_as)?;
            }
            db.write_opt(batch.complete(), &synced()).map_err(|why| failed::writing(dir, &why))
        })?;
        Store::open_locked(folder, durability)
    }

    /// Opens the store in `dir`, to run on it.
    ///
    /// # Errors
    /// Kind TryAgain if another instance holds it, Damaged if what is there cannot be read, Config
    /// if there is none or it is of a newer version.
    pub fn open(dir: &Path, durability: Durability) -> Result<Store> {
        Store::open_locked(Folder::lock_store(dir)?, durability)
    }

    /// Opens the store of a stopped topology to look into it. It keeps the durability that it was
    /// run with.
    ///
    /// # Errors
    /// As for [`Store::open`].
    pub fn inspect(dir: &Path) -> Result<Store> {
        let folder = Folder::lock_store(dir)?;
        let durability = folder.mode()?.durability;
        Store::open_locked(folder, durability)
    }

    fn open_locked(folder: Folder, durability: Durability) -> Result<Store> {
        let dir = folder.dir().to_path_buf();
        let last: Mode = folder.mode()?;
        if !last.ended_cleanly() {
            folder.sync_logs()?;
        }
        let db = options::open(&folder.database(), last.durability, false)?;
        let format = format::read_format(&db, &dir)?;
        let made: Made = read::meta(&db, "store")?.ok_or_else(|| {
            Error::damaged(format!(
                "{} has no record of its making: it is damaged, or not Tidemill's",
                dir.display()
            ))
        })?;
        if made.key_hash != crate::keys::KEY_HASH || made.key_groups == 0 {
            return Err(Error::config(format!(
                "the state in {} was written by {} with {} key groups by {}, which this version \
                 does not know",
                dir.display(),
                made.by,
                made.key_groups,
                made.key_hash
            )));
        }
        let committed: Txid = read::meta(&db, "committed")?.ok_or_else(|| {
            Error::damaged(format!("{} has lost its number: the store is damaged", dir.display()))
        })?;
        let folded = read::folded(&db)?;
        let store = Store {
            db,
            dir,
            durability,
            made,
            format,
            most_row_bytes: MOST_ROW_BYTES,
            committed: AtomicU64::new(committed.0),
            folded: AtomicU64::new(folded.0),
            unfolded_bytes: AtomicU64::new(0),
            housekeeping: Mutex::default(),
            last,
            begun: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            folder,
        };
        let mut bytes = 0;
        store.read_log(folded, |_, _, delta| {
            bytes += delta.len() as u64;
            Ok(())
        })?;
        store.unfolded_bytes.store(bytes, SeqCst);
        Ok(store)
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the durability: the condition for which a commit waits.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// The number of key groups, fixed when the store was made.
    #[must_use]
    pub fn key_groups(&self) -> u16 {
        self.made.key_groups
    }

    /// The store's lineage: txids are comparable only within it.
    #[must_use]
    pub fn lineage(&self) -> Lineage {
        self.made.lineage
    }

    /// The name that the topology's traces outside have (markers, transactions, consumer groups),
    /// if it is not the topology's own: a state that was begun over has another, so that nothing of
    /// the old one is taken for its own.
    ///
    /// # Errors
    /// Kind Damaged.
    pub fn known_as(&self) -> Result<Option<String>> {
        read::meta(&self.db, "known_as")
    }

    /// The last committed batch.
    #[must_use]
    pub fn committed(&self) -> Committed {
        Committed(Txid(self.committed.load(SeqCst)))
    }

    /// The batch up to which the log is folded.
    #[must_use]
    pub fn folded(&self) -> Txid {
        Txid(self.folded.load(SeqCst))
    }

    /// Returns the number of bytes of deltas that are committed and not folded.
    #[must_use]
    pub fn unfolded_bytes(&self) -> u64 {
        self.unfolded_bytes.load(SeqCst)
    }

    /// Returns the recorded facts, for the decision of a start.
    ///
    /// # Errors
    /// Kind Damaged.
    pub fn facts(&self) -> Result<StoreFacts> {
        read::facts(self)
    }

    /// Returns the schema of the topology at its last start.
    ///
    /// # Errors
    /// Kind Damaged.
    pub fn schema(&self) -> Result<Schema> {
        read::schema(self)
    }

    /// Makes these batches durable, all or none, in **one** write: this is the commit point. They
    /// follow the last committed one without gaps.
    ///
    /// # Errors
    /// Kind TryAgain if the write failed. Its outcome is then unknown: the process must end, and
    /// the next start decides. Kind Config if something of a batch is too long for a row: nothing
    /// was written then.
    ///
    /// # Panics
    /// If the batches are out of order: that would break "in order, without gaps".
    pub fn commit(&self, batches: &[Batch], points: &Points) -> Result<Committed> {
        points.reach(CrashPoint::BeforeWrite)?;
        self.refuse_after_failure()?;
        self.check_lengths(batches)?;
        let [meta, positions, log, outbox] =
            ["meta", "positions", "log", "outbox"].map(|name| family(&self.db, name));
        let mut write = StoreWrite::default();
        let mut committed = self.committed().txid();
        let mut bytes = 0;
        // Before the batches' own positions, which are newer.
        let trimmed = self.add_housekeeping(&mut write)?;
        for batch in batches {
            assert_eq!(batch.txid, committed.next(), "batches commit in order, without gaps");
            committed = batch.txid;
            put_positions(&mut write, positions, &batch.positions)?;
            for (worker, delta) in &batch.deltas {
                write.put_cf(log, log_key(batch.txid, *worker), delta)?;
                bytes += delta.len() as u64;
            }
            for output in &batch.outputs {
                write.put_cf(outbox, outbox_key(output.sink, batch.txid), &output.entry)?;
                put(&mut write, meta, sink_key(output.sink).as_bytes(), &batch.txid)?;
            }
        }
        put(&mut write, meta, b"committed", &committed)?;
        let mut options = WriteOptions::default();
        options.set_sync(self.durability == Durability::Sync);
        self.db.write_opt(write.complete(), &options).map_err(|why| self.write_failed(&why))?;
        self.unfolded_bytes.fetch_add(bytes, SeqCst);
        self.committed.store(committed.0, SeqCst);
        points.reach(CrashPoint::AfterWrite)?;
        if trimmed {
            points.reach(CrashPoint::LogTrimmed)?;
        }
        Ok(Committed(committed))
    }

    /// Syncs the log: what is committed is on the disk from here on. Before a fold is ingested,
    /// before output is published.
    ///
    /// # Errors
    /// Kind TryAgain if the sync failed.
    pub fn sync_log(&self) -> Result<()> {
        match self.durability {
            Durability::Sync => Ok(()),
            Durability::Process => self.db.flush_wal(true).map_err(|why| self.write_failed(&why)),
        }
    }

    /// Closes the store cleanly: nothing is left in the operating system's hands.
    ///
    /// # Errors
    /// Kind TryAgain if a write failed; the store is as after a crash then.
    pub fn close(self, points: &Points) -> Result<()> {
        self.tidy(points)?;
        self.db.flush_wal(true).map_err(|why| self.write_failed(&why))?;
        if self.begun.load(SeqCst) {
            self.folder.set_mode(Mode::stopped(self.durability))
        } else {
            Ok(())
        }
    }

    /// Records that a fold up to `folded`, of this many bytes of log, is part of the store; the log
    /// before it goes with the next commit.
    pub(crate) fn set_folded(&self, folded: Txid, bytes: u64) {
        self.folded.store(folded.0, SeqCst);
        self.unfolded_bytes.fetch_sub(bytes, SeqCst);
        self.housekeeping.lock().expect("no holder of this lock panics").trim_log = Some(folded);
    }

    pub(crate) fn ingest_file(
        &self,
        path: &Path,
        options: &rocksdb::IngestExternalFileOptions,
    ) -> Result<()> {
        let family = family(&self.db, "state");
        self.db
            .ingest_external_file_cf_opts(family, options, vec![path])
            .map_err(|why| self.write_failed(&why))
    }

    /// Returns whether a write has failed: the process must end.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.load(SeqCst)
    }

    fn write_failed(&self, why: &rocksdb::Error) -> Error {
        self.failed.store(true, SeqCst);
        failed::writing(&self.dir, why)
    }

    fn refuse_after_failure(&self) -> Result<()> {
        if self.has_failed() {
            return Err(Error::try_again(format!(
                "an earlier write of the store in {} failed: nothing is written after it",
                self.dir.display()
            )));
        }
        Ok(())
    }
}

/// The options of the family `state`, for files that will become part of it.
pub(crate) fn state_family_options() -> rocksdb::Options {
    options::family_options("state")
}

fn synced() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}

fn family<'a>(db: &'a DB, name: &str) -> &'a ColumnFamily {
    db.cf_handle(name).expect("open makes every family of options::FAMILIES")
}

#[cfg(test)]
mod tests;
