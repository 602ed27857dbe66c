//! The progress of the committed batches: in each partition, and in the number of each state's
//! keys.
//!
//! Workers are ahead of what is committed, so what they tell of a partition is put back to this
//! before it is shown.

use crate::batch::feed::PartitionProgress;
use crate::batch::report::BatchReport;
use crate::ids::StateIndex;
use std::collections::HashMap;

/// The progress that committed batches cover. Filled by the committer, once a batch is durable.
#[derive(Debug, Default)]
pub(crate) struct CommittedProgress {
    /// By source and partition: two maps, so that a look into them needs no new text.
    read: HashMap<String, HashMap<String, Read>>,
    /// By worker and state.
    keys: Vec<Vec<usize>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Read {
    /// The first offset that no committed batch covers.
    offset: u64,
    /// Records skipped by policy before that.
    skipped: u64,
}

impl CommittedProgress {
    /// A batch was committed. Its numbers of keys go no further.
    pub(crate) fn commit(&mut self, report: &mut BatchReport) {
        for range in &report.ranges {
            self.cover(&range.source, &range.partition, range.end, range.skipped);
        }
        for (worker, keys) in std::mem::take(&mut report.keys) {
            self.set_keys(usize::try_from(worker.0).expect("workers are few"), keys);
        }
    }

    /// Everything of this partition up to `end` is committed; `skipped` records of it are new and
    /// were passed over.
    pub(crate) fn cover(&mut self, source: &str, partition: &str, end: u64, skipped: u64) {
        let read =
            match self.read.get_mut(source).and_then(|partitions| partitions.get_mut(partition)) {
                Some(read) => read,
                None => self
                    .read
                    .entry(source.to_string())
                    .or_default()
                    .entry(partition.to_string())
                    .or_default(),
            };
        (read.offset, read.skipped) = (end, read.skipped + skipped);
    }

    /// Forgets a partition that has ended for good: another may come by its name.
    pub(crate) fn forget(&mut self, source: &str, partition: &str) {
        if let Some(partitions) = self.read.get_mut(source) {
            partitions.remove(partition);
        }
    }

    /// A worker's states have so many keys as of the last committed batch.
    pub(crate) fn set_keys(&mut self, worker: usize, keys: Vec<usize>) {
        if self.keys.len() <= worker {
            self.keys.resize(worker + 1, Vec::new());
        }
        self.keys[worker] = keys;
    }

    /// Returns the number of keys a state has over all workers.
    pub(crate) fn keys(&self, state: StateIndex) -> usize {
        self.keys.iter().filter_map(|keys| keys.get(state.0)).sum()
    }

    /// The first offset of a partition that no committed batch of this run covers, if one covers
    /// any.
    pub(crate) fn covered(&self, source: &str, partition: &str) -> Option<u64> {
        Some(self.read.get(source)?.get(partition)?.offset)
    }

    /// Returns a worker's report of a partition, as of the last committed batch: records that the
    /// worker has read beyond that batch still count as left to read.
    pub(crate) fn as_committed(&self, told: &PartitionProgress) -> PartitionProgress {
        let read = self
            .read
            .get(&told.source)
            .and_then(|partitions| partitions.get(&told.partition))
            .copied();
        let Read { offset, skipped } = read.unwrap_or_default();
        // Before its first commit it is where this generation has begun with it.
        let offset = offset.max(told.offset);
        let lag = told.lag.map(|lag| told.reached.saturating_add(lag).saturating_sub(offset));
        PartitionProgress { offset, lag, skipped, ..told.clone() }
    }
}

#[cfg(test)]
mod tests {
    use crate::runtime::committed::*;

    /// Begun at 10, read up to 50, with 7 left after that.
    fn told() -> PartitionProgress {
        PartitionProgress {
            source: "s".into(),
            partition: "p".into(),
            offset: 10,
            lag: Some(7),
            skipped: 0,
            ended: false,
            trouble: None,
            trouble_since_ms: None,
            reached: 50,
        }
    }

    #[test]
    fn what_is_read_and_not_committed_is_still_left() {
        let mut extent = CommittedProgress::default();
        let mut check = |cover: Option<(u64, u64)>, expected: (u64, u64, u64)| {
            if let Some((end, skipped)) = cover {
                extent.cover("s", "p", end, skipped);
            }
            let shown = extent.as_committed(&told());
            assert_eq!(
                (shown.offset, shown.lag.expect("it is known"), shown.skipped),
                expected,
                "after {cover:?}"
            );
        };
        check(None, (10, 47, 0));
        check(Some((30, 2)), (30, 27, 2));
        check(Some((50, 3)), (50, 7, 5));
        // Committed after the worker last told of itself.
        check(Some((55, 0)), (55, 2, 5));
        check(Some((90, 0)), (90, 0, 5));
        assert_eq!(extent.as_committed(&PartitionProgress { lag: None, ..told() }).lag, None);
    }

    #[test]
    fn keys_are_added_up_over_workers() {
        let mut extent = CommittedProgress::default();
        extent.set_keys(1, vec![3, 4]);
        let keys = |extent: &CommittedProgress, at| extent.keys(StateIndex(at));
        assert_eq!((keys(&extent, 0), keys(&extent, 1), keys(&extent, 2)), (3, 4, 0));
        extent.set_keys(0, vec![1, 1]);
        extent.set_keys(1, vec![2, 4]);
        assert_eq!((keys(&extent, 0), keys(&extent, 1)), (3, 5));
    }
}
