//! Migrations: what an older version of a program has left becomes what this one declares, once,
//! whatever crashes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use tidemill::aggregates::{Max, fold};
use tidemill::prelude::*;
use tidemill::testing::{Io, Kit};
use tidemill::{CrashPoint, Kind};

/// The first version: sums by parity, and how often each number was there.
fn first(topology: &Topology<'_>, io: &Io) {
    let numbers = topology.source("in", io.source::<u64>("in"));
    numbers.clone().group_by(|number: &u64| *number % 2).persistent_aggregate("sums", Sum);
    numbers.clone().group_by(|number: &u64| *number).persistent_aggregate("counts", Count);
    numbers.group_by(|number: &u64| *number % 3).persistent_aggregate("greatest", Max);
}

/// The second: sums may be negative and are kept in tenths, counts go by the number's text under
/// another name, and "greatest" is gone.
fn second(topology: &Topology<'_>, io: &Io) {
    topology
        .migration("tenths")
        .convert_state("sums", |old: u64| i64::try_from(old).expect("small") * 10)
        .rename_state("counts", "texts")
        .convert_rows("texts", |number: u64, count: u64| (number.to_string(), count))
        .drop_state("greatest")
        .rename_source("in", "numbers");
    let numbers = topology.source("numbers", io.source::<u64>("in"));
    let tenths = |number: u64| i64::try_from(number).expect("small") * 10;
    numbers
        .clone()
        .group_by(|number: &u64| *number % 2)
        .persistent_aggregate("sums", of(move |number: &u64| tenths(*number), Sum));
    numbers
        .clone()
        .group_by(|number: &u64| number.to_string())
        .persistent_aggregate("texts", Count);
}

/// What the second version shows after these numbers.
fn expected(numbers: &[u64]) -> (BTreeMap<u64, i64>, BTreeMap<String, u64>) {
    let (mut sums, mut texts) = (BTreeMap::new(), BTreeMap::new());
    for number in numbers {
        *sums.entry(number % 2).or_default() += i64::try_from(*number).expect("small") * 10;
        *texts.entry(number.to_string()).or_default() += 1;
    }
    (sums, texts)
}

/// The first version after two batches, the second of which is not folded.
fn ran(workers: usize) -> (Kit, Vec<u64>) {
    let mut kit = Kit::with(|settings| settings.workers = workers, first);
    let numbers: Vec<u64> = (0..40).map(|n| n * n % 17).collect();
    for batch in numbers.chunks(20) {
        kit.feed("in", batch.iter().copied());
        kit.step();
    }
    (kit, numbers)
}

/// Commits a batch, and crashes before that is folded: a stop would fold it.
fn crash_unfolded(kit: &mut Kit, numbers: &mut Vec<u64>) {
    numbers.extend([5, 6, 7]);
    kit.feed("in", [5u64, 6, 7]);
    kit.crash(CrashPoint::AfterWrite);
}

fn check_second(kit: &mut Kit, numbers: &mut Vec<u64>, when: &str) {
    for _ in 0..2 {
        let (sums, texts) = expected(numbers);
        assert_eq!(kit.state::<u64, i64>("sums"), sums, "{when}");
        assert_eq!(kit.state::<String, u64>("texts"), texts, "{when}");
        numbers.extend([3, 3, 40]);
        kit.feed("in", [3u64, 3, 40]);
        kit.step();
    }
    let names: Vec<String> =
        kit.engine().runtime().status().states.iter().map(|state| state.name.clone()).collect();
    assert_eq!(names, ["sums", "texts"], "{when}");
}

#[test]
fn a_store_of_the_first_version_becomes_one_of_the_second_and_stays_so() {
    for workers in [1, 2] {
        let (mut kit, mut numbers) = ran(workers);
        kit.change_program(second);
        kit.restart();
        check_second(&mut kit, &mut numbers, "migrated");
        kit.restart();
        check_second(&mut kit, &mut numbers, "started again");
        kit.kill();
        kit.restart();
        check_second(&mut kit, &mut numbers, "killed and started again");
    }
}

