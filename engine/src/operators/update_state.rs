//! `update_state`: the user's own read-modify-write of a state, a batch at a time. Trident's
//! `partitionPersist`.

use super::apply::{Apply, keep};
use super::emit::Emit;
use super::group_by::Grouped;
use super::route::{Parcel, Routing, route};
use crate::batch::Batch;
use crate::batch::slice::TimeSlice;
use crate::dataflow::context::Site;
use crate::dataflow::state::State;
use crate::dataflow::stream::Stream;
use crate::plan::NodeKind;
use crate::record::{Data, Record, Storable};
use crate::table::part::TypedState;
use crate::table::placement::Placement;
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::panic::Location;
use tidemill_state::Txid;
use tidemill_state::hot::{Found, HotMap, Walk};
use tidemill_state::keys::{self, Key};

/// The part of a state that a worker owns, while one batch is applied to it: what
/// [`Stream::update_state`] gives to its closure.
///
/// What is put is seen at once by what follows in the batch, and by nobody else before the batch is
/// committed.
pub struct Part<'p, K: Key, V: Storable> {
    map: &'p mut HotMap<K, V>,
    txid: Txid,
    placement: Placement,
    groups: u16,
    peers: usize,
    index: usize,
}

impl<K: Key, V: Storable> Part<'_, K, V> {
    /// The stable hash of a key, which must be one of this part.
    fn hash(&self, key: &K) -> u64 {
        let mut encoded = Vec::new();
        keys::encode_key(key, &mut encoded).unwrap_or_else(|why| panic!("{why}"));
        let hash = self.placement.hash(&encoded, self.groups);
        let owner = keys::group_of(hash, self.groups).owner(self.peers);
        assert!(
            owner == self.index,
            "the key {} belongs to another worker: read and write only the keys that the records \
             are grouped by, or update the state ungrouped",
            crate::json::to_string(key).unwrap_or_default()
        );
        hash
    }

    fn find(&self, key: &K) -> Option<&V> {
        match self.map.get_at(self.hash(key), key, self.txid) {
            Found::Value(value) => Some(value),
            Found::Absent => None,
            Found::Cold => unreachable!("every key is kept in memory"),
        }
    }

    /// The value of a key.
    ///
    /// # Panics
    /// If the key belongs to another worker.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.find(key)
    }

    /// The values of these keys, in their order.
    ///
    /// # Panics
    /// If a key belongs to another worker.
    pub fn get_many<'k>(&self, keys: impl IntoIterator<Item = &'k K>) -> Vec<Option<&V>>
    where
        K: 'k,
    {
        keys.into_iter().map(|key| self.find(key)).collect()
    }

    /// Gives a key this value.
    ///
    /// # Panics
    /// If the key belongs to another worker.
    pub fn put(&mut self, key: K, value: V) {
        let hash = self.hash(&key);
        self.map.update(self.txid, hash, key, |into| *into = Some(value));
    }

    /// Changes the value of a key, which has none if it is `None` before or after.
    ///
    /// # Panics
    /// If the key belongs to another worker.
    pub fn update<R>(&mut self, key: K, change: impl FnOnce(&mut Option<V>) -> R) -> R {
        let (hash, mut made) = (self.hash(&key), None);
        self.map.update(self.txid, hash, key, |into| made = Some(change(into)));
        made.expect("a change is made once")
    }

    /// Takes the value of a key away.
    ///
    /// # Panics
    /// If the key belongs to another worker.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.find(key)?;
        self.update(key.clone(), Option::take)
    }

    /// Calls `each` with every key of this part that has a value, in no particular order.
    pub fn scan(&self, mut each: impl FnMut(&K, &V)) {
        let all = self.map.walk_at(&mut Walk::default(), self.txid, usize::MAX, |key, value| {
            each(key, value);
            true
        });
        debug_assert!(all, "the walk has no bound");
    }
}

/// Calls the user's closure with all of a batch's items.
struct Update<K, V, U, C> {
    call: C,
    groups: u16,
    peers: usize,
    index: usize,
    types: PhantomData<(K, V, U)>,
}

impl<K, V, U, C> Update<K, V, U, C> {
    fn new(site: &Site, call: C) -> Update<K, V, U, C> {
        let context = &site.context;
        Update {
            call,
            groups: context.shared.key_groups,
            peers: context.shared.peers,
            index: context.index,
            types: PhantomData,
        }
    }
}

