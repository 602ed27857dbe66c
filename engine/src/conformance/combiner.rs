//! The suite for combiners: random data, split and combined in random ways.

use crate::aggregates::Combiner;
use crate::record::Storable;
use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use std::fmt::Debug;
use tidemill_state::codec;

/// The number of random splits of the records that are tried.
const ROUNDS: u64 = 300;

/// Checks clauses 1 to 4 of [`Combiner`]'s contract on these records: that results do not depend on
/// how the records are ordered, split, combined and stored.
///
/// For one whose results depend on the order by design, such as [`crate::aggregates::FirstN`], see
/// [`combiner_in_order`].
///
/// ```
/// use tidemill_engine::{aggregates::{Sum, top_k}, conformance};
///
/// conformance::combiner(&Sum, &[3u64, 1, 4, 1, 5]);
/// conformance::combiner(&top_k(2), &[3u64, 1, 4, 1, 5]);
/// ```
///
/// # Panics
/// When a clause is broken, with the records and both results.
pub fn combiner<T: Clone + Debug, A: Combiner<T>>(aggregation: &A, records: &[T])
where
    A::Value: PartialEq + Debug,
{
    check(aggregation, records, true, |one, other| one == other);
}

/// As [`combiner`], but the records stay in order: commutativity is not checked.
///
/// # Panics
/// As [`combiner`].
pub fn combiner_in_order<T: Clone + Debug, A: Combiner<T>>(aggregation: &A, records: &[T])
where
    A::Value: PartialEq + Debug,
{
    check(aggregation, records, false, |one, other| one == other);
}

/// As [`combiner`], for results that are the same if `same` says so: floating-point numbers.
///
/// ```
/// use tidemill_engine::{aggregates::Variance, conformance};
///
/// let same = |one: Option<f64>, other: Option<f64>| one.zip(other).is_some_and(|(one, other)| (one - other).abs() < 1e-9);
/// conformance::combiner_by(&Variance, &[3.5, 1.25, 4.0], |one, other| same(one.variance(), other.variance()));
/// ```
///
/// # Panics
/// As [`combiner`].
pub fn combiner_by<T: Clone + Debug, A: Combiner<T>>(
    aggregation: &A,
    records: &[T],
    same: impl Fn(&A::Value, &A::Value) -> bool,
) where
    A::Value: Debug,
{
    check(aggregation, records, true, same);
}

fn check<T: Clone + Debug, A: Combiner<T>>(
    aggregation: &A,
    records: &[T],
    shuffles: bool,
    same: impl Fn(&A::Value, &A::Value) -> bool,
) where
    A::Value: Debug,
{
    for round in 0..ROUNDS {
        // Each round from its number alone: what is found once is found again.
        let mut random = Xoshiro256PlusPlus::seed_from_u64(round);
        let mut some = records[..random.random_range(0..=records.len())].to_vec();
        let Some(expected) = one_by_one(aggregation, &some, |value| value) else { continue };
        let is = |clause: &str, records: &[T], got: &A::Value| {
            assert!(
                same(&expected, got),
                "{clause}: of {records:?} it gives {got:?} instead of {expected:?}"
            );
        };
        let tree = split(aggregation, &some, &mut random);
        is("clause 1: combine is associative", &some, &tree);
        is(
            "clause 4: a result may be stored",
            &some,
            &one_by_one(aggregation, &some, |value| stored(&value)).expect("there are records"),
        );
        let mut added = aggregation.init(&some[0]);
        some[1..].iter().for_each(|record| aggregation.add(&mut added, record));
        is("clause 3: add is combine with init", &some, &added);
        if let Some(zero) = aggregation.zero() {
            let mut before = aggregation.zero().expect("it has one");
            aggregation.combine(
                &mut before,
                one_by_one(aggregation, &some, |value| value).expect("there are records"),
            );
            is("clause 2: combining a zero with a result gives it", &some, &before);
            let mut after =
                one_by_one(aggregation, &some, |value| value).expect("there are records");
            aggregation.combine(&mut after, zero);
            is("clause 2: combining a result with a zero changes nothing", &some, &after);
        }
        if shuffles {
            some.shuffle(&mut random);
            let shuffled = split(aggregation, &some, &mut random);
            is("clause 1: combine is commutative", &some, &shuffled);
        }
    }
}

