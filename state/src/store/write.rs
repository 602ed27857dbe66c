//! One write of the store: rows that become durable together, none of them left out.
//!
//! RocksDB's C interface drops the status of every operation on a batch: a row that RocksDB refuses
//! (a value or key of 4 GiB) would be missing without an error, and the rest would be written.
//! Every write of the store therefore goes through [`StoreWrite`], which checks lengths before and
//! compares the batch with what was put into it after.
//!
//! `tests/programs/io_errors.rs` preloads `tests/shim/io.c` into the example `word_count` and lets
//! calls fail with EIO and ENOSPC. The same shim notes what was synced, so that a power loss can be
//! simulated.

use super::Store;
use super::layout::position_key;
use crate::ids::{Position, SourceId};
use crate::store::Batch;
use crate::{Error, Result, codec};
use rocksdb::{ColumnFamily, WriteBatch};

/// The longest key or value of a row: 4 GiB, less what RocksDB's memory table and blocks add to a
/// row, whose whole length they count in 32 bits.
pub(super) const MOST_ROW_BYTES: usize = (4 << 30) - (16 << 20);

/// Rows that are written, deleted and trimmed together.
#[derive(Default)]
pub(super) struct StoreWrite {
    batch: WriteBatch,
    operations: usize,
    bytes: usize,
}

impl StoreWrite {
    /// Puts a row.
    ///
    /// # Errors
    /// Kind Config if key or value is longer than [`MOST_ROW_BYTES`].
    pub(super) fn put_cf(
        &mut self,
        family: &ColumnFamily,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<()> {
        let (key, value) = (key.as_ref(), value.as_ref());
        fits(key.len().max(value.len()), MOST_ROW_BYTES, || "a row of the store".into())?;
        self.batch.put_cf(family, key, value);
        self.count(key.len() + value.len());
        Ok(())
    }

    /// Deletes a row.
    pub(super) fn delete_cf(&mut self, family: &ColumnFamily, key: impl AsRef<[u8]>) {
        self.batch.delete_cf(family, key.as_ref());
        self.count(key.as_ref().len());
    }

    /// Deletes the rows from `first` up to and without `end`.
    pub(super) fn delete_range_cf(
        &mut self,
        family: &ColumnFamily,
        first: impl AsRef<[u8]>,
        end: impl AsRef<[u8]>,
    ) {
        self.batch.delete_range_cf(family, first.as_ref(), end.as_ref());
        self.count(first.as_ref().len() + end.as_ref().len());
    }

    fn count(&mut self, bytes: usize) {
        self.operations += 1;
        self.bytes += bytes;
    }

    /// Returns RocksDB's batch.
    ///
    /// # Panics
    /// If RocksDB has left something out: writing the rest would tear what belongs together.
    pub(super) fn complete(self) -> WriteBatch {
        let (operations, bytes) = (self.batch.len(), self.batch.size_in_bytes());
        assert_eq!(operations, self.operations, "every operation is in the batch");
        assert!(
            bytes >= self.bytes,
            "the batch has {bytes} bytes, less than the {} put in",
            self.bytes
        );
        self.batch
    }
}

/// Encodes a value and puts it.
pub(super) fn put<V: serde::Serialize>(
    write: &mut StoreWrite,
    family: &ColumnFamily,
    key: &[u8],
    value: &V,
) -> Result<()> {
    let mut bytes = Vec::new();
    codec::encode(value, &mut bytes)?;
    write.put_cf(family, key, bytes)
}

/// Deletes the positions of partitions.
pub(super) fn delete_positions(
    write: &mut StoreWrite,
    family: &ColumnFamily,
    retired: &[(SourceId, String)],
) -> Result<()> {
    for (source, partition) in retired {
        write.delete_cf(family, position_key(*source, partition)?);
    }
    Ok(())
}

/// Puts the positions of partitions.
pub(super) fn put_positions(
    write: &mut StoreWrite,
    family: &ColumnFamily,
    positions: &[(SourceId, String, Position)],
) -> Result<()> {
    for (source, partition, position) in positions {
        put(write, family, &position_key(*source, partition)?, position)?;
    }
    Ok(())
}

/// Refuses what is too long for one row.
fn fits(length: usize, most: usize, what: impl FnOnce() -> String) -> Result<()> {
    if length <= most {
        return Ok(());
    }
    Err(Error::config(format!(
        "{}: {length} bytes, and the store takes at most {most} in one row. Nothing of it was \
         committed: lower --max-batch-records or --max-batch-bytes, then start again",
        what()
    )))
}

impl Store {
    /// Refuses batches that have something too long for one row, before anything of them is
    /// written.
    pub(super) fn check_lengths(&self, batches: &[Batch]) -> Result<()> {
        for batch in batches {
            let txid = batch.txid;
            for (worker, delta) in &batch.deltas {
                let what = || format!("the changes of worker {} in batch {txid}", worker.0);
                fits(delta.len(), self.most_row_bytes, what)?;
            }
            for output in &batch.outputs {
                let what =
                    || format!("the output of batch {txid} for {}", self.name_of(output.sink));
                fits(output.entry.len(), self.most_row_bytes, what)?;
            }
        }
        Ok(())
    }

    /// The sink as an operator knows it.
    fn name_of(&self, sink: crate::SinkId) -> String {
        let schema = self.schema().unwrap_or_default();
        let named = schema.sinks.iter().find(|(id, _)| *id == sink);
        named.map_or_else(
            || format!("sink number {}", sink.0),
            |(_, decl)| format!("sink \"{}\"", decl.name),
        )
    }

    pub(super) fn write_synced(&self, write: StoreWrite) -> Result<()> {
        self.refuse_after_failure()?;
        let written = self.db.write_opt(write.complete(), &super::synced());
        written.map_err(|why| self.write_failed(&why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Durability, Output};
    use crate::{Kind, Points, SinkId, Txid, WorkerIndex};

    #[test]
    fn what_is_too_long_for_a_row_is_refused_and_nothing_is_committed() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut store = Store::create(dir.path(), Durability::Sync, None).expect("created");
        store.most_row_bytes = 100;
        let batch = |delta: usize, entry: usize| Batch {
            txid: Txid(1),
            positions: vec![(SourceId(1), "p".into(), Position::at(7))],
            deltas: vec![(WorkerIndex(3), vec![1; delta])],
            outputs: vec![Output { sink: SinkId(2), prev: Txid::NONE, entry: vec![1; entry] }],
        };
        for (batch, what) in [
            (batch(101, 100), "the changes of worker 3 in batch 1"),
            (batch(100, 101), "the output of batch 1 for sink number 2"),
        ] {
            store.confirm(SinkId(9), [Txid(1)]);
            let error = store.commit(&[batch], &Points::none()).expect_err("it is too long");
            assert_eq!(error.kind(), Kind::Config, "{error}");
            for part in [what, "101 bytes", "at most 100", "--max-batch-records"] {
                assert!(error.to_string().contains(part), "{part:?} is not in: {error}");
            }
            assert_eq!(store.committed().txid(), Txid::NONE);
            assert!(store.positions(SourceId(1)).expect("read").is_empty());
        }
        store.commit(&[batch(100, 100)], &Points::none()).expect("it fits, and nothing has failed");
        assert_eq!(store.committed().txid(), Txid(1));
    }

    #[test]
    #[should_panic(expected = "every operation is in the batch")]
    fn a_row_that_rocksdb_leaves_out_is_not_passed_over() {
        let mut write = StoreWrite::default();
        // As a put whose status the C interface drops.
        write.count(10);
        let _ = write.complete();
    }
}
