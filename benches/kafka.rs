//! Words counted from Kafka and back, against a bare consumer: `cargo bench --bench kafka`.
//!
//! The lines are those of the word-count benchmark, in a topic of 4 partitions that is filled
//! first, on a broker of its own. The yardstick is a librdkafka consumer that drains the topic and
//! counts bytes, the better of one poll loop and split partition queues. `state` counts into a
//! state; `kafka` also publishes each batch's new counts in transactions. Then the whole chain runs
//! at once on this machine: a producer, the topology, and a read_committed consumer of its output.
//! `sustained` is what all of it keeps up with; at half of that load, and with next to none, lines
//! with a word of their own are sent now and then, and the time is taken from sending one until the
//! consumer sees its count. CPU time is this process's, with librdkafka's threads and without the
//! broker.

#![allow(clippy::disallowed_methods)]

#[path = "support/words.rs"]
mod words;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, DefaultConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tidemill::kafka::Message;
use tidemill::prelude::*;
use tidemill::{BatchLimits, Engine, Settings, Status};
use tidemill_harness::broker::Broker;
use words::make_lines;

const PARTITIONS: i32 = 4;

fn main() {
    let filter =
        std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let count: usize = std::env::var("TIDEMILL_BENCH_LINES")
        .ok()
        .and_then(|lines| lines.parse().ok())
        .unwrap_or(2_000_000);
    let lines = make_lines(count);
    let broker = Broker::start();
    let brokers = broker.address();
    make_topic(&brokers, "lines", PARTITIONS);
    load(&brokers, &lines);
    let drain = || {
        [drain_by_poll(&brokers, count), drain_by_queues(&brokers, count)]
            .into_iter()
            .fold(0.0, f64::max)
    };
    drain();
    let yardstick = drain();
    println!("kafka case=drain lines_per_s={yardstick:.0}");
    for case in [Case::State, Case::Kafka] {
        if !format!("case={}", case.name()).contains(&filter) {
            continue;
        }
        let mut runs: Vec<Run> = (0..3).map(|number| run(&brokers, case, number, count)).collect();
        runs.sort_by(|a, b| a.lines_per_s.total_cmp(&b.lines_per_s));
        let Run { lines_per_s, cpu_s_per_million } = runs[1];
        let ratio = lines_per_s / yardstick;
        println!(
            "kafka case={} lines_per_s={lines_per_s:.0} ratio={ratio:.2} \
             cpu_s_per_million_lines={cpu_s_per_million:.2}",
            case.name()
        );
    }
    if "case=latency".contains(&filter) {
        let sustained = latency(&brokers, &lines, "sustained", 1e9);
        latency(&brokers, &lines, "half", sustained / 2.0);
        latency(&brokers, &lines, "idle", 20.0);
    }
}

fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    config
}

fn make_topic(brokers: &str, topic: &str, partitions: i32) {
    let admin: AdminClient<DefaultClientContext> = config(brokers).create().expect("a client");
    let tokio =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
    tokio.block_on(admin.create_topics([&topic], &options)).expect("the topic is made");
}

fn producer(brokers: &str) -> ThreadedProducer<DefaultProducerContext> {
    config(brokers)
        .set("linger.ms", "2")
        .set("batch.size", "262144")
        .set("queue.buffering.max.messages", "1000000")
        .create()
        .expect("a producer")
}

fn send(
    producer: &ThreadedProducer<DefaultProducerContext>,
    topic: &str,
    partition: i32,
    line: &str,
) {
    let mut record = BaseRecord::<(), str>::to(topic).partition(partition).payload(line);
    while let Err((_, back)) = producer.send(record) {
        record = back;
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn load(brokers: &str, lines: &[Str]) {
    let producer = producer(brokers);
    for (number, line) in lines.iter().enumerate() {
        send(&producer, "lines", i32::try_from(number).expect("small") % PARTITIONS, line);
    }
    producer.flush(Duration::from_secs(60)).expect("the lines are sent");
}

fn assigned(partitions: i32) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset("lines", partition, Offset::Beginning).expect("a partition");
    }
    list
}

fn bare_consumer(brokers: &str) -> BaseConsumer<DefaultConsumerContext> {
    let mut config = config(brokers);
    config
        .set("group.id", "bare")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed");
    config
        .set("fetch.queue.backoff.ms", "5")
        .set("check.crcs", "true")
        .create()
        .expect("a consumer")
}

