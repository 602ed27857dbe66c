//! `lookup_after`: each record with its key's value as it is after the batch.

use super::lookups::When;
use crate::dataflow::state::State;
use crate::dataflow::stream::Stream;
use crate::record::{Data, Record, Storable};
use std::panic::Location;
use tidemill_state::keys::Key;

impl<'s, T: Record + Data> Stream<'s, T> {
    /// Gives each record with the value of `key(&record)` in `state` as of its own batch, all of
    /// it; `None` if it has none there.
    ///
    /// # Contract
    /// The records of a batch wait until the state has applied all of that batch. Records come out
    /// on the worker that owns the key, in no particular order. See [`Stream::lookup_before`].
    ///
    /// ```
    /// # use tidemill_engine::{aggregates::Count, testing::Kit};
    /// let mut kit = Kit::new(|topology, io| {
    ///     let words = topology.source("in", io.source::<String>("in"));
    ///     let counts = words.clone().group_by(|word| word.clone()).persistent_aggregate("counts", Count);
    ///     words.lookup_after(&counts, |word| word.clone()).sink("counted", io.sink("counted"));
    /// });
    /// kit.feed("in", ["tide".to_string(), "tide".to_string()]);
    /// kit.step();
    /// assert_eq!(kit.output::<(String, Option<u64>)>("counted"), [("tide".to_string(), Some(2)), ("tide".to_string(), Some(2))]);
    /// ```
    #[must_use]
    #[track_caller]
    pub fn lookup_after<K: Key, V: Storable>(
        self,
        state: &State<'s, K, V>,
        key: impl FnMut(&T) -> K + 'static,
    ) -> Stream<'s, (T, Option<V>)> {
        self.looked_up("lookup_after", Location::caller(), state, key, When::After)
    }
}
