//! Aggregations of one batch that see its number: Trident's `Aggregator`.

use crate::batch::Batch;
use crate::operators::Emit;
use crate::record::Record;

/// An aggregation of one batch, or of one key's records in it: it sees the batch's number and time,
/// and gives any number of records: Trident's `Aggregator`.
///
/// # Contract
///
/// 1. *Checked by the suite* ([`crate::conformance::batch_aggregator`]). It keeps nothing but what
///    `begin` gives: batches and keys are aggregated side by side, and batches again after a
///    failure.
/// 2. *By the engine.* `begin` comes once for each batch (and key), then `add` for each record, in
///    the order of the source partition that it came from, then `finish`.
/// 3. *By the engine.* Ungrouped, it is begun and finished for every batch, also when no record of
///    the batch reaches it.
/// 4. *Not checkable.* A batch may be done again after a failure, with other records: nothing that
///    these functions do outside may count.
///
/// ```
/// use tidemill_engine::{Batch, Emit, aggregates::BatchAggregator, testing::Kit};
///
/// /// Each batch's number, and its greatest record.
/// struct Greatest;
///
/// impl BatchAggregator<u64> for Greatest {
///     type State = (u64, Option<u64>);
///     type Output = (u64, u64);
///     fn begin(&self, batch: &Batch) -> Self::State {
///         (batch.txid.0, None)
///     }
///     fn add(&self, state: &mut Self::State, record: u64) {
///         state.1 = state.1.max(Some(record));
///     }
///     fn finish(&self, (txid, greatest): Self::State, emit: &mut Emit<(u64, u64)>) {
///         emit.extend(greatest.map(|greatest| (txid, greatest)));
///     }
/// }
///
/// let mut kit = Kit::new(|topology, io| {
///     topology.source("in", io.source::<u64>("in")).batch_aggregate(Greatest).sink("out", io.sink("out"));
/// });
/// kit.feed("in", [3u64, 7, 5]);
/// kit.step();
/// assert_eq!(kit.output::<(u64, u64)>("out"), [(1, 7)]);
/// ```
pub trait BatchAggregator<T>: 'static {
    /// The state that is kept while a batch is aggregated.
    type State: 'static;
    /// The result for a batch.
    type Output: Record;

    /// Before the first record.
    fn begin(&self, batch: &Batch) -> Self::State;

    /// Takes a record.
    fn add(&self, state: &mut Self::State, record: T);

    /// After the last record: gives what comes of it.
    fn finish(&self, state: Self::State, emit: &mut Emit<Self::Output>);
}