impl<PK, T, K, V, U, C> Apply<Parcel<PK, T>> for Update<K, V, U, C>
where
    PK: 'static,
    T: 'static,
    K: Key,
    V: Storable,
    U: Record,
    C: FnMut(&Batch, Vec<(PK, T)>, &mut Part<'_, K, V>, &mut Emit<U>) + 'static,
{
    type Key = K;
    type Value = V;
    type Out = U;

    fn apply(
        &mut self,
        batch: &Batch,
        parcels: &mut VecDeque<Parcel<PK, T>>,
        state: &TypedState<K, V>,
        _: &mut TimeSlice,
        emit: &mut Emit<U>,
    ) -> Result<(), String> {
        let items = std::mem::take(parcels).into_iter().flat_map(|parcel| parcel.items);
        let items = items.map(|(_, key, record)| (key, record)).collect();
        let Update { groups, peers, index, .. } = *self;
        let map = &mut state.map.borrow_mut();
        let mut part =
            Part { map, txid: batch.txid, placement: state.placement, groups, peers, index };
        (self.call)(batch, items, &mut part, emit);
        Ok(())
    }
}

impl<'s, K: Key, T: Record + Data, F: FnMut(&T) -> K + 'static> Grouped<'s, K, T, F> {
    /// Keeps the state `name`, which `f` reads and writes: it is called once for each worker and
    /// batch, with the batch's records there, each with its key, and the worker's part of the
    /// state.
    ///
    /// # Contract
    /// Exactly once, as every state. Records come in the order of their source partition; between
    /// partitions there is none. `f` may touch only keys that its worker owns: those that the
    /// records are grouped by (see the ungrouped [`Stream::update_state`] for any others). It is
    /// not called for a batch of which no record comes. While it runs, its worker does nothing
    /// else: it cannot be interrupted. A panic is a failure of the batch
    /// ([`crate::Topology::on_failure`]).
    ///
    /// ```
    /// # use tidemill_engine::{Part, testing::Kit};
    /// let mut kit = Kit::new(|topology, io| {
    ///     let readings = topology.source("in", io.source::<(String, u64)>("in")).group_by(|(sensor, _)| sensor.clone());
    ///     // The last three of each sensor.
    ///     readings.update_state("last", |_, readings, last: &mut Part<'_, String, Vec<u64>>| {
    ///         for (sensor, (_, value)) in readings {
    ///             last.update(sensor, |values| {
    ///                 let values = values.get_or_insert_default();
    ///                 values.push(value);
    ///                 values.drain(..values.len().saturating_sub(3));
    ///             });
    ///         }
    ///     });
    /// });
    /// kit.feed("in", [1u64, 2, 3, 4].map(|value| ("a".to_string(), value)));
    /// kit.step();
    /// assert_eq!(kit.state::<String, Vec<u64>>("last")["a"], [2, 3, 4]);
    /// ```
    #[track_caller]
    pub fn update_state<V: Storable>(
        self,
        name: &str,
        mut f: impl FnMut(&Batch, Vec<(K, T)>, &mut Part<'_, K, V>) + 'static,
    ) -> State<'s, K, V> {
        self.update_state_with(name, move |batch, records, part, _: &mut Emit<()>| {
            f(batch, records, part)
        })
        .0
    }

    /// As [`Grouped::update_state`]; what `f` emits is a stream of its own.
    #[track_caller]
    pub fn update_state_with<V: Storable, U: Record>(
        self,
        name: &str,
        f: impl FnMut(&Batch, Vec<(K, T)>, &mut Part<'_, K, V>, &mut Emit<U>) + 'static,
    ) -> (State<'s, K, V>, Stream<'s, U>) {
        let site =
            self.stream.site.behind(NodeKind::State(name.to_string()), Location::caller(), &[]);
        let parcels = route(self, &site, Routing::WHOLE, |record| record);
        let update = Update::new(&site, f);
        keep(parcels, site, name, Placement::ByKey, update)
    }
}

impl<'s, T: Record + Data> Stream<'s, T> {
    /// Keeps the state `name`, which `f` reads and writes: it is called once for each batch, with
    /// all of the batch's records here and all of the state, on one worker.
    ///
    /// # Contract
    /// As for [`Grouped::update_state`], but that `f` may touch any key, and that one worker does
    /// all of it and holds all of the state. That is the place for rules over several keys at once.
    ///
    /// ```
    /// # use tidemill_engine::{Part, testing::Kit};
    /// let mut kit = Kit::new(|topology, io| {
    ///     let transfers = topology.source("in", io.source::<(String, String, u64)>("in"));
    ///     transfers.update_state("accounts", |_, transfers, accounts: &mut Part<'_, String, u64>| {
    ///         for (from, to, amount) in transfers {
    ///             let has = accounts.get(&from).copied().unwrap_or(100);
    ///             if let Some(left) = has.checked_sub(amount) {
    ///                 accounts.put(from, left);
    ///                 let there = accounts.get(&to).copied().unwrap_or(100);
    ///                 accounts.put(to, there + amount);
    ///             }
    ///         }
    ///     });
    /// });
    /// kit.feed("in", [("a", "b", 70u64), ("a", "b", 70)].map(|(from, to, amount)| (from.to_string(), to.to_string(), amount)));
    /// kit.step();
    /// let accounts = kit.state::<String, u64>("accounts");
    /// assert_eq!((accounts["a"], accounts["b"]), (30, 170));
    /// ```
    #[track_caller]
    pub fn update_state<K: Key, V: Storable>(
        self,
        name: &str,
        mut f: impl FnMut(&Batch, Vec<T>, &mut Part<'_, K, V>) + 'static,
    ) -> State<'s, K, V> {
        self.update_state_with(name, move |batch, records, part, _: &mut Emit<()>| {
            f(batch, records, part)
        })
        .0
    }

    /// As [`Stream::update_state`]; what `f` emits is a stream of its own.
    #[track_caller]
    pub fn update_state_with<K: Key, V: Storable, U: Record>(
        self,
        name: &str,
        mut f: impl FnMut(&Batch, Vec<T>, &mut Part<'_, K, V>, &mut Emit<U>) + 'static,
    ) -> (State<'s, K, V>, Stream<'s, U>) {
        let site = self.site.behind(NodeKind::State(name.to_string()), Location::caller(), &[]);
        let parcels = route(self.group_by(|_| ()), &site, Routing::WHOLE, |record| record);
        let all = move |batch: &Batch,
                        records: Vec<((), T)>,
                        part: &mut Part<'_, K, V>,
                        emit: &mut Emit<U>| {
            f(batch, records.into_iter().map(|((), record)| record).collect(), part, emit);
        };
        let update = Update::new(&site, all);
        keep(parcels, site, name, Placement::Together, update)
    }
}
