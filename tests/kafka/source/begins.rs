//! Where a source begins that was never read, and that a restart never goes back there.

use super::copying::{
    Copying, brokers, copies, decoded, kafka, ranges_are_whole, reaches, send, source, stop,
    wait_until,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{SystemTime, UNIX_EPOCH};
use tidemill::Kind;
use tidemill::source::StartAt;
use tidemill_harness::hooked::{Hooked, Read};
use tidemill_harness::topics::{create_topic, produce_timed};

/// Where a source of 100 records begins.
#[derive(Clone, Copy)]
struct Begins {
    /// Where the program says.
    first: StartAt,
    offset: Option<i64>,
    /// What `--from` says.
    from: Option<StartAt>,
    /// The first record that is read.
    at: usize,
    /// The first that a new topology of the same program reads, of 110.
    at_anew: usize,
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    i64::try_from(since.as_millis()).expect("it is small")
}

/// The record of number n has the time `base + 10 n`.
fn check_begin(case: &str, topic: &str, base: i64, begins: Begins) {
    let Begins { first, offset, from, at, at_anew } = begins;
    let brokers = brokers();
    let name = format!("{topic}[0]");
    let send = |numbers: std::ops::Range<i64>| {
        produce_timed(
            &brokers,
            topic,
            numbers.map(|number| (base + 10 * number, number.to_string())),
        );
    };
    create_topic(&brokers, topic, 1, &[]);
    send(0..100);
    let program = {
        let topic = topic.to_string();
        move || {
            let topics = kafka().source([&topic]).first(first);
            decoded(
                offset
                    .into_iter()
                    .fold(topics, |topics, offset| topics.first_offset(&topic, 0, offset)),
            )
        }
    };
    let copying = Copying::new(topic);
    let engine = copying.start(from, program.clone()).expect("it starts");
    reaches(&engine, [(name.as_str(), 100)]);
    copying.has_copied(case, copies(topic, at..100));
    send(100..105);
    reaches(&engine, [(name.as_str(), 105)]);
    copying.has_copied(case, copies(topic, at..105));
    stop(engine);
    send(105..110);
    // Said the other way round, so that it would be seen.
    let otherwise = if at == 0 { StartAt::Latest } else { StartAt::Earliest };
    let engine = copying.start(Some(otherwise), program.clone()).expect("it starts");
    reaches(&engine, [(name.as_str(), 110)]);
    copying.has_copied(&format!("{case}, restarted"), copies(topic, at..110));
    stop(engine);
    let anew = Copying::new(&format!("{topic}-anew"));
    let engine = anew.start(from, program).expect("it starts");
    reaches(&engine, [(name.as_str(), 110)]);
    anew.has_copied(&format!("{case}, a new topology"), copies(topic, at_anew..110));
    stop(engine);
}

#[test]
fn a_new_topology_begins_where_it_is_told_and_a_restart_never_does() {
    let base = now_ms() - 60_000;
    let begins = |first, from, at, at_anew| Begins { first, offset: None, from, at, at_anew };
    let at_offset = |offset, from, at, at_anew| Begins {
        first: StartAt::Latest,
        offset: Some(offset),
        from,
        at,
        at_anew,
    };
    let cases = [
        ("from the earliest", begins(StartAt::Earliest, None, 0, 0)),
        ("from the latest", begins(StartAt::Latest, None, 100, 110)),
        ("from a record's time", begins(StartAt::Time(base + 500), None, 50, 50)),
        ("from a time between two records", begins(StartAt::Time(base + 501), None, 51, 51)),
        ("from a time after all records", begins(StartAt::Time(base + 10_000), None, 100, 110)),
        ("from an offset", at_offset(40, None, 40, 40)),
        ("from the offset of the end", at_offset(100, None, 100, 100)),
        (
            "told otherwise on the command line",
            begins(StartAt::Latest, Some(StartAt::Earliest), 0, 0),
        ),
        ("told a time on the command line", at_offset(40, Some(StartAt::Time(base)), 0, 0)),
    ];
    // Some at a time: each waits most of its time.
    for some in cases.chunks(5) {
        std::thread::scope(|scope| {
            for (case, begins) in some {
                let topic = case.replace([' ', '\''], "-");
                scope.spawn(move || check_begin(case, &topic, base, *begins));
            }
        });
    }
    let copying = Copying::new("beyond");
    let beyond =
        || decoded(kafka().source(["from-an-offset"]).first_offset("from-an-offset", 0, 111));
    let error = copying.start(None, beyond).err().expect("it is refused");
    assert_eq!(error.kind(), Kind::Config, "{error}");
    assert!(
        error.to_string().contains("told to begin at 111, but its offsets go from 0 to 110"),
        "{error}"
    );
}

#[test]
fn after_empty_polls_nothing_is_missing_and_nothing_comes_twice() {
    create_topic(&brokers(), "polled", 1, &[]);
    let empty = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&empty);
    let polled = source(&["polled"]);
    let copying = Copying::new("polled");
    let engine = copying.start(None, move || {
        let empty = Arc::clone(&counted);
        Hooked::new(polled(), move |read: &Read<'_>| {
            empty.fetch_add(usize::from(read.given == 0), SeqCst);
            read.status
        })
    });
    let engine = engine.expect("it starts");
    for end in [100, 110] {
        let before = empty.load(SeqCst);
        wait_until(&engine, |_| empty.load(SeqCst) >= before + 10);
        send("polled", 0, if end == 100 { 0..100 } else { 100..110 });
        reaches(&engine, [("polled[0]", end)]);
    }
    ranges_are_whole(&engine);
    stop(engine);
    copying.has_copied("after empty polls", copies("polled", 0..110));
}
