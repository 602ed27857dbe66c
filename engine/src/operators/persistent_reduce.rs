//! `persistent_reduce`: results that are kept in a state, of an aggregation that has no partial
//! results.

use super::apply::{Merge, keep};
use super::group_by::Grouped;
use super::route::{Routing, route};
use crate::aggregates::Reducer;
use crate::dataflow::state::{State, Value};
use crate::dataflow::stream::Stream;
use crate::plan::NodeKind;
use crate::record::{Data, Record};
use crate::table::placement::Placement;
use std::panic::Location;
use tidemill_state::keys::Key;

impl<'s, K: Key, T: Record + Data, F: FnMut(&T) -> K + 'static> Grouped<'s, K, T, F> {
    /// Keeps the result of each key in the state `name`, over all batches, exactly once.
    ///
    /// # Contract
    /// As for [`Grouped::persistent_aggregate`]. All records travel to the worker that owns their
    /// key, and are taken in there in the order of their source partition; between partitions there
    /// is none. See [`crate::aggregates::fold`] for an example.
    #[track_caller]
    pub fn persistent_reduce<R: Reducer<T>>(
        self,
        name: &str,
        reducer: R,
    ) -> State<'s, K, R::Value> {
        let site =
            self.stream.site.behind(NodeKind::State(name.to_string()), Location::caller(), &[]);
        let parcels = route(self, &site, Routing::IN_ORDER, |record| record);
        let merge = Merge::new(move |into: &mut Option<R::Value>, record: T| {
            reducer.reduce(into.get_or_insert_with(|| reducer.init()), record);
        });
        keep(parcels, site, name, Placement::ByKey, merge).0
    }
}

impl<'s, T: Record + Data> Stream<'s, T> {
    /// Keeps one result over all records of all batches in the state `name`.
    ///
    /// # Contract
    /// As for [`Grouped::persistent_reduce`]. It has no value before the first record.
    #[track_caller]
    pub fn persistent_reduce<R: Reducer<T>>(self, name: &str, reducer: R) -> Value<'s, R::Value> {
        self.group_by(|_| ()).persistent_reduce(name, reducer)
    }
}
