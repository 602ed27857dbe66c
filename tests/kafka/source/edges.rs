//! The edges of a source: where it ends, what can never be read, what is said while nothing comes.

use super::copying::{
    Copying, brokers, copies, decoded, kafka, reaches, send, source, stop, wait_until,
};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tidemill::kafka::{Incoming, KafkaSource, Topics};
use tidemill::prelude::*;
use tidemill::source::{OnLoss, StartAt};
use tidemill::{Engine, Kind, Settings, Status};
use tidemill_harness::binary::{counts_are, folder, recount, run};
use tidemill_harness::broker::Broker;
use tidemill_harness::topics::{
    Open, add_partitions, create_topic, delete_records, delete_topic, produce,
    produce_in_transaction, produce_timed,
};

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    i64::try_from(since.as_millis()).expect("it is small")
}

/// Waits until the sources are at their end and everything is published.
#[track_caller]
fn ends(engine: &Engine) {
    wait_until(engine, |status| status.sources_at_end);
}

#[test]
fn a_backfill_ends_before_a_time_or_an_offset_and_stays_ended() {
    let brokers = brokers();
    // A record every 10 ms, all in the last minute.
    let base = now_ms() - 60_000;
    let timed = |topic: &str, numbers: std::ops::Range<i64>| {
        produce_timed(
            &brokers,
            topic,
            numbers.map(|number| (base + 10 * number, number.to_string())),
        );
    };
    type Bounded = fn(Topics, &str, i64) -> Topics;
    let cases: [(&str, Bounded, usize); 5] = [
        ("until-a-time", |topics, _, base| topics.until_time(base + 500), 50),
        ("until-between", |topics, _, base| topics.until_time(base + 501), 51),
        ("until-after-all", |topics, _, base| topics.until_time(base + 50_000), 100),
        ("until-an-offset", |topics, topic, _| topics.until_offset(topic, 0, 30), 30),
        (
            "until-the-first",
            |topics, topic, base| topics.until_offset(topic, 0, 30).until_time(base + 100),
            10,
        ),
    ];
    for (topic, bounded, end) in cases {
        create_topic(&brokers, topic, 1, &[]);
        timed(topic, 0..100);
        let copying = Copying::new(topic);
        let bounded = move || decoded(bounded(kafka().source([topic]), topic, base));
        let engine = copying.start(None, bounded).unwrap_or_else(|why| panic!("{topic}: {why}"));
        ends(&engine);
        copying.has_copied(topic, copies(topic, 0..end));
        // Workers report ten times a second.
        wait_until(&engine, |status| {
            status.partitions[0].ended && status.partitions[0].lag == Some(0)
        });
        stop(engine);
        if end < 100 {
            timed(topic, 100..110);
            if topic == "until-an-offset" {
                // What expires behind an end was never wanted.
                delete_records(&brokers, topic, 0, 60);
            }
            let engine =
                copying.start(None, bounded).unwrap_or_else(|why| panic!("{topic}: {why}"));
            ends(&engine);
            stop(engine);
            copying.has_copied(&format!("{topic}, started again"), copies(topic, 0..end));
        }
    }
    let tomorrow = move || decoded(kafka().source(["until-a-time"]).until_time(base + 90_000_000));
    refused(
        "a time to come",
        Copying::new("tomorrow").start(None, tomorrow),
        "Give a time in the past",
    );
}

#[track_caller]
fn refused(case: &str, started: Result<Engine>, part: &str) {
    let error = started.err().unwrap_or_else(|| panic!("{case}: it starts"));
    assert!(error.kind() == Kind::Config && error.to_string().contains(part), "{case}: {error}");
}

