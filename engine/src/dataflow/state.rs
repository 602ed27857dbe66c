//! States in the program: handles to read them by, and their changes.

use crate::dataflow::stream::Stream;
use crate::record::Storable;
use crate::table::part::TypedState;
use serde::{Deserialize, Serialize};
use tidemill_state::keys::Key;

/// A state that a topology maintains: the handle that its one writing operator gives.
///
/// ```
/// use tidemill_engine::testing::Kit;
/// use tidemill_engine::aggregates::Count;
///
/// let mut kit = Kit::new(|topology, io| {
///     let counts = topology.source("words", io.source::<String>("words")).group_by(|word| word.clone()).persistent_aggregate("counts", Count);
///     counts.changes().map(|change| (change.key, change.new)).sink("changes", io.sink("changes"));
/// });
/// kit.feed("words", ["a".to_string(), "b".to_string(), "a".to_string()]);
/// kit.step();
/// assert_eq!(kit.state::<String, u64>("counts")["a"], 2);
/// ```
pub struct State<'s, K: Key, V: Storable> {
    pub(crate) name: String,
    pub(crate) changes: Stream<'s, Change<K, V>>,
    pub(crate) wanted: std::rc::Rc<std::cell::Cell<bool>>,
    /// This worker's part of it.
    pub(crate) reader: std::rc::Rc<TypedState<K, V>>,
}

impl<'s, K: Key, V: Storable> State<'s, K, V> {
    /// The state's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the changes of each batch: one record for each key that the batch wrote, with the
    /// value before and after the batch, in no particular order. Includes keys that the batch wrote
    /// even if their value did not change.
    #[must_use]
    pub fn changes(&self) -> Stream<'s, Change<K, V>> {
        self.wanted.set(true);
        self.changes.clone()
    }
}

/// A state that is one value over all keys: what an ungrouped aggregation keeps. It has the one key
/// `()`.
pub type Value<'s, V> = State<'s, (), V>;

/// The change that one batch made to one key of a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change<K, V> {
    /// The key.
    pub key: K,
    /// Its value before the batch.
    pub old: Option<V>,
    /// Its value after the batch.
    pub new: Option<V>,
}