#[test]
fn after_a_crash_at_each_point_of_the_start_a_migration_was_made_once() {
    use CrashPoint as P;
    let points = [
        P::RecoveryOpened,
        P::IncarnationWritten,
        P::IncarnationRaised,
        P::FoldBegun,
        P::FoldWritten,
        P::FoldIngested,
        P::MigrationWritten,
        P::SinksClaimed,
        P::Registered,
        P::StateRestored,
        P::SourcesOpened,
    ];
    for (number, point) in points.into_iter().enumerate() {
        let (mut kit, mut numbers) = ran(1 + number % 2);
        crash_unfolded(&mut kit, &mut numbers);
        kit.change_program(second);
        kit.restart_and_crash(point);
        kit.restart();
        check_second(&mut kit, &mut numbers, &format!("crashed at {}", point.name()));
        // Twice in a row, the second time wherever the first did not get to.
        let (mut kit, mut numbers) = ran(2 - number % 2);
        crash_unfolded(&mut kit, &mut numbers);
        kit.change_program(second);
        kit.restart_and_crash(point);
        kit.restart_and_crash(P::StateRestored);
        kit.restart();
        check_second(&mut kit, &mut numbers, &format!("crashed at {} and again", point.name()));
    }
}

#[test]
fn a_migration_that_was_cut_short_leaves_nothing_to_a_state_that_is_added_instead() {
    let (mut kit, mut numbers) = ran(2);
    kit.change_program(second);
    kit.restart_and_crash(CrashPoint::MigrationWritten);
    // Back to the first version, with states that are new: they get the numbers under which the
    // converted ones were written.
    kit.change_program(|topology, io| {
        first(topology, io);
        let more = topology.source("more", io.source::<u64>("more"));
        more.clone().group_by(|number: &u64| *number).persistent_aggregate("more", Count);
        more.group_by(|number: &u64| number.to_string()).persistent_aggregate("and more", Count);
    });
    kit.restart();
    assert!(
        kit.state::<u64, u64>("more").is_empty() && kit.state::<String, u64>("and more").is_empty(),
        "they are new"
    );
    kit.feed("more", [8u64]);
    kit.step();
    assert_eq!(kit.state::<u64, u64>("more"), [(8, 1)].into());
    // And then the migration after all.
    kit.change_program(|topology, io| {
        second(topology, io);
        topology.migration("less").drop_state("more").drop_state("and more").drop_source("more");
    });
    kit.restart();
    check_second(&mut kit, &mut numbers, "migrated at last");
}

#[test]
fn a_migration_that_is_mended_after_it_was_cut_short_leaves_nothing_of_the_first_try() {
    let (mut kit, numbers) = ran(2);
    kit.change_program(second);
    kit.restart_and_crash(CrashPoint::MigrationWritten);
    kit.restart_and_crash(CrashPoint::SinksClaimed);
    kit.change_program(|topology, io| {
        topology
            .migration("tenths")
            .convert_rows("counts", |number: u64, count: u64| (format!("n{number}"), count));
        let numbers = topology.source("in", io.source::<u64>("in"));
        numbers.clone().group_by(|number: &u64| *number % 2).persistent_aggregate("sums", Sum);
        numbers
            .clone()
            .group_by(|number: &u64| format!("n{number}"))
            .persistent_aggregate("counts", Count);
        numbers.group_by(|number: &u64| *number % 3).persistent_aggregate("greatest", Max);
    });
    kit.restart();
    let counts: BTreeMap<String, u64> =
        expected(&numbers).1.into_iter().map(|(text, count)| (format!("n{text}"), count)).collect();
    assert_eq!(kit.state::<String, u64>("counts"), counts);
}

#[test]
fn a_store_that_missed_two_versions_gets_both_migrations() {
    let (mut kit, numbers) = ran(2);
    kit.change_program(|topology, io| {
        topology.migration("one").drop_state("greatest").convert_state("sums", |old: u64| old + 1);
        topology
            .migration("two")
            .rename_state("sums", "texts")
            .convert_state("texts", |old: u64| format!("{old}!"));
        let numbers = topology.source("in", io.source::<u64>("in"));
        numbers.clone().group_by(|number: &u64| *number).persistent_aggregate("counts", Count);
        numbers
            .group_by(|number: &u64| *number % 2)
            .persistent_aggregate("texts", of(ToString::to_string, Max));
    });
    kit.restart();
    let sum = |odd: u64| numbers.iter().filter(|number| *number % 2 == odd).sum::<u64>();
    assert_eq!(
        kit.state::<u64, String>("texts"),
        [0, 1].map(|odd| (odd, format!("{}!", sum(odd) + 1))).into()
    );
}

