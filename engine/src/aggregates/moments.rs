//! Mean and variance in one pass.

use crate::aggregates::{Combiner, Number};
use serde::{Deserialize, Serialize};

/// Number, mean and sum of squared deviations: what a variance can be combined from, without the
/// cancellation that sums of squares suffer. Records are added as by Welford (1962), partial
/// results combined as by Chan, Golub and LeVeque (1979).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    /// The number of values.
    pub count: u64,
    /// Their mean; 0 of none.
    pub mean: f64,
    /// The sum of the squares of their distances from the mean.
    pub squares: f64,
}

impl Moments {
    /// The variance of these numbers; `None` of none.
    #[must_use]
    pub fn variance(&self) -> Option<f64> {
        (self.count > 0).then(|| self.squares / self.count as f64)
    }

    /// The variance of what these numbers are a sample of; `None` of less than two.
    #[must_use]
    pub fn sample_variance(&self) -> Option<f64> {
        (self.count > 1).then(|| self.squares / (self.count - 1) as f64)
    }

    fn is_finite(&self) -> bool {
        self.mean.is_finite() && self.squares.is_finite()
    }

    /// The standard deviation of these numbers; `None` of none.
    #[must_use]
    pub fn deviation(&self) -> Option<f64> {
        self.variance().map(f64::sqrt)
    }
}

/// The variance of records that are numbers, as [`Moments`]. Finite numbers whose squared distances
/// are infinite stop the topology. Its last digits depend on the order, as those of every sum of
/// floating-point numbers.
#[derive(Clone, Copy, Debug)]
pub struct Variance;

impl<T: Number> Combiner<T> for Variance {
    type Value = Moments;

    fn init(&self, record: &T) -> Moments {
        Moments { count: 1, mean: record.to_f64(), squares: 0.0 }
    }

    fn combine(&self, into: &mut Moments, other: Moments) {
        if other.count == 0 {
            return;
        }
        if into.count == 0 {
            *into = other;
            return;
        }
        let count = into.count.checked_add(other.count).expect("a count passed 2^64");
        let (share, distance) = (other.count as f64 / count as f64, other.mean - into.mean);
        let squares =
            into.squares + (other.squares + distance * distance * share * into.count as f64);
        let mean = into.mean + distance * share;
        let combined = Moments { count, mean, squares };
        assert!(
            combined.is_finite() || !into.is_finite() || !other.is_finite(),
            "a variance does not fit an f64: map the records to smaller numbers before Variance"
        );
        *into = combined;
    }

    fn zero(&self) -> Option<Moments> {
        Some(Moments::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variance_is_exact_far_from_zero() {
        let mut moments = Moments::default();
        for n in [4.0, 7.0, 13.0, 16.0] {
            Variance.add(&mut moments, &(1e9 + n));
        }
        assert_eq!((moments.count, moments.mean, moments.variance()), (4, 1e9 + 10.0, Some(22.5)));
        assert_eq!(
            (moments.sample_variance(), moments.deviation()),
            (Some(30.0), Some(22.5f64.sqrt()))
        );
        assert_eq!(Moments::default().variance(), None);
        Combiner::<f64>::combine(&Variance, &mut moments, Moments::default());
        assert_eq!(moments.count, 4);
    }

    #[test]
    fn a_large_number_is_combined_with_none() {
        let mut moments = Moments::default();
        Variance.add(&mut moments, &1e200);
        assert_eq!(moments, Moments { count: 1, mean: 1e200, squares: 0.0 });
    }
}