/// Lines per second of one poll loop.
fn drain_by_poll(brokers: &str, count: usize) -> f64 {
    let consumer = bare_consumer(brokers);
    consumer.assign(&assigned(PARTITIONS)).expect("assigned");
    let (began, mut read, mut bytes) = (Instant::now(), 0, 0);
    while read < count {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            (read, bytes) = (read + 1, bytes + message.payload_len());
        }
    }
    assert!(bytes > 0);
    count as f64 / began.elapsed().as_secs_f64()
}

/// Lines per second of one thread over the queues of the partitions.
fn drain_by_queues(brokers: &str, count: usize) -> f64 {
    let consumer = Arc::new(bare_consumer(brokers));
    let queues: Vec<_> = (0..PARTITIONS)
        .map(|number| consumer.split_partition_queue("lines", number).expect("a queue"))
        .collect();
    consumer.assign(&assigned(PARTITIONS)).expect("assigned");
    let queues: Vec<_> = queues
        .into_iter()
        .zip(0..)
        .map(|(_, number)| consumer.split_partition_queue("lines", number).expect("a queue"))
        .collect();
    let (began, mut read, mut bytes) = (Instant::now(), 0, 0);
    while read < count {
        let mut some = false;
        for queue in &queues {
            for _ in 0..256 {
                match queue.poll(Duration::ZERO) {
                    Some(Ok(message)) => {
                        (read, bytes, some) = (read + 1, bytes + message.payload_len(), true)
                    }
                    _ => break,
                }
            }
        }
        if !some {
            let _ = consumer.poll(Duration::from_millis(1));
        }
    }
    assert!(bytes > 0);
    count as f64 / began.elapsed().as_secs_f64()
}

#[derive(Clone, Copy, PartialEq)]
enum Case {
    State,
    Kafka,
}

impl Case {
    fn name(self) -> &'static str {
        if self == Case::State { "state" } else { "kafka" }
    }
}

struct Run {
    lines_per_s: f64,
    cpu_s_per_million: f64,
}

/// A topology that counts `topic`, and publishes to `out` if there is one.
fn start(
    brokers: &str,
    name: &str,
    topic: &str,
    out: Option<&str>,
    batches: BatchLimits,
) -> (tempfile::TempDir, Engine) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .expect("the target folder can be written");
    let settings = Settings {
        workers: 2,
        batches,
        disk_reserve: 0,
        ..Settings::new(name, folder.path().join("state"))
    };
    let (kafka, topic, out) = (Kafka::new(brokers), topic.to_string(), out.map(str::to_string));
    let engine = Engine::start(settings, move |topology| {
        let counts = topology
            .source("lines", kafka.source([&topic]).utf8())
            .flat_map(|line: Str, words| words.extend(line.split_whitespace().map(Str::from)))
            .group_by(|word| word.clone())
            .persistent_aggregate("counts", Count);
        if let Some(out) = &out {
            counts.changes().sink(
                "out",
                kafka.sink(out, |change: &Change<Str, u64>| {
                    Message::new()
                        .key(change.key.as_bytes())
                        .value(change.new.unwrap_or_default().to_string())
                }),
            );
        }
    });
    (folder, engine.expect("the topology starts"))
}

fn run(brokers: &str, case: Case, number: usize, count: usize) -> Run {
    let name = format!("bench-{}-{number}", case.name());
    if case == Case::Kafka {
        make_topic(brokers, &name, PARTITIONS);
    }
    let out = (case == Case::Kafka).then_some(name.as_str());
    let cpu = cpu_seconds();
    let began = Instant::now();
    let (_folder, engine) = start(brokers, &name, "lines", out, BatchLimits::default());
    let done = |status: &Status| {
        status.records == count as u64
            && status.sinks.iter().all(|sink| sink.published == status.committed)
    };
    while !done(&engine.runtime().status()) {
        assert!(!engine.is_over(), "the topology ended by itself");
        std::thread::sleep(Duration::from_millis(2));
    }
    let took = began.elapsed();
    engine.stop();
    engine.wait().expect("the topology stops cleanly");
    let million = count as f64 / 1e6;
    Run {
        lines_per_s: count as f64 / took.as_secs_f64(),
        cpu_s_per_million: (cpu_seconds() - cpu) / million,
    }
}

