//! Generations, failing user code and crash points within one process, against a single-threaded
//! run of the same topology over plain maps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use tidemill::prelude::*;
use tidemill::testing::{CrashPoint, Io, Kit};
use tidemill::{Kind, Txid};

/// Two sources, three states, four sinks.
fn build(topology: &Topology<'_>, io: &Io) {
    let words = topology.source("words", io.source::<String>("words"));
    let numbers = topology.source("numbers", io.source::<u64>("numbers"));
    let counts = words.clone().group_by(|word| word.clone()).persistent_aggregate("counts", Count);
    counts.changes().sink("changes", io.sink("changes"));
    numbers.clone().persistent_aggregate("total", Sum);
    numbers.group_by(|number| number % 3).persistent_aggregate("largest", Max);
    words.clone().map(|word| word.to_uppercase()).sink("loud", io.sink("loud"));
    words.clone().group_by(|word| word.len()).aggregate(Count).sink("lengths", io.sink("lengths"));
    words.aggregate(Count).sink("words per batch", io.sink("words per batch"));
}

/// The oracle: what [`build`] must give, batch by batch, made with plain maps.
#[derive(Default)]
struct Model {
    counts: BTreeMap<String, u64>,
    total: BTreeMap<(), u64>,
    largest: BTreeMap<u64, u64>,
    loud: Vec<String>,
    lengths: Vec<(usize, u64)>,
    words_per_batch: Vec<u64>,
}

impl Model {
    fn step(&mut self, words: &[String], numbers: &[u64]) {
        let mut lengths: BTreeMap<usize, u64> = BTreeMap::new();
        for word in words {
            *self.counts.entry(word.clone()).or_default() += 1;
            *lengths.entry(word.len()).or_default() += 1;
        }
        self.loud.extend(words.iter().map(|word| word.to_uppercase()));
        self.lengths.extend(lengths);
        self.words_per_batch.push(words.len() as u64);
        for number in numbers {
            *self.total.entry(()).or_default() += number;
            let largest = self.largest.entry(number % 3).or_default();
            *largest = *number.max(largest);
        }
    }

    fn check(&self, kit: &Kit, when: &str) {
        assert_eq!(kit.state::<String, u64>("counts"), self.counts, "counts {when}");
        assert_eq!(kit.state::<(), u64>("total"), self.total, "total {when}");
        assert_eq!(kit.state::<u64, u64>("largest"), self.largest, "largest {when}");
        self.check_output(kit, when);
    }

    /// What can be seen without a running topology.
    fn check_output(&self, kit: &Kit, when: &str) {
        assert_eq!(kit.output::<String>("loud"), self.loud, "loud {when}");
        assert_eq!(
            kit.output::<u64>("words per batch"),
            self.words_per_batch,
            "words per batch {when}"
        );
        assert_eq!(
            sorted(kit.output::<(usize, u64)>("lengths")),
            sorted(self.lengths.clone()),
            "lengths {when}"
        );
        let mut last: BTreeMap<String, u64> = BTreeMap::new();
        for Change { key, old, new } in kit.output::<Change<String, u64>>("changes") {
            assert_eq!(
                last.get(&key).copied(),
                old,
                "the change of {key:?} begins where the one before ended, {when}"
            );
            last.insert(key, new.expect("a count is never removed"));
        }
        assert_eq!(last, self.counts, "the last changes {when}");
    }
}

fn sorted<T: Ord>(mut of: Vec<T>) -> Vec<T> {
    of.sort();
    of
}

/// The records of the batch with this number.
fn batch(number: u64) -> (Vec<String>, Vec<u64>) {
    let words = (0..number * 7 % 40).map(|at| {
        ["tide", "mill", "pond", "sluice", "wheel"][((number + at * at) % 5) as usize].to_string()
    });
    (words.collect(), (0..1 + number * 5 % 30).map(|at| number * 31 + at).collect())
}

/// A topology under test beside its oracle.
struct Pair {
    kit: Kit,
    model: Model,
    batches: u64,
}

impl Pair {
    fn new(workers: usize) -> Pair {
        Pair {
            kit: Kit::with(|settings| settings.workers = workers, build),
            model: Model::default(),
            batches: 0,
        }
    }

    /// Gives both the next batch; the topology does not run it yet.
    fn feed(&mut self) {
        self.batches += 1;
        let (words, numbers) = batch(self.batches);
        self.kit.feed("words", words.clone());
        self.kit.feed("numbers", numbers.clone());
        self.model.step(&words, &numbers);
    }

    fn step_and_check(&mut self, when: &str) {
        assert_eq!(
            self.kit.step(),
            Txid(self.batches),
            "batches are numbered without gaps, {when}"
        );
        self.model.check(&self.kit, when);
    }
}

