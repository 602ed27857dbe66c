//! Ten minutes of everything at once (`TIDEMILL_LONG=1`; `TIDEMILL_TEST_SECONDS=120` for less): two
//! hundred followed files that rotate, three topics of which one is deleted and one made again, a
//! broker that pauses and restarts, a sink whose broker is gone for a tenth of the time, and kills
//! in between.
//!
//! Each line is of one file or topic and has a number, so that a count and a sum show whether each
//! was counted once. Whatever the status reports is compared, every time, with what is in the files
//! and topics; memory stays flat.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidemill::kafka::Message;
use tidemill::prelude::*;
use tidemill::{Engine, Settings};
use tidemill_engine::source::OnLoss;
use tidemill_harness::asked::long;
use tidemill_harness::binary::{self, Running};
use tidemill_harness::broker::Broker;
use tidemill_harness::random::Random;
use tidemill_harness::topics::{create_topic, delete_topic, produce, read_committed};
use tidemill_server::{Access, Listening};

/// What a child process is to do, as JSON.
const SOAK: &str = "TIDEMILL_TEST_SOAK";

const FILES: usize = 200;

/// After so long a new file has been found, on a slow machine too.
const KNOWN_AFTER: Duration = Duration::from_secs(10);
const TOPICS: [&str; 3] = ["soak-kept", "soak-made-again", "soak-deleted"];
const OUT: &str = "soak-out";

#[derive(Clone, Serialize, Deserialize)]
struct Job {
    folder: PathBuf,
    brokers: String,
    brokers_of_the_sink: String,
    topics: Vec<String>,
    accepts_loss: bool,
}

fn build(topology: &Topology<'_>, job: &Job) {
    let glob = job.folder.join("logs/*.log").display().to_string();
    let logs = topology.source("logs", Files::lines(glob).follow());
    let topics =
        topology.source("topics", Kafka::new(&job.brokers).source(job.topics.clone()).utf8());
    let parsed = logs.merge(topics).map(|line: Str| {
        let (origin, number) =
            line.rsplit_once(' ').expect("every line has an origin and a number");
        (Str::from(origin), number.parse::<u64>().expect("a number"))
    });
    let sums = parsed
        .group_by(|(origin, _): &(Str, u64)| origin.clone())
        .persistent_aggregate("sums", (Count, of(|(_, number): &(Str, u64)| *number, Sum)));
    let out = Kafka::new(&job.brokers_of_the_sink);
    sums.changes().sink(
        "out",
        out.sink(OUT, |change: &Change<Str, (u64, u64)>| {
            Message::new()
                .key(change.key.as_bytes())
                .value(serde_json::to_vec(&change.new).expect("it is plain data"))
        }),
    );
}