/// User and system time of this process, in seconds.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks =
        |at: usize| fields.get(at).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or_default();
    (ticks(11) + ticks(12)) / 100.0
}

fn now_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// From sending a line to seeing its own word's count, at so many lines a second. Gives how many
/// lines a second came through.
fn latency(brokers: &str, lines: &[Str], load: &str, lines_per_s: f64) -> f64 {
    const FOR: Duration = Duration::from_secs(10);
    let (topic, out) = (format!("in-{load}"), format!("out-{load}"));
    make_topic(brokers, &topic, PARTITIONS);
    make_topic(brokers, &out, 1);
    let batches = BatchLimits { max_delay: Duration::from_millis(20), ..BatchLimits::default() };
    let (_folder, engine) = start(brokers, &format!("latency-{load}"), &topic, Some(&out), batches);
    while !engine.runtime().is_ready() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let seen = std::thread::spawn({
        let brokers = brokers.to_string();
        move || see(&brokers, &out)
    });
    let producer = config(brokers)
        .set("linger.ms", "2")
        .set("queue.buffering.max.messages", "1000000")
        .create();
    let producer: ThreadedProducer<DefaultProducerContext> = producer.expect("a producer");
    let (began, mut sent) = (Instant::now(), 0u64);
    let every = (lines_per_s.min(200_000.0) / 100.0).max(1.0) as u64;
    while began.elapsed() < FOR {
        let due = (began.elapsed().as_secs_f64() * lines_per_s) as u64;
        while sent < due && began.elapsed() < FOR {
            let line = &lines[usize::try_from(sent).expect("an index") % lines.len()];
            let partition = i32::try_from(sent % 4).expect("small");
            // The first second is warming up.
            if sent % every == 0 && began.elapsed() > Duration::from_secs(1) {
                send(&producer, &topic, partition, &format!("{line} at-{}", now_us()));
            } else {
                send(&producer, &topic, partition, line);
            }
            sent += 1;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    // The last line's word is seen when everything before it was.
    send(&producer, &topic, 0, LAST);
    let _ = producer.flush(Duration::from_secs(60));
    let mut took_us = seen.join().expect("the consumer does not panic");
    let through = sent as f64 / began.elapsed().as_secs_f64();
    let status = engine.runtime().status();
    took_us.sort_unstable();
    let quantile = |of: f64| {
        took_us
            .get(((took_us.len().max(1) - 1) as f64 * of) as usize)
            .map_or(0.0, |us| *us as f64 / 1000.0)
    };
    println!(
        "kafka case=latency load={load} lines_per_s={through:.0} seen={} p50_ms={:.1} \
         p99_ms={:.1} max_ms={:.1} rebuilds={}",
        took_us.len(),
        quantile(0.5),
        quantile(0.99),
        quantile(1.0),
        status.sinks[0].rebuilds
    );
    engine.stop();
    engine.wait().expect("the topology stops cleanly");
    through
}

/// The word of the last line.
const LAST: &str = "the-last-line";

/// Reads what is committed, and takes the time of each word that carries one.
fn see(brokers: &str, topic: &str) -> Vec<u64> {
    let mut config = config(brokers);
    config
        .set("group.id", "bench-seen")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed");
    let consumer: BaseConsumer<DefaultConsumerContext> = config.create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning).expect("a partition");
    consumer.assign(&list).expect("assigned");
    let mut took_us = Vec::new();
    let until = Instant::now() + Duration::from_secs(120);
    while Instant::now() < until {
        match consumer.poll(Duration::from_millis(1)) {
            Some(Ok(message)) => {
                let key =
                    message.key().and_then(|key| std::str::from_utf8(key).ok()).unwrap_or_default();
                if key == LAST {
                    break;
                }
                let sent = key.strip_prefix("at-");
                took_us.extend(
                    sent.and_then(|sent| sent.parse::<u64>().ok())
                        .map(|sent| now_us().saturating_sub(sent)),
                );
            }
            Some(Err(KafkaError::PartitionEOF(_))) | None => {}
            Some(Err(error)) => panic!("the consumer fails: {error}"),
        }
    }
    took_us
}
