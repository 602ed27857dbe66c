//! The harness: a topology that copies what it reads, and the broker that it reads from.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;
use tidemill::kafka::{Incoming, KafkaSource, Topics};
use tidemill::prelude::*;
use tidemill::source::{Source, StartAt};
use tidemill::{Engine, Settings, Status};
use tidemill_harness::binary::folder;
use tidemill_harness::broker::Broker;
use tidemill_harness::topics::produce;
use tidemill_harness::waiting;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The address of these tests' broker, which compacts at once.
pub(crate) fn brokers() -> String {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    BROKER.get_or_init(|| Broker::with().set("log.cleaner.backoff.ms", "100").start()).address()
}

/// The end of a partition is told at once, not half a second after it is reached.
pub(crate) fn kafka() -> Kafka {
    Kafka::new(brokers()).set("fetch.wait.max.ms", "20")
}

/// A topology that copies what it reads to a file, in its order: each record with its partition and
/// offset.
pub(crate) struct Copying {
    name: String,
    folder: tempfile::TempDir,
}

impl Copying {
    pub(crate) fn new(name: &str) -> Copying {
        Copying { name: name.to_string(), folder: folder() }
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    pub(crate) fn settings(&self, from: Option<StartAt>) -> Settings {
        let state = self.folder.path().join("state");
        let mut settings = Settings {
            workers: 1,
            disk_reserve: 0,
            first: from,
            ..Settings::new(&self.name, state)
        };
        settings.batches.max_records = 10;
        settings
    }

    pub(crate) fn start<S>(
        &self,
        from: Option<StartAt>,
        source: impl Fn() -> S + Send + Sync + 'static,
    ) -> Result<Engine>
    where
        S: Source<Item = String>,
    {
        let out = self.out();
        Engine::start(self.settings(from), move |topology: &Topology<'_>| {
            topology.source("in", source()).sink("out", Files::to(out.to_str().expect("UTF-8")));
        })
    }

    /// What was copied.
    pub(crate) fn copied(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.out()).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|why| panic!("{line}: {why}")))
            .collect()
    }

    #[track_caller]
    pub(crate) fn has_copied(&self, case: &str, expected: impl IntoIterator<Item = String>) {
        let (copied, expected) = (self.copied(), expected.into_iter().collect::<Vec<_>>());
        let differs =
            copied.iter().zip(&expected).position(|(copied, expected)| copied != expected);
        assert!(
            copied == expected,
            "{case}: {} records, and there should be {}; the first that differs, if any, is {:?}",
            copied.len(),
            expected.len(),
            differs.map(|at| (&copied[at], &expected[at]))
        );
    }
}

/// How a record is copied.
pub(crate) fn copy_of(topic: &str, partition: i32, offset: usize, value: &str) -> String {
    format!("{topic}[{partition}]@{offset} {value}")
}

/// The copies of records that are their own offsets, of partition 0.
pub(crate) fn copies(topic: &str, range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| copy_of(topic, 0, number, &number.to_string())).collect()
}

pub(crate) fn decoded(topics: Topics) -> KafkaSource<String> {
    topics.decode("place", |message: &Incoming<'_>| {
        let value = message.value().map_or("-".into(), String::from_utf8_lossy);
        let offset = usize::try_from(message.offset()).expect("it is not negative");
        Ok(copy_of(message.topic(), message.partition(), offset, &value))
    })
}

/// Topics, or patterns of topics, in which new ones are looked for often.
pub(crate) fn source(names: &[&str]) -> impl Fn() -> KafkaSource<String> + Send + Sync + 'static {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    move || decoded(kafka().source(names.clone()).discover_every(Duration::from_millis(50)))
}

/// Waits until the run is as wanted, and everything is published.
#[track_caller]
pub(crate) fn wait_until(engine: &Engine, wanted: impl Fn(&Status) -> bool) -> Status {
    waiting::wait_until(engine, PATIENCE, |status| {
        wanted(status)
            && status
                .sinks
                .iter()
                .all(|sink| sink.backlog_bytes == 0 && sink.published <= status.committed)
    })
}

/// Waits until exactly these partitions are read, exactly so far.
#[track_caller]
pub(crate) fn reaches<'a>(
    engine: &Engine,
    expected: impl IntoIterator<Item = (&'a str, u64)>,
) -> Status {
    let expected: BTreeMap<&str, u64> = expected.into_iter().collect();
    wait_until(engine, |status| {
        status
            .partitions
            .iter()
            .map(|partition| (partition.partition.as_str(), partition.offset))
            .collect::<BTreeMap<_, _>>()
            == expected
    })
}

pub(crate) fn stop(engine: Engine) {
    engine.stop();
    engine.wait().expect("it stops");
}

/// The ranges of the run's batches follow each other in each partition: none is read twice, none
/// left out.
#[track_caller]
pub(crate) fn ranges_are_whole(engine: &Engine) {
    let mut next: BTreeMap<String, u64> = BTreeMap::new();
    let batches = engine.runtime().batches(1000);
    assert!(batches.len() < 1000, "all of them are looked at");
    for batch in batches.iter().rev() {
        for range in &batch.ranges {
            let before = next.insert(range.partition.clone(), range.end);
            assert!(
                before.is_none_or(|end| end == range.start),
                "batch {}: {range:?} follows {before:?}",
                batch.txid
            );
        }
    }
}

/// Sends numbers to a partition.
pub(crate) fn send(topic: &str, partition: i32, numbers: std::ops::Range<usize>) {
    let values: Vec<String> = numbers.map(|number| number.to_string()).collect();
    produce(
        &brokers(),
        topic,
        &values.iter().map(|value| (partition, None, Some(value.as_str()))).collect::<Vec<_>>(),
    );
}