#[test]
fn a_state_that_was_dropped_comes_back_empty() {
    let (mut kit, _) = ran(2);
    kit.change_program(|topology, io| {
        topology.migration("afresh").drop_state("counts");
        first(topology, io);
    });
    kit.restart();
    assert!(kit.state::<u64, u64>("counts").is_empty(), "it is a new one");
    kit.feed("in", [5u64, 5]);
    kit.step();
    assert_eq!(kit.state::<u64, u64>("counts"), [(5, 2)].into());
    kit.restart();
    assert_eq!(kit.state::<u64, u64>("counts"), [(5, 2)].into(), "it was dropped once");
}

mod v1 {
    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    pub(super) struct Total {
        pub(super) sum: u64,
    }
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Total {
    sum: u64,
    records: u64,
}

#[test]
fn a_struct_with_another_field_is_converted_from_the_one_that_it_was() {
    let mut kit = Kit::new(|topology, io| {
        let numbers = topology.source("in", io.source::<u64>("in"));
        numbers.persistent_reduce(
            "total",
            fold(|| v1::Total { sum: 0 }, |total: &mut v1::Total, number| total.sum += number),
        );
    });
    kit.feed("in", [3u64, 4]);
    kit.step();
    kit.change_program(|topology, io| {
        topology
            .migration("count too")
            .convert_state("total", |old: v1::Total| Total { sum: old.sum, records: 0 });
        let numbers = topology.source("in", io.source::<u64>("in"));
        let add = |total: &mut Total, number| {
            (total.sum, total.records) = (total.sum + number, total.records + 1)
        };
        numbers.persistent_reduce("total", fold(|| Total { sum: 0, records: 0 }, add));
    });
    kit.restart();
    kit.feed("in", [5u64]);
    kit.step();
    assert_eq!(kit.state::<(), Total>("total")[&()], Total { sum: 12, records: 1 });
}

/// A migration that is refused, with its kind and parts of its message; the first version goes on
/// as if nothing had been tried.
fn refused(
    kind: Kind,
    parts: &[&str],
    second: impl Fn(&Topology<'_>, &Io) + Send + Sync + 'static,
) {
    let (mut kit, numbers) = ran(2);
    kit.change_program(second);
    let error = kit.try_restart().expect_err("it is refused");
    assert_eq!(error.kind(), kind, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "{part:?} is not in: {error}");
    }
    kit.change_program(first);
    kit.restart();
    kit.feed("in", [1u64]);
    kit.step();
    let mut counts = BTreeMap::new();
    numbers.iter().chain(&[1]).for_each(|number| *counts.entry(*number).or_default() += 1);
    assert_eq!(kit.state::<u64, u64>("counts"), counts);
}

#[test]
fn a_conversion_that_fails_is_refused_and_changes_nothing() {
    let migrating = |declare: fn(&Topology<'_>)| {
        move |topology: &Topology<'_>, io: &Io| {
            declare(topology);
            let numbers = topology.source("in", io.source::<u64>("in"));
            numbers.clone().group_by(|number: &u64| *number % 2).persistent_aggregate("sums", Sum);
            numbers
                .clone()
                .group_by(|number: &u64| *number as u8)
                .persistent_aggregate("counts", Count);
            numbers.group_by(|number: &u64| *number % 3).persistent_aggregate("greatest", Max);
        }
    };
    refused(
        Kind::UserCode,
        &[
            "state \"counts\"",
            "(u8) -> u64",
            "panicked at key 13",
            "no thirteen",
            "Nothing was changed",
        ],
        migrating(|topology| {
            let convert = |number: u64, count: u64| {
                assert_ne!(number, 13, "no thirteen");
                (number as u8, count)
            };
            topology.migration("m").convert_rows("counts", convert);
        }),
    );
    refused(
        Kind::UserCode,
        &["two keys become", "Nothing was changed"],
        migrating(|topology| {
            topology
                .migration("m")
                .convert_rows("counts", |number: u64, count: u64| ((number / 2) as u8, count));
        }),
    );
    refused(
        Kind::Config,
        &["migration \"m\"", "keys of state \"counts\" are recorded as u64", "takes u16"],
        migrating(|topology| {
            topology
                .migration("m")
                .convert_rows("counts", |number: u16, count: u64| (number as u8, count));
        }),
    );
    refused(
        Kind::Config,
        &[
            "state \"counts\" was (u64) -> u64, is (u8) -> u64",
            "topology.migration(name)",
            "convert_state",
            "--start-over",
        ],
        migrating(|_| ()),
    );
    refused(
        Kind::Config,
        &["two migrations are named \"m\""],
        migrating(|topology| {
            topology.migration("m").drop_state("greatest");
            topology.migration("m").drop_state("sums");
        }),
    );
}

