//! The topology under test, and the child process that runs it: two sources of topics, two states,
//! two sinks to topics.

use super::super::run::Run;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tidemill::kafka::Message;
use tidemill::prelude::*;
use tidemill::{Engine, Status};

/// What a child process is to do: as JSON, what makes a process of this test binary one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// The settings of the run.
    pub run: Run,
    /// The addresses of the brokers.
    pub brokers: String,
    /// The topology's name; its topics for output begin with it.
    pub name: String,
    /// The topics that the two sources read.
    pub inputs: [String; 2],
    /// The end of each partition. With all of that read and published it stops; without this it
    /// runs until it is killed.
    pub ends: Option<BTreeMap<String, u64>>,
}

/// The names of the sources, and of the sinks.
pub const SOURCES: [&str; 2] = ["plain", "transactional"];
/// The names of its sinks.
pub const SINKS: [&str; 2] = ["changes", "lines"];

/// The topic of a sink.
pub fn output(name: &str, sink: &str) -> String {
    format!("{name}-{sink}")
}

/// Where a subject keeps its state.
pub fn state(folder: &Path) -> PathBuf {
    folder.join("state")
}

fn build(topology: &Topology<'_>, job: &Job) {
    let kafka = Kafka::new(&job.brokers);
    let source =
        |index: usize| topology.source(SOURCES[index], kafka.source([&job.inputs[index]]).utf8());
    let lines = source(0).merge(source(1));
    let words = |line: Str, words: &mut Emit<Str>| {
        words.extend(line.split_whitespace().skip(1).map(Str::from))
    };
    let counts = lines
        .clone()
        .flat_map(words)
        .group_by(|word| word.clone())
        .persistent_aggregate("counts", Count);
    lines.clone().persistent_aggregate("bytes", of(|line: &Str| line.len() as u64, Sum));
    let [changes, copies] = SINKS;
    counts.changes().sink(changes, kafka.sink(output(&job.name, changes), change));
    lines.sink(copies, kafka.sink(output(&job.name, copies), copy));
}

fn change(change: &Change<Str, u64>) -> Message {
    Message::new()
        .key(change.key.as_bytes())
        .value(serde_json::to_vec(change).expect("it is plain data"))
}

/// The line as it is. Those of one partition have one key, and so stay in order.
fn copy(line: &Str) -> Message {
    let partition = line.split('-').next().unwrap_or_default();
    Message::new().key(partition).value(line.as_bytes())
}

/// Runs the subject in this process, whose working folder is the subject's; ends the process with
/// the exit code.
pub fn main(job: &str) -> ! {
    let job: Job = serde_json::from_str(job).expect("the parent wrote it");
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let folder = std::env::current_dir().expect("the parent has made the folder");
    let (settings, ends) = (job.run.settings(&job.name, state(&folder)), job.ends.clone());
    let outcome = Engine::start(settings, move |topology: &Topology<'_>| build(topology, &job))
        .and_then(|engine| {
            while !engine.is_over() {
                if ends.as_ref().is_some_and(|ends| is_done(ends, &engine.runtime().status())) {
                    engine.stop();
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            engine.wait()
        });
    match outcome {
        Ok(()) => std::process::exit(0),
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(error.kind().exit_code().into())
        }
    }
}

/// Whether everything up to there is committed, and the sinks have all that came of it.
fn is_done(ends: &BTreeMap<String, u64>, status: &Status) -> bool {
    let read = |partition: &String, end: u64| {
        status.partitions.iter().any(|told| told.partition == *partition && told.offset >= end)
    };
    ends.iter().all(|(partition, end)| read(partition, *end))
        && status.sinks.iter().all(|sink| sink.backlog_bytes == 0)
}