/// The result of one record after the other; each partial result goes through `keep`.
fn one_by_one<T, A: Combiner<T>>(
    aggregation: &A,
    records: &[T],
    keep: impl Fn(A::Value) -> A::Value,
) -> Option<A::Value> {
    let (first, rest) = records.split_first()?;
    let first = keep(aggregation.init(first));
    Some(rest.iter().fold(first, |mut into, record| {
        aggregation.combine(&mut into, keep(aggregation.init(record)));
        keep(into)
    }))
}

/// The value, written and read back.
pub(super) fn stored<V: Storable>(value: &V) -> V {
    let mut bytes = Vec::new();
    codec::encode(value, &mut bytes).expect("a result can be written");
    codec::decode(&bytes).expect("a result can be read back")
}

/// The result of a random tree over the records, of which there is one at least.
fn split<T, A: Combiner<T>>(
    aggregation: &A,
    records: &[T],
    random: &mut Xoshiro256PlusPlus,
) -> A::Value {
    if let [one] = records {
        return aggregation.init(one);
    }
    let at = random.random_range(1..records.len());
    let mut into = split(aggregation, &records[..at], random);
    let other = split(aggregation, &records[at..], random);
    aggregation.combine(&mut into, other);
    into
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregates::{
        Average, Count, DistinctCount, FirstN, LastN, Max, MaxBy, Mean, Min, MinBy, Sum, Variance,
        top_k_by,
    };
    use serde::{Deserialize, Serialize};
    use std::cmp::Ordering;

    #[test]
    fn every_combiner_of_tidemill_keeps_its_contract() {
        let numbers: Vec<u64> = (0..40).map(|n| n * n % 31).collect();
        combiner(&Count, &numbers);
        combiner(&Sum, &numbers);
        combiner(&(Min, Max), &numbers);
        combiner(&top_k_by(3, |n: &u64| n % 7), &numbers);
        combiner(&MinBy(|n: &u64| *n), &numbers);
        combiner(&MaxBy(|n: &u64| *n), &numbers);
        combiner_in_order(&FirstN(3), &numbers);
        combiner_in_order(&LastN(3), &numbers);
        combiner_by(&DistinctCount, &numbers, |one, other| one.estimate() == other.estimate());
        combiner_by(&Mean, &numbers, |one: &Average, other| one.mean() == other.mean());
        combiner_by(&Variance, &numbers, |one, other| {
            let [one, other] =
                [one, other].map(|moments| moments.variance().expect("there are some"));
            (one - other).abs() < 1e-9
        });
    }

    struct Difference;

    impl Combiner<i64> for Difference {
        type Value = i64;
        fn init(&self, record: &i64) -> i64 {
            *record
        }
        fn combine(&self, into: &mut i64, other: i64) {
            *into -= other;
        }
        fn zero(&self) -> Option<i64> {
            None
        }
    }

    #[test]
    #[should_panic(expected = "clause 1: combine is associative")]
    fn one_that_is_not_associative_is_found() {
        combiner(&Difference, &[3, 1, 4, 1, 5]);
    }

    /// The greatest, and how often it came, which is not written.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Forgetful {
        greatest: u64,
        #[serde(skip)]
        times: u64,
    }

    struct Often;

    impl Combiner<u64> for Often {
        type Value = Forgetful;
        fn init(&self, record: &u64) -> Forgetful {
            Forgetful { greatest: *record, times: 1 }
        }
        fn combine(&self, into: &mut Forgetful, other: Forgetful) {
            match other.greatest.cmp(&into.greatest) {
                Ordering::Less => {}
                Ordering::Equal => into.times += other.times,
                Ordering::Greater => *into = other,
            }
        }
        fn zero(&self) -> Option<Forgetful> {
            None
        }
    }

    #[test]
    #[should_panic(expected = "clause 4: a result may be stored")]
    fn one_that_storing_changes_is_found() {
        combiner(&Often, &[3, 1, 4, 1, 5]);
    }

    #[test]
    #[should_panic(expected = "clause 1: combine is commutative")]
    fn one_that_depends_on_the_order_is_found() {
        combiner(&FirstN(2), &[3, 1, 4, 1, 5]);
    }
}
