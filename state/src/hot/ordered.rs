//! The keys of a hot map in order, for scans by prefix or range: made when the first of them comes,
//! and kept until it is taken out.
//!
//! Nobody who does not ask for an order pays for one. Making it is cut into pieces; a key that is
//! new meanwhile goes in at once.

use super::{HotMap, TableIndex};
use crate::Txid;
use crate::keys::{encode_key, text_prefix};
use std::collections::BTreeMap;
use std::ops::Bound;

/// Encodes a key, keeping the order.
type Encode<K> = fn(&K, &mut Vec<u8>);

pub(super) struct Ordered<K> {
    encode: Encode<K>,
    encoded: Vec<u8>,
    /// By encoded key: the table and slot where it lies.
    places: BTreeMap<Box<[u8]>, (TableIndex, u32)>,
    /// The next slot to look at; every slot before has been.
    next: (usize, usize),
}

impl<K> Ordered<K> {
    pub(super) fn insert(&mut self, key: &K, table: TableIndex, slot: u32) {
        (self.encode)(key, &mut self.encoded);
        self.places.insert(self.encoded.as_slice().into(), (table, slot));
    }

    pub(super) fn remove(&mut self, key: &K) {
        (self.encode)(key, &mut self.encoded);
        self.places.remove(self.encoded.as_slice());
    }
}

/// A range of encoded keys: from a bound on, and only those that begin with a prefix and come
/// before an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The start of the range.
    pub from: Bound<Vec<u8>>,
    /// The prefix of the range's keys.
    pub prefix: Vec<u8>,
    /// The end of the range.
    pub end: Bound<Vec<u8>>,
}

impl Default for Range {
    fn default() -> Self {
        Range { from: Bound::Unbounded, prefix: Vec::new(), end: Bound::Unbounded }
    }
}

impl Range {
    /// The keys that are texts and begin with this one. It is the first of them; a text before it,
    /// filled up with zeros, may have the prefix of its encoding.
    #[must_use]
    pub fn of_texts(text: &str) -> Range {
        if text.is_empty() {
            return Range::default();
        }
        let mut first = Vec::new();
        encode_key(text, &mut first).expect("a text is a key");
        Range { from: Bound::Included(first), prefix: text_prefix(text), end: Bound::Unbounded }
    }

    /// Leaves out the keys up to this one, which need not be in the range.
    pub fn resume_after(&mut self, key: Vec<u8>) {
        match &self.from {
            Bound::Included(from) | Bound::Excluded(from) if *from > key => {}
            _ => self.from = Bound::Excluded(key),
        }
    }

    /// Returns the bound to seek to: the later one of the range's start and the start of its
    /// prefix.
    fn first(&self) -> Bound<&[u8]> {
        match &self.from {
            Bound::Included(from) if *from >= self.prefix => Bound::Included(from),
            Bound::Excluded(from) if *from >= self.prefix => Bound::Excluded(from),
            _ => Bound::Included(&self.prefix),
        }
    }

    /// Returns whether an encoded key is in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        let after_start = match &self.from {
            Bound::Included(from) => key >= &from[..],
            Bound::Excluded(from) => key > &from[..],
            Bound::Unbounded => true,
        };
        after_start && self.is_before_end(key)
    }

    fn is_before_end(&self, key: &[u8]) -> bool {
        let before_end = match &self.end {
            Bound::Included(end) => key <= &end[..],
            Bound::Excluded(end) => key < &end[..],
            Bound::Unbounded => true,
        };
        before_end && key.starts_with(&self.prefix)
    }
}

impl<K: Eq, V: Clone> HotMap<K, V> {
    /// Puts keys in order, at most about `budget` of those that are not. Returns whether all are:
    /// then [`HotMap::range_at`] may be called.
    pub fn order(&mut self, encode: Encode<K>, budget: usize) -> bool {
        let HotMap { ordered, tables, .. } = self;
        let ordered = ordered.get_or_insert_with(|| Ordered {
            encode,
            encoded: Vec::new(),
            places: BTreeMap::new(),
            next: (0, 0),
        });
        let mut left = budget;
        while let Some(table) = tables.get(ordered.next.0) {
            while let Some(slot) = table.slots.get(ordered.next.1) {
                if left == 0 {
                    return false;
                }
                left -= 1;
                let at = u32::try_from(ordered.next.1).expect("a table holds fewer than 2^32 keys");
                ordered.next.1 += 1;
                // A free slot still has the key that it had.
                if table.index.find(super::spread(slot.hash), |found| found.slot == at).is_some() {
                    let number =
                        u16::try_from(ordered.next.0).expect("there are fewer than 2^16 tables");
                    ordered.insert(&slot.key, TableIndex(number), at);
                }
            }
            ordered.next = (ordered.next.0 + 1, 0);
        }
        true
    }

    /// Returns whether all keys are in order.
    #[must_use]
    pub fn is_ordered(&self) -> bool {
        self.ordered.as_ref().is_some_and(|ordered| ordered.next.0 == self.tables.len())
    }

    /// Takes the order out, if there is one. To drop it takes long if it is large: leave that to a
    /// thread that nobody waits for.
    pub fn take_order(&mut self) -> Option<Box<dyn Send>> {
        self.ordered.take().map(|ordered| Box::new(ordered.places) as Box<dyn Send>)
    }

    /// Calls `each` with encoded keys, keys and values as of batch `at`, in order of the encoded
    /// keys, until it returns false; it is called for at most `budget` keys, those without a value
    /// counted too. Returns where to go on, if that was not all.
    ///
    /// # Panics
    /// If not all keys are in order: see [`HotMap::order`].
    pub fn range_at(
        &self,
        range: &Range,
        at: Txid,
        budget: usize,
        mut each: impl FnMut(&[u8], &K, &V) -> bool,
    ) -> Option<Bound<Vec<u8>>> {
        let ordered = self.ordered.as_ref().expect("the keys are put in order before");
        assert_eq!(ordered.next.0, self.tables.len(), "the keys are put in order before");
        let rows = ordered.places.range::<[u8], _>((range.first(), Bound::Unbounded));
        for (number, (encoded, (table, slot))) in
            rows.take_while(|(key, _)| range.is_before_end(key)).enumerate()
        {
            if number == budget {
                return Some(Bound::Included(encoded.to_vec()));
            }
            let slot = self.tables[table.at()].slot(*slot);
            if let Some(value) = self.value_at(slot, at)
                && !each(encoded, &slot.key, value)
            {
                return Some(Bound::Excluded(encoded.to_vec()));
            }
        }
        None
    }
}
