//! The hot map: one worker's typed values of one state, in memory, and the old values that readers
//! at a committed batch need.
//!
//! The map is ahead of the store: it holds the newest batch that was applied, committed or not.
//! What each batch overwrote is kept until that batch is committed and released, so that
//! [`HotMap::get_at`] can answer as of an earlier batch.
//!
//! Values lie in many small tables, chosen by the hash: one per key group, or, where all keys are
//! in one group, as many. A table that grows moves only its own entries (about 1/256 of them), so
//! no growth holds the worker for long.

mod as_of;
mod ordered;

use crate::keys::group_of;
use crate::{KeyGroup, Txid};
pub use as_of::{Found, Walk};
use hashbrown::HashTable;
use ordered::Ordered;
pub use ordered::Range;
use std::collections::VecDeque;

struct Slot<K, V> {
    hash: u64,
    key: K,
    value: Option<V>,
    /// The last batch that changed this key, and where the value before it is kept.
    changed: Txid,
    old: u32,
}

/// The place of a key. The tag consists of bits of the key's hash. It distinguishes most keys
/// without a look at the slot, which is seldom in the cache.
struct Place {
    slot: u32,
    tag: u32,
}

/// The number of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TableIndex(u16);

impl TableIndex {
    fn at(self) -> usize {
        usize::from(self.0)
    }
}

struct Table<K, V> {
    index: HashTable<Place>,
    slots: Vec<Slot<K, V>>,
    free: Vec<u32>,
}

impl<K, V> Table<K, V> {
    fn slot(&self, at: u32) -> &Slot<K, V> {
        &self.slots[usize::try_from(at).expect("a usize holds a u32")]
    }

    fn slot_mut(&mut self, at: u32) -> &mut Slot<K, V> {
        &mut self.slots[usize::try_from(at).expect("a usize holds a u32")]
    }
}

/// The value that a key had before a batch, and the change before that one.
struct Old<V> {
    table: TableIndex,
    slot: u32,
    value: Option<V>,
    changed: Txid,
    old: u32,
}

struct Changed<V> {
    txid: Txid,
    old: Vec<Old<V>>,
    /// True if the batch removed a key: its slot is then free once the batch is released.
    removed: bool,
    /// The number of keys that had a value before it.
    keys_before: usize,
}

/// One change of a batch, as [`HotMap::changes`] gives it.
#[derive(Debug)]
pub struct HotChange<'a, K, V> {
    /// The key's group.
    pub group: KeyGroup,
    /// The key.
    pub key: &'a K,
    /// The earlier change of the key in this run: the batch, and the change's number in it.
    pub before: Option<(Txid, u32)>,
    /// Its value before the batch.
    pub old: Option<&'a V>,
    /// Its value after the batch.
    pub new: Option<&'a V>,
}

/// The number of keys that are read ahead of their updates: enough to overlap, few enough to stay
/// in the nearest cache.
pub const TOUCHED_AT_ONCE: usize = 32;

/// See the module's documentation. Keys come with their stable hash ([`crate::keys::hash_key`]).
pub struct HotMap<K, V> {
    tables: Vec<Table<K, V>>,
    /// The group of all keys, if they are in one.
    together: Option<KeyGroup>,
    changed: VecDeque<Changed<V>>,
    spare: Vec<Vec<Old<V>>>,
    keys: usize,
    released: Txid,
    /// Old values that are kept, over all batches.
    kept: usize,
    /// The keys in order, once somebody has asked for that.
    ordered: Option<Ordered<K>>,
    /// Two slots of a table whose keys differ and have one hash.
    alike: Option<(TableIndex, u32, u32)>,
}

impl<K: Eq, V: Clone> HotMap<K, V> {
    /// An empty map for a store with `groups` key groups, as of batch `committed`.
    #[must_use]
    pub fn new(groups: u16, committed: Txid) -> HotMap<K, V> {
        let tables = (0..groups)
            .map(|_| Table { index: HashTable::new(), slots: Vec::new(), free: Vec::new() })
            .collect();
        HotMap {
            tables,
            together: None,
            changed: VecDeque::new(),
            spare: Vec::new(),
            keys: 0,
            released: committed,
            kept: 0,
            ordered: None,
            alike: None,
        }
    }

    /// As [`HotMap::new`], for keys that are all in one group of the store, whose hashes differ in
    /// the rest: they are spread over tables all the same.
    #[must_use]
    pub fn together(groups: u16, group: KeyGroup, committed: Txid) -> HotMap<K, V> {
        HotMap { together: Some(group), ..HotMap::new(groups, committed) }
    }

