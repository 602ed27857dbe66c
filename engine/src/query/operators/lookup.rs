//! `lookup`, `lookup_with`: a state's value for each record, from the worker that owns its key.

use super::broadcast::{Sent, by_address};
use crate::dataflow::state::State;
use crate::plan::NodeKind;
use crate::query::operators::each::each_value;
use crate::query::requests::{Many, Part, Raw, Requests};
use crate::record::{Data, Record, Storable};
use crate::request::item::{Failure, Held, Item, give_nothing};
use crate::table::part::TypedState;
use crate::table::placement::Placement;
use serde::{Deserialize, Serialize};
use std::panic::Location;
use std::rc::Rc;
use tidemill_state::hot::Found;
use tidemill_state::keys::{self, Key};
use timely::dataflow::channels::pact::Pipeline;

/// A key to look up, with its stable hash, and what is to be done with its value.
#[derive(Clone, Serialize, Deserialize)]
struct Wanted<K, T> {
    hash: u64,
    key: K,
    record: T,
}

impl<'q, K: Key, N> Requests<'q, K, N> {
    /// Gives the value of each key in `state`. A key without a value is dropped.
    ///
    /// # Contract
    /// The value is as of the batch that the request reads, whatever later batches have done to it
    /// meanwhile. Each look-up is done by the worker that owns the key. See
    /// [`crate::Topology::query`] for an example.
    #[track_caller]
    pub fn lookup<V: Storable>(self, state: &State<'_, K, V>) -> Requests<'q, V> {
        let part = self.part.behind(
            NodeKind::Exchange("lookup"),
            Location::caller(),
            &[state.changes.site.node],
        );
        let wanted = addressed(self.raw, &part, state.reader.placement, |key| (key, ()));
        let reader = Rc::clone(&state.reader);
        let raw = each_value(
            wanted,
            &part.counted(),
            "lookup",
            by_address(&part),
            move |ticket, weight, wanted, given| {
                let Wanted { hash, key, .. } = wanted.what;
                look(&reader, hash, &key, ticket.at, |value| match value {
                    Some(value) => {
                        given.push(Item { ticket, weight, held: Held::Value(value.clone()) })
                    }
                    None => give_nothing(ticket, weight, given),
                })
            },
        );
        part.away().requests::<V, Many>(raw)
    }
}

impl<'q, T: Data, N> Requests<'q, T, N> {
    /// Gives `f(record, value)` for each record, with the value of `key(&record)` in `state`, or
    /// `None` if it has none there.
    ///
    /// # Contract
    /// As for [`Requests::lookup`]. `f` is called on the worker that owns the key.
    ///
    /// ```
    /// # use tidemill_engine::{Requests, aggregates::Count, testing::Kit};
    /// let mut kit = Kit::new(|topology, io| {
    ///     let counts = topology.source("words", io.source::<String>("words")).group_by(|word| word.clone()).persistent_aggregate("counts", Count);
    ///     topology.query("count", |word: Requests<String>| {
    ///         word.lookup_with(&counts, |word| word.clone(), |word, count| (word, count.copied().unwrap_or(0)))
    ///     });
    /// });
    /// kit.feed("words", ["tide".to_string()]);
    /// kit.step();
    /// assert_eq!(kit.ask::<Vec<(String, u64)>>("count", &"tide").1, [("tide".to_string(), 1)]);
    /// assert_eq!(kit.ask::<Vec<(String, u64)>>("count", &"mill").1, [("mill".to_string(), 0)]);
    /// ```
    #[track_caller]
    pub fn lookup_with<K: Key, V: Storable, U: Record>(
        self,
        state: &State<'_, K, V>,
        mut key: impl FnMut(&T) -> K + 'static,
        mut f: impl FnMut(T, Option<&V>) -> U + 'static,
    ) -> Requests<'q, U> {
        let part = self.part.behind(
            NodeKind::Exchange("lookup_with"),
            Location::caller(),
            &[state.changes.site.node],
        );
        let wanted = addressed(self.raw, &part, state.reader.placement, move |record: T| {
            (key(&record), record)
        });
        let reader = Rc::clone(&state.reader);
        let raw = each_value(
            wanted,
            &part.counted(),
            "lookup_with",
            by_address(&part),
            move |ticket, weight, wanted, given| {
                let Wanted { hash, key, record } = wanted.what;
                look(&reader, hash, &key, ticket.at, |value| {
                    given.push(Item { ticket, weight, held: Held::Value(f(record, value)) });
                })
            },
        );
        part.away().requests::<U, Many>(raw)
    }
}

/// Each record with its key, addressed to the key's owner.
fn addressed<'q, T: Record, K: Key, W: Record>(
    raw: Raw<'q, T>,
    part: &Part,
    placement: Placement,
    mut key: impl FnMut(T) -> (K, W) + 'static,
) -> Raw<'q, Sent<Wanted<K, W>>> {
    let (groups, peers, behind) =
        (part.context.shared.key_groups, part.context.shared.peers, part.clone());
    let mut encoded = Vec::new();
    each_value(raw, part, "keys", Pipeline, move |ticket, weight, record, given| {
        let (key, record) = key(record);
        keys::encode_key(&key, &mut encoded)
            .map_err(|why| behind.failure(&format!("failed: {why}")))?;
        let hash = placement.hash(&encoded, groups);
        let to = keys::group_of(hash, groups).owner(peers) as u64;
        given.push(Item {
            ticket,
            weight,
            held: Held::Value(Sent { to, what: Wanted { hash, key, record } }),
        });
        Ok(())
    })
}

/// Calls `f` with the value of a key as of batch `at`.
fn look<K: Key, V: Storable>(
    state: &TypedState<K, V>,
    hash: u64,
    key: &K,
    at: tidemill_state::Txid,
    f: impl FnOnce(Option<&V>),
) -> Result<(), Failure> {
    let map = state.map.borrow();
    if !map.holds(at) {
        return Err(Failure::NotHeld);
    }
    match map.get_at(hash, key, at) {
        Found::Value(value) => f(Some(value)),
        Found::Absent => f(None),
        Found::Cold => unreachable!("every key is kept in memory"),
    }
    Ok(())
}
