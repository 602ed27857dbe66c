//! `upsert`: a stream as a table.

use super::apply::{Merge, keep};
use super::route::{Routing, route};
use crate::dataflow::state::State;
use crate::dataflow::stream::Stream;
use crate::plan::NodeKind;
use crate::record::Storable;
use crate::table::placement::Placement;
use std::panic::Location;
use tidemill_state::keys::Key;

impl<'s, K: Key, V: Storable> Stream<'s, (K, Option<V>)> {
    /// Keeps the last value of each key in the state `name`; `None` removes the key. A stream of
    /// changes, or a compacted Kafka topic, so becomes a table.
    ///
    /// # Contract
    /// Exactly once, as every state. What is last is by the order of the source partition, then of
    /// the batches; of two partitions in one batch, either. The name is unique and stays the same.
    ///
    /// ```
    /// # use tidemill_engine::testing::Kit;
    /// let mut kit = Kit::new(|topology, io| {
    ///     topology.source("in", io.source::<(String, Option<u64>)>("in")).upsert("table");
    /// });
    /// kit.feed("in", [("a", Some(1u64)), ("b", Some(2)), ("a", None), ("b", Some(3))].map(|(key, value)| (key.to_string(), value)));
    /// kit.step();
    /// assert_eq!(kit.state::<String, u64>("table").into_iter().collect::<Vec<_>>(), [("b".to_string(), 3)]);
    /// ```
    #[track_caller]
    pub fn upsert(self, name: &str) -> State<'s, K, V> {
        let site = self.site.behind(NodeKind::State(name.to_string()), Location::caller(), &[]);
        let parcels =
            route(self.group_by(|(key, _)| key.clone()), &site, Routing::IN_ORDER, |(_, value)| {
                value
            });
        keep(
            parcels,
            site,
            name,
            Placement::ByKey,
            Merge::new(|into: &mut Option<V>, value| *into = value),
        )
        .0
    }
}
