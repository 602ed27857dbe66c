//! The map as of a committed batch: what later batches have overwritten is read from the old values
//! that are kept.

use super::{HotMap, Old, Slot, spread, tag};
use crate::Txid;

/// The result of [`HotMap::get_at`].
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a, V> {
    /// The key has this value.
    Value(&'a V),
    /// The key has no value.
    Absent,
    /// The key is not in memory; the folded state and the log know. Does not happen while a map
    /// holds all of its keys.
    Cold,
}

/// The place at which a walk over all keys continues: see [`HotMap::walk_at`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Walk {
    table: usize,
    slot: usize,
}

impl<K: Eq, V: Clone> HotMap<K, V> {
    /// The number of keys that had a value as of batch `at`: a committed batch that was not
    /// released beyond, or the newest.
    #[must_use]
    pub fn len_at(&self, at: Txid) -> usize {
        self.changed
            .iter()
            .find(|changed| changed.txid > at)
            .map_or(self.keys, |changed| changed.keys_before)
    }

    /// The value of a key as of batch `at`: a committed batch that was not released beyond, or the
    /// newest.
    #[must_use]
    pub fn get_at(&self, hash: u64, key: &K, at: Txid) -> Found<'_, V> {
        let table = &self.tables[self.table_of(hash).at()];
        let Some(found) = table.index.find(spread(hash), |found| {
            found.tag == tag(hash) && table.slot(found.slot).key == *key
        }) else {
            return Found::Absent;
        };
        self.value_at(table.slot(found.slot), at).map_or(Found::Absent, Found::Value)
    }

    /// The value in a slot as of batch `at`: what the batches after it have overwritten lies behind
    /// it, the newest first.
    pub(super) fn value_at<'m>(&'m self, slot: &'m Slot<K, V>, at: Txid) -> Option<&'m V> {
        debug_assert!(self.holds(at), "batch {at} is read after {} was released", self.released);
        let (mut value, mut changed, mut old) = (&slot.value, slot.changed, slot.old);
        while changed > at {
            let kept = self.kept(changed, old);
            (value, changed, old) = (&kept.value, kept.changed, kept.old);
        }
        value.as_ref()
    }

    /// Returns whether the map can be read as of batch `at`: the old values that this needs are not
    /// released.
    #[must_use]
    pub fn holds(&self, at: Txid) -> bool {
        at >= self.released
    }

    /// Returns the number of bytes the kept old values take, if each holds `outside` bytes outside
    /// itself.
    #[must_use]
    pub fn kept_bytes(&self, outside: usize) -> usize {
        self.kept * (size_of::<Old<V>>() + outside)
    }

    /// Some of the kept old values, `number` at most: of the last batch that has any.
    pub fn sample_kept(&self, number: usize) -> impl Iterator<Item = Option<&V>> {
        let old = self
            .changed
            .iter()
            .rev()
            .map(|changed| &changed.old[..])
            .find(|old| !old.is_empty())
            .unwrap_or_default();
        old.iter().step_by(old.len().div_ceil(number.max(1)).max(1)).map(|old| old.value.as_ref())
    }

    /// Calls `each` with keys and values as of batch `at`, in no order, from where `walk` is; until
    /// it returns false, or it has looked at `budget` slots, those without a value counted too.
    /// Returns whether that was all of them.
    ///
    /// A walk may be done in several calls, with batches applied between them: a slot whose key has
    /// a value as of `at` keeps its place for as long as `at` is held.
    pub fn walk_at(
        &self,
        walk: &mut Walk,
        at: Txid,
        budget: usize,
        mut each: impl FnMut(&K, &V) -> bool,
    ) -> bool {
        let mut left = budget;
        while let Some(table) = self.tables.get(walk.table) {
            while let Some(slot) = table.slots.get(walk.slot) {
                if left == 0 {
                    return false;
                }
                left -= 1;
                walk.slot += 1;
                // A free slot has no value, and did not change after any batch that is held.
                if let Some(value) = self.value_at(slot, at)
                    && !each(&slot.key, value)
                {
                    return false;
                }
            }
            (walk.table, walk.slot) = (walk.table + 1, 0);
        }
        true
    }

    fn kept(&self, txid: Txid, old: u32) -> &Old<V> {
        let batch = self
            .changed
            .binary_search_by_key(&txid, |changed| changed.txid)
            .expect("old values are kept until they are released");
        &self.changed[batch].old[usize::try_from(old).expect("a usize holds a u32")]
    }
}