#[test]
fn a_run_that_exits_at_the_end_of_its_topics_reads_what_was_there_at_its_start() {
    let (brokers, place) = (brokers(), folder());
    create_topic(&brokers, "to-the-end", 3, &[]);
    let send = |words: &[&str]| {
        let messages =
            words.iter().enumerate().map(|(at, word)| (i32::from(at % 2 == 1), None, Some(*word)));
        produce(&brokers, "to-the-end", &messages.collect::<Vec<_>>());
        // Holes at the end are no records to wait for; the third partition has nothing else.
        produce_in_transaction(
            &brokers,
            "to-the-end",
            "to-the-end",
            &[(0, None, Some("no")), (2, None, Some("no"))],
            false,
        );
    };
    let state = place.path().join("state");
    let path = state.to_str().expect("UTF-8");
    let arguments = [
        "run",
        "--name",
        "to-the-end",
        "--state",
        path,
        "--kafka",
        &brokers,
        "--topic",
        "to-the-end",
    ];
    let arguments =
        [&arguments[..], &["--listen", "none", "--workers", "2", "--exit-at-end"]].concat();
    let (first, second) = (["a", "b", "c", "a"], ["d", "a", "d"]);
    send(&first);
    // Of a transaction that is open nothing was there to be read.
    let open = Open::begin(&brokers, "to-the-end-open", "to-the-end", (1, None, Some("later")));
    run("word_count", &arguments).is("the first run", 0, &["all sources are at their end"]);
    counts_are("the first run", &state, &recount(first));
    open.abort();
    run("word_count", &arguments).is("nothing new", 0, &["all sources are at their end"]);
    send(&second);
    run("word_count", &arguments).is("the last run", 0, &["all sources are at their end"]);
    counts_are("the last run", &state, &recount(first.into_iter().chain(second)));
    // What has no end is refused.
    let elsewhere = place.path().join("elsewhere");
    let endless = [
        "run",
        "--state",
        elsewhere.to_str().expect("UTF-8"),
        "--listen",
        "none",
        "--exit-at-end",
        "--follow",
    ];
    run("word_count", &endless).is(
        "followed files",
        64,
        &["never comes to an end", "leave --exit-at-end out"],
    );
}

#[test]
fn a_source_that_can_never_be_read_as_it_is_set_is_refused() {
    create_topic(&brokers(), "set", 2, &[]);
    type Case = (&'static str, fn(Kafka) -> Topics, &'static str);
    let cases: [Case; 9] = [
        (
            "a negative time",
            |kafka| kafka.source(["set"]).until_time(-1),
            "until_time is -1: give milliseconds since 1970",
        ),
        ("an empty list", |kafka| kafka.source([""; 0]), "the list of topics to read is empty"),
        (
            "a regular expression",
            |kafka| kafka.source(["^set-("]),
            "is no regular expression of topics",
        ),
        ("a glob", |kafka| kafka.source(["set-[a"]), "is no pattern of topics"),
        (
            "a first offset's topic",
            |kafka| kafka.source(["set"]).first_offset("other", 0, 0),
            "not among those to read (set)",
        ),
        (
            "a first offset's partition",
            |kafka| kafka.source(["set"]).first_offset("set", 2, 0),
            "has 2 partitions: give one from 0",
        ),
        (
            "a negative offset",
            |kafka| kafka.source(["set"]).first_offset("set", 1, -1),
            "can be negative",
        ),
        (
            "an end's topic",
            |kafka| kafka.source(["set"]).until_offset("other", 0, 0),
            "not among those to read (set)",
        ),
        (
            "an end's offset",
            |kafka| kafka.source(["set"]).until_offset("set", 0, -2),
            "can be negative",
        ),
    ];
    for (case, topics, part) in cases {
        let started = Copying::new("set").start(None, move || decoded(topics(kafka())));
        refused(case, started, part);
    }
}

