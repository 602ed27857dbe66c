//! From Kafka and back, through crashes of the process and faults of a real broker: whatever goes
//! away when, each record has counted once, and each output is there once (I1, I2, I5, I6).
//!
//! Afterwards a recount of what a read_committed reader sees of the input is compared with the
//! states and with what such a reader sees of the outputs. `TIDEMILL_LONG=1` walks the whole matrix
//! of crash points, crashes and faults, and more random rounds. A failure names the case:
//! `TIDEMILL_TEST_CASE=…` repeats it alone, `TIDEMILL_TEST_SEED=N` a random round.

use std::time::Duration;
use tidemill::CrashPoint;
use tidemill_harness::asked::{self, long};
use tidemill_harness::broker::Broker;
use tidemill_harness::child::{How, Running, crash_at};
use tidemill_harness::kafka::fault::{Begun, Fault};
use tidemill_harness::kafka::input::{Content, Input};
use tidemill_harness::kafka::lane::{Shown, each_case};
use tidemill_harness::kafka::place::Place;
use tidemill_harness::kafka::seen::Seen;
use tidemill_harness::random::Random;
use tidemill_harness::run::Run;
use tidemill_harness::topics::Seen as Message;

/// How many lines a partition has, about: enough for 25 batches of [`run`].
const LINES: u64 = 120;

/// Small batches, several folds, and sinks that are waited for at almost every batch.
fn run() -> Run {
    Run { batch_records: 40, fold_bytes: 1 << 10, outbox_bytes: 8 << 10, ..Run::with_workers(2) }
}

/// At which time of reaching it [`run`] crashes at this point: there is something before, and
/// something after it.
fn nth(point: CrashPoint) -> u64 {
    match point {
        CrashPoint::RecoveryOpened
        | CrashPoint::IncarnationWritten
        | CrashPoint::IncarnationRaised
        | CrashPoint::StoreUpgraded
        | CrashPoint::MigrationWritten
        | CrashPoint::SinksClaimed
        | CrashPoint::Registered => 1,
        // The last of the workers, or of the sinks: the others are further.
        CrashPoint::StateRestored
        | CrashPoint::SourcesOpened
        | CrashPoint::SinkMarkerRead
        | CrashPoint::SinkMarkerClaimed => 2,
        CrashPoint::BatchOpened | CrashPoint::BatchClosed => 12,
        // When one worker has handed its delta over and the other has not.
        CrashPoint::BatchComputed => 17,
        // Several batches may share a write.
        CrashPoint::BeforeWrite | CrashPoint::AfterWrite => 4,
        CrashPoint::BeforePublish
        | CrashPoint::SinkBegun
        | CrashPoint::SinkProduced
        | CrashPoint::PublishPrepared
        | CrashPoint::Published => 4,
        // The first are the claims'.
        CrashPoint::SinkDelivered | CrashPoint::SinkEnded => 6,
        CrashPoint::FoldBegun | CrashPoint::FoldWritten | CrashPoint::FoldIngested => 2,
        CrashPoint::LogTrimmed => 1,
    }
}

/// The points of a start, at which a recovery can crash too.
const OF_A_START: [CrashPoint; 9] = [
    CrashPoint::RecoveryOpened,
    CrashPoint::SinkMarkerRead,
    CrashPoint::IncarnationWritten,
    CrashPoint::IncarnationRaised,
    CrashPoint::SinkMarkerClaimed,
    CrashPoint::SinksClaimed,
    CrashPoint::StateRestored,
    CrashPoint::Registered,
    CrashPoint::SourcesOpened,
];

/// A crash, and what goes wrong with the broker at that moment.
struct Case {
    number: usize,
    point: CrashPoint,
    how: How,
    /// Where the recovery crashes, if it does: by the other way.
    then: Option<CrashPoint>,
    fault: Fault,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let then = self.then.map_or(String::new(), |then| format!(" then {}", then.name()));
        write!(f, "{:?} at {}{then}, {}", self.how, self.point.name(), self.fault)
    }
}

/// Every crash point once, or with all crashes and all faults.
fn cases() -> Vec<Case> {
    let hows = [How::Abort, How::Kill];
    if !long() {
        let case = |(number, point): (usize, CrashPoint)| Case {
            number,
            point,
            how: hows[number % 2],
            then: None,
            fault: Fault::None,
        };
        return CrashPoint::usual().enumerate().map(case).collect();
    }
    let mut cases = Vec::new();
    for (index, point) in CrashPoint::usual().enumerate() {
        // Each point meets three points of a start.
        let second = |fault: usize| OF_A_START[(index + 3 * fault) % OF_A_START.len()];
        for (at, fault) in [Fault::None, Fault::Killed, Fault::Paused(Duration::from_secs(5))]
            .into_iter()
            .enumerate()
        {
            let crashes =
                [(hows[0], None), (hows[1], None), (hows[(index + at) % 2], Some(second(at)))];
            for (how, then) in crashes {
                cases.push(Case { number: cases.len(), point, how, then, fault });
            }
        }
    }
    cases
}

