//! The greatest and the least records.

use crate::aggregates::Combiner;
use crate::record::Data;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::marker::PhantomData;

/// The `k` records of the greatest rank, the greatest first: see [`top_k_by`].
pub struct TopK<F, R> {
    k: usize,
    rank: F,
    ranks: PhantomData<fn() -> R>,
}

/// A record with its rank, as [`TopK`] keeps it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ranked<R, T> {
    /// Its rank.
    pub rank: R,
    /// The record.
    pub record: T,
}

/// The `k` greatest records, the greatest first.
pub fn top_k<T: Data + Ord>(k: usize) -> TopK<fn(&T), ()> {
    TopK { k, rank: |_| (), ranks: PhantomData }
}

/// The `k` records of the greatest rank, the greatest first; of equal rank, the greater record
/// first, so that the result does not depend on any order.
///
/// ```
/// use tidemill_engine::{aggregates::top_k_by, testing::Kit};
///
/// let mut kit = Kit::new(|topology, io| {
///     let words = topology.source("words", io.source::<String>("words"));
///     words.aggregate(top_k_by(2, |word: &String| word.len())).map(|top| top.into_iter().map(|word| word.record).collect::<Vec<_>>()).sink("out", io.sink("out"));
/// });
/// kit.feed("words", ["a", "tide", "mill", "sea"].map(String::from));
/// kit.step();
/// assert_eq!(kit.output::<Vec<String>>("out"), [["tide", "mill"]]);
/// ```
pub fn top_k_by<T: Data + Ord, R: Data + Ord, F: Fn(&T) -> R + 'static>(
    k: usize,
    rank: F,
) -> TopK<F, R> {
    TopK { k, rank, ranks: PhantomData }
}

impl<T: Data + Ord, R: Data + Ord, F: Fn(&T) -> R + 'static> Combiner<T> for TopK<F, R> {
    type Value = Vec<Ranked<R, T>>;

    fn init(&self, record: &T) -> Self::Value {
        let ranked = Ranked { rank: (self.rank)(record), record: record.clone() };
        if self.k == 0 { Vec::new() } else { vec![ranked] }
    }

    fn combine(&self, into: &mut Self::Value, other: Self::Value) {
        for ranked in other {
            insert(self.k, into, ranked);
        }
    }

    fn add(&self, into: &mut Self::Value, record: &T) {
        let rank = (self.rank)(record);
        // Most records of a long stream are not among the greatest: they are not cloned.
        let full = into.len() >= self.k;
        if full && into.last().is_none_or(|least| (&rank, record) <= (&least.rank, &least.record)) {
            return;
        }
        insert(self.k, into, Ranked { rank, record: record.clone() });
    }

    fn zero(&self) -> Option<Self::Value> {
        Some(Vec::new())
    }
}

/// Puts a record in its place among the `k` greatest.
fn insert<R: Ord, T: Ord>(k: usize, into: &mut Vec<Ranked<R, T>>, ranked: Ranked<R, T>) {
    let place = into.partition_point(|there| *there >= ranked);
    if place < k {
        into.insert(place, ranked);
        into.truncate(k);
    }
}

/// The record of the least rank. Of equal ones, any. A rank that does not compare, such as NaN, is
/// passed over when there is another.
pub struct MinBy<F>(pub F);

/// The record of the greatest rank. Of equal ones, any. A rank that does not compare, such as NaN,
/// is passed over when there is another.
pub struct MaxBy<F>(pub F);

fn is_better<R: PartialOrd>(new: &R, old: &R, wanted: Ordering) -> bool {
    let compares = |rank: &R| rank.partial_cmp(rank).is_some();
    new.partial_cmp(old) == Some(wanted) || (compares(new) && !compares(old))
}

impl<T: Data, R: PartialOrd, F: Fn(&T) -> R + 'static> Combiner<T> for MinBy<F> {
    type Value = T;

    fn init(&self, record: &T) -> T {
        record.clone()
    }

    fn combine(&self, into: &mut T, other: T) {
        if is_better(&(self.0)(&other), &(self.0)(into), Ordering::Less) {
            *into = other;
        }
    }

    fn add(&self, into: &mut T, record: &T) {
        if is_better(&(self.0)(record), &(self.0)(into), Ordering::Less) {
            into.clone_from(record);
        }
    }

    fn zero(&self) -> Option<T> {
        None
    }
}

impl<T: Data, R: PartialOrd, F: Fn(&T) -> R + 'static> Combiner<T> for MaxBy<F> {
    type Value = T;

    fn init(&self, record: &T) -> T {
        record.clone()
    }

    fn combine(&self, into: &mut T, other: T) {
        if is_better(&(self.0)(&other), &(self.0)(into), Ordering::Greater) {
            *into = other;
        }
    }

    fn add(&self, into: &mut T, record: &T) {
        if is_better(&(self.0)(record), &(self.0)(into), Ordering::Greater) {
            into.clone_from(record);
        }
    }

    fn zero(&self) -> Option<T> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_are_kept_whatever_the_order() {
        let top = top_k_by(3, |n: &u64| n % 10);
        for records in [[11, 25, 39, 7, 19, 29], [39, 29, 19, 7, 25, 11]] {
            let mut halves = records.chunks(3).map(|half| {
                let mut value = top.init(&half[0]);
                half[1..].iter().for_each(|n| top.add(&mut value, n));
                value
            });
            let (mut into, other) = (halves.next().expect("two"), halves.next().expect("two"));
            top.combine(&mut into, other);
            assert_eq!(into.iter().map(|ranked| ranked.record).collect::<Vec<_>>(), [39, 29, 19]);
        }
        assert!(top_k::<u64>(0).init(&1).is_empty());
    }

    #[test]
    fn the_best_is_never_one_that_does_not_compare() {
        let (least, greatest) = (MinBy(|n: &f64| *n), MaxBy(|n: &f64| *n));
        let (mut low, mut high) = (f64::NAN, f64::NAN);
        for n in [2.0, f64::NAN, 1.0, 3.0] {
            least.add(&mut low, &n);
            greatest.combine(&mut high, n);
        }
        assert_eq!((low, high), (1.0, 3.0));
    }
}
