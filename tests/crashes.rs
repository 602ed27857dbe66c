//! Crashes of the whole process, walked point by point and at random: whatever is killed when, each
//! record has counted once (I1, I2, I4, I5, I6).
//!
//! After each crash the store and the sinks are compared with a recount of the input up to the
//! recorded positions, and at the end with a recount of all of it. `TIDEMILL_LONG=1` walks more and
//! kills more often, `TIDEMILL_TEST_SEED=N` repeats a random run that failed.

#![allow(clippy::disallowed_methods)]

use std::fs;
use std::time::Duration;
use tidemill::{CrashPoint, Durability, Points, Position, Store};
use tidemill_harness::asked::{self, long};
use tidemill_harness::child::{How, SUBJECT};
use tidemill_harness::input::Input;
use tidemill_harness::place::Place;
use tidemill_harness::random::Random;
use tidemill_harness::run::Run;
use tidemill_harness::seen::Seen;
use tidemill_harness::subject;
use tidemill_state::Batch;

/// Not a test: what the child processes of the tests below do. Without the variable that they are
/// given, nothing.
#[test]
fn subject() {
    if let Ok(run) = std::env::var(SUBJECT) {
        subject::main(&run);
    }
}

/// How many lines a file has, about: enough for 30 batches of [`Run::with_workers`].
const LINES: u64 = 400;

/// At which time of reaching it a run crashes at this point: there is something before, and
/// something after it.
fn nth(point: CrashPoint, workers: usize) -> u64 {
    match point {
        CrashPoint::RecoveryOpened
        | CrashPoint::IncarnationWritten
        | CrashPoint::IncarnationRaised
        | CrashPoint::StoreUpgraded
        | CrashPoint::MigrationWritten
        | CrashPoint::SinksClaimed
        | CrashPoint::Registered => 1,
        // The last of the workers: the others are under way.
        CrashPoint::StateRestored | CrashPoint::SourcesOpened => workers as u64,
        CrashPoint::BatchOpened | CrashPoint::BatchClosed => 12,
        // With two workers, when one has handed its delta over and the other has not.
        CrashPoint::BatchComputed => 16,
        // Several batches may share a write.
        CrashPoint::BeforeWrite | CrashPoint::AfterWrite => 4,
        CrashPoint::BeforePublish | CrashPoint::PublishPrepared | CrashPoint::Published => 4,
        CrashPoint::FoldBegun | CrashPoint::FoldWritten | CrashPoint::FoldIngested => 2,
        CrashPoint::LogTrimmed => 2,
        CrashPoint::SinkMarkerRead
        | CrashPoint::SinkMarkerClaimed
        | CrashPoint::SinkBegun
        | CrashPoint::SinkProduced
        | CrashPoint::SinkDelivered
        | CrashPoint::SinkEnded => {
            unreachable!("no file sink gets to {}: it is walked with a broker", point.name())
        }
    }
}

/// The points of a start, at which a recovery can crash too.
const OF_A_START: [CrashPoint; 7] = [
    CrashPoint::RecoveryOpened,
    CrashPoint::IncarnationWritten,
    CrashPoint::IncarnationRaised,
    CrashPoint::SinksClaimed,
    CrashPoint::Registered,
    CrashPoint::StateRestored,
    CrashPoint::SourcesOpened,
];

#[test]
fn i5_after_an_abort_at_each_point_everything_has_counted_once() {
    walk("abort", |place, run, point, _| {
        place.crash(run, point, How::Abort, nth(point, run.workers));
        place.check_after_crash();
    });
}

#[test]
fn i5_after_a_kill_at_each_point_everything_has_counted_once() {
    walk("kill", |place, run, point, _| {
        place.crash(run, point, How::Kill, nth(point, run.workers));
        place.check_after_crash();
    });
}

#[test]
fn i5_after_a_second_crash_during_the_recovery_everything_has_counted_once() {
    walk("twice", |place, run, point, number| {
        let hows = [How::Abort, How::Kill];
        place.crash(run, point, hows[number % 2], nth(point, run.workers));
        place.check_after_crash();
        let second = OF_A_START[number % OF_A_START.len()];
        place.title += &format!(" then {}", second.name());
        place.crash(run, second, hows[number / 2 % 2], nth(second, run.workers));
        place.check_after_crash();
    });
}

/// Crashes a new subject at each point with 1 and 2 workers, as `crash` says; then lets it come to
/// its end, and checks.
fn walk(title: &str, crash: impl Fn(&mut Place, &Run, CrashPoint, usize)) {
    let mut runs = vec![Run::with_workers(1), Run::with_workers(2)];
    if long() {
        runs.push(Run::with_workers(3));
        runs.push(Run { durability: Durability::Process, ..Run::with_workers(2) });
    }
    let points = || CrashPoint::usual().filter(|point| !point.is_of_transactions());
    let cases = runs
        .iter()
        .enumerate()
        .flat_map(|(index, run)| points().map(move |point| (index, run, point)));
    for (number, (index, run, point)) in cases.enumerate() {
        let title = format!("{title} at {} with {} workers", point.name(), run.workers);
        let mut place = Place::new(title, number as u64, LINES);
        // Each round meets other recovery points.
        crash(&mut place, run, point, number + index);
        place.finish(run);
        place.check_at_end();
    }
}

