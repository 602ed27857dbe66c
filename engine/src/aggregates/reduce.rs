//! Aggregations without partial results: Trident's `ReducerAggregator`.

use crate::record::Storable;

/// An aggregation that sees the records one by one, and has no partial results: Trident's
/// `ReducerAggregator`. Where it can be a [`crate::aggregates::Combiner`], that is faster: a
/// reducer's records all travel to the worker that owns their key.
///
/// # Contract
///
/// 1. *Checked by the suite* ([`crate::conformance::reducer`]). A result that was written and read
///    back continues as if it had not been: it is stored after each batch.
/// 2. *Checked by the suite.* It keeps nothing but its results: each key has one, and their turns
///    come in between each other's.
/// 3. *By the engine.* The records of a key come in the order of the source partition that they
///    came from, and batch after batch; between partitions there is none.
/// 4. *Not checkable.* Overflow is a panic, never a wrap: the batch fails, with an error that names
///    the key.
///
/// See [`fold`] for one made of closures.
pub trait Reducer<T>: 'static {
    /// The result.
    type Value: Storable;

    /// The result for no records.
    fn init(&self) -> Self::Value;

    /// Takes a record into the result.
    fn reduce(&self, into: &mut Self::Value, record: T);
}

/// A reducer made of closures: see [`fold`].
pub struct Fold<I, F>(I, F);

/// A reducer that begins with `init()` and takes records in with `reduce`.
///
/// ```
/// use tidemill_engine::{aggregates::fold, testing::Kit};
///
/// let mut kit = Kit::new(|topology, io| {
///     // The last price, and how often it has changed.
///     let prices = topology.source("prices", io.source::<(String, u64)>("prices")).group_by(|(item, _)| item.clone());
///     prices.persistent_reduce("last", fold(|| (0, 0), |last: &mut (u64, u64), (_, price)| {
///         *last = (price, last.1 + u64::from(price != last.0));
///     }));
/// });
/// kit.feed("prices", [("tea", 3u64), ("tea", 4), ("tea", 4)].map(|(item, price)| (item.to_string(), price)));
/// kit.step();
/// assert_eq!(kit.state::<String, (u64, u64)>("last")["tea"], (4, 2));
/// ```
pub fn fold<I, F>(init: I, reduce: F) -> Fold<I, F> {
    Fold(init, reduce)
}

impl<T, V: Storable, I: Fn() -> V + 'static, F: Fn(&mut V, T) + 'static> Reducer<T> for Fold<I, F> {
    type Value = V;

    fn init(&self) -> V {
        (self.0)()
    }

    fn reduce(&self, into: &mut V, record: T) {
        (self.1)(into, record);
    }
}