#[test]
fn a_source_whose_partitions_all_end_ends_with_them_and_takes_no_more() {
    let brokers = brokers();
    create_topic(&brokers, "all-end", 1, &[]);
    send("all-end", 0, 0..20);
    let copying = Copying::new("all-end");
    let bounded = || {
        decoded(
            kafka()
                .source(["all-end"])
                .until_offset("all-end", 0, 10)
                .discover_every(Duration::from_millis(50)),
        )
    };
    let engine = copying.start(None, bounded).expect("it starts");
    ends(&engine);
    add_partitions(&brokers, "all-end", 2);
    send("all-end", 1, 0..5);
    let is_named = |notice: &String| notice.contains("all-end[1] has come since, and is not read");
    wait_until(&engine, |status| status.sources_at_end && status.notices.iter().any(is_named));
    reaches(&engine, [("all-end[0]", 10)]);
    stop(engine);
    // The next start finds a partition without an end.
    let engine = copying.start(None, bounded).expect("it starts");
    reaches(&engine, [("all-end[0]", 10), ("all-end[1]", 5)]);
    assert!(!engine.runtime().status().sources_at_end, "it is read on");
    stop(engine);
}

#[test]
fn a_time_before_1970_is_before_all_records() {
    create_topic(&brokers(), "ancient", 1, &[]);
    send("ancient", 0, 0..10);
    let copying = Copying::new("ancient");
    let engine = copying.start(Some(StartAt::Time(-1)), source(&["ancient"])).expect("it starts");
    reaches(&engine, [("ancient[0]", 10)]);
    stop(engine);
    copying.has_copied("from 1969 on", copies("ancient", 0..10));
}

#[test]
fn a_pattern_that_meets_nothing_is_named_until_a_topic_comes() {
    let copying = Copying::new("met");
    let engine = copying.start(None, source(&["^met-(a|b)$", "unmet-*"])).expect("it starts");
    let notice_of = |status: &Status, pattern: &str| {
        status.notices.iter().any(|notice| notice.contains(pattern))
    };
    let both = |status: &Status| {
        notice_of(status, "source \"in\": no topic matches \"^met-(a|b)$\"")
            && notice_of(status, "unmet-*")
    };
    wait_until(&engine, both);
    create_topic(&brokers(), "met-a", 1, &[]);
    create_topic(&brokers(), "met-abc", 1, &[]);
    send("met-a", 0, 0..10);
    send("met-abc", 0, 0..10);
    reaches(&engine, [("met-a[0]", 10)]);
    wait_until(&engine, |status| !notice_of(status, "met-(a|b)") && notice_of(status, "unmet-*"));
    stop(engine);
    copying.has_copied("the topic that the pattern meets", copies("met-a", 0..10));
}

#[test]
fn a_topic_that_is_given_up_is_forgotten_once() {
    let brokers = brokers();
    for topic in ["kept-up", "given-up", "given-up-deleted"] {
        create_topic(&brokers, topic, 1, &[]);
        send(topic, 0, 0..10);
    }
    let copying = Copying::new("given-up");
    let start = |topics: &'static [&'static str], on_loss| {
        let (settings, out) = (Settings { on_loss, ..copying.settings(None) }, copying.out());
        Engine::start(settings, move |topology: &Topology<'_>| {
            topology
                .source("in", source(topics)())
                .sink("out", Files::to(out.to_str().expect("UTF-8")));
        })
    };
    let both = [("kept-up[0]", 10), ("given-up-deleted[0]", 10)];
    let engine =
        start(&["kept-up", "given-up", "given-up-deleted"], OnLoss::Refuse).expect("it starts");
    reaches(&engine, both.into_iter().chain([("given-up[0]", 10)]));
    stop(engine);
    let lost = |topics, part: &str| {
        let error =
            start(topics, OnLoss::Refuse).err().unwrap_or_else(|| panic!("it starts, and {part}"));
        assert!(error.kind() == Kind::SourceLost && error.to_string().contains(part), "{error}");
    };
    // Taken out of the list: permission is needed once.
    lost(
        &["kept-up", "given-up-deleted"],
        "given-up[0] was read up to 10, and is no longer among the topics to read",
    );
    let engine = start(&["kept-up", "given-up-deleted"], OnLoss::Earliest).expect("it starts");
    reaches(&engine, both);
    stop(engine);
    let engine = start(&["kept-up", "given-up-deleted"], OnLoss::Refuse)
        .expect("it starts without permission");
    reaches(&engine, both);
    stop(engine);
    // Deleted: the same.
    delete_topic(&brokers, "given-up-deleted");
    lost(
        &["kept-up", "given-up-deleted"],
        "given-up-deleted[0] was read up to 10, and is gone: the topic was deleted",
    );
    let engine = start(&["kept-up", "given-up-deleted"], OnLoss::Latest).expect("it starts");
    reaches(&engine, [("kept-up[0]", 10)]);
    stop(engine);
    let engine = start(&["kept-up"], OnLoss::Refuse).expect("it starts without permission");
    send("kept-up", 0, 10..20);
    reaches(&engine, [("kept-up[0]", 20)]);
    stop(engine);
}