/// Not a test: the topology in the child processes of the soak. Without their variable it does
/// nothing.
#[test]
fn subject() {
    let Ok(job) = std::env::var(SOAK) else { return };
    let job: Job = serde_json::from_str(&job).expect("the parent wrote it");
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let mut settings = Settings::new("soak", job.folder.join("state"));
    settings.workers = 2;
    settings.on_loss = if job.accepts_loss { OnLoss::Earliest } else { OnLoss::Refuse };
    let outcome = Engine::start(settings, move |topology: &Topology<'_>| build(topology, &job))
        .and_then(|engine| {
            let listening =
                Listening::bind("127.0.0.1:0".parse().expect("an address"), Access::default())?;
            let server = listening.serve(Arc::clone(engine.runtime()))?;
            eprintln!("listening on http://{}", server.address());
            engine.wait()
        });
    let error = outcome.expect_err("nothing asks it to stop");
    eprintln!("{error}");
    std::process::exit(error.kind().exit_code().into())
}

/// What was written, by origin: how many lines, which have the numbers from 0 on.
type Written = BTreeMap<String, u64>;

struct Soak {
    job: Job,
    broker: Broker,
    broker_of_the_sink: Broker,
    running: Option<Running>,
    random: Random,
    written: Written,
    /// By topic: how many messages its one partition has, since it was made last.
    ends: BTreeMap<String, u64>,
    rotations: u64,
    /// When each file was written first.
    begun: BTreeMap<usize, Instant>,
    looks: u64,
    /// The memory of the process in KiB, as it was at each look since it was started last.
    memory: Vec<u64>,
    grew: Vec<(u64, u64)>,
}

impl Soak {
    fn new(folder: PathBuf) -> Soak {
        let (broker, broker_of_the_sink) = (Broker::start(), Broker::start());
        TOPICS.iter().for_each(|topic| create_topic(&broker.address(), topic, 1, &[]));
        create_topic(&broker_of_the_sink.address(), OUT, 3, &[]);
        let job = Job {
            folder,
            brokers: broker.address(),
            brokers_of_the_sink: broker_of_the_sink.address(),
            topics: TOPICS.map(str::to_owned).to_vec(),
            accepts_loss: false,
        };
        Soak {
            job,
            broker,
            broker_of_the_sink,
            running: None,
            random: Random::of_the_clock(),
            written: Written::new(),
            ends: BTreeMap::new(),
            rotations: 0,
            begun: BTreeMap::new(),
            looks: 0,
            memory: Vec::new(),
            grew: Vec::new(),
        }
    }

    /// Waits until the sink has taken its output.
    fn is_published(&mut self) {
        let began = Instant::now();
        while self.look()["sinks"][0]["backlog_bytes"] != 0 {
            assert!(
                began.elapsed() < Duration::from_secs(120),
                "the sink does not take its output: {}",
                self.running().err()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn start(&mut self) {
        let mut command =
            Command::new(std::env::current_exe().expect("a process knows its binary"));
        command.args(["--exact", "soak::subject", "--nocapture", "--test-threads=1"]);
        command.env(SOAK, serde_json::to_string(&self.job).expect("it is plain data"));
        let mut running = Running::of(&mut command);
        running.says("listening on ");
        self.running = Some(running);
    }

    fn running(&mut self) -> &mut Running {
        self.running.as_mut().expect("it runs")
    }

    fn kill(&mut self) {
        assert!(!self.running().has_ended(), "it has ended by itself: {}", self.running().err());
        self.running.take().expect("it runs").kill();
        self.note_memory();
    }

    fn note_memory(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        // The first half is how it fills its buffers.
        let (first, second) = memory.split_at(memory.len() / 2);
        if let (Some(first), Some(second)) = (first.iter().max(), second.iter().max()) {
            self.grew.push((*first, *second));
        }
    }

    fn log(&self, file: usize) -> PathBuf {
        self.job.folder.join(format!("logs/{file}.log"))
    }

    /// Writes lines to some files, and rotates one now and then.
    fn write_files(&mut self) {
        for _ in 0..20 {
            let file = usize::try_from(self.random.within(0..FILES as u64)).expect("small");
            let lines = self.random.within(1..10);
            let origin = format!("file {file}");
            let from = self.written.get(&origin).copied().unwrap_or_default();
            let text: String =
                (from..from + lines).map(|number| format!("{origin} {number}\n")).collect();
            let opened = OpenOptions::new().append(true).create(true).open(self.log(file));
            opened.and_then(|mut opened| opened.write_all(text.as_bytes())).expect("written");
            self.written.insert(origin, from + lines);
            self.begun.entry(file).or_insert_with(Instant::now);
        }
        if self.random.within(0..4) == 0 {
            let file = usize::try_from(self.random.within(0..FILES as u64)).expect("small");
            let log = self.log(file);
            // A file that loses its name before any look at it, and before any of its name was
            // known, is nobody's.
            let is_known =
                self.begun.get(&file).is_some_and(|begun| begun.elapsed() >= KNOWN_AFTER);
            if is_known && log.exists() {
                self.rotations += 1;
                let old = log.with_extension(format!("log.{}", self.rotations));
                match self.random.within(0..2) {
                    0 => fs::rename(&log, &old).expect("renamed"),
                    _ => {
                        fs::copy(&log, &old).expect("copied");
                        OpenOptions::new()
                            .write(true)
                            .truncate(true)
                            .open(&log)
                            .map(drop)
                            .expect("cut");
                    }
                }
            }
        }
    }

    /// Produces some messages to each topic that is there.
    fn produce(&mut self, topics: &[&str]) {
        for topic in topics {
            let count = self.random.within(1..200);
            let origin = format!("topic {topic}");
            let from = self.written.get(&origin).copied().unwrap_or_default();
            let lines: Vec<String> =
                (from..from + count).map(|number| format!("{origin} {number}")).collect();
            let messages: Vec<_> =
                lines.iter().map(|line| (0, None, Some(line.as_str()))).collect();
            produce(&self.job.brokers, topic, &messages);
            self.written.insert(origin, from + count);
            *self.ends.entry((*topic).to_string()).or_default() += count;
        }
    }

    /// Compares the status with what is there. Nothing is written meanwhile.
    fn look(&mut self) -> Json {
        let (code, status) = self.running().get("/v1/status");
        assert_eq!(code, 200, "{status}");
        for partition in status["partitions"].as_array().expect("a list") {
            let (name, offset) = (
                partition["partition"].as_str().expect("a name"),
                partition["offset"].as_u64().expect("a number"),
            );
            if let Some((topic, _)) = name.split_once('[') {
                let end = self.ends.get(topic).copied().unwrap_or_default();
                assert!(offset <= end, "{name} is read to {offset} of {end}");
                let lag = partition["lag"].as_u64();
                assert!(
                    lag.is_none_or(|lag| offset + lag <= end),
                    "{name}: {offset} and {lag:?} of {end}"
                );
            }
        }
        let pid = self.running().pid();
        let memory = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let memory: Option<u64> = memory
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
        self.memory.extend(memory);
        self.looks += 1;
        status
    }

    /// Goes on for some time, with messages to these topics.
    fn go_on(&mut self, time: Duration, topics: &[&str]) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            assert!(
                !self.running().has_ended(),
                "it has ended by itself: {}",
                self.running().err()
            );
            self.write_files();
            self.produce(topics);
            self.look();
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until everything that was written is counted.
    fn settles(&mut self) {
        let began = Instant::now();
        loop {
            self.look();
            let sums = self.sums();
            let expected = expected(&self.written);
            if sums == expected {
                return;
            }
            let wrong: Vec<_> = expected
                .iter()
                .filter(|(key, value)| sums.get(*key) != Some(value))
                .take(5)
                .collect();
            let there: Vec<_> = wrong.iter().map(|(key, _)| sums.get(*key)).collect();
            assert!(
                began.elapsed() < Duration::from_secs(120),
                "{wrong:?} is not what is counted: {there:?}; {}",
                self.running().err()
            );
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    fn sums(&mut self) -> BTreeMap<String, (u64, u64)> {
        let began = Instant::now();
        let (code, page) = loop {
            match self.running().get("/v1/state/sums?limit=1000") {
                // A generation is being rebuilt.
                (503, _) if began.elapsed() < Duration::from_secs(60) => {
                    std::thread::sleep(Duration::from_millis(100))
                }
                answer => break answer,
            }
        };
        assert_eq!(code, 200, "{page}");
        let row = |row: &Json| {
            let value: (u64, u64) =
                serde_json::from_value(row["value"].clone()).expect("a count and a sum");
            (row["key"].as_str().expect("a text").to_string(), value)
        };
        page["rows"].as_array().expect("rows").iter().map(row).collect()
    }

    /// Waits for the end that a lost topic makes, and goes on with permission.
    fn is_refused_and_permitted(&mut self) {
        let outcome = self.running.take().expect("it runs").wait();
        self.note_memory();
        assert_eq!(outcome.code, Some(67), "{}", outcome.err);
        self.job.accepts_loss = true;
        self.start();
        self.settles();
        // It is needed once.
        self.kill();
        self.job.accepts_loss = false;
        self.start();
    }
}

fn expected(written: &Written) -> BTreeMap<String, (u64, u64)> {
    written
        .iter()
        .map(|(origin, count)| (origin.clone(), (*count, count * (count - 1) / 2)))
        .collect()
}

/// The newest count and sum of each origin in the sink's topic, to which they come in order.
fn newest(brokers: &str) -> BTreeMap<String, (u64, u64)> {
    let mut newest = BTreeMap::new();
    for message in read_committed(brokers, OUT) {
        let value: (u64, u64) =
            serde_json::from_str(&message.value.expect("a value")).expect("a count and a sum");
        let before = newest.insert(message.key.expect("a key"), value);
        assert!(
            before.is_none_or(|before: (u64, u64)| before.0 < value.0),
            "a change came twice, or late"
        );
    }
    newest
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = binary::folder();
    let path: &Path = folder.path();
    let path = path.to_path_buf();
    fs::create_dir(path.join("logs")).expect("made");
    (folder, path)
}

#[test]
fn everything_counts_once_in_ten_minutes_of_everything() {
    if !long() {
        return;
    }
    let seconds = std::env::var("TIDEMILL_TEST_SECONDS")
        .ok()
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or(600);
    let tenth = Duration::from_secs(seconds) / 10;
    let (_folder, path) = folder();
    let mut soak = Soak::new(path);
    let [kept, made_again, deleted] = TOPICS;
    soak.write_files();
    soak.start();
    soak.go_on(tenth * 2, &TOPICS);
    soak.kill();
    soak.write_files();
    soak.start();
    soak.go_on(tenth, &TOPICS);
    soak.settles();
    // One topic is made again under its name.
    delete_topic(&soak.job.brokers, made_again);
    create_topic(&soak.job.brokers, made_again, 1, &[]);
    soak.ends.remove(made_again);
    soak.is_refused_and_permitted();
    soak.go_on(tenth, &TOPICS);
    soak.settles();
    // Another is deleted for good.
    delete_topic(&soak.job.brokers, deleted);
    soak.ends.remove(deleted);
    soak.job.topics.retain(|topic| topic != deleted);
    soak.is_refused_and_permitted();
    soak.go_on(tenth, &[kept, made_again]);
    // The broker pauses, and is killed and started again.
    soak.broker.pause();
    soak.go_on(tenth / 2, &[]);
    soak.broker.resume();
    soak.go_on(tenth / 2, &[kept, made_again]);
    soak.broker.kill();
    soak.go_on(tenth / 4, &[]);
    soak.broker.restart();
    soak.go_on(tenth / 2, &[kept, made_again]);
    // The sink's broker is gone for a while: its output waits.
    soak.broker_of_the_sink.stop();
    soak.go_on(tenth, &[kept, made_again]);
    soak.broker_of_the_sink.restart();
    soak.go_on(tenth * 2, &[kept, made_again]);
    soak.settles();
    soak.is_published();
    soak.kill();
    assert_eq!(newest(&soak.job.brokers_of_the_sink), expected(&soak.written), "the sink");
    let lines: u64 = soak.written.values().sum();
    eprintln!(
        "soak: {lines} lines, {} rotations, {} looks; memory in KiB, first and second halves: {:?}",
        soak.rotations, soak.looks, soak.grew
    );
    let (first, second) = soak
        .grew
        .iter()
        .copied()
        .max_by_key(|(first, second)| second.saturating_sub(*first))
        .expect("runs");
    assert!(second <= first + first / 2 + (64 << 10), "memory grew from {first} to {second} KiB");
}
