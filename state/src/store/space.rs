//! The disk space that a store takes, and that it may need soon.

use super::{Store, family, options};

/// The most that compaction writes beside its input at one time, about: it works off a backlog in
/// parts.
const COMPACTION_BYTES: u64 = 512 << 20;

/// Room for what grows beside log and tables: the manifest, the outbox, RocksDB's own messages.
const SMALL_FILES_BYTES: u64 = 16 << 20;

impl Store {
    /// The size of the tables on the disk: of everything that is flushed, and what compaction has
    /// not removed yet.
    #[must_use]
    pub fn table_bytes(&self) -> u64 {
        self.sum_over_families("rocksdb.total-sst-files-size")
    }

    /// The free space that the store may need soon, about: for the file of a fold and for a flush
    /// of the log, each as long as what is not folded, and for what compaction is about to rewrite.
    #[must_use]
    pub fn room_needed(&self) -> u64 {
        let compaction = self.sum_over_families("rocksdb.estimate-pending-compaction-bytes");
        room(self.unfolded_bytes(), compaction)
    }

    /// The free space that a fold may need: for its file, at most about as long as what is not
    /// folded.
    #[must_use]
    pub fn room_for_fold(&self) -> u64 {
        room_for_fold(self.unfolded_bytes())
    }

    fn sum_over_families(&self, property: &str) -> u64 {
        let of =
            |name| self.db.property_int_value_cf(family(&self.db, name), property).ok().flatten();
        options::FAMILIES.into_iter().filter_map(of).sum()
    }
}

fn room(unfolded: u64, compaction: u64) -> u64 {
    unfolded.saturating_mul(2).saturating_add(compaction.min(COMPACTION_BYTES) + SMALL_FILES_BYTES)
}

fn room_for_fold(unfolded: u64) -> u64 {
    unfolded.saturating_add(SMALL_FILES_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_needed_for_a_fold_a_flush_and_a_bounded_part_of_compaction() {
        let mib = |bytes: u64| bytes >> 20;
        assert_eq!(mib(room(0, 0)), 16);
        assert_eq!(mib(room(48 << 20, 0)), 112);
        assert_eq!(mib(room(48 << 20, 100 << 20)), 212);
        assert_eq!(mib(room(0, 1 << 40)), 528);
        assert_eq!(room(u64::MAX, 0), u64::MAX);
        assert_eq!(mib(room_for_fold(48 << 20)), 64);
    }

    #[test]
    fn where_the_sources_wait_for_what_is_not_folded_there_is_room_for_the_fold_that_ends_it() {
        let mib = 1 << 20;
        for (unfolded, free) in
            [(350 * mib, 700 * mib), (42 * mib, 99 * mib), (1500 * mib, 3000 * mib)]
        {
            assert!(free < room(unfolded, 0) && free >= room_for_fold(unfolded), "{unfolded}");
        }
        // Without a fold behind them the sources go on where this much is free.
        assert_eq!(room(0, 0), room_for_fold(0));
    }
}
