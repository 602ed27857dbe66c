//! `persistent_aggregate`: results that are kept in a state, over all batches.

use super::apply::{Merge, keep};
use super::combine::combine;
use super::group_by::Grouped;
use crate::aggregates::Combiner;
use crate::dataflow::state::State;
use crate::dataflow::stream::Stream;
use crate::plan::NodeKind;
use crate::record::Record;
use crate::table::placement::Placement;
use std::panic::Location;
use std::rc::Rc;
use tidemill_state::keys::Key;

impl<'s, K: Key, T: Record, F: FnMut(&T) -> K + 'static> Grouped<'s, K, T, F> {
    /// Keeps the result of each key in the state `name`, over all batches, exactly once.
    ///
    /// # Contract
    /// Each record of each committed batch counts once, whatever was killed. The state is at a
    /// batch only when that batch is committed. The name is unique and stays the same: it is how a
    /// restart finds the state again. Changing the type of key or value, or leaving the state out,
    /// is refused at start.
    ///
    /// See [`State`] for an example.
    #[track_caller]
    pub fn persistent_aggregate<A: Combiner<T>>(
        self,
        name: &str,
        aggregation: A,
    ) -> State<'s, K, A::Value> {
        let site =
            self.stream.site.behind(NodeKind::State(name.to_string()), Location::caller(), &[]);
        let aggregation = Rc::new(aggregation);
        let parcels = combine(self, Rc::clone(&aggregation), &site);
        let merge = Merge::new(move |into: &mut Option<A::Value>, other| match into {
            Some(into) => aggregation.combine(into, other),
            None => *into = Some(other),
        });
        keep(parcels, site, name, Placement::ByKey, merge).0
    }
}

impl<'s, T: Record> Stream<'s, T> {
    /// Keeps one result over all records of all batches in the state `name`: a state with the one
    /// key `()`.
    ///
    /// # Contract
    /// As for [`Grouped::persistent_aggregate`]. It has no value before the first record.
    ///
    /// ```
    /// # use tidemill_engine::{aggregates::Sum, testing::Kit};
    /// let mut kit = Kit::new(|topology, io| {
    ///     topology.source("in", io.source::<u64>("in")).persistent_aggregate("total", Sum);
    /// });
    /// kit.feed("in", [1u64, 2]);
    /// kit.step();
    /// kit.feed("in", [3u64]);
    /// kit.step();
    /// assert_eq!(kit.state::<(), u64>("total")[&()], 6);
    /// ```
    #[track_caller]
    pub fn persistent_aggregate<A: Combiner<T>>(
        self,
        name: &str,
        aggregation: A,
    ) -> State<'s, (), A::Value> {
        self.group_by(|_| ()).persistent_aggregate(name, aggregation)
    }
}
