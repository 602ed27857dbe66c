//! `lookup_before`: each record with its key's value as it was before the batch.

use super::lookups::When;
use crate::dataflow::state::State;
use crate::dataflow::stream::Stream;
use crate::record::{Data, Record, Storable};
use std::panic::Location;
use tidemill_state::keys::Key;

impl<'s, T: Record + Data> Stream<'s, T> {
    /// Gives each record with the value of `key(&record)` in `state` as of the batch before its
    /// own; `None` if it has none there.
    ///
    /// # Contract
    /// What other records of the same batch do to the state is not seen, wherever they are in it:
    /// see [`Stream::lookup_after`]. Records come out on the worker that owns the key, in no
    /// particular order. To join two states by their changes, let one side look up before and the
    /// other after: each pair then comes once.
    ///
    /// ```
    /// # use tidemill_engine::{aggregates::Count, testing::Kit};
    /// let mut kit = Kit::new(|topology, io| {
    ///     let words = topology.source("in", io.source::<String>("in"));
    ///     let counts = words.clone().group_by(|word| word.clone()).persistent_aggregate("counts", Count);
    ///     words.lookup_before(&counts, |word| word.clone()).filter(|(_, count)| count.is_none()).map(|(word, _)| word).sink("new", io.sink("new"));
    /// });
    /// kit.feed("in", ["tide".to_string()]);
    /// kit.step();
    /// kit.feed("in", ["tide".to_string(), "mill".to_string()]);
    /// kit.step();
    /// assert_eq!(kit.output::<String>("new"), ["tide", "mill"]);
    /// ```
    #[must_use]
    #[track_caller]
    pub fn lookup_before<K: Key, V: Storable>(
        self,
        state: &State<'s, K, V>,
        key: impl FnMut(&T) -> K + 'static,
    ) -> Stream<'s, (T, Option<V>)> {
        self.looked_up("lookup_before", Location::caller(), state, key, When::Before)
    }
}
