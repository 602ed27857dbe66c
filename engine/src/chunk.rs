//! What travels between operators: a run of records, and where in the input they came from.
//!
//! Up to the first exchange a chunk remembers the source records that its records came from, so that a failure can name source,
//! partition and offset. That costs one number per *source* record and operator, not per record.

use std::rc::Rc;
use timely::Accountable;

/// What a chunk of source records was: its source, its partition, and the offset of each record.
#[derive(Debug)]
pub(crate) struct SourceRun {
    pub(crate) source: Rc<str>,
    pub(crate) partition: Rc<str>,
    pub(crate) offsets: Vec<u64>,
}

/// Where a chunk's records came from.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    run: Rc<SourceRun>,
    /// `ends[i]` is the number of records that came from source records `0..=i`. `None`: record i came from source record i.
    ends: Option<Vec<u32>>,
}

impl Origin {
    pub(crate) fn of_source(run: SourceRun) -> Origin {
        Origin { run: Rc::new(run), ends: None }
    }

    /// Source, partition and offset of the source record that record `index` came from.
    pub(crate) fn describe(&self, index: usize) -> String {
        let at = match &self.ends {
            None => index,
            Some(ends) => ends.partition_point(|end| *end as usize <= index),
        };
        let SourceRun { source, partition, offsets } = &*self.run;
        match offsets.get(at) {
            Some(offset) => format!("source \"{source}\", partition \"{partition}\", offset {offset}"),
            None => format!("source \"{source}\", partition \"{partition}\""),
        }
    }

    /// The origin after an operator that gives any number of records for each: `after[i]` is the number of its output records after
    /// the first i + 1 input records.
    pub(crate) fn through(self, after: Vec<u32>) -> Origin {
        let ends = match self.ends {
            None => after,
            Some(mut ends) => {
                for end in &mut ends {
                    *end = end.checked_sub(1).map_or(0, |last| after[last as usize]);
                }
                ends
            }
        };
        Origin { run: self.run, ends: Some(ends) }
    }
}

/// A run of records with one timestamp: the container of every stream.
#[derive(Clone, Debug)]
pub(crate) struct Chunk<T> {
    pub(crate) items: Vec<T>,
    pub(crate) origin: Option<Origin>,
}

impl<T> Chunk<T> {
    /// Records whose source records are not known: they came through an exchange or out of a state.
    pub(crate) fn of(items: Vec<T>) -> Chunk<T> {
        Chunk { items, origin: None }
    }
}

impl<T> Default for Chunk<T> {
    fn default() -> Self {
        Chunk { items: Vec::new(), origin: None }
    }
}

impl<T> Accountable for Chunk<T> {
    fn record_count(&self) -> i64 {
        i64::try_from(self.items.len()).expect("a length is an i64")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_traced_through_two_flat_maps() {
        let run = SourceRun { source: "s".into(), partition: "p".into(), offsets: vec![10, 20, 30] };
        let origin = Origin::of_source(run);
        assert!(origin.describe(2).ends_with("offset 30"));
        // Source records give 2, 0 and 3 records.
        let once = origin.through(vec![2, 2, 5]);
        for (index, offset) in [(0, 10), (1, 10), (2, 30), (4, 30)] {
            assert!(once.describe(index).ends_with(&format!("offset {offset}")), "{index}");
        }
        // Of these five, the second and the last are kept.
        let twice = once.through(vec![0, 1, 1, 1, 2]);
        assert!(twice.describe(0).ends_with("offset 10"));
        assert!(twice.describe(1).ends_with("offset 30"));
    }
}
