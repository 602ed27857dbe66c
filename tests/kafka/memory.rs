//! Memory and the outbox stay within their bounds while a sink is away and its source is full. It
//! is the only test of its process: it measures it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tidemill::kafka::Message;
use tidemill::prelude::*;
use tidemill::{Engine, Settings};
use tidemill_harness::alone::alone;
use tidemill_harness::broker::Broker;
use tidemill_harness::link::Link;
use tidemill_harness::topics::{create_topic, produce, read_committed};
use tidemill_harness::waiting::wait_until;

const PATIENCE: Duration = Duration::from_secs(120);

/// The outbox's bound.
const OUTBOX_BYTES: usize = 256 << 10;

/// Records of a batch, and how many batches may be on their way when the bound is reached.
const BATCH: (u64, u64) = (1000, 4);

/// More than a record takes in the outbox.
const MESSAGE_BYTES: usize = 40;

/// What memory may grow by: the queues of two partitions, 16 MiB each and as much again on its way
/// there, and what the store needs.
const MAY_GROW_BY: u64 = 100 << 20;

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("it is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim_end_matches("kB").trim().parse::<u64>().expect("a number") * 1024
}

#[test]
fn memory_is_bounded_while_a_sink_is_away_and_its_source_is_full() {
    alone(
        "memory::memory_is_bounded_while_a_sink_is_away_and_its_source_is_full",
        memory_is_bounded,
    );
}

/// Fills the topic of the source with numbers, each with a kilobyte behind it.
fn fill(brokers: &str, records: u64) {
    let padding = "x".repeat(1000);
    for from in (0..records).step_by(10_000) {
        let values: Vec<String> =
            (from..from + 10_000).map(|number| format!("{number} {padding}")).collect();
        let partition = i32::from(from % 20_000 == 0);
        produce(
            brokers,
            "full",
            &values.iter().map(|value| (partition, None, Some(value.as_str()))).collect::<Vec<_>>(),
        );
    }
}

/// Asserts that the topic of the sink has each number once.
fn each_is_there_once(brokers: &str, records: u64) {
    let mut times: BTreeMap<String, u64> = BTreeMap::new();
    for message in read_committed(brokers, "full-out") {
        *times.entry(message.value.expect("a number")).or_default() += 1;
    }
    assert_eq!(times.len() as u64, records);
    assert!(
        (0..records).all(|number| times.get(&number.to_string()) == Some(&1)),
        "each is there once"
    );
}

/// Watches an engine whose sink is away for this time. Returns by how many bytes the memory has
/// grown since it was `before`.
fn waits_within_its_bounds(engine: &Engine, time: Duration, before: u64) -> u64 {
    // Batches that were on their way when the bound was reached are still taken.
    let in_flight = usize::try_from(BATCH.0 * (BATCH.1 + 2)).expect("it is small") * MESSAGE_BYTES;
    let (began, mut grown, mut counted) = (Instant::now(), 0, None);
    while began.elapsed() < time {
        let status = engine.runtime().status();
        let backlog = status.sinks[0].backlog_bytes;
        assert!(
            backlog <= OUTBOX_BYTES + in_flight,
            "the outbox holds {backlog} bytes, and its bound is {OUTBOX_BYTES}"
        );
        grown = grown.max(resident_bytes().saturating_sub(before));
        assert!(grown < MAY_GROW_BY, "memory has grown by {grown} bytes");
        // Once those are committed, the sources stand still.
        if began.elapsed() > Duration::from_secs(3) {
            assert_eq!(*counted.get_or_insert(status.records), status.records, "the sources wait");
            assert!(
                status.waiting.is_some() && status.sinks[0].error.is_some() && !engine.is_over(),
                "{status:?}"
            );
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    grown
}

fn memory_is_bounded() {
    let long = std::env::var_os("TIDEMILL_LONG").is_some();
    let (away_for, records) =
        if long { (Duration::from_secs(60), 600_000) } else { (Duration::from_secs(15), 160_000) };
    // The source reads from the broker, the sink writes by a link that can be cut.
    let link = Link::new();
    let broker = Broker::with().proxied(link.port()).start();
    link.lead_to(broker.proxied_address());
    let brokers = broker.address();
    create_topic(&brokers, "full", 2, &[]);
    create_topic(&brokers, "full-out", 1, &[]);
    fill(&brokers, records);
    let folder = tempfile::tempdir_in(tidemill_harness::checkout::scratch()).expect("a folder");
    let mut settings = Settings {
        workers: 2,
        outbox_bytes: OUTBOX_BYTES,
        disk_reserve: 0,
        ..Settings::new("full", folder.path().join("state"))
    };
    (settings.batches.max_records, settings.batches.max_in_flight) = BATCH;
    let (kafka, linked) = (Kafka::new(&brokers), Kafka::new(link.address()));
    let before = resident_bytes();
    let engine = Engine::start(settings, move |topology: &Topology<'_>| {
        let numbers = topology
            .source("in", kafka.source(["full"]).utf8())
            .map(|line: Str| Str::from(line.split(' ').next().unwrap_or_default()));
        numbers.sink(
            "out",
            linked.sink("full-out", |number: &Str| Message::new().value(number.as_bytes())),
        );
    });
    let engine = engine.expect("it starts");
    wait_until(&engine, PATIENCE, |status| status.sinks[0].published.0 > 10);
    link.cut();
    let cut = Instant::now();
    let status = wait_until(&engine, PATIENCE, |status| {
        status.waiting.is_some() && status.sinks[0].error_since_ms.is_some()
    });
    assert!(
        cut.elapsed() < Duration::from_secs(30),
        "that the sink is away is told after {:?}",
        cut.elapsed()
    );
    assert!(
        status
            .waiting
            .as_deref()
            .is_some_and(|why| why.contains("the sources wait, nothing is lost")),
        "{status:?}"
    );
    assert!(status.records < records / 2, "the source is full: {status:?}");
    let grown = waits_within_its_bounds(&engine, away_for, before);
    println!("memory grew by {} MiB while the sink was away", grown >> 20);
    link.mend();
    let status = wait_until(&engine, PATIENCE, |status| {
        status.records == records && status.sinks[0].published == status.committed
    });
    assert!(status.waiting.is_none() && status.sinks[0].error.is_none(), "{status:?}");
    engine.stop();
    engine.wait().expect("it stops");
    each_is_there_once(&brokers, records);
}
