//! The options with which RocksDB is opened: its families, its log, its checks.
//!
//! With durability `sync` the log is read with `TolerateCorruptedTailRecords` and verified
//! (`track_and_verify_wals`): RocksDB's default mode would lose synced batches silently when a byte
//! in the middle is damaged. A damaged byte in the very last record looks like a torn write, and
//! costs that batch; a sink that holds the batch makes the start refuse. With durability `process`
//! the log may end anywhere after a crash of the machine, and is read up to there (`PointInTime`).

use super::{failed, restored};
use crate::store::Durability;
use crate::{Error, Result};
use rocksdb::{
    BlockBasedOptions, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, Options,
};
use std::path::Path;

pub(super) const FAMILIES: [&str; 5] = ["meta", "positions", "log", "outbox", "state"];

/// Memory for the log's entries that are not folded: a few folds' worth, so that most are trimmed
/// before they are ever flushed.
const LOG_BUFFER_BYTES: usize = 96 << 20;

/// Bounds what a start has to read again.
const MAX_WAL_BYTES: u64 = 160 << 20;

/// RocksDB's own messages, in each of the files that are kept: some kilobytes for each fold.
const LOG_FILE_BYTES: usize = 4 << 20;

/// The bound on the changes to the list of files since the list was last written as a whole. A
/// start reads all of them.
const MANIFEST_BYTES: usize = 8 << 20;

pub(super) fn open(path: &Path, durability: Durability, create: bool) -> Result<DB> {
    let mut options = Options::default();
    options.create_if_missing(create);
    options.create_missing_column_families(create);
    options.set_max_background_jobs(2);
    options.set_max_total_wal_size(MAX_WAL_BYTES);
    options.set_keep_log_file_num(4);
    options.set_max_log_file_size(LOG_FILE_BYTES);
    options.set_max_manifest_file_size(MANIFEST_BYTES);
    options.set_paranoid_checks(true);
    options.set_avoid_unnecessary_blocking_io(true);
    // The default mode loses synced batches silently when a byte in the middle of the log is
    // damaged.
    options.set_wal_recovery_mode(match durability {
        Durability::Sync => DBRecoveryMode::TolerateCorruptedTailRecords,
        Durability::Process => DBRecoveryMode::PointInTime,
    });
    let mut options = options
        .get_options_from_string("track_and_verify_wals=true;avoid_flush_during_recovery=true")
        .map_err(|why| Error::bug(format!("RocksDB does not know an option: {why}")))?;
    options.create_if_missing(create);
    let families = || FAMILIES.map(|name| ColumnFamilyDescriptor::new(name, family_options(name)));
    let opened = restored::open(path, || DB::open_cf_descriptors(&options, path, families()))?;
    opened.map_err(|why| failed::opening(path, &why))
}

pub(super) fn family_options(name: &str) -> Options {
    let mut options = Options::default();
    match name {
        "log" => {
            options.set_write_buffer_size(LOG_BUFFER_BYTES);
            options.set_compression_type(DBCompressionType::Lz4);
        }
        "outbox" => {
            options.set_write_buffer_size(32 << 20);
            options.set_compression_type(DBCompressionType::Lz4);
        }
        "state" => {
            options.set_compression_type(DBCompressionType::Lz4);
            options.set_bottommost_compression_type(DBCompressionType::Zstd);
            let mut table = BlockBasedOptions::default();
            table.set_block_size(16 << 10);
            table.set_format_version(5);
            options.set_block_based_table_factory(&table);
        }
        _ => {
            options.set_write_buffer_size(4 << 20);
        }
    }
    options
}
