//! The chunks that travel between operators: a run of records, and their places in the input.
//!
//! A chunk remembers the source records that its records came from, up to the first operator that
//! gathers a batch, so that a failure can name source, partition and offset. That costs one number
//! per *source* record and operator, not per record.

use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::rc::Rc;
use timely::Accountable;

/// A chunk of records as it came from a source, or through the last exchange.
pub(crate) struct SourceRun {
    pub(crate) places: Option<Places>,
    /// The records themselves, where a dead letter may need their bytes.
    pub(crate) records: Option<Box<dyn AsBytes>>,
}

/// The places of a run of records in the input: their source, their partition, and the offset of
/// each record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Places {
    pub(crate) source: CompactString,
    pub(crate) partition: CompactString,
    pub(crate) offsets: Vec<u64>,
}

/// The place of a record in the input.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) source: String,
    pub(crate) partition: String,
    pub(crate) offset: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "source \"{}\", partition \"{}\", offset {}",
            self.source, self.partition, self.offset
        )
    }
}

/// Records that can be shown as bytes, one by one.
pub(crate) trait AsBytes {
    /// A text as it is, anything else as JSON; `None` if it cannot be shown.
    fn bytes(&self, index: usize) -> Option<Vec<u8>>;
}

impl<T: Serialize> AsBytes for Vec<T> {
    fn bytes(&self, index: usize) -> Option<Vec<u8>> {
        let json = crate::json::to_string(self.get(index)?).ok()?;
        if json.starts_with('"') {
            serde_json::from_str(&json).ok().map(String::into_bytes)
        } else {
            Some(json.into_bytes())
        }
    }
}

/// The origin of a chunk's records.
#[derive(Clone)]
pub(crate) struct Origin {
    run: Rc<SourceRun>,
    /// `ends[i]` is the number of records that came from the run's records `0..=i`. `None`: record
    /// i came from the run's record i.
    ends: Option<Vec<u32>>,
}

impl Origin {
    pub(crate) fn of(run: SourceRun) -> Origin {
        Origin { run: Rc::new(run), ends: None }
    }

    /// The number in its run of the record that record `index` came from.
    fn source_index(&self, index: usize) -> usize {
        match &self.ends {
            None => index,
            Some(ends) => ends.partition_point(|end| *end as usize <= index),
        }
    }

    /// Returns the place in the input of the source record from which record `index` came, if
    /// known.
    pub(crate) fn place(&self, index: usize) -> Option<Place> {
        let Places { source, partition, offsets } = self.run.places.as_ref()?;
        let offset = *offsets.get(self.source_index(index))?;
        Some(Place { source: source.to_string(), partition: partition.to_string(), offset })
    }

    /// The bytes of what record `index` came from, if they were kept.
    pub(crate) fn bytes(&self, index: usize) -> Option<Vec<u8>> {
        self.run.records.as_ref()?.bytes(self.source_index(index))
    }

    /// The places of these records, to go with them through an exchange. All of them are known, or
    /// none.
    pub(crate) fn places_of(&self, indices: impl Iterator<Item = usize>) -> Option<Places> {
        let Places { source, partition, offsets } = self.run.places.as_ref()?;
        let offsets = indices
            .map(|index| offsets.get(self.source_index(index)).copied())
            .collect::<Option<Vec<u64>>>()?;
        Some(Places { source: source.clone(), partition: partition.clone(), offsets })
    }

    /// The origin after an operator that gives any number of records for each: `after[i]` is the
    /// number of its output records after the first i + 1 input records.
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

    /// The origin after an operator that gives one record for each of `records`, but for those at
    /// `left_out`, which are in order.
    #[inline]
    pub(crate) fn without(self, left_out: &[usize], records: usize) -> Origin {
        if left_out.is_empty() { self } else { self.without_some(left_out, records) }
    }

    #[cold]
    fn without_some(self, left_out: &[usize], records: usize) -> Origin {
        let (mut left_out, mut given) = (left_out.iter().peekable(), 0);
        let after = (0..records).map(|index| {
            given += u32::from(left_out.next_if_eq(&&index).is_none());
            given
        });
        let after = after.collect();
        self.through(after)
    }
}

/// A run of records with one timestamp: the container of every stream.
#[derive(Clone)]
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

/// Takes those at `left_out`, which are in order, out of `records`.
pub(crate) fn leave_out<T>(records: &mut Vec<T>, left_out: &[usize]) {
    if left_out.is_empty() {
        return;
    }
    let (mut left_out, mut index) = (left_out.iter().copied().peekable(), 0);
    records.retain(|_| {
        index += 1;
        left_out.next_if_eq(&(index - 1)).is_none()
    });
}

#[cfg(test)]
mod tests {
    use crate::batch::chunk::*;

    fn origin(offsets: &[u64]) -> Origin {
        let places =
            Places { source: "s".into(), partition: "p".into(), offsets: offsets.to_vec() };
        Origin::of(SourceRun { places: Some(places), records: Some(Box::new(vec!["x", "y", "z"])) })
    }

    fn offset(origin: &Origin, index: usize) -> u64 {
        origin.place(index).expect("it is known").offset
    }

    #[test]
    fn a_record_of_any_number_has_bytes() {
        let text = |bytes: Option<Vec<u8>>| bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        assert_eq!(
            text(vec![(u128::MAX, i128::MIN)].bytes(0)),
            Some(format!("[{},{}]", u128::MAX, i128::MIN))
        );
        assert_eq!(text(vec![f64::NAN].bytes(0)).as_deref(), Some("NaN"));
        assert_eq!(text(vec!["a \"b\"\n"].bytes(0)).as_deref(), Some("a \"b\"\n"));
    }

    #[test]
    fn a_record_is_traced_through_two_flat_maps() {
        let origin = origin(&[10, 20, 30]);
        assert_eq!(offset(&origin, 2), 30);
        // Source records give 2, 0 and 3 records.
        let once = origin.through(vec![2, 2, 5]);
        for (index, expected) in [(0, 10), (1, 10), (2, 30), (4, 30)] {
            assert_eq!(offset(&once, index), expected, "{index}");
        }
        assert_eq!(once.bytes(2), Some(b"z".to_vec()));
        // Of these five, the second and the last are kept.
        let twice = once.through(vec![0, 1, 1, 1, 2]);
        assert_eq!((offset(&twice, 0), offset(&twice, 1)), (10, 30));
        assert_eq!(twice.places_of([1, 0].into_iter()).expect("known").offsets, [30, 10]);
    }

    #[test]
    fn a_record_is_traced_past_those_that_were_left_out() {
        let rest = origin(&[10, 20, 30]).without(&[0, 1], 3);
        assert_eq!((offset(&rest, 0), rest.bytes(0)), (30, Some(b"z".to_vec())));
        assert_eq!(offset(&origin(&[10, 20, 30]).without(&[], 3), 1), 20);
    }
}
