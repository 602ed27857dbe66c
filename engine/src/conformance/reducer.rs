//! The suites for reducers and batch aggregators: the same records alone, beside others, and with a
//! restart between any two.

use super::combiner::stored;
use crate::aggregates::{BatchAggregator, Reducer};
use crate::batch::Batch;
use crate::operators::Emit;
use std::fmt::Debug;
use tidemill_state::Txid;

/// At most so many places in the records at which a result is stored and read back.
const MOST_CUTS: usize = 200;

/// Checks clauses 1 and 2 of [`Reducer`]'s contract on these records: that a result may be stored
/// after any of them, and that results do not touch each other.
///
/// ```
/// use tidemill_engine::{aggregates::fold, conformance};
///
/// let last_and_changes = fold(|| (0, 0), |last: &mut (u64, u64), price: u64| *last = (price, last.1 + u64::from(price != last.0)));
/// conformance::reducer(&last_and_changes, &[3, 4, 4, 5, 3]);
/// ```
///
/// # Panics
/// When a clause is broken, with the records and both results.
pub fn reducer<T: Clone + Debug, A: Reducer<T>>(aggregation: &A, records: &[T])
where
    A::Value: PartialEq + Debug,
{
    let from = |mut value: A::Value, records: &[T]| {
        records.iter().for_each(|record| aggregation.reduce(&mut value, record.clone()));
        value
    };
    let expected = from(aggregation.init(), records);
    for cut in (0..=records.len()).step_by(records.len().div_ceil(MOST_CUTS).max(1)) {
        let (before, after) = records.split_at(cut);
        let got = from(stored(&from(aggregation.init(), before)), after);
        assert!(
            got == expected,
            "clause 1: a result may be stored after any record: of {records:?} it gives {got:?} \
             instead of {expected:?} when it is stored after {cut}"
        );
    }
    // As keys have it: each has some of the records, and their turns come in between each other's.
    let ways = 3;
    let mut results: Vec<A::Value> = (0..ways).map(|_| aggregation.init()).collect();
    for (at, record) in records.iter().enumerate() {
        aggregation.reduce(&mut results[at % ways], record.clone());
    }
    for (way, got) in results.into_iter().enumerate() {
        let own: Vec<T> = records.iter().skip(way).step_by(ways).cloned().collect();
        let alone = from(aggregation.init(), &own);
        assert!(
            got == alone,
            "clause 2: results do not touch each other: of {own:?} it gives {got:?} beside \
             others, and {alone:?} alone"
        );
    }
}

