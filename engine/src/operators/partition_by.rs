//! `partition_by`: records by a key of theirs.

use super::exchange::To;
use crate::dataflow::stream::Stream;
use crate::record::{Data, Record};
use std::panic::Location;
use tidemill_state::keys::{self, Key};

impl<'s, T: Record + Data> Stream<'s, T> {
    /// Sends each record to the worker that owns its key.
    ///
    /// # Contract
    /// Records of equal keys meet on one worker, the same that owns the key in a state. Those of
    /// one source partition stay in order. A panic in `key` is a failure of the record
    /// ([`crate::Topology::on_failure`]).
    ///
    /// ```
    /// # use tidemill_engine::testing::Kit;
    /// let mut kit = Kit::new(|topology, io| {
    ///     topology.source("in", io.source::<u64>("in")).partition_by(|n| n % 10).sink("out", io.sink("out"));
    /// });
    /// kit.feed("in", [1u64, 11]);
    /// kit.step();
    /// assert_eq!(kit.output::<u64>("out"), [1, 11]);
    /// ```
    #[must_use]
    #[track_caller]
    pub fn partition_by<K: Key>(self, mut key: impl FnMut(&T) -> K + 'static) -> Stream<'s, T> {
        let (groups, peers) = (self.site.context.shared.key_groups, self.site.context.shared.peers);
        let mut encoded = Vec::new();
        self.exchange("partition_by", Location::caller(), move |record, _| {
            keys::encode_key(&key(record), &mut encoded).map_err(|why| why.to_string())?;
            Ok(To::Worker(keys::group_of(keys::hash_key(&encoded), groups).owner(peers)))
        })
    }
}