#[test]
fn a_sink_is_dropped_only_when_it_has_confirmed_everything() {
    let with_sink = |topology: &Topology<'_>, io: &Io| {
        let numbers = topology.source("in", io.source::<u64>("in"));
        numbers.clone().persistent_aggregate("total", Sum);
        numbers.sink("out", io.sink("out"));
    };
    let without = |topology: &Topology<'_>, io: &Io| {
        topology.migration("quiet").drop_sink("out");
        topology.source("in", io.source::<u64>("in")).persistent_aggregate("total", Sum);
    };
    let mut kit = Kit::new(with_sink);
    kit.feed("in", [1u64, 2]);
    // It is durable, and not published.
    kit.crash(CrashPoint::BeforePublish);
    kit.change_program(without);
    let error = kit.try_restart().expect_err("output would be lost").to_string();
    for part in
        ["migration \"quiet\"", "batches 1 to 1", "not confirmed", "Start the program that has it"]
    {
        assert!(error.contains(part), "{error}");
    }
    kit.change_program(with_sink);
    kit.restart();
    kit.feed("in", [3u64]);
    kit.step();
    assert_eq!(kit.output::<u64>("out"), [1, 2, 3]);
    kit.change_program(without);
    kit.restart();
    kit.feed("in", [4u64]);
    kit.step();
    assert_eq!(kit.state::<(), u64>("total")[&()], 10);
    assert_eq!(kit.output::<u64>("out"), [1, 2, 3], "it gets nothing more");
}

/// A number that is written as the program's version says: a type that has changed what is in it,
/// under its name.
#[derive(Clone)]
struct Sized(i64);

static SIGNED: AtomicBool = AtomicBool::new(false);

impl serde::Serialize for Sized {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if SIGNED.load(SeqCst) {
            to.serialize_i64(self.0)
        } else {
            to.serialize_u64(self.0.unsigned_abs())
        }
    }
}

impl<'de> serde::Deserialize<'de> for Sized {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Sized, D::Error> {
        if SIGNED.load(SeqCst) {
            i64::deserialize(from).map(Sized)
        } else {
            u64::deserialize(from).map(|n| Sized(n as i64))
        }
    }
}

#[test]
fn a_type_that_has_changed_what_is_in_it_is_refused_under_its_name_too() {
    let mut kit = Kit::new(|topology, io| {
        let numbers = topology.source("in", io.source::<i64>("in"));
        numbers
            .persistent_reduce("sum", fold(|| Sized(0), |sum: &mut Sized, number| sum.0 += number));
    });
    kit.feed("in", [3i64]);
    kit.step();
    SIGNED.store(true, SeqCst);
    let error = kit.try_restart().expect_err("3 would be read as -2");
    assert_eq!(error.kind(), Kind::Config, "{error}");
    for part in [
        "state \"sum\" was",
        "Sized, made of (()) -> u64",
        "is made of (()) -> i64",
        "convert_state",
    ] {
        assert!(error.to_string().contains(part), "{part:?} is not in: {error}");
    }
    SIGNED.store(false, SeqCst);
    kit.restart();
    assert_eq!(kit.state::<(), Sized>("sum")[&()].0, 3);
}

#[test]
fn migrations_that_are_declared_side_by_side_keep_their_changes() {
    let mut kit = Kit::new(first);
    kit.change_program(|topology, io| {
        let (one, two) = (topology.migration("one"), topology.migration("two"));
        two.rename_state("b", "c");
        one.rename_state("a", "b");
        first(topology, io);
    });
    let error = kit.try_restart().expect_err("the store has no such states").to_string();
    assert!(
        error.contains("migration \"one\"") && error.contains("state \"a\" becomes \"b\""),
        "{error}"
    );
}
