//! Records that make user code fail: the others of their batch are counted once, the bad ones are
//! in the dead letters once.

use std::collections::{BTreeMap, BTreeSet};
use tidemill::aggregates::{Combiner, fold};
use tidemill::prelude::*;
use tidemill::source::DeadLetter;
use tidemill::testing::{CrashPoint, Effect, Io, Kit};
use tidemill::{Kind, OnFailure, Part};

/// Records that are numbers; those from here on are bad.
const BAD: u64 = 1_000_000;

/// Where the code is that fails at a bad record.
#[derive(Clone, Copy, Debug)]
enum Where {
    Map,
    MapBehindShuffle,
    Key,
    Combiner,
    Reducer,
    BatchReduce,
    Update,
}

/// Sums, but fails at a bad record, when it meets another.
struct Picky;

impl Combiner<u64> for Picky {
    type Value = u64;
    fn init(&self, record: &u64) -> u64 {
        refuse(*record);
        *record
    }
    fn combine(&self, into: &mut u64, other: u64) {
        *into += other;
    }
    fn zero(&self) -> Option<u64> {
        Some(0)
    }
}

fn refuse(record: u64) {
    assert!(record < BAD, "{record} is bad");
}

/// Sums the records by their last digit in the state `sums`, and counts all of the good in `out`.
fn topology(topology: &Topology<'_>, io: &Io, at: Where) {
    topology.on_failure(topology.dead_letter("bad", io.sink("bad")));
    let records = topology.source("in", io.source::<u64>("in"));
    let checked = |n: u64| {
        refuse(n);
        n
    };
    let digit = |n: &u64| n % 10;
    let sums = match at {
        Where::Map => records.map(checked).group_by(digit).persistent_aggregate("sums", Sum),
        Where::MapBehindShuffle => {
            records.shuffle().map(checked).group_by(digit).persistent_aggregate("sums", Sum)
        }
        Where::Key => {
            records.group_by(move |n| digit(&checked(*n))).persistent_aggregate("sums", Sum)
        }
        Where::Combiner => records.group_by(digit).persistent_aggregate("sums", Picky),
        Where::Reducer => records.group_by(digit).persistent_reduce(
            "sums",
            fold(
                || 0,
                |sum: &mut u64, n: u64| {
                    refuse(n);
                    *sum += n;
                },
            ),
        ),
        Where::BatchReduce => {
            let picky = fold(
                || 0,
                |sum: &mut u64, n: u64| {
                    refuse(n);
                    *sum += n;
                },
            );
            records.group_by(digit).reduce(picky).group_by(|(digit, _)| *digit).persistent_reduce(
                "sums",
                fold(|| 0, |sum: &mut u64, (_, n): (u64, u64)| *sum += n),
            )
        }
        Where::Update => records.group_by(digit).update_state(
            "sums",
            |_, records, sums: &mut Part<'_, u64, u64>| {
                for (digit, n) in records {
                    refuse(n);
                    sums.update(digit, |sum| *sum = Some(sum.unwrap_or(0) + n));
                }
            },
        ),
    };
    sums.changes().map(|change| change.key).sink("out", io.sink("out"));
}

/// The sums that there must be.
fn expected(records: &[u64]) -> BTreeMap<u64, u64> {
    let mut sums = BTreeMap::new();
    for n in records.iter().filter(|n| **n < BAD) {
        *sums.entry(n % 10).or_default() += n;
    }
    sums
}

/// `number` records, of which those at `bad` are.
fn records(number: u64, bad: &BTreeSet<u64>) -> Vec<u64> {
    (0..number).map(|n| if bad.contains(&n) { BAD + n } else { n }).collect()
}

fn kit(at: Where, workers: usize) -> Kit {
    Kit::with(
        |settings| settings.workers = workers,
        move |topology_, io| topology(topology_, io, at),
    )
}

/// Every good record is counted once, and every bad one is in the letters once.
fn is_exact(kit: &Kit, fed: &[u64], what: &str) {
    assert_eq!(kit.state::<u64, u64>("sums"), expected(fed), "{what}");
    let mut letters = kit.output::<DeadLetter>("bad");
    letters.sort_by_key(|letter| letter.offset);
    let bad: Vec<(usize, &u64)> = fed.iter().enumerate().filter(|(_, n)| **n >= BAD).collect();
    assert_eq!(letters.len(), bad.len(), "{what}: {letters:?}");
    for (letter, (offset, n)) in letters.iter().zip(bad) {
        assert_eq!(letter.offset, Some(offset as u64), "{what}: {letter:?}");
        assert_eq!(
            (letter.source.as_deref(), letter.partition.as_deref()),
            (Some("in"), Some("fed")),
            "{what}"
        );
        assert_eq!(letter.bytes.as_deref(), Some(n.to_string().as_bytes()), "{what}");
        assert!(letter.error.contains(&format!("{n} is bad")), "{what}: {letter:?}");
        assert!(
            letter.operator.as_ref().is_some_and(|operator| operator.contains("poison.rs")),
            "{what}: {letter:?}"
        );
    }
}

fn check(at: Where, workers: usize, number: u64, bad: &[u64]) {
    let what = format!("{at:?}, {workers} workers, {} of {number} bad", bad.len());
    let fed = records(number, &bad.iter().copied().collect());
    let mut kit = kit(at, workers);
    kit.feed("in", fed.iter().copied());
    let txid = kit.step();
    assert_eq!(txid.0, 1, "{what}: the rest commits under the same number");
    is_exact(&kit, &fed, &what);
    let set_aside: u64 = kit.engine().runtime().status().set_aside.values().sum();
    assert_eq!(set_aside, bad.len() as u64, "{what}: they are counted");
    // And it goes on.
    kit.feed("in", [7u64]);
    kit.step();
    kit.restart();
    let fed: Vec<u64> = fed.into_iter().chain([7]).collect();
    is_exact(&kit, &fed, &what);
}