/// Where a point can be crashed at.
enum Reached {
    /// During a start.
    Start,
    /// While a batch runs, or a little after it.
    Batch,
}

fn reached(point: CrashPoint) -> Reached {
    match point {
        CrashPoint::RecoveryOpened
        | CrashPoint::IncarnationWritten
        | CrashPoint::IncarnationRaised
        | CrashPoint::StoreUpgraded
        | CrashPoint::MigrationWritten
        | CrashPoint::SinkMarkerRead
        | CrashPoint::SinkMarkerClaimed
        | CrashPoint::SinksClaimed
        | CrashPoint::Registered
        | CrashPoint::StateRestored
        | CrashPoint::SourcesOpened => Reached::Start,
        CrashPoint::BatchOpened
        | CrashPoint::BatchClosed
        | CrashPoint::BatchComputed
        | CrashPoint::BeforeWrite
        | CrashPoint::AfterWrite
        | CrashPoint::BeforePublish
        | CrashPoint::SinkBegun
        | CrashPoint::SinkProduced
        | CrashPoint::SinkDelivered
        | CrashPoint::PublishPrepared
        | CrashPoint::SinkEnded
        | CrashPoint::Published
        | CrashPoint::FoldBegun
        | CrashPoint::FoldWritten
        | CrashPoint::FoldIngested
        | CrashPoint::LogTrimmed => Reached::Batch,
    }
}

#[test]
fn i5_after_a_crash_at_each_point_everything_has_counted_once() {
    for workers in [1, 2] {
        let mut pair = Pair::new(workers);
        for point in CrashPoint::usual() {
            let when = format!("after a crash at {} with {workers} workers", point.name());
            pair.feed();
            match reached(point) {
                Reached::Start => pair.kit.restart_and_crash(point),
                Reached::Batch => pair.kit.crash(point),
            }
            pair.kit.restart();
            pair.step_and_check(&when);
            pair.feed();
            pair.step_and_check(&format!("one batch after: {when}"));
        }
    }
}

#[test]
fn i5_after_a_second_crash_during_the_recovery_everything_has_counted_once() {
    let is = |wanted: fn(Reached) -> bool| {
        CrashPoint::usual().filter(move |point| wanted(reached(*point)))
    };
    let of_a_start: Vec<CrashPoint> = is(|reached| matches!(reached, Reached::Start)).collect();
    for workers in [1, 2] {
        let mut pair = Pair::new(workers);
        for (number, first) in is(|reached| matches!(reached, Reached::Batch)).enumerate() {
            let second = of_a_start[(number + workers) % of_a_start.len()];
            pair.feed();
            pair.kit.crash(first);
            pair.kit.restart_and_crash(second);
            pair.kit.restart();
            pair.step_and_check(&format!(
                "after {} then {} with {workers} workers",
                first.name(),
                second.name()
            ));
        }
    }
}

#[test]
fn i3_batches_follow_each_other_without_gaps() {
    let set = |settings: &mut tidemill::Settings| {
        (settings.workers, settings.batches.max_records) = (2, 7)
    };
    let mut kit = Kit::with(set, build);
    for number in 1..20 {
        let (words, numbers) = batch(number);
        kit.feed("words", words);
        kit.feed("numbers", numbers);
    }
    kit.step();
    let mut batches = kit.engine().runtime().batches(1000);
    batches.reverse();
    assert!(batches.len() >= 20, "{} batches", batches.len());
    let mut ends: BTreeMap<String, u64> = BTreeMap::new();
    for (batch, txid) in batches.iter().zip(1..) {
        assert_eq!(batch.txid, Txid(txid));
        assert!((1..=7).contains(&batch.records), "batch {txid} has {} records", batch.records);
        for range in &batch.ranges {
            let end = ends.insert(range.source.clone(), range.end).unwrap_or(0);
            assert_eq!(
                range.start, end,
                "I1: batch {txid} reads \"{}\" from where the one before ended",
                range.source
            );
        }
    }
}

#[test]
fn i4_nothing_of_an_uncommitted_batch_is_visible() {
    for point in [CrashPoint::BatchComputed, CrashPoint::BeforeWrite] {
        let mut pair = Pair::new(2);
        pair.feed();
        pair.step_and_check("at first");
        let shown = std::mem::take(&mut pair.model);
        pair.feed();
        pair.kit.crash(point);
        shown.check_output(&pair.kit, "after the crash");
        pair.kit.restart();
        shown.check(&pair.kit, "after the restart");
    }
}

#[test]
fn i6_output_is_published_once_however_often_its_publication_is_cut_short() {
    let mut pair = Pair::new(1);
    pair.feed();
    pair.kit.crash(CrashPoint::AfterWrite);
    for point in [
        CrashPoint::BeforePublish,
        CrashPoint::PublishPrepared,
        CrashPoint::Published,
        CrashPoint::BeforePublish,
    ] {
        pair.kit.restart_and_crash(point);
    }
    pair.kit.restart();
    pair.step_and_check("after five crashes");
}