/// Checks clause 1 of [`BatchAggregator`]'s contract on these records: that what it gives for them
/// does not depend on other batches and keys that are aggregated at the same time, nor on those
/// before.
///
/// ```
/// use tidemill_engine::{Batch, Emit, aggregates::BatchAggregator, conformance};
///
/// struct Longest;
///
/// impl BatchAggregator<String> for Longest {
///     type State = usize;
///     type Output = usize;
///     fn begin(&self, _: &Batch) -> usize {
///         0
///     }
///     fn add(&self, longest: &mut usize, word: String) {
///         *longest = word.len().max(*longest);
///     }
///     fn finish(&self, longest: usize, emit: &mut Emit<usize>) {
///         emit.push(longest);
///     }
/// }
///
/// conformance::batch_aggregator(&Longest, &["tide", "mill", "sluice"].map(String::from));
/// ```
///
/// # Panics
/// When the clause is broken, with the records and both outputs.
pub fn batch_aggregator<T: Clone + Debug, A: BatchAggregator<T>>(aggregation: &A, records: &[T])
where
    A::Output: PartialEq + Debug,
{
    let finish = |state: A::State| {
        let mut emit = Emit::of_batch();
        aggregation.finish(state, &mut emit);
        std::mem::take(emit.records())
    };
    let alone = |batch: &Batch, records: &[T]| {
        let mut state = aggregation.begin(batch);
        records.iter().for_each(|record| aggregation.add(&mut state, record.clone()));
        finish(state)
    };
    // Two keys in each of two batches, of which the second begins before the first is finished.
    let ways = 4;
    let batches = [1, 2].map(|number| Batch { txid: Txid(number), time_ms: 1_000 * number });
    let own = |way: usize| records.iter().skip(way).step_by(ways).cloned().collect::<Vec<T>>();
    let expected: Vec<Vec<A::Output>> =
        (0..ways).map(|way| alone(&batches[way % 2], &own(way))).collect();
    let mut states: Vec<A::State> =
        (0..ways).map(|way| aggregation.begin(&batches[way % 2])).collect();
    for (at, record) in records.iter().enumerate() {
        aggregation.add(&mut states[at % ways], record.clone());
    }
    let check = |how: &str, way: usize, got: &[A::Output]| {
        let (own, expected) = (own(way), &expected[way]);
        assert!(
            got == &expected[..],
            "clause 1: batches and keys do not touch each other: of {own:?} it gives {got:?} \
             {how}, and {expected:?} alone"
        );
    };
    for (way, state) in states.into_iter().enumerate() {
        check("beside others", way, &finish(state));
    }
    for way in 0..ways {
        check("once more", way, &alone(&batches[way % 2], &own(way)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregates::fold;
    use serde::{Deserialize, Serialize};
    use std::cell::Cell;

    #[test]
    fn those_that_keep_their_contracts_pass() {
        let numbers: Vec<u64> = (0..500).map(|n| n * n % 31).collect();
        reducer(&fold(Vec::new, |seen: &mut Vec<u64>, n: u64| seen.push(n)), &numbers);
        reducer(&fold(|| 0, |sum: &mut u64, n: u64| *sum = *sum * 3 % 1009 + n), &[]);
        batch_aggregator(&Numbers { shared: None }, &numbers);
        batch_aggregator(&Numbers { shared: None }, &[]);
    }

    /// A sum, and a count that is not written.
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Forgetful {
        sum: u64,
        #[serde(skip)]
        count: u64,
    }

    #[test]
    #[should_panic(expected = "clause 1: a result may be stored after any record")]
    fn a_result_that_storing_changes_is_found() {
        let forgetful = fold(Forgetful::default, |into: &mut Forgetful, n: u64| {
            into.count += 1;
            into.sum += n * into.count;
        });
        reducer(&forgetful, &[3, 1, 4, 1, 5]);
    }

    #[test]
    #[should_panic(expected = "clause 2: results do not touch each other")]
    fn a_reducer_with_a_memory_of_its_own_is_found() {
        // Right for one key, however often it is stored: it knows the last record of any key.
        let last = Cell::new(0);
        let rises = fold(
            || (0, true),
            move |into: &mut (u64, bool), n: u64| {
                if std::mem::take(&mut into.1) {
                    last.set(0);
                }
                into.0 += u64::from(n > last.replace(n));
            },
        );
        reducer(&rises, &[1, 5, 2, 6, 3, 7, 1, 2, 8]);
    }

    /// Each batch's number and records; with a list that all share it is broken.
    struct Numbers {
        shared: Option<Cell<u64>>,
    }

    impl BatchAggregator<u64> for Numbers {
        type State = (u64, Vec<u64>);
        type Output = (u64, u64);

        fn begin(&self, batch: &Batch) -> (u64, Vec<u64>) {
            (batch.txid.0, Vec::new())
        }

        fn add(&self, state: &mut (u64, Vec<u64>), record: u64) {
            let before = self.shared.as_ref().map_or(0, |shared| shared.replace(record));
            state.1.push(record + before);
        }

        fn finish(&self, (txid, numbers): (u64, Vec<u64>), emit: &mut Emit<(u64, u64)>) {
            emit.extend(numbers.into_iter().map(|number| (txid, number)));
        }
    }

    #[test]
    #[should_panic(expected = "clause 1: batches and keys do not touch each other")]
    fn a_batch_aggregator_with_a_memory_of_its_own_is_found() {
        batch_aggregator(&Numbers { shared: Some(Cell::new(0)) }, &[3, 1, 4, 1, 5, 9, 2, 6]);
    }
}