#[test]
fn i6_after_a_crash_at_each_point_every_record_has_counted_once_and_every_output_is_there_once() {
    let only = asked::case();
    let cases: Vec<Case> = cases()
        .into_iter()
        .filter(|case| only.as_ref().is_none_or(|only| case.to_string().contains(only)))
        .collect();
    let begin = |broker: &Broker| {
        let mut input = Input::new(&broker.address(), "input");
        input.send(&mut Random::new(1), LINES);
        let content = input.read();
        (input, content)
    };
    each_case(
        "crash points",
        if long() { 2 } else { 1 },
        &cases,
        begin,
        |broker, (input, content), case, attempt| walk(broker, input, content, case, attempt),
    );
}

/// Crashes a new subject as the case says; then lets it come to its end, and checks.
fn walk(
    broker: &mut Broker,
    input: &Input,
    content: &Content,
    case: &Case,
    attempt: usize,
) -> Shown {
    let name = format!("case-{}-{attempt}", case.number);
    let mut place =
        Place::new(format!("TIDEMILL_TEST_CASE='{case}'"), &broker.address(), &name, input);
    let mut child =
        place.start(&run(), Some(&crash_at(case.point, case.how, nth(case.point))), None);
    child.reaches(case.point, case.how);
    let mut fault = Some(case.fault.begin(broker));
    let mut back = |broker: &mut Broker| {
        fault.take().map_or(Shown::Everything, |fault| fault.end(broker, &name))
    };
    // What waits there, and the sinks and workers beside it, see the broker again before they are
    // killed; or they do not.
    if case.number.is_multiple_of(2) && back(broker) == Shown::Nothing {
        return Shown::Nothing;
    }
    child.kill();
    place.check_after_crash(content);
    if let Some(then) = case.then {
        let how = if case.how == How::Abort { How::Kill } else { How::Abort };
        let mut child = place.start(&run(), Some(&crash_at(then, how, nth(then))), None);
        if back(broker) == Shown::Nothing {
            return Shown::Nothing;
        }
        child.reaches(then, how);
        child.kill();
        place.check_after_crash(content);
    }
    let child = place.start(&run(), None, Some(content));
    if back(broker) == Shown::Nothing {
        return Shown::Nothing;
    }
    ends_well(child);
    place.check_at_end(content);
    place.remove_topics();
    Shown::Everything
}

fn ends_well(mut child: Running) {
    let status = child.wait();
    assert!(status.success(), "it did not come to its end: {child:?}");
}

#[test]
fn i6_after_random_kills_and_faults_of_the_broker_every_output_is_there_once() {
    let first = asked::seed().unwrap_or_else(|| Random::of_the_clock().next() >> 32);
    let rounds = match asked::seed() {
        Some(_) => 1,
        None if long() => 100,
        None => 3,
    };
    let seeds: Vec<u64> = (first..first + rounds).collect();
    let lanes = if long() { 2 } else { 1 };
    each_case(
        "random rounds",
        lanes,
        &seeds,
        |_| (),
        |broker, (), seed, attempt| round(broker, *seed, attempt),
    );
}

/// Kills one subject again and again while its input grows and its broker comes and goes: all of it
/// from one seed.
fn round(broker: &mut Broker, seed: u64, attempt: usize) -> Shown {
    let (mut random, name) = (Random::new(seed), format!("round-{seed}-{attempt}"));
    let mut input = Input::new(&broker.address(), &name);
    let mut place =
        Place::new(format!("TIDEMILL_TEST_SEED={seed}"), &broker.address(), &name, &input);
    let lines = random.within(20..200);
    input.send(&mut random, lines);
    let mut content = input.read();
    let mut away: Option<Begun> = None;
    for _ in 0..random.within(2..7) {
        let mut child = place.start(&Run::random(&mut random), None, None);
        if away.take().is_some_and(|fault| fault.end(broker, &name) == Shown::Nothing) {
            return Shown::Nothing;
        }
        goes_on_for(&mut child, random.within(10..1500));
        let pause = Fault::Paused(Duration::from_millis(random.within(100..5000)));
        let begun = random.one_of(&[Fault::None, Fault::None, Fault::Killed, pause]).begin(broker);
        goes_on_for(&mut child, random.within(0..500));
        if random.within(0..2) == 0 {
            if begun.end(broker, &name) == Shown::Nothing {
                return Shown::Nothing;
            }
            goes_on_for(&mut child, random.within(0..3000));
        } else {
            // The next start finds it away.
            away = Some(begun);
        }
        child.kill();
        place.check_after_crash(&content);
        if away.is_none() {
            let lines = random.within(0..100);
            input.send(&mut random, lines);
            content = input.read();
        }
    }
    let child = place.start(&Run::random(&mut random), None, Some(&content));
    if away.take().is_some_and(|fault| fault.end(broker, &name) == Shown::Nothing) {
        return Shown::Nothing;
    }
    ends_well(child);
    place.check_at_end(&content);
    place.remove_topics();
    input.remove_topics();
    Shown::Everything
}

/// Lets it go on for so many milliseconds. It must not end by itself, whatever the broker does.
fn goes_on_for(child: &mut Running, ms: u64) {
    let ended = child.ends_within(Duration::from_millis(ms));
    assert!(ended.is_none(), "it has ended by itself: {child:?}");
}