/// How user code fails.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Panic,
    Err,
    /// Behind an exchange.
    Combine,
}

/// Counts words; fails at the word "rock" as `fault` says, as long as `times` is not 0.
fn failing(
    fault: Fault,
    times: Arc<AtomicU32>,
) -> impl Fn(&Topology<'_>, &Io) + Send + Sync + 'static {
    move |topology, io| {
        let fails = |wanted: bool| {
            let times = Arc::clone(&times);
            move || wanted && times.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok()
        };
        let (panics, errs) =
            (fails(matches!(fault, Fault::Panic)), fails(matches!(fault, Fault::Err)));
        let combines = fails(matches!(fault, Fault::Combine));
        let words =
            topology
                .source("words", io.source::<String>("words"))
                .inspect(move |word| assert!(word != "rock" || !panics(), "a rock in the wheel"))
                .try_map(move |word| {
                    if word == "rock" && errs() { Err("a rock in the sluice") } else { Ok(word) }
                });
        words.clone().sink("words", io.sink("words"));
        let counts =
            words.group_by(|word| word.clone()).persistent_aggregate("counts", Breaking(combines));
        counts.changes().map(|change| (change.key, change.new)).sink("changes", io.sink("changes"));
    }
}

/// Counts; where counts of a key come together that is not the first time, it may fail.
struct Breaking<F>(F);

impl<F: Fn() -> bool + 'static> Combiner<String> for Breaking<F> {
    type Value = (bool, u64);

    fn init(&self, word: &String) -> (bool, u64) {
        (word == "rock", 1)
    }

    fn add(&self, into: &mut (bool, u64), _: &String) {
        into.1 += 1;
    }

    fn combine(&self, into: &mut (bool, u64), other: (bool, u64)) {
        assert!(!other.0 || !self.0(), "a rock in the pond");
        into.1 += other.1;
    }

    fn zero(&self) -> Option<(bool, u64)> {
        None
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_string).collect()
}

/// The counts of all words so far.
fn counts(kit: &Kit) -> String {
    let counts = kit.state::<String, (bool, u64)>("counts");
    counts.iter().map(|(word, (_, count))| format!("{word} {count}")).collect::<Vec<_>>().join(", ")
}

const FAULTS: [Fault; 3] = [Fault::Panic, Fault::Err, Fault::Combine];

#[test]
fn i5_a_failure_that_passes_builds_a_new_generation_and_everything_counts_once() {
    for (fault, workers) in FAULTS.into_iter().flat_map(|fault| [(fault, 1), (fault, 2)]) {
        let times = Arc::new(AtomicU32::new(0));
        let set =
            |settings: &mut tidemill::Settings| (settings.workers, settings.retries) = (workers, 1);
        let mut kit = Kit::with(set, failing(fault, Arc::clone(&times)));
        kit.feed("words", words("a rock"));
        kit.step();
        // Again and again: what counts is failures in a row.
        for round in 2..5 {
            times.store(1, SeqCst);
            kit.feed("words", words("a rock b"));
            assert_eq!(kit.step(), Txid(round), "{fault:?}");
            assert_eq!(times.load(SeqCst), 0, "{fault:?} has not failed");
            assert_eq!(
                counts(&kit),
                format!("a {round}, b {}, rock {round}", round - 1),
                "{fault:?} with {workers} workers"
            );
            assert_eq!(kit.engine().runtime().status().generations, round, "{fault:?}");
        }
        assert_eq!(
            kit.output::<String>("words"),
            words("a rock a rock b a rock b a rock b"),
            "{fault:?}"
        );
        assert_eq!(
            kit.output::<(String, Option<(bool, u64)>)>("changes").len(),
            2 + 3 * 3,
            "{fault:?}"
        );
    }
}

