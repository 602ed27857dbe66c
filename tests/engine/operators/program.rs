//! A topology with every operator: each gives its records, as rows of numbers, to a sink of its
//! name.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use tidemill::aggregates::{
    BatchAggregator, DistinctCount, FirstN, LastN, Variance, fold, top_k, top_k_by,
};
use tidemill::prelude::*;
use tidemill::testing::Io;
use tidemill::{Batch, ExternalState, Full, Inner, Left, LookupCache, Part, Right};

/// A key and a value.
pub(crate) type Record = (u8, u64);

/// Whether an operator is to panic at its next record.
pub(crate) type Failing = Arc<AtomicBool>;

/// The time of the first batch.
pub(crate) const START: u64 = 1_000_000;

/// The number and sum of a batch's records, and its time.
struct Summary;

impl BatchAggregator<Record> for Summary {
    type State = (u64, Vec<u64>);
    type Output = Vec<u64>;

    fn begin(&self, batch: &Batch) -> Self::State {
        (batch.time_ms, vec![batch.txid.0])
    }

    fn add(&self, state: &mut Self::State, (_, value): Record) {
        state.1.push(value);
    }

    fn finish(&self, (time, values): Self::State, emit: &mut Emit<Vec<u64>>) {
        emit.push(vec![time - START]);
        emit.push(values);
    }
}

/// Knows the even keys.
struct Squares;

impl ExternalState for Squares {
    type Key = u8;
    type Value = u64;

    fn get_many(&self, keys: &[u8]) -> std::result::Result<Vec<Option<u64>>, String> {
        Ok(keys
            .iter()
            .map(|key| key.is_multiple_of(2).then_some(u64::from(*key) * u64::from(*key)))
            .collect())
    }
}

fn row((key, value): Record) -> Vec<u64> {
    vec![u64::from(key), value]
}

/// A value that may be missing, in a row.
fn some(value: Option<u64>) -> u64 {
    value.map_or(0, |value| value + 1)
}

fn concatenation() -> impl tidemill::aggregates::Reducer<Record, Value = Vec<u64>> {
    fold(Vec::new, |values: &mut Vec<u64>, (_, value): Record| values.push(value))
}

fn key(record: &Record) -> u8 {
    record.0
}

/// Builds it all.
pub(crate) fn topology(topology: &Topology<'_>, io: &Io, failing: &Failing) {
    let failing = Arc::clone(failing);
    let left = topology.source("left", io.source::<Record>("left"));
    let left = left.inspect(move |_| assert!(!failing.swap(false, SeqCst), "told to fail"));
    let right = topology.source("right", io.source::<Record>("right"));
    records(&left, &right, io);
    exchanges(&left, io);
    batches(&left, io);
    joins(&left, &right, io);
    let counts = states(&left, io);
    lookups(topology, &right, &counts, io);
    topology.query("counted", |all: Requests<String>| {
        all.scan(&counts, |_| Scan::all()).map(|(_, (count, _))| count).aggregate(Sum)
    });
}

fn records(left: &Stream<'_, Record>, right: &Stream<'_, Record>, io: &Io) {
    let out = |name: &str| io.sink::<Vec<u64>>(name);
    left.clone().map(row).sink("map", out("map"));
    left.clone().filter(|(_, value)| value % 2 == 0).map(row).sink("filter", out("filter"));
    left.clone()
        .filter_map(|(_, value)| value.checked_sub(20))
        .map(|value| vec![value])
        .sink("filter_map", out("filter_map"));
    let twice = left
        .clone()
        .flat_map(|(key, value), rows| rows.extend((0..u64::from(key)).map(|n| vec![n, value])));
    twice.sink("flat_map", out("flat_map"));
    left.clone().merge(right.clone()).map(row).sink("merge", out("merge"));
    let (even, odd) = left.clone().branch(|(_, value)| value % 2 == 0);
    even.map(row).sink("branch_even", out("branch_even"));
    odd.map(row).sink("branch_odd", out("branch_odd"));
    let (main, side) = left.clone().flat_map_aside(|record, main, side| {
        main.push(row(record));
        if record.1 > 30 {
            side.push(row(record));
        }
    });
    main.sink("main", out("main"));
    side.sink("side", out("side"));
}