    /// The number of keys that have a value.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys
    }

    /// Returns whether no key has a value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys == 0
    }

    fn table_of(&self, hash: u64) -> TableIndex {
        let tables = u16::try_from(self.tables.len()).expect("made from a u16");
        // What is left of a hash beside its group differs between keys of one group.
        let spreads = if self.together.is_some() { hash / u64::from(tables) } else { hash };
        TableIndex(group_of(spreads, tables).0)
    }

    fn find_or_insert(&mut self, hash: u64, key: K) -> (TableIndex, u32) {
        let table = self.table_of(hash);
        let Table { index, slots, free } = &mut self.tables[table.at()];
        let place = |at: u32| usize::try_from(at).expect("a usize holds a u32");
        let mut alike = None;
        let mut is_key = |found: &Place| {
            let slot = &slots[place(found.slot)];
            let is_key = slot.key == key;
            if !is_key && slot.hash == hash {
                alike = Some(found.slot);
            }
            is_key
        };
        if let Some(found) =
            index.find(spread(hash), |found| found.tag == tag(hash) && is_key(found))
        {
            return (table, found.slot);
        }
        let entry = Slot { hash, key, value: None, changed: Txid::NONE, old: 0 };
        let slot = match free.pop() {
            Some(slot) => {
                slots[place(slot)] = entry;
                slot
            }
            None => {
                slots.push(entry);
                u32::try_from(slots.len() - 1).expect("a table holds fewer than 2^32 keys")
            }
        };
        index.insert_unique(spread(hash), Place { slot, tag: tag(hash) }, |moved| {
            spread(slots[place(moved.slot)].hash)
        });
        if let Some(ordered) = &mut self.ordered {
            ordered.insert(&slots[place(slot)].key, table, slot);
        }
        if let Some(other) = alike {
            self.alike = Some((table, other, slot));
        }
        (table, slot)
    }

    /// The last two keys that differ although they have one hash: that of their encoding, which may
    /// then be one too. None once one of them is gone.
    #[must_use]
    pub fn alike(&self) -> Option<(&K, &K)> {
        let (table, one, other) = self.alike?;
        let table = &self.tables[table.at()];
        Some((&table.slot(one).key, &table.slot(other).key))
    }

    /// Puts a value that is part of the committed state: no old value is kept. `None` removes.
    pub fn restore(&mut self, hash: u64, key: K, value: Option<V>) {
        let (table, slot) = self.find_or_insert(hash, key);
        let entry = self.tables[table.at()].slot_mut(slot);
        self.keys = self.keys + usize::from(value.is_some()) - usize::from(entry.value.is_some());
        entry.value = value;
        if entry.value.is_none() {
            self.forget(table, slot);
        }
    }

    /// Changes the value of a key in batch `txid`. The first change in a batch keeps the old value.
    ///
    /// # Panics
    /// If `txid` is not after the last released batch, or before one that was already applied:
    /// batches are applied in order.
    pub fn update(&mut self, txid: Txid, hash: u64, key: K, change: impl FnOnce(&mut Option<V>)) {
        self.open(txid);
        let (table, slot) = self.find_or_insert(hash, key);
        self.change(txid, table, slot, |_, into| change(into));
    }

    /// As [`HotMap::update`] for several keys, at most [`TOUCHED_AT_ONCE`]: each with its hash and
    /// what `merge` makes of its value.
    ///
    /// First the slots of all are read, without using them: the reads do not depend on each other,
    /// and so overlap. Updates one by one would each wait for memory.
    ///
    /// # Panics
    /// As [`HotMap::update`]; if there are more keys than that.
    pub fn update_all<T>(
        &mut self,
        txid: Txid,
        items: &mut Vec<(u64, K, T)>,
        from: usize,
        mut merge: impl FnMut(&K, &mut Option<V>, T),
    ) {
        assert!(items.len() - from <= TOUCHED_AT_ONCE, "at most {TOUCHED_AT_ONCE} keys at once");
        self.open(txid);
        let mut places = [(TableIndex(0), u32::MAX); TOUCHED_AT_ONCE];
        for ((hash, _, _), place) in items[from..].iter().zip(&mut places) {
            let table = self.table_of(*hash);
            let found =
                self.tables[table.at()].index.find(spread(*hash), |found| found.tag == tag(*hash));
            *place = (table, found.map_or(u32::MAX, |found| found.slot));
        }
        let slots = places
            .iter()
            .filter_map(|(table, slot)| self.tables[table.at()].slots.get(*slot as usize));
        std::hint::black_box(slots.fold(0, |seen, slot| seen ^ slot.hash));
        for ((hash, key, value), (table, slot)) in items.drain(from..).zip(places) {
            let found = self.tables[table.at()].slots.get(slot as usize);
            let known = found.is_some_and(|slot| slot.hash == hash && slot.key == key);
            let (table, slot) = if known { (table, slot) } else { self.find_or_insert(hash, key) };
            self.change(txid, table, slot, |key, into| merge(key, into, value));
        }
    }

    fn change(
        &mut self,
        txid: Txid,
        table: TableIndex,
        slot: u32,
        change: impl FnOnce(&K, &mut Option<V>),
    ) {
        let entry = self.tables[table.at()].slot_mut(slot);
        if entry.changed != txid {
            let old = &mut self.changed.back_mut().expect("the caller has opened the batch").old;
            let at =
                u32::try_from(old.len()).expect("a batch changes fewer than 2^32 keys of a state");
            old.push(Old {
                table,
                slot,
                value: entry.value.clone(),
                changed: entry.changed,
                old: entry.old,
            });
            self.kept += 1;
            entry.changed = txid;
            entry.old = at;
        }
        let before = usize::from(entry.value.is_some());
        change(&entry.key, &mut entry.value);
        if entry.value.is_none() {
            self.changed.back_mut().expect("the caller has opened the batch").removed = true;
        }
        self.keys = self.keys + usize::from(entry.value.is_some()) - before;
    }

    /// Reads the slots of the changes of the newest batch with numbers in `range`, so that
    /// [`HotMap::changes`] finds them in the processor's cache. See [`HotMap::update_all`].
    pub fn touch_changes(&self, range: std::ops::Range<usize>) {
        let mut seen = 0;
        if let Some(changed) = self.changed.back() {
            for old in &changed.old[range] {
                seen ^= self.tables[old.table.at()].slot(old.slot).hash;
            }
        }
        std::hint::black_box(seen);
    }

    fn open(&mut self, txid: Txid) {
        let newest = self.changed.back().map_or(self.released, |changed| changed.txid);
        if newest != txid {
            assert!(newest < txid, "batches are applied in order: {txid} after {newest}");
            let (old, keys_before) = (self.spare.pop().unwrap_or_default(), self.keys);
            self.changed.push_back(Changed { txid, old, removed: false, keys_before });
        }
    }

    /// Returns the number of keys batch `txid` changed. It must be the newest that was applied, or
    /// one that changed nothing.
    #[must_use]
    pub fn changed_in(&self, txid: Txid) -> usize {
        match self.changed.back() {
            Some(changed) if changed.txid == txid => changed.old.len(),
            Some(changed) => {
                assert!(
                    changed.txid < txid,
                    "the changes of {txid} are asked for after {} was applied",
                    changed.txid
                );
                0
            }
            None => 0,
        }
    }

    /// The changes of the newest batch, those with numbers in `range`, in order of their first
    /// change.
    ///
    /// # Panics
    /// If a later batch was applied already, or `range` is not within [`HotMap::changed_in`].
    pub fn changes(
        &self,
        txid: Txid,
        range: std::ops::Range<usize>,
    ) -> impl Iterator<Item = HotChange<'_, K, V>> {
        let old = match self.changed.back() {
            Some(changed) if changed.txid == txid => &changed.old[range],
            _ => &[],
        };
        old.iter().map(|old| {
            let slot = self.tables[old.table.at()].slot(old.slot);
            let before = (old.changed > Txid::NONE).then_some((old.changed, old.old));
            let group = self.together.unwrap_or(KeyGroup(old.table.0));
            HotChange {
                group,
                key: &slot.key,
                before,
                old: old.value.as_ref(),
                new: slot.value.as_ref(),
            }
        })
    }

    /// Lets go of the old values of batches up to `committed`, at most about `budget` of them.
    /// Returns whether all are gone.
    pub fn release(&mut self, committed: Txid, budget: usize) -> bool {
        let mut left = budget;
        while let Some(changed) =
            self.changed.front_mut().filter(|changed| changed.txid <= committed)
        {
            let txid = changed.txid;
            let keep = changed.old.len().saturating_sub(left);
            left -= changed.old.len() - keep;
            self.kept -= changed.old.len() - keep;
            // From the first value that goes, nothing before this batch can be read.
            self.released = self.released.max(txid);
            let removed = changed.removed;
            let mut old = std::mem::take(&mut changed.old);
            if !removed {
                // Nothing is looked up: the slots are seldom in the cache.
                old.truncate(keep);
            }
            for gone in old.drain(keep..) {
                let slot = self.tables[gone.table.at()].slot(gone.slot);
                if slot.value.is_none() && slot.changed == txid {
                    self.forget(gone.table, gone.slot);
                }
            }
            if keep > 0 {
                self.changed.front_mut().expect("it was there above").old = old;
                return false;
            }
            self.spare.push(old);
            self.changed.pop_front();
        }
        true
    }

    fn forget(&mut self, table: TableIndex, at: u32) {
        // Another key may get the slot.
        self.alike.take_if(|(of, one, other)| *of == table && [*one, *other].contains(&at));
        let table = &mut self.tables[table.at()];
        let hash = table.slot(at).hash;
        if let Ok(entry) = table.index.find_entry(spread(hash), |found| found.slot == at) {
            entry.remove();
            table.free.push(at);
            if let Some(ordered) = &mut self.ordered {
                ordered.remove(&table.slot(at).key);
            }
        }
    }
}

/// All keys of a table agree in the hash modulo the number of tables, or in more of it; the table
/// needs bits that differ.
fn spread(hash: u64) -> u64 {
    hash ^ (hash >> 32)
}

fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

#[cfg(test)]
mod tests;
