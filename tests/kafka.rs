//! From Kafka and back, through every crash point: the example `word_count` against a real broker, and a recount of its own.

#[path = "support/binary.rs"]
mod binary;
#[path = "support/broker.rs"]
mod broker;
#[path = "support/topics.rs"]
mod topics;

use binary::{Running, counts_are, folder, recount};
use broker::Broker;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tidemill::CrashPoint;
use topics::{create_topic, produce, read_committed};

/// How many lines are counted: for some tens of batches.
const LINES: usize = 1200;

/// A topology over a topic of its own.
struct Mill {
    brokers: String,
    name: String,
    folder: tempfile::TempDir,
    expected: BTreeMap<String, u64>,
}

impl Mill {
    fn new(brokers: &str, name: &str) -> Mill {
        let (input, output) = (format!("{name}-in"), format!("{name}-out"));
        create_topic(brokers, &input, 4, &[]);
        create_topic(brokers, &output, 3, &[]);
        let words = ["tide", "mill", "the", "sea", "wheel", "pond"];
        let lines: Vec<String> =
            (0..LINES).map(|line| format!("{} {} w{}", words[line % 6], words[line * 7 % 5], line * line % 97)).collect();
        let messages: Vec<_> = lines
            .iter()
            .enumerate()
            .map(|(at, line)| (i32::try_from(at % 4).expect("small"), None, Some(line.as_str())))
            .collect();
        produce(brokers, &input, &messages);
        let expected = recount(lines.iter().map(String::as_str));
        Mill { brokers: brokers.to_string(), name: name.to_string(), folder: folder(), expected }
    }

    fn start(&self, crash_at: Option<&str>) -> Running {
        let (input, output) = (format!("{}-in", self.name), format!("{}-out", self.name));
        let state = self.folder.path().join("state");
        let arguments = [
            ["--name", &self.name],
            ["--state", state.to_str().expect("UTF-8")],
            ["--kafka", &self.brokers],
            ["--topic", &input],
            ["--out", &output],
            ["--workers", "2"],
            ["--max-batch-records", "40"],
            ["--fold-bytes", "1KiB"],
            ["--listen", "127.0.0.1:0"],
        ];
        let arguments = [&["run"], arguments.as_flattened()].concat();
        let environment: Vec<(&str, &str)> = crash_at.map(|at| ("TIDEMILL_CRASH_AT", at)).into_iter().collect();
        Running::start_with("word_count", &arguments, &environment)
    }

    /// Runs until everything is counted and published, and stops.
    fn finish(&self, case: &str) {
        let mut running = self.start(None);
        let total = self.expected.values().sum::<u64>();
        assert!(total > 0);
        running.get_until("/v1/status", |status| {
            let read = status["partitions"].as_array().is_some_and(|partitions| {
                partitions.len() == 4 && partitions.iter().all(|partition| partition["offset"].as_u64() >= Some(LINES as u64 / 4))
            });
            let sink = &status["sinks"][0];
            read && status["committed"] == sink["published"] && status["sources_at_end"] == false && at_rest(status)
        });
        // What was read is committed a moment later, and published after that.
        std::thread::sleep(Duration::from_millis(300));
        running.get_until("/v1/status", at_rest);
        running.signal("TERM");
        running.wait().is(case, 0, &["stopped after batch"]);
    }

    /// The state is the recount; so are the last values of the output, whose counts rise, each once.
    fn check(&self, case: &str) {
        counts_are(case, &self.folder.path().join("state"), &self.expected);
        let mut newest: BTreeMap<String, u64> = BTreeMap::new();
        for message in read_committed(&self.brokers, &format!("{}-out", self.name)) {
            let (key, value) = (message.key.expect("a word"), message.value.expect("a count"));
            let count = value.parse().unwrap_or_else(|why| panic!("{case}: {value}: {why}"));
            let before = newest.insert(key.clone(), count);
            assert!(before.is_none_or(|before| before < count), "{case}: {key} goes from {before:?} to {count}");
        }
        assert_eq!(newest, self.expected, "{case}: the output");
    }
}

fn at_rest(status: &serde_json::Value) -> bool {
    status["committed"] == status["sinks"][0]["published"] && status["sinks"][0]["backlog_bytes"] == 0
}

/// At which time of reaching it a run crashes there.
fn nth(point: CrashPoint) -> u64 {
    match point {
        CrashPoint::BatchOpened | CrashPoint::BatchClosed | CrashPoint::BatchComputed => 12,
        CrashPoint::BeforeWrite | CrashPoint::AfterWrite => 4,
        CrashPoint::BeforePublish
        | CrashPoint::SinkBegun
        | CrashPoint::SinkProduced
        | CrashPoint::SinkDelivered
        | CrashPoint::PublishPrepared
        | CrashPoint::Published => 2,
        // The first is the claim's.
        CrashPoint::SinkEnded => 3,
        CrashPoint::FoldBegun | CrashPoint::FoldWritten | CrashPoint::FoldIngested | CrashPoint::LogTrimmed => 1,
        _ => 1,
    }
}

#[test]
fn i6_after_a_crash_at_each_point_every_record_has_counted_once_and_every_output_is_there_once() {
    let brokers = Broker::shared().address();
    for (number, point) in CrashPoint::ALL.iter().enumerate() {
        let case = format!("crash at {}", point.name());
        let mill = Mill::new(&brokers, &format!("crash-{number}"));
        let effect = if number % 2 == 0 { "abort" } else { "wait" };
        let mut running = mill.start(Some(&format!("{}:{effect}:{}", point.name(), nth(*point))));
        running.says(&format!("crash point {}", point.name()));
        if effect == "wait" {
            running.kill();
        } else {
            let began = Instant::now();
            while !running.has_ended() {
                assert!(began.elapsed() < Duration::from_secs(30), "{case}: it does not end");
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        mill.finish(&case);
        mill.check(&case);
    }
}
