//! Partitions and topics that join a topology, whatever crashes.

use super::copying::{
    Copying, PATIENCE, brokers, copies, copy_of, ranges_are_whole, reaches, send, source, stop,
};
use std::time::{Duration, Instant};
use tidemill::Status;
use tidemill::source::StartAt;
use tidemill_harness::binary::{Running, counts_are, folder, recount};
use tidemill_harness::hooked::{Hooked, Read};
use tidemill_harness::topics::{add_partitions, create_topic, produce};

#[test]
fn a_partition_that_is_added_is_read_from_its_start() {
    let brokers = brokers();
    create_topic(&brokers, "grown", 1, &[]);
    send("grown", 0, 0..50);
    let copying = Copying::new("grown");
    let engine = copying.start(None, source(&["grown"])).expect("it starts");
    reaches(&engine, [("grown[0]", 50)]);
    add_partitions(&brokers, "grown", 3);
    send("grown", 1, 0..25);
    send("grown", 2, 0..25);
    send("grown", 0, 50..60);
    reaches(&engine, [("grown[0]", 60), ("grown[1]", 25), ("grown[2]", 25)]);
    ranges_are_whole(&engine);
    stop(engine);
    // While it is stopped, too; and whatever is said of first starts.
    add_partitions(&brokers, "grown", 4);
    send("grown", 3, 0..5);
    let engine = copying.start(Some(StartAt::Latest), source(&["grown"])).expect("it starts");
    reaches(&engine, [("grown[0]", 60), ("grown[1]", 25), ("grown[2]", 25), ("grown[3]", 5)]);
    stop(engine);
    let mut expected = copies("grown", 0..60);
    let of = |partition: i32, count: usize| {
        (0..count).map(move |at| copy_of("grown", partition, at, &at.to_string()))
    };
    expected.extend([of(1, 25), of(2, 25), of(3, 5)].into_iter().flatten());
    is_all_of("grown", &copying, expected);
}

/// What was copied is this, each once, in any order.
#[track_caller]
fn is_all_of(case: &str, copying: &Copying, mut expected: Vec<String>) {
    let mut copied = copying.copied();
    copied.sort_unstable();
    expected.sort_unstable();
    let differs = copied.iter().zip(&expected).find(|(copied, expected)| copied != expected);
    assert!(
        copied == expected,
        "{case}: {} records of {}; the first that differs: {differs:?}",
        copied.len(),
        expected.len()
    );
}

#[test]
fn topics_that_join_by_pattern_count_once_whatever_crashes() {
    const RECORDS: usize = 2000;
    let brokers = brokers();
    let topics: Vec<String> = (0..4).map(|number| format!("joining-{number}")).collect();
    let copying = Copying::new("joining");
    // Slowed down, so that the crash comes in the middle of a topic.
    let slow = || {
        let source = source(&["joining-*"]);
        move || {
            Hooked::new(source(), |read: &Read<'_>| {
                if read.given > 0 {
                    std::thread::sleep(Duration::from_millis(2));
                }
                read.status
            })
        }
    };
    // The first start is over when no topic is there yet: what comes later joins, and is not
    // skipped.
    let engine = copying.start(Some(StartAt::Latest), slow()).expect("it starts");
    stop(engine);
    let mut engine = None;
    let mut last_crash = 0;
    for topic in &topics {
        create_topic(&brokers, topic, 2, &[]);
        send(topic, 0, 0..RECORDS / 2);
        send(topic, 1, 0..RECORDS / 2);
        let running = engine
            .take()
            .unwrap_or_else(|| copying.start(Some(StartAt::Latest), slow()).expect("it starts"));
        let read = |status: &Status| {
            let of_topic = status
                .partitions
                .iter()
                .filter(|partition| partition.partition.starts_with(topic.as_str()));
            of_topic.map(|partition| partition.offset).sum::<u64>()
        };
        let began = Instant::now();
        while read(&running.runtime().status()) < 100 {
            assert!(!running.is_over() && began.elapsed() < PATIENCE, "{topic} does not join");
            std::thread::sleep(Duration::from_millis(2));
        }
        ranges_are_whole(&running);
        let status = running.runtime().status();
        assert!(read(&status) < RECORDS as u64, "{topic} is read whole before the crash");
        running.crash();
        last_crash += 1;
        engine = Some(copying.start(Some(StartAt::Latest), slow()).expect("it starts"));
    }
    assert_eq!(last_crash, topics.len());
    let names: Vec<String> = topics
        .iter()
        .flat_map(|topic| (0..2).map(move |partition| format!("{topic}[{partition}]")))
        .collect();
    let engine = engine.expect("it runs");
    reaches(&engine, names.iter().map(|name| (name.as_str(), RECORDS as u64 / 2)));
    stop(engine);
    let of = |(topic, partition): (&String, i32)| {
        let topic = topic.clone();
        (0..RECORDS / 2).map(move |at| copy_of(&topic, partition, at, &at.to_string()))
    };
    let expected = topics.iter().flat_map(|topic| [(topic, 0), (topic, 1)]).flat_map(of).collect();
    is_all_of("joining", &copying, expected);
}

#[test]
fn a_topic_that_has_just_joined_survives_a_kill() {
    let brokers = brokers();
    let place = folder();
    let state = place.path().join("state");
    let words = |count: usize| -> Vec<String> {
        (0..count).map(|word| format!("w{}", word % 83)).collect()
    };
    let (first, second) = (words(500), words(20_000));
    let send = |topic: &str, words: &[String]| {
        let messages = words
            .iter()
            .enumerate()
            .map(|(at, word)| (i32::from(at % 2 == 1), None, Some(word.as_str())));
        produce(&brokers, topic, &messages.collect::<Vec<_>>());
    };
    create_topic(&brokers, "killed-a", 2, &[]);
    send("killed-a", &first);
    let start = || {
        let state = state.to_str().expect("UTF-8");
        let run = [
            "run", "--name", "killed", "--state", state, "--kafka", &brokers, "--topic", "killed-*",
        ];
        let more = ["--listen", "127.0.0.1:0", "--workers", "2", "--max-batch-records", "20"];
        Running::start("word_count", &[&run[..], &more].concat())
    };
    let read = |status: &serde_json::Value, topic: &str| -> u64 {
        let partitions = status["partitions"].as_array().into_iter().flatten();
        let of_topic = partitions.filter(|partition| {
            partition["partition"].as_str().is_some_and(|name| name.starts_with(topic))
        });
        of_topic.filter_map(|partition| partition["offset"].as_u64()).sum()
    };
    let mut running = start();
    running.get_until("/v1/status", |status| read(status, "killed-a") == 500);
    create_topic(&brokers, "killed-b", 2, &[]);
    send("killed-b", &second);
    let status = running.get_until("/v1/status", |status| read(status, "killed-b") > 0);
    assert!(read(&status, "killed-b") < 20_000, "it is killed in the middle");
    running.kill();
    let mut running = start();
    running.get_until("/v1/status", |status| {
        read(status, "killed-a") == 500 && read(status, "killed-b") == 20_000
    });
    running.signal("TERM");
    running.wait().is("stopped", 0, &[]);
    counts_are("killed", &state, &recount(first.iter().chain(&second).map(String::as_str)));
}
