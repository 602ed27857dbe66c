//! Aggregations: what they are, and those that come with Tidemill.
//!
//! A [`Combiner`] has partial results that can be combined, so it is first applied where the
//! records are. A [`Reducer`] sees the records one by one, in order. A [`BatchAggregator`] sees one
//! batch, and gives any number of records for it.

pub use combiner::{Combiner, Number};
mod batch;
mod combiner;
mod distinct;
mod first;
mod moments;
mod reduce;
mod top;
mod tuples;

use crate::record::Storable;
pub use batch::BatchAggregator;
pub use distinct::{Distinct, DistinctCount};
pub use first::{FirstN, LastN};
pub use moments::{Moments, Variance};
pub use reduce::{Fold, Reducer, fold};
use serde::{Deserialize, Serialize};
use std::marker::PhantomData;
pub use top::{MaxBy, MinBy, Ranked, TopK, top_k, top_k_by};

/// Counts records.
#[derive(Clone, Copy, Debug)]
pub struct Count;

impl<T: 'static> Combiner<T> for Count {
    type Value = u64;

    fn init(&self, _: &T) -> u64 {
        1
    }

    fn combine(&self, into: &mut u64, other: u64) {
        *into = into.checked_add(other).expect("a count passed 2^64");
    }

    fn zero(&self) -> Option<u64> {
        Some(0)
    }
}

macro_rules! numbers {
    ($($integer:ty)*, $($float:ty)*) => {
        $(impl Number for $integer {
            const ZERO: Self = 0;
            fn plus(self, other: Self) -> Option<Self> {
                self.checked_add(other)
            }
            fn to_f64(self) -> f64 {
                self as f64
            }
        })*
        $(impl Number for $float {
            const ZERO: Self = 0.0;
            fn plus(self, other: Self) -> Option<Self> {
                let sum = self + other;
                // What was infinite before may stay so.
                (sum.is_finite() || !self.is_finite() || !other.is_finite()).then_some(sum)
            }
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
        })*
    };
}
numbers!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize, f32 f64);

/// Adds up records that are numbers. A sum that does not fit stops the topology: of integers one
/// past the type's range, of floating-point numbers an infinite sum of finite numbers. A record
/// that is infinite or NaN makes the sum so. A sum of floating-point numbers depends on the order
/// in its last digits.
#[derive(Clone, Copy, Debug)]
pub struct Sum;

const SUM_TOO_LARGE: &str = "a sum does not fit its type: map the records to a wider type, or to \
    smaller numbers, before Sum";

impl<T: Number> Combiner<T> for Sum {
    type Value = T;

    fn init(&self, record: &T) -> T {
        *record
    }

    fn combine(&self, into: &mut T, other: T) {
        *into = into.plus(other).expect(SUM_TOO_LARGE);
    }

    fn zero(&self) -> Option<T> {
        Some(T::ZERO)
    }
}

/// The least record. Of equal ones, any. A floating-point NaN is passed over when there is a
/// number.
#[derive(Clone, Copy, Debug)]
pub struct Min;

/// The greatest record. Of equal ones, any. A floating-point NaN is passed over when there is a
/// number.
#[derive(Clone, Copy, Debug)]
pub struct Max;

/// Returns whether `a` is a value that compares with itself: all but NaN do.
#[allow(clippy::eq_op, reason = "NaN is what does not equal itself")]
fn compares<T: PartialOrd>(a: &T) -> bool {
    a == a
}

impl<T: Storable + PartialOrd> Combiner<T> for Min {
    type Value = T;

    fn init(&self, record: &T) -> T {
        record.clone()
    }

    fn combine(&self, into: &mut T, other: T) {
        if other < *into || !compares(into) {
            *into = other;
        }
    }

    fn zero(&self) -> Option<T> {
        None
    }
}

impl<T: Storable + PartialOrd> Combiner<T> for Max {
    type Value = T;

    fn init(&self, record: &T) -> T {
        record.clone()
    }

    fn combine(&self, into: &mut T, other: T) {
        if other > *into || !compares(into) {
            *into = other;
        }
    }

    fn zero(&self) -> Option<T> {
        None
    }
}

/// A mean: the sum and the number of what it is the mean of, so that means can be combined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Average {
    /// The sum.
    pub sum: f64,
    /// The number.
    pub count: u64,
}

impl Average {
    /// The mean; `None` of nothing.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

/// The mean of records that are numbers, as an [`Average`]. A sum of finite numbers that is
/// infinite stops the topology.
#[derive(Clone, Copy, Debug)]
pub struct Mean;

impl<T: Number> Combiner<T> for Mean {
    type Value = Average;

    fn init(&self, record: &T) -> Average {
        Average { sum: record.to_f64(), count: 1 }
    }

    fn combine(&self, into: &mut Average, other: Average) {
        into.sum = into.sum.plus(other.sum).expect(
            "the sum for a mean does not fit an f64: map the records to smaller numbers \
                before Mean",
        );
        into.count = into.count.checked_add(other.count).expect("a count passed 2^64");
    }