#[test]
#[expect(clippy::too_many_lines, reason = "one list of everything that is planted")]
fn the_checker_finds_what_is_planted() {
    let broker = Broker::start();
    let mut input = Input::new(&broker.address(), "planted");
    input.send(&mut Random::new(2), LINES);
    let content = input.read();
    let mut place = Place::new("planted", &broker.address(), "planted", &input);
    ends_well(place.start(&run(), None, Some(&content)));
    place.check_at_end(&content);
    let left = place.seen_at_end();
    assert!(left.changes.len() > 500 && left.lines.len() > 500, "there is little to plant in");
    let check = |plant: &dyn Fn(&mut Seen), expected: &[&str]| {
        let mut seen = left.clone();
        plant(&mut seen);
        let complaints = seen.complaints_at_end(&content).join("\n");
        for part in expected {
            assert!(complaints.contains(part), "{part} is not in: {complaints}");
        }
    };
    check(&|_| {}, &[]);
    // A lost and a doubled record, in each place by itself.
    check(
        &|seen| *seen.counts.get_mut("tide").expect("frequent") -= 1,
        &["state counts: \"tide\""],
    );
    check(
        &|seen| *seen.counts.get_mut("tide").expect("frequent") += 1,
        &["state counts: \"tide\""],
    );
    check(&|seen| seen.bytes = seen.bytes.map(|bytes| bytes - 9), &["state bytes"]);
    check(&|seen| drop(seen.lines.remove(77)), &["sink lines:", "is None instead of Some(1)"]);
    check(
        &|seen| seen.lines.insert(77, seen.lines[77].clone()),
        &["sink lines:", "is Some(2) instead of Some(1)"],
    );
    check(
        &|seen| drop(seen.changes.remove(changes_of(seen, "tide")[3])),
        &["sink changes: \"tide\" goes from"],
    );
    check(
        &|seen| double(&mut seen.changes, changes_of(&left, "tide")[3]),
        &["sink changes: \"tide\" goes from"],
    );
    // The first and the last: no change comes before the one, and none after the other.
    check(
        &|seen| drop(seen.changes.remove(changes_of(seen, "tide")[0])),
        &["sink changes: \"tide\" goes from Some"],
    );
    check(
        &|seen| drop(seen.changes.remove(*changes_of(seen, "tide").last().expect("one"))),
        &["the last of each word: \"tide\""],
    );
    // Swapped: two changes of a word, two lines of a partition.
    check(
        &|seen| seen.changes.swap(changes_of(&left, "tide")[3], changes_of(&left, "tide")[4]),
        &["sink changes: \"tide\" goes from"],
    );
    check(
        &|seen| seen.lines.swap(0, 1),
        &["sink lines: the lines of a partition are out of order"],
    );
    // A missing batch: in a sink, and in the states.
    check(&|seen| drop(seen.lines.drain(200..240)), &["sink lines:", "is None instead of Some(1)"]);
    check(&|seen| drop(seen.changes.drain(200..300)), &["sink changes:", "goes from"]);
    check(&|seen| forget_a_batch(seen, &content), &["state counts", "state bytes"]);
    // A doubled batch.
    check(
        &|seen| drop(seen.lines.splice(240..240, left.lines[200..240].to_vec())),
        &["sink lines:", "is Some(2)"],
    );
    check(
        &|seen| drop(seen.changes.splice(300..300, left.changes[200..300].to_vec())),
        &["sink changes:", "goes from"],
    );
    // What was aborted, what is torn, positions that are behind and ahead.
    check(
        &|seen| seen.lines[5].value = Some("aborted-0 tide".into()),
        &["has the key", "\"aborted-0 tide\" is Some(1) instead of None"],
    );
    check(&|seen| seen.changes[5].value = Some("{".into()), &["sink changes: what is"]);
    check(&|seen| seen.changes[5].key = Some("another".into()), &["sink changes: what is"]);
    check(&|seen| *seen.positions.values_mut().next().expect("one") -= 1, &["positions:"]);
    check(&|seen| drop(seen.positions.pop_first()), &["positions:"]);
}

/// Where the changes of a word are.
fn changes_of(seen: &Seen, word: &str) -> Vec<usize> {
    let of_word = |message: &Message| message.key.as_deref() == Some(word);
    seen.changes
        .iter()
        .enumerate()
        .filter(|(_, message)| of_word(message))
        .map(|(at, _)| at)
        .collect()
}

fn double(messages: &mut Vec<Message>, at: usize) {
    messages.insert(at, messages[at].clone());
}

/// Takes forty lines out of the states, as if their batch had not been applied.
fn forget_a_batch(seen: &mut Seen, content: &Content) {
    let lines = content.lines.values().next().expect("a partition has lines");
    for (_, line) in lines.iter().skip(20).take(40) {
        seen.bytes = seen.bytes.map(|bytes| bytes - line.len() as u64);
        for word in line.split(' ').skip(1) {
            *seen.counts.get_mut(word).expect("it was counted") -= 1;
        }
    }
}