fn exchanges(left: &Stream<'_, Record>, io: &Io) {
    let out = |name: &str| io.sink::<Vec<u64>>(name);
    left.clone().shuffle().map(row).shuffle().sink("shuffle", out("shuffle"));
    left.clone().partition_by(key).map(row).sink("partition_by", out("partition_by"));
    left.clone()
        .partition_with(|(_, value)| *value as usize)
        .map(row)
        .sink("partition_with", out("partition_with"));
    left.clone().global().map(row).sink("global", out("global"));
    left.clone().batch_global().map(row).sink("batch_global", out("batch_global"));
    // As often as there are workers: each once in a set.
    let once = left
        .clone()
        .broadcast()
        .group_by(|record| *record)
        .aggregate(Count)
        .map(|(record, _)| row(record));
    once.sink("broadcast", out("broadcast"));
    let here =
        left.clone().shuffle().partition_aggregate(Count).filter(|count| *count > 0).aggregate(Sum);
    here.map(|count| vec![count]).sink("partition_aggregate", out("partition_aggregate"));
}

fn batches(left: &Stream<'_, Record>, io: &Io) {
    let out = |name: &str| io.sink::<Vec<u64>>(name);
    let several = (
        Count,
        of(|(_, value): &Record| *value, Sum),
        of(|(_, value): &Record| *value, (Min, Max)),
    );
    // Shuffled, so that each worker has a part of what comes together behind it.
    let grouped = left.clone().shuffle().group_by(key).aggregate(several);
    grouped
        .map(|(key, (count, sum, (least, greatest)))| {
            vec![u64::from(key), count, sum, least, greatest]
        })
        .sink("aggregate", out("aggregate"));
    let large = left.clone().filter(|(_, value)| *value > 35).map(|(_, value)| value);
    large.shuffle().aggregate(Sum).map(|sum| vec![sum]).sink("aggregate_all", out("aggregate_all"));
    let reduced = left.clone().group_by(key).reduce(concatenation());
    reduced
        .map(|(key, values)| [vec![u64::from(key)], values].concat())
        .sink("reduce", out("reduce"));
    let large = left.clone().filter(|(_, value)| *value > 35);
    large.reduce(concatenation()).sink("reduce_all", out("reduce_all"));
    left.clone().batch_aggregate(Summary).sink("batch_aggregate", out("batch_aggregate"));
    let by_key = left.clone().group_by(key).batch_aggregate(Summary);
    by_key
        .map(|(key, values)| [vec![u64::from(key)], values].concat())
        .sink("batch_aggregate_by", out("batch_aggregate_by"));
    left.clone()
        .shuffle()
        .min_by(|record| (record.1, record.0))
        .map(row)
        .sink("min_by", out("min_by"));
    left.clone()
        .shuffle()
        .max_by(|record| (record.1, record.0))
        .map(row)
        .sink("max_by", out("max_by"));
    left.clone().first_n(2).map(row).sink("first_n", out("first_n"));
    let top = left.clone().shuffle().aggregate(top_k::<Record>(3));
    top.flat_map(|top, rows| rows.extend(top.into_iter().map(|top| row(top.record))))
        .sink("top_k", out("top_k"));
    let top = left.clone().aggregate(top_k_by(2, |(_, value): &Record| value % 7));
    top.flat_map(|top, rows| rows.extend(top.into_iter().map(|top| row(top.record))))
        .sink("top_k_by", out("top_k_by"));
}

fn joins(left: &Stream<'_, Record>, right: &Stream<'_, Record>, io: &Io) {
    let out = |name: &str| io.sink::<Vec<u64>>(name);
    let sides = || (left.clone().group_by(key), right.clone().group_by(key));
    let (one, other) = sides();
    let joined = one.join_batch(other, Inner).map(|(key, (l, r))| vec![u64::from(key), l.1, r.1]);
    joined.sink("join_inner", out("join_inner"));
    let (one, other) = sides();
    let joined = one
        .join_batch(other, Left)
        .map(|(key, (l, r))| vec![u64::from(key), l.1, some(r.map(|r| r.1))]);
    joined.sink("join_left", out("join_left"));
    let (one, other) = sides();
    let joined = one
        .join_batch(other, Right)
        .map(|(key, (l, r))| vec![u64::from(key), some(l.map(|l| l.1)), r.1]);
    joined.sink("join_right", out("join_right"));
    let (one, other) = sides();
    let joined = one.join_batch(other, Full);
    let joined = joined
        .map(|(key, (l, r))| vec![u64::from(key), some(l.map(|l| l.1)), some(r.map(|r| r.1))]);
    joined.sink("join_full", out("join_full"));
    let (one, other) = sides();
    let grouped = one.co_group_batch(other, |key, left, right, rows| {
        let values = left.iter().chain(&right).map(|record| record.1);
        rows.push(
            [u64::from(key), left.len() as u64].into_iter().chain(values).collect::<Vec<u64>>(),
        );
    });
    grouped.sink("co_group", out("co_group"));
}

