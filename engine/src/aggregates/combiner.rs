//! The contract of an aggregation whose partial results can be combined.

use crate::record::Storable;

/// An aggregation whose partial results can be combined in any order: Trident's
/// `CombinerAggregator`.
///
/// # Contract
///
/// 1. *Checked by the suite* ([`crate::conformance::combiner`]). `combine` is associative and
///    commutative: the engine pre-aggregates per worker and batch, and combines in any order.
/// 2. *Checked by the suite.* Combining with `zero`, if there is one, changes nothing.
/// 3. *Checked by the suite.* `add` gives what combining with `init` gives.
/// 4. *Checked by the suite.* A result that was written and read back is the same: between batches
///    it may be stored, between workers it travels.
/// 5. *Not checkable.* Overflow is a panic, never a wrap: the batch fails, with an error that names
///    the key.
///
/// ```
/// use tidemill_engine::aggregates::Combiner;
///
/// /// The longest word, in bytes.
/// struct Longest;
///
/// impl Combiner<String> for Longest {
///     type Value = usize;
///     fn init(&self, word: &String) -> usize {
///         word.len()
///     }
///     fn combine(&self, into: &mut usize, other: usize) {
///         *into = (*into).max(other);
///     }
///     fn zero(&self) -> Option<usize> {
///         Some(0)
///     }
/// }
/// ```
pub trait Combiner<T>: 'static {
    /// The result, and each partial result.
    type Value: Storable;

    /// The result for one record.
    fn init(&self, record: &T) -> Self::Value;

    /// Combines another result into this one.
    fn combine(&self, into: &mut Self::Value, other: Self::Value);

    /// Adds one record to a result. The same as combining with [`Combiner::init`] of it, which is
    /// what it does unless a quicker way is given.
    fn add(&self, into: &mut Self::Value, record: &T) {
        self.combine(into, self.init(record));
    }

    /// The result for no records, if there is one: what an ungrouped `aggregate` gives for a batch
    /// of which no record reaches it.
    fn zero(&self) -> Option<Self::Value>;
}

/// A number that can be added up without wrapping.
pub trait Number: Storable + PartialOrd + Copy {
    /// 0.
    const ZERO: Self;

    /// Returns the sum; `None` if it does not fit, as an infinite one of two finite numbers.
    fn plus(self, other: Self) -> Option<Self>;

    /// The nearest floating-point number.
    fn to_f64(self) -> f64;
}
