//! The workers' progress in their partitions, as they report it, and the partitions that their
//! sources leave out.

use super::Runtime;
use crate::batch::feed::PartitionProgress;
use crate::clock::now_ms;
use crate::ids::GenerationNumber;
use std::collections::BTreeMap;
use std::time::Duration;

/// Partitions that have changed, by source and slot; none where one has ended for good.
pub(crate) type ChangedPartitions = Vec<((usize, usize), Option<PartitionProgress>)>;

/// The last reports of a worker.
#[derive(Default)]
pub(super) struct WorkerReport {
    /// By source and slot.
    partitions: BTreeMap<(usize, usize), PartitionProgress>,
    /// The generation that reported them.
    generation: GenerationNumber,
    pub(super) ready: bool,
}

impl WorkerReport {
    pub(super) fn partitions(&self) -> impl Iterator<Item = &PartitionProgress> {
        self.partitions.values()
    }
}

/// Input that is left out: by source and name, why, and since when in milliseconds since 1970.
#[derive(Default)]
pub(super) struct LeftOut(BTreeMap<(String, String), (String, u64)>);

impl LeftOut {
    fn replace(&mut self, source: &str, left_out: Vec<(String, String)>, now: u64) {
        let before = std::mem::take(&mut self.0);
        let (mine, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
            before.into_iter().partition(|((of, _), _)| of == source);
        self.0 = others;
        for (name, why) in left_out {
            let place = (source.to_string(), name);
            let since = mine.get(&place).map_or(now, |(_, since)| *since);
            self.0.insert(place, (why, since));
        }
    }

    /// Each as a partition of which nothing is read.
    pub(super) fn partitions(&self) -> impl Iterator<Item = PartitionProgress> {
        self.0.iter().map(|((source, partition), (why, since))| PartitionProgress {
            source: source.clone(),
            partition: partition.clone(),
            offset: 0,
            lag: None,
            skipped: 0,
            ended: false,
            trouble: Some(why.clone()),
            trouble_since_ms: Some(*since),
            reached: 0,
        })
    }
}

impl Runtime {
    /// A worker of a generation reports those of its partitions that have changed.
    pub(crate) fn worker_report(
        &self,
        (generation, index): (GenerationNumber, usize),
        partitions: ChangedPartitions,
        longest: Duration,
    ) {
        let mut inner = self.lock();
        inner.longest_slice = inner.longest_slice.max(longest);
        let worker = &mut inner.workers[index];
        if worker.generation != generation {
            worker.generation = generation;
            worker.partitions.clear();
        }
        for (place, partition) in partitions {
            match partition {
                Some(partition) => drop(worker.partitions.insert(place, partition)),
                None => drop(worker.partitions.remove(&place)),
            }
        }
        drop(inner);
        self.shown.send_replace(());
    }

    /// A source leaves out this input: names, and why.
    pub(crate) fn set_left_out(&self, source: &str, left_out: Vec<(String, String)>) {
        self.lock().left_out.replace(source, left_out, now_ms());
    }
}

#[cfg(test)]
mod tests {
    use super::LeftOut;

    #[test]
    fn what_is_left_out_is_shown_since_it_was_first() {
        let mut left_out = LeftOut::default();
        let named = |name: &str, why: &str| (name.to_string(), why.to_string());
        left_out.replace("s", vec![named("a.xz", "xz"), named("b", "denied")], 5);
        left_out.replace("other", vec![named("a.xz", "xz")], 6);
        left_out.replace("s", vec![named("a.xz", "still xz"), named("c", "denied")], 7);
        let shown: Vec<_> = left_out.partitions().collect();
        let shown: Vec<_> = shown
            .iter()
            .map(|of| {
                (
                    &*of.source,
                    &*of.partition,
                    of.trouble.as_deref().unwrap_or_default(),
                    of.trouble_since_ms,
                )
            })
            .collect();
        let expected = [
            ("other", "a.xz", "xz", Some(6)),
            ("s", "a.xz", "still xz", Some(5)),
            ("s", "c", "denied", Some(7)),
        ];
        assert_eq!(shown, expected);
    }
}