#[test]
fn one_two_a_hundred_and_all_records_of_a_batch_bad_in_a_map() {
    let hundred: Vec<u64> = (0..100).map(|n| n * 97).collect();
    let all: Vec<u64> = (0..10_000).collect();
    for (at, workers) in
        [(Where::Map, 1), (Where::Map, 2), (Where::MapBehindShuffle, 2), (Where::Key, 2)]
    {
        for bad in [&[4_711][..], &[0, 9_999], &hundred, &all] {
            check(at, workers, 10_000, bad);
        }
    }
}

#[test]
fn one_and_two_bad_records_are_found_behind_an_exchange() {
    for at in [Where::Combiner, Where::Reducer, Where::BatchReduce, Where::Update] {
        check(at, 2, 10_000, &[4_711]);
        check(at, 1, 1_000, &[0, 999]);
        check(at, 4, 1_000, &[500, 501]);
    }
}

#[test]
fn i1_a_crash_in_the_middle_of_the_search_counts_nothing_twice() {
    let fed = records(1_000, &BTreeSet::from([17, 600]));
    for at in [Where::Reducer, Where::Update] {
        for nth in [1, 2, 5, 9, 14] {
            let mut kit = kit(at, 2);
            kit.feed("in", [1u64, 2, 3]);
            kit.step();
            kit.feed("in", fed.iter().copied());
            // Trials compute their batch like any other; only those that pass get here.
            kit.points().arm(CrashPoint::BatchComputed, Effect::Stop, nth);
            let _ = kit.try_step();
            assert!(kit.points().stopped(), "{at:?}: it has crashed");
            kit.kill();
            kit.restart();
            let all: Vec<u64> = [1, 2, 3].into_iter().chain(fed.iter().copied()).collect();
            kit.step();
            is_exact(&kit, &all, &format!("{at:?}, crash at trial {nth}"));
        }
    }
}

#[test]
fn batches_in_flight_before_the_bad_one_are_counted_once() {
    // Many small batches are on their way when one fails.
    let fed = records(5_000, &BTreeSet::from([3_333]));
    let mut kit = Kit::with(
        |settings| {
            settings.workers = 2;
            settings.batches.max_records = 100;
            settings.batches.max_in_flight = 4;
        },
        |topology_, io| topology(topology_, io, Where::Reducer),
    );
    kit.feed("in", fed.iter().copied());
    kit.step();
    is_exact(&kit, &fed, "many batches");
}

#[test]
fn what_fails_only_together_stops_and_says_so() {
    let mut kit = Kit::new(|topology, io| {
        topology.on_failure(OnFailure::SKIP);
        let records = topology.source("in", io.source::<u8>("in"));
        records.group_by(|_| "all".to_string()).persistent_aggregate("sums", Sum);
    });
    kit.feed("in", [100u8, 100]);
    kit.step();
    let error = kit.try_step_after(&[30u8, 30]).expect_err("it does not fit");
    assert_eq!(error.kind(), Kind::UserCode);
    for part in
        ["fail only together", "a sum does not fit", "for the key \"all\"", "state \"sums\""]
    {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
}

trait TryStepAfter {
    fn try_step_after(&mut self, records: &[u8]) -> tidemill::Result<tidemill::Txid>;
}

impl TryStepAfter for Kit {
    fn try_step_after(&mut self, records: &[u8]) -> tidemill::Result<tidemill::Txid> {
        self.feed("in", records.iter().copied());
        self.try_step()
    }
}

#[test]
fn without_a_policy_a_bad_record_stops_the_topology() {
    let mut kit = Kit::new(|topology, io| {
        topology
            .source("in", io.source::<u64>("in"))
            .group_by(|n| n % 10)
            .persistent_aggregate("sums", Picky);
    });
    kit.feed("in", [1, BAD]);
    let error = kit.try_step().expect_err("it is bad");
    assert_eq!(error.kind(), Kind::UserCode);
    assert!(
        error.to_string().contains("for the key 0") && error.to_string().contains("is bad"),
        "{error}"
    );
}

#[test]
fn a_record_that_fails_only_without_another_of_its_batch_is_not_set_aside() {
    const OPEN: u64 = 1;
    const DEPOSIT: u64 = 2;
    for workers in [1, 2] {
        let mut kit = Kit::with(
            |settings| settings.workers = workers,
            |topology, io| {
                topology.on_failure(topology.dead_letter("bad", io.sink("bad")));
                let records = topology.source("in", io.source::<u64>("in"));
                records.persistent_reduce(
                    "account",
                    fold(
                        || (false, 0),
                        |(open, deposits): &mut (bool, u64), record: u64| {
                            refuse(record);
                            *open |= record == OPEN;
                            assert!(record != DEPOSIT || *open, "the account is not open");
                            *deposits += u64::from(record == DEPOSIT);
                        },
                    ),
                );
            },
        );
        // Alone in their half, the deposits fail as the bad record does.
        kit.feed("in", [OPEN, 7, BAD, DEPOSIT, 7, DEPOSIT]);
        assert_eq!(kit.step().0, 1);
        assert_eq!(kit.state::<(), (bool, u64)>("account")[&()], (true, 2), "{workers} workers");
        let letters = kit.output::<DeadLetter>("bad");
        assert_eq!(
            letters.iter().map(|letter| letter.offset).collect::<Vec<_>>(),
            [Some(2)],
            "{workers} workers: {letters:?}"
        );
    }
}