#[test]
fn i1_a_run_without_a_crash_counts_each_record_once() {
    let mut place = Place::new("no crash", 1, LINES);
    place.finish(&Run::with_workers(2));
    place.check_at_end();
    let seen = Seen::at_end(place.folder());
    assert!(
        seen.committed.0 >= 30,
        "there are {} batches, too few to crash between them",
        seen.committed
    );
    // Nothing is read again: the next start finds everything done.
    place.finish(&Run::with_workers(1));
    place.check_at_end();
    assert_eq!(
        Seen::at_end(place.folder()).committed,
        seen.committed,
        "I3: there are no empty batches"
    );
}

#[test]
fn i5_a_state_of_two_workers_goes_on_with_one_and_with_four() {
    let mut place = Place::new("other numbers of workers", 2, 2 * LINES);
    let crashes = [
        (2, CrashPoint::AfterWrite),
        (1, CrashPoint::BatchComputed),
        (4, CrashPoint::PublishPrepared),
    ];
    for (workers, point) in crashes {
        place.crash(&Run::with_workers(workers), point, How::Kill, nth(point, workers));
        place.check_after_crash();
    }
    place.finish(&Run::with_workers(4));
    place.check_at_end();
}

#[test]
fn i5_after_kills_at_random_moments_everything_has_counted_once() {
    let first = asked::seed().unwrap_or_else(|| Random::of_the_clock().next() >> 32);
    let mut left = if long() { 200 } else { 20 };
    for seed in first.. {
        left -= left.min(killed_at_random(seed));
        if left == 0 {
            return;
        }
    }
}

/// Runs one subject to its end with kills at random moments: all of it from one seed. Gives the
/// number of kills.
fn killed_at_random(seed: u64) -> usize {
    let mut random = Random::new(seed);
    let lines = random.within(1000..4000);
    let mut place = Place::new(format!("TIDEMILL_TEST_SEED={seed}"), seed, lines);
    for kills in 0.. {
        let run = Run::random(&mut random);
        let mut child = place.start(&run, None);
        match child.ends_within(Duration::from_millis(random.within(5..400))) {
            None => child.kill(),
            Some(status) => {
                assert!(status.success(), "it did not come to its end: {child:?}");
                place.check_at_end();
                return kills;
            }
        }
        place.check_after_crash();
    }
    unreachable!("it is killed until it comes to its end")
}

#[test]
fn the_checker_finds_what_is_planted() {
    let mut place = Place::new("planted", 3, LINES);
    place.finish(&Run::with_workers(2));
    place.check_at_end();
    let check = |plant: &dyn Fn(&mut Seen, &Input), expected: &[&str]| {
        let mut seen = Seen::at_end(place.folder());
        plant(&mut seen, &place.input);
        let complaints = seen.complaints_at_end(&place.input).join("\n");
        for part in expected {
            assert!(complaints.contains(part), "{part} is not in: {complaints}");
        }
    };
    check(&|_, _| {}, &[]);
    // A lost and a doubled record, in each place by itself.
    check(
        &|seen, _| *seen.counts.get_mut("tide").expect("frequent") -= 1,
        &["state counts: \"tide\"", "sink changes, the last"],
    );
    check(
        &|seen, _| *seen.counts.get_mut("tide").expect("frequent") += 1,
        &["state counts: \"tide\""],
    );
    check(
        &|seen, _| seen.counts.remove("tide").map_or((), |_| ()),
        &["state counts: \"tide\" is None"],
    );
    check(&|seen, _| seen.bytes = seen.bytes.map(|bytes| bytes + 1), &["state bytes"]);
    check(
        &|seen, _| drop_lines(&mut seen.lines.file, 7, 1),
        &["sink lines:", "is None instead of Some(1)"],
    );
    check(
        &|seen, _| double_lines(&mut seen.lines.file, 7, 1),
        &["sink lines:", "is Some(2) instead of Some(1)"],
    );
    check(
        &|seen, _| swap_lines(&mut seen.lines.file),
        &["sink lines: the lines of a file are out of order"],
    );
    check(&|seen, _| drop_lines(&mut seen.changes.file, 7, 1), &["sink changes:", "goes from"]);
    check(&|seen, _| double_lines(&mut seen.changes.file, 7, 1), &["sink changes:", "goes from"]);
    // A lost batch: in a sink, and in the states.
    check(&|seen, _| drop_lines(&mut seen.lines.file, 20, 50), &["sink lines:"]);
    check(&|seen, _| drop_lines(&mut seen.changes.file, 20, 150), &["sink changes:"]);
    check(&forget_a_batch, &["state counts", "state bytes", "sink changes, the last"]);
    // A torn file.
    check(
        &|seen, _| seen.lines.file.truncate(seen.lines.file.len() - 5),
        &["sink lines: its file is torn", "its marker says"],
    );
    check(
        &|seen, _| seen.changes.file.truncate(seen.changes.file.len() - 1),
        &["sink changes: its file is torn"],
    );
    // Positions that are behind or ahead, a batch that is published early, output that is not
    // published.
    check(&|seen, input| *position(seen, input) -= 3, &["positions: that of", "instead of"]);
    check(
        &|seen, input| *position(seen, input) = first_lines(input),
        &["state bytes", "sink lines:"],
    );
    check(&|seen, _| seen.lines.marker = seen.committed.next(), &["sink lines holds batch"]);
    check(&|seen, _| seen.folded = seen.committed.next(), &["folded up to"]);
    check(
        &|seen, _| seen.lines.owed.push("\"A-0 TIDE\"".to_string()),
        &["1 records are not published"],
    );
}