fn states<'s>(left: &Stream<'s, Record>, io: &Io) -> State<'s, u8, (u64, u64)> {
    let out = |name: &str| io.sink::<Vec<u64>>(name);
    let counts = left
        .clone()
        .shuffle()
        .group_by(key)
        .persistent_aggregate("counts", (Count, of(|(_, value): &Record| *value, Sum)));
    let change = |change: tidemill::Change<u8, (u64, u64)>| {
        vec![
            u64::from(change.key),
            some(change.old.map(|old| old.1)),
            some(change.new.map(|new| new.1)),
        ]
    };
    counts.changes().map(change).sink("changes", out("changes"));
    left.clone().group_by(key).persistent_reduce("history", concatenation());
    left.clone()
        .map(|(key, value)| (key, Some(value).filter(|value| value % 3 > 0)))
        .upsert("table");
    left.clone().group_by(key).update_state(
        "last_two",
        |_, records, last: &mut Part<'_, u8, Vec<u64>>| {
            for (key, (_, value)) in records {
                if value % 5 == 0 {
                    last.remove(&key);
                } else {
                    let mut values = last.get(&key).cloned().unwrap_or_default();
                    values.push(value);
                    values.drain(..values.len().saturating_sub(2));
                    last.put(key, values);
                }
            }
        },
    );
    // Each record is moved to where the one before it points: any order but the source's gives
    // another state.
    let (_, moved) = left.clone().update_state_with(
        "together",
        |batch, records, cells: &mut Part<'_, u64, u64>, rows| {
            for (key, value) in records {
                let at = cells.get(&0).copied().unwrap_or(0);
                cells.put(1 + (at + u64::from(key)) % 4, value);
                cells.update(0, |at| *at = Some(at.unwrap_or(0) + value));
            }
            let mut sum = 0;
            cells.scan(|_, value| sum += value);
            let known = cells.get_many(&[1, 2, 3, 4]).iter().filter(|cell| cell.is_some()).count();
            rows.push(vec![batch.time_ms - START, sum, known as u64]);
        },
    );
    moved.sink("update_state", out("update_state"));
    left.clone().group_by(key).persistent_aggregate("first_and_last", (FirstN(2), LastN(2)));
    left.clone().shuffle().map(|(_, value)| value).persistent_aggregate("distinct", DistinctCount);
    left.clone().shuffle().map(|(_, value)| value).persistent_aggregate("moments", Variance);
    counts
}

fn lookups<'s>(
    topology: &Topology<'s>,
    right: &Stream<'s, Record>,
    counts: &State<'s, u8, (u64, u64)>,
    io: &Io,
) {
    let out = |name: &str| io.sink::<Vec<u64>>(name);
    let found = |(record, value): (Record, Option<(u64, u64)>)| {
        [row(record), vec![some(value.map(|value| value.1))]].concat()
    };
    right.clone().lookup_before(counts, key).map(found).sink("lookup_before", out("lookup_before"));
    right.clone().lookup_after(counts, key).map(found).sink("lookup_after", out("lookup_after"));
    let squares = topology.external_state(
        "squares",
        Squares,
        LookupCache { batches: 2, ..LookupCache::default() },
    );
    let found = right.clone().lookup_external(&squares, key);
    found
        .map(|(record, value)| [row(record), vec![some(value)]].concat())
        .sink("lookup_external", out("lookup_external"));
    // Two states joined by their changes: each pair once.
    let others = right
        .clone()
        .group_by(key)
        .persistent_aggregate("others", of(|(_, value): &Record| *value, Sum));
    let first = counts
        .changes()
        .lookup_before(&others, |change| change.key)
        .filter_map(|(change, other)| Some(vec![u64::from(change.key), change.new?.1, other?]));
    let second = others
        .changes()
        .lookup_after(counts, |change| change.key)
        .filter_map(|(change, count)| Some(vec![u64::from(change.key), count?.1, change.new?]));
    first.merge(second).sink("joined_states", out("joined_states"));
}