#[test]
fn an_open_transaction_that_holds_a_partition_up_is_named() {
    let brokers = brokers();
    create_topic(&brokers, "held-up", 2, &[]);
    send("held-up", 0, 0..5);
    let open = Open::begin(&brokers, "held-up", "held-up", (0, None, Some("no")));
    send("held-up", 0, 6..10);
    send("held-up", 1, 0..10);
    let copying = Copying::new("held-up");
    let engine = copying.start(None, source(&["held-up"])).expect("it starts");
    let before = now_ms();
    let status = wait_until(&engine, |status| {
        let trouble = |at: usize| {
            status.partitions.get(at).and_then(|partition| partition.trouble.as_deref())
        };
        trouble(0).is_some_and(|why| {
            why.contains("a transaction of its producers that is open at offset 5 since ")
        })
    });
    let of = |number: i32| {
        let name = format!("held-up[{number}]");
        status.partitions.iter().find(|partition| partition.partition == name).expect("it is read")
    };
    // Whatever lies behind it is left to read.
    assert_eq!((of(0).offset, of(0).lag), (5, Some(5)), "{status:?}");
    assert_eq!((of(1).offset, of(1).trouble.as_deref()), (10, None), "{status:?}");
    let why = of(0).trouble.clone().expect("it was there");
    let since =
        why.split("since ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a time follows");
    let since: jiff::Timestamp = since.parse().expect("it is one");
    assert!((before - 60_000..=now_ms()).contains(&since.as_millisecond()), "{why}");
    open.abort();
    let status = reaches(&engine, [("held-up[0]", 11), ("held-up[1]", 10)]);
    assert!(copying.copied().len() == 19, "{status:?}");
    wait_until(&engine, |status| {
        status.partitions.iter().all(|partition| partition.trouble.is_none())
    });
    stop(engine);
}

#[test]
fn lag_is_true_while_the_sources_wait_and_nothing_can_be_fetched() {
    const RECORDS: usize = 20_000;
    let brokers = brokers();
    create_topic(&brokers, "unfetched", 1, &[]);
    send("unfetched", 0, 0..10);
    let copying = Copying::new("unfetched");
    // So little may be fetched ahead that what is fetched does not show the end.
    let small = || decoded(kafka().source(["unfetched"]).buffer_bytes(1));
    let engine = copying.start(None, small).expect("it starts");
    reaches(&engine, [("unfetched[0]", 10)]);
    engine.runtime().pause_sources();
    let padded: Vec<String> = (10..RECORDS).map(|number| format!("{number:0100}")).collect();
    produce(
        &brokers,
        "unfetched",
        &padded.iter().map(|value| (0, None, Some(value.as_str()))).collect::<Vec<_>>(),
    );
    wait_until(&engine, |status| status.partitions[0].lag == Some(RECORDS as u64 - 10));
    assert_eq!(engine.runtime().status().partitions[0].offset, 10, "nothing is read meanwhile");
    engine.runtime().resume_sources();
    let status = reaches(&engine, [("unfetched[0]", RECORDS as u64)]);
    assert_eq!(status.partitions[0].lag, Some(0), "{status:?}");
    stop(engine);
}