#[test]
fn i9_a_failure_that_stays_stops_the_topology_and_says_where() {
    let check = |fault: Fault, workers: usize, parts: &[&str]| {
        let times = Arc::new(AtomicU32::new(0));
        let mut kit =
            Kit::with(|settings| settings.workers = workers, failing(fault, Arc::clone(&times)));
        kit.feed("words", words("a rock"));
        kit.step();
        times.store(u32::MAX, SeqCst);
        kit.feed("words", words("b a rock c"));
        let error = kit.try_step().expect_err("it fails each time");
        assert_eq!((error.kind(), error.kind().exit_code()), (Kind::UserCode, 69), "{error}");
        for part in parts {
            assert!(error.to_string().contains(part), "{part} is not in: {error}");
        }
        // I4: nothing of the batch is visible.
        assert_eq!(kit.output::<String>("words"), words("a rock"), "{fault:?}");
        assert_eq!(kit.output::<(String, Option<(bool, u64)>)>("changes").len(), 2, "{fault:?}");
        // It fails again, at the same place, until it is mended.
        kit.restart();
        assert_eq!(kit.try_step().expect_err("it is not mended").to_string(), error.to_string());
        kit.change_program(failing(fault, Arc::new(AtomicU32::new(0))));
        kit.restart();
        assert_eq!(counts(&kit), "a 1, rock 1", "{fault:?}");
        assert_eq!(kit.step(), Txid(2));
        assert_eq!(counts(&kit), "a 2, b 1, c 1, rock 2", "{fault:?}");
        assert_eq!(kit.output::<String>("words"), words("a rock b a rock c"), "{fault:?}");
    };
    let record = "at source \"words\", partition \"fed\", offset 4, in batch 2";
    let range = "in batch 2, source \"words\" partition \"fed\" [2, 6)";
    for workers in [1, 2] {
        check(
            Fault::Panic,
            workers,
            &["operator inspect#1 (", "generations.rs:", record, "panicked: a rock in the wheel"],
        );
        check(
            Fault::Err,
            workers,
            &[
                "operator try_map#2 (",
                "generations.rs:",
                record,
                ": a rock in the sluice. Nothing of batch 2",
            ],
        );
        check(
            Fault::Combine,
            workers,
            &[
                "operator state \"counts\" (",
                "generations.rs:",
                range,
                "panicked: a rock in the pond",
            ],
        );
    }
}

#[test]
fn i5_failures_beyond_the_retries_stop_the_topology() {
    let times = Arc::new(AtomicU32::new(3));
    let mut kit =
        Kit::with(|settings| settings.retries = 2, failing(Fault::Panic, Arc::clone(&times)));
    kit.feed("words", words("a rock"));
    assert_eq!(kit.try_step().expect_err("the third failure in a row").kind(), Kind::UserCode);
    assert_eq!(times.load(SeqCst), 0);
    kit.restart();
    assert_eq!(kit.step(), Txid(1));
    assert_eq!(counts(&kit), "a 1, rock 1");
}

#[test]
fn i5_a_state_goes_on_with_other_numbers_of_workers() {
    let mut pair = Pair::new(2);
    for workers in [2, 1, 4, 3, 1] {
        pair.kit.settings().workers = workers;
        pair.feed();
        pair.kit.restart_and_crash(CrashPoint::BatchComputed);
        pair.kit.restart();
        pair.step_and_check(&format!("with {workers} workers"));
    }
}

#[test]
fn i4_a_path_without_a_sink_holds_its_batch_too() {
    let (failing, seen) = (Arc::new(AtomicU32::new(1)), Arc::new(AtomicU32::new(0)));
    let (fails, sees) = (Arc::clone(&failing), Arc::clone(&seen));
    // It keeps nothing and gives nothing: there is no other end at which a batch could be seen to
    // be complete.
    let mut kit = Kit::with(
        |settings| settings.workers = 2,
        move |topology, io| {
            let (fails, sees) = (Arc::clone(&fails), Arc::clone(&sees));
            let sleep = |ms| std::thread::sleep(std::time::Duration::from_millis(ms));
            // Each worker has nothing to do with the batch any more, as far as it can see, when it
            // fails.
            let there = topology
                .source("in", io.source::<u64>("in"))
                .partition_with(|_| 1)
                .inspect(move |_| sleep(100));
            there.partition_with(|_| 0).inspect(move |_| {
                sleep(30);
                assert!(fails.load(SeqCst) == 0, "a rock behind the wheel");
                sees.fetch_add(1, SeqCst);
            });
        },
    );
    kit.feed("in", [1u64]);
    assert_eq!(kit.try_step().expect_err("it fails").kind(), Kind::UserCode);
    failing.store(0, SeqCst);
    kit.restart();
    assert_eq!(kit.step(), Txid(1), "nothing of it was committed");
    assert_eq!(seen.load(SeqCst), 1, "and it is read again");
}

#[test]
fn a_look_up_that_nothing_reads_is_made_before_its_batch_is_committed() {
    let mut kit = Kit::with(
        |settings| settings.workers = 2,
        |topology, io| {
            let numbers = topology.source("in", io.source::<u64>("in"));
            let counts =
                numbers.clone().group_by(|n| n % 100).persistent_aggregate("counts", Count);
            numbers.lookup_before(&counts, |n| n % 100).inspect(|_| std::hint::black_box(()));
        },
    );
    for round in 1..=20 {
        kit.feed("in", 0..20_000u64);
        assert_eq!(kit.step(), Txid(round));
    }
    assert_eq!(kit.state::<u64, u64>("counts")[&7], 20 * 200);
}
