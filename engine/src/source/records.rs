//! The records that a reader gives in one call.

use crate::dead_letter::DeadLetter;

/// A run of records of one partition, in order, each with its offset. Bounded: see
/// [`Records::is_full`].
#[derive(Debug)]
pub struct Records<T> {
    pub(crate) items: Vec<T>,
    pub(crate) offsets: Vec<u64>,
    pub(crate) set_aside: Vec<DeadLetter>,
    bytes: usize,
    max_records: usize,
    max_bytes: usize,
}

impl<T> Records<T> {
    /// No records yet, and room for this many records and bytes.
    #[must_use]
    pub fn with_limits(max_records: usize, max_bytes: usize) -> Records<T> {
        Records {
            items: Vec::with_capacity(max_records),
            offsets: Vec::with_capacity(max_records),
            set_aside: Vec::new(),
            bytes: 0,
            max_records,
            max_bytes,
        }
    }

    /// Appends a record that begins at `offset` and was `bytes` long in the input.
    pub fn push(&mut self, offset: u64, bytes: usize, record: T) {
        self.items.push(record);
        self.offsets.push(offset);
        self.bytes += bytes;
    }

    /// Gives a record that cannot be decoded, and was `bytes` long, to the source's dead letters
    /// ([`Source::dead_letters`](super::Source::dead_letters)).
    pub fn set_aside(&mut self, bytes: usize, letter: DeadLetter) {
        self.set_aside.push(letter);
        self.bytes += bytes;
    }

    /// Takes those out, in order, for which `wanted` gives something of their offset.
    pub(crate) fn take_those<W>(
        &mut self,
        mut wanted: impl FnMut(u64) -> Option<W>,
    ) -> Vec<((u64, T), W)> {
        let wanted: Vec<Option<W>> = self.offsets.iter().map(|offset| wanted(*offset)).collect();
        if wanted.iter().all(Option::is_none) {
            return Vec::new();
        }
        let (items, offsets) = (std::mem::take(&mut self.items), std::mem::take(&mut self.offsets));
        let mut taken = Vec::new();
        for ((record, offset), wanted) in items.into_iter().zip(offsets).zip(wanted) {
            match wanted {
                Some(wanted) => taken.push(((offset, record), wanted)),
                None => {
                    self.items.push(record);
                    self.offsets.push(offset);
                }
            }
        }
        taken
    }

    /// Drops what begins at this offset or later.
    pub(crate) fn cut_at(&mut self, end: u64) {
        let kept = self.offsets.partition_point(|offset| *offset < end);
        self.items.truncate(kept);
        self.offsets.truncate(kept);
        self.set_aside.retain(|letter| letter.offset.is_none_or(|offset| offset < end));
    }

    /// Returns whether a reader must stop here. The record that crosses the limit of bytes is still
    /// given, so that any record passes.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.items.len() + self.set_aside.len() >= self.max_records || self.bytes >= self.max_bytes
    }

    /// Returns the number of records that there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Returns the number of bytes of input they were.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The records with their offsets, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.offsets.iter().copied().zip(&self.items)
    }
}
