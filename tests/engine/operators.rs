//! Every operator against an oracle: random records in random batches, with crashes, failures and
//! restarts with another number of workers between them, compared with plain code over sorted maps.

mod oracle;
mod program;

use oracle::{Expected, Group};
use program::{Failing, START, topology};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use tidemill::testing::{CrashPoint, Kit};

/// What happens while a batch is on its way.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Nothing,
    /// A clean restart before it.
    Restart,
    /// A crash at this point.
    Crash(CrashPoint),
    /// An operator panics once; the generation is built anew.
    Panic,
}

#[derive(Clone, Debug)]
struct Case {
    workers: usize,
    /// Each with the number of workers after its fault.
    batches: Vec<(Group, Fault, usize)>,
}

/// The points that every batch reaches.
const POINTS: [CrashPoint; 8] = [
    CrashPoint::BatchOpened,
    CrashPoint::BatchClosed,
    CrashPoint::BatchComputed,
    CrashPoint::BeforeWrite,
    CrashPoint::AfterWrite,
    CrashPoint::BeforePublish,
    CrashPoint::PublishPrepared,
    CrashPoint::Published,
];

fn cases() -> impl Strategy<Value = Case> {
    let fault = prop_oneof![
        6 => Just(Fault::Nothing),
        1 => Just(Fault::Restart),
        2 => (0..POINTS.len()).prop_map(|point| Fault::Crash(POINTS[point])),
        1 => Just(Fault::Panic),
    ];
    let record = || (0..5u8, 1..40u64);
    // Some are larger than what travels at once, so that order has a meaning there too.
    let left = prop_oneof![9 => prop::collection::vec(record(), 1..24), 1 => prop::collection::vec(record(), 300..900)];
    let right = prop::collection::vec(record(), 0..12);
    let batch = ((left, right).prop_map(|(left, right)| Group { left, right }), fault, 1..5usize);
    (1..5usize, prop::collection::vec(batch, 1..5))
        .prop_map(|(workers, batches)| Case { workers, batches })
}

/// Runs a case; the number of each batch's first record time is the number of the batch, by a clock
/// that is set by hand.
fn run(case: &Case) -> (Kit, Expected) {
    let failing: Failing = Arc::default();
    let inside = Arc::clone(&failing);
    let mut kit = Kit::with(
        |settings| (settings.workers, settings.retries) = (case.workers, 2),
        move |built, io| topology(built, io, &inside),
    );
    let mut expected = Expected::default();
    for (group, fault, workers) in &case.batches {
        if matches!(fault, Fault::Restart) {
            kit.settings().workers = *workers;
            kit.restart();
        }
        kit.set_time_ms(START + expected.batches());
        kit.feed("left", group.left.iter().copied());
        kit.feed("right", group.right.iter().copied());
        match fault {
            Fault::Crash(point) => {
                kit.crash(*point);
                kit.settings().workers = *workers;
                kit.restart();
            }
            Fault::Panic => failing.store(true, SeqCst),
            Fault::Nothing | Fault::Restart => {}
        }
        kit.step();
        assert!(!failing.load(SeqCst), "the operator has failed once");
        expected.add(group);
        assert_eq!(kit.ask::<u64>("counted", &"all").1, expected.records(), "query");
    }
    (kit, expected)
}

fn same<T: Ord + Debug>(name: &str, mut got: Vec<T>, mut expected: Vec<T>) {
    got.sort();
    expected.sort();
    assert_eq!(got, expected, "{name}");
}

fn same_state<K, V>(kit: &Kit, name: &str, expected: &BTreeMap<K, V>)
where
    K: Ord + Debug + tidemill::states::Storable + std::hash::Hash + Eq,
    V: Debug + PartialEq + tidemill::states::Storable,
{
    assert_eq!(&kit.state::<K, V>(name), expected, "state {name}");
}

fn check(case: &Case) {
    let (kit, expected) = run(case);
    for (name, rows) in expected.outputs() {
        same(name, kit.output::<Vec<u64>>(name), rows.clone());
    }
    same_state(&kit, "counts", &expected.counts);
    same_state(&kit, "history", &expected.history);
    same_state(&kit, "table", &expected.table);
    same_state(&kit, "last_two", &expected.last_two);
    same_state(&kit, "together", &expected.together);
    same_state(&kit, "first_and_last", &expected.first_and_last);
    let distinct = kit.state::<(), tidemill::aggregates::Distinct>("distinct");
    assert_eq!(distinct[&()].estimate(), expected.values.len() as u64, "distinct");
    let moments = kit.state::<(), tidemill::aggregates::Moments>("moments")[&()];
    let difference = moments.variance().expect("there are some") - expected.variance();
    assert!(difference.abs() < 1e-6, "variance");
}

/// Runs so many random cases, and says of one that fails what is the least of it that does.
fn run_cases(number: u32) {
    let config = Config {
        cases: number,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&cases(), |case| {
            check(&case);
            Ok(())
        })
        .unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn every_operator_does_what_plain_code_does() {
    let cases = if std::env::var_os("TIDEMILL_LONG").is_some() { 100_000 } else { 300 };
    // A case waits for the disk most of its time: so many at once.
    let side_by_side = 5;
    std::thread::scope(|scope| {
        for _ in 0..side_by_side {
            scope.spawn(|| run_cases(cases / side_by_side));
        }
    });
}
