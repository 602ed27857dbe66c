//! `group_by`: records by a key of theirs, for an aggregation.

use crate::dataflow::stream::Stream;
use crate::record::Record;
use tidemill_state::keys::Key;

/// Records that have a key: what [`Stream::group_by`] gives. Aggregate it.
pub struct Grouped<'s, K, T: Record, F> {
    pub(crate) stream: Stream<'s, T>,
    pub(crate) key: F,
    pub(crate) keys: std::marker::PhantomData<fn() -> K>,
}

impl<'s, T: Record> Stream<'s, T> {
    /// Groups the records by `key(record)`.
    ///
    /// # Contract
    /// Nothing moves yet: a combiner is first applied where the records are, so that only distinct
    /// keys travel. `key` must give the same key for the same record.
    ///
    /// ```
    /// # use tidemill_engine::{aggregates::Count, testing::Kit};
    /// let mut kit = Kit::new(|topology, io| {
    ///     topology.source("in", io.source::<u64>("in")).group_by(|n| n % 2).aggregate(Count).sink("out", io.sink("out"));
    /// });
    /// kit.feed("in", [1u64, 2, 3]);
    /// kit.step();
    /// let mut out = kit.output::<(u64, u64)>("out");
    /// out.sort();
    /// assert_eq!(out, [(0, 1), (1, 2)]);
    /// ```
    pub fn group_by<K: Key, F: FnMut(&T) -> K + 'static>(self, key: F) -> Grouped<'s, K, T, F> {
        Grouped { stream: self, key, keys: std::marker::PhantomData }
    }
}