    fn zero(&self) -> Option<Average> {
        Some(Average::default())
    }
}

/// Aggregates a part of each record: `Of(|edit: &Edit| edit.added, Sum)` adds up what was added.
pub struct Of<F, A, P>(F, A, PhantomData<fn() -> P>);

/// An aggregation over `part(record)` instead of the record: `of(|edit: &Edit| edit.added, Sum)`
/// adds up what was added.
///
/// ```
/// # use tidemill_engine::aggregates::{Combiner, Sum, of};
/// let bytes = of(|word: &String| word.len() as u64, Sum);
/// assert_eq!(bytes.init(&"tide".to_string()), 4);
/// ```
pub fn of<T, P, F: Fn(&T) -> P + 'static, A: Combiner<P>>(part: F, aggregation: A) -> Of<F, A, P> {
    Of(part, aggregation, PhantomData)
}

impl<T, P: 'static, F: Fn(&T) -> P + 'static, A: Combiner<P>> Combiner<T> for Of<F, A, P> {
    type Value = A::Value;

    fn init(&self, record: &T) -> A::Value {
        self.1.init(&(self.0)(record))
    }

    fn combine(&self, into: &mut A::Value, other: A::Value) {
        self.1.combine(into, other);
    }

    fn zero(&self) -> Option<A::Value> {
        self.1.zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fold<T, A: Combiner<T>>(aggregation: &A, records: &[T]) -> Option<A::Value> {
        let mut records = records.iter().map(|record| aggregation.init(record));
        let first = records.next()?;
        Some(records.fold(first, |mut into, other| {
            aggregation.combine(&mut into, other);
            into
        }))
    }

    #[test]
    fn the_aggregations_give_what_their_names_say() {
        assert_eq!(fold(&Count, &["a", "b"]), Some(2));
        assert_eq!(fold(&Sum, &[1i64, -3]), Some(-2));
        assert_eq!(fold(&Min, &[2.0, f64::NAN, 1.0]), Some(1.0));
        assert_eq!(fold(&Max, &[f64::NAN, 2.0, 1.0]), Some(2.0));
        assert_eq!(fold(&Mean, &[1u8, 2]).and_then(|mean| mean.mean()), Some(1.5));
        assert_eq!(Average::default().mean(), None);
    }

    #[test]
    fn a_sum_never_wraps_and_is_never_infinite_by_itself() {
        fn fails<T, A: Combiner<T>>(aggregation: &A, records: &[T]) {
            let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                drop(fold(aggregation, records))
            }));
            let panic = failed.expect_err("it does not fit");
            let why = panic
                .downcast_ref::<String>()
                .cloned()
                .unwrap_or_else(|| panic.downcast_ref::<&str>().unwrap_or(&"").to_string());
            assert!(why.contains("does not fit"), "{why}");
        }
        fails(&Sum, &[200u8, 100]);
        fails(&Sum, &[i128::MIN, -1]);
        fails(&Sum, &[1e308, 1e308]);
        fails(&Sum, &[f32::MIN, f32::MIN]);
        fails(&Mean, &[1e308, 1e308]);
        fails(&Variance, &[1e200, -1e200]);
        fails(&Variance, &[f64::MAX, f64::MIN]);
    }

    #[test]
    fn a_sum_that_becomes_infinite_fails_its_batch_and_names_the_key() {
        let mut kit = crate::testing::Kit::new(|topology, io| {
            let records = topology
                .source("in", io.source::<(String, f64)>("in"))
                .group_by(|(key, _)| key.clone());
            records.persistent_aggregate("sums", of(|(_, number): &(String, f64)| *number, Sum));
        });
        let records = [("small", 1.0), ("big", 1e308), ("inf", f64::INFINITY), ("inf", 1e308)];
        kit.feed("in", records.map(|(key, number)| (key.to_string(), number)));
        kit.step();
        assert_eq!(kit.state::<String, f64>("sums")["inf"], f64::INFINITY);
        kit.feed("in", [("big".to_string(), 1e308)]);
        let error = kit.try_step().expect_err("it does not fit");
        assert_eq!(error.kind(), tidemill_state::Kind::UserCode);
        for part in ["a sum does not fit its type", "for the key \"big\"", "state \"sums\""] {
            assert!(error.to_string().contains(part), "{part} is not in: {error}");
        }
    }

    #[test]
    fn records_that_are_infinite_or_no_numbers_stay_so() {
        let inf = f64::INFINITY;
        assert_eq!(fold(&Sum, &[1.0, inf, 1e308]), Some(inf));
        assert_eq!(fold(&Sum, &[f32::NEG_INFINITY, f32::MIN, f32::MIN]), Some(f32::NEG_INFINITY));
        assert!(fold(&Sum, &[inf, -inf]).is_some_and(f64::is_nan));
        assert!(fold(&Sum, &[f64::NAN, 1e308, 1e308]).is_some_and(f64::is_nan));
        assert_eq!(fold(&Sum, &[-0.0]).map(f64::to_bits), Some((-0.0f64).to_bits()));
        assert_eq!(fold(&Mean, &[inf, 1.0]).and_then(|mean| mean.mean()), Some(inf));
        let moments = fold(&Variance, &[1.0, inf, 2.0]).expect("three");
        assert_eq!((moments.count, moments.mean.is_finite()), (3, false));
    }
}