#[test]
fn the_checker_finds_a_batch_that_a_store_has_lost() {
    let mut place = Place::new("a lost batch", 4, LINES);
    place.crash(&Run::with_workers(2), CrashPoint::AfterWrite, How::Kill, 1);
    place.check_after_crash();
    let store = Store::inspect(&subject::state(place.folder())).expect("the store can be read");
    let lost = place.input.files.iter().find_map(|file| {
        let source = store
            .facts()
            .expect("the store can be read")
            .schema
            .source(file.source())
            .expect("it was recorded");
        let (partition, length) = (file.path.display().to_string(), file.text.len() as u64);
        let recorded = store.positions(source).expect("the store can be read").remove(&partition);
        let unread = recorded.as_ref().map_or(0, |position| position.offset) < length;
        unread.then(|| {
            (source, partition, Position { offset: length, ..recorded.unwrap_or_default() })
        })
    });
    let positions = vec![lost.expect("not all files are read")];
    let batch = Batch { txid: store.committed().txid().next(), positions, ..Batch::default() };
    store.commit(&[batch], &Points::none()).expect("the store can be written");
    store.close(&Points::none()).expect("the store can be closed");
    let complaints =
        Seen::after_crash(place.folder()).expect("there is a store").complaints(&place.input);
    assert!(
        complaints.iter().any(|complaint| complaint.starts_with("state bytes")),
        "{complaints:?}"
    );
}

#[test]
fn the_checker_finds_a_sink_file_that_is_torn_on_disk() {
    let mut place = Place::new("a torn file", 5, LINES);
    place.finish(&Run::with_workers(1));
    let path = subject::output(place.folder(), "lines");
    let content = fs::read(&path).expect("the sink has written it");
    fs::write(&path, &content[..content.len() - 5]).expect("it can be written");
    let complaints = Seen::at_end(place.folder()).complaints_at_end(&place.input);
    assert!(complaints.iter().any(|complaint| complaint.contains("torn")), "{complaints:?}");
    // The subject refuses it too: nothing is made up.
    let mut child = place.start(&Run::with_workers(1), None);
    assert_eq!(child.wait().code(), Some(68), "{child:?}");
    assert!(child.said("was truncated"), "{child:?}");
}

/// A child fails, a check fails, or the store cannot be read at all: what the failure was about can
/// be looked at afterwards.
#[test]
fn what_a_failure_was_about_is_kept() {
    let (tell, told) = std::sync::mpsc::channel();
    let failed = std::thread::spawn(move || {
        let place = Place::new("a failure that is meant", 6, LINES);
        tell.send(place.folder().to_path_buf()).expect("the test listens");
        Seen::at_end(place.folder());
    });
    assert!(failed.join().is_err(), "there is no store to read");
    let kept = told.recv().expect("it has a folder");
    assert!(kept.join("a.txt").exists(), "{} is gone", kept.display());
    fs::remove_dir_all(kept).expect("it can be removed");
}

fn lines(file: &[u8]) -> Vec<Vec<u8>> {
    file.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

fn drop_lines(file: &mut Vec<u8>, from: usize, many: usize) {
    let mut lines = lines(file);
    lines.drain(from..from + many);
    *file = lines.concat();
}

fn double_lines(file: &mut Vec<u8>, from: usize, many: usize) {
    let mut lines = lines(file);
    let doubled = lines[from..from + many].to_vec();
    lines.splice(from..from, doubled);
    *file = lines.concat();
}

/// Moves the first line to the end.
fn swap_lines(file: &mut Vec<u8>) {
    let mut lines = lines(file);
    lines.rotate_left(1);
    *file = lines.concat();
}

/// Takes fifty lines out of the states, as if their batch had not been applied.
fn forget_a_batch(seen: &mut Seen, input: &Input) {
    for line in input.files[0].text.lines().skip(100).take(50) {
        seen.bytes = seen.bytes.map(|bytes| bytes - line.len() as u64);
        for word in line.split(' ').skip(1) {
            *seen.counts.get_mut(word).expect("it was counted") -= 1;
        }
    }
}

fn position<'a>(seen: &'a mut Seen, input: &Input) -> &'a mut u64 {
    seen.positions.get_mut(&input.files[0].path.display().to_string()).expect("it was read")
}

/// Where the third line of the file of [`position`] begins.
fn first_lines(input: &Input) -> u64 {
    input.files[0].text.split_inclusive('\n').take(2).map(|line| line.len() as u64).sum()
}