#[test]
fn lag_is_unknown_while_the_broker_does_not_answer() {
    let mut broker = Broker::start();
    create_topic(&broker.address(), "silent", 1, &[]);
    produce(&broker.address(), "silent", &[(0, None, Some("a"))]);
    let (copying, address) = (Copying::new("silent"), broker.address());
    let engine = copying
        .start(None, move || decoded(Kafka::new(&address).source(["silent"])))
        .expect("it starts");
    wait_until(&engine, |status| {
        status
            .partitions
            .first()
            .is_some_and(|partition| partition.lag == Some(0) && partition.offset == 1)
    });
    // It takes connections, and keeps them.
    broker.pause();
    let status = wait_until(&engine, |status| {
        status.partitions[0].lag.is_none() && status.partitions[0].trouble.is_some()
    });
    broker.resume();
    assert!(status.partitions[0].trouble_since_ms.is_some(), "{status:?}");
    wait_until(&engine, |status| {
        status.partitions[0].lag == Some(0) && status.partitions[0].trouble.is_none()
    });
    produce(&broker.address(), "silent", &[(0, None, Some("b"))]);
    reaches(&engine, [("silent[0]", 2)]);
    stop(engine);
}

#[test]
fn records_that_a_source_sets_aside_are_counted() {
    let brokers = brokers();
    create_topic(&brokers, "aside", 1, &[]);
    produce(
        &brokers,
        "aside",
        &[
            (0, None, Some("1")),
            (0, None, Some("bad")),
            (0, None, Some("2")),
            (0, None, Some("worse")),
        ],
    );
    let (copying, place) = (Copying::new("aside"), folder());
    let numbers = |topics: Topics| -> KafkaSource<String> {
        topics.decode("numbers", |message: &Incoming<'_>| {
            let text = String::from_utf8_lossy(message.value().unwrap_or_default()).into_owned();
            text.parse::<u64>().map(|_| text).map_err(|why| why.to_string())
        })
    };
    let letters = place.path().join("letters");
    let letters = letters.to_str().expect("UTF-8").to_string();
    let engine = copying
        .start(None, move || numbers(kafka().source(["aside"])).dead_letters(Files::to(&letters)));
    let engine = engine.expect("it starts");
    let status = reaches(&engine, [("aside[0]", 4)]);
    let counted: u64 = status
        .set_aside
        .iter()
        .filter(|(operator, _)| operator.contains("in"))
        .map(|(_, count)| count)
        .sum();
    assert_eq!((counted, status.records), (2, 4), "{:?}", status.set_aside);
    let batches: u64 =
        engine.runtime().batches(100).iter().flat_map(|batch| batch.set_aside.values()).sum();
    assert_eq!(batches, 2);
    stop(engine);
    assert_eq!(copying.copied(), ["1", "2"]);
}

#[test]
fn thousands_of_partitions_are_begun_together() {
    const PARTITIONS: i32 = 2000;
    let brokers = brokers();
    create_topic(&brokers, "many", PARTITIONS, &[]);
    let messages: Vec<(i32, Option<&str>, Option<&str>)> =
        (0..PARTITIONS).map(|number| (number, None, Some("a"))).collect();
    produce(&brokers, "many", &messages);
    let copying = Copying::new("many");
    let read = |status: &Status| {
        status.partitions.iter().filter(|partition| partition.offset == 1).count()
    };
    for start in ["the first start", "with all of their records to compare"] {
        let began = std::time::Instant::now();
        let engine = copying.start(None, source(&["many"])).expect("it starts");
        let took = began.elapsed();
        println!("{start} with {PARTITIONS} partitions took {took:?}");
        assert!(took < Duration::from_secs(60), "{start}: {took:?}");
        wait_until(&engine, |status| i32::try_from(read(status)).expect("few") == PARTITIONS);
        stop(engine);
    }
    assert_eq!(copying.copied().len(), usize::try_from(PARTITIONS).expect("few"));
}
