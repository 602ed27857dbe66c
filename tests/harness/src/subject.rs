//! The topology under test, and the child process that runs it: two sources, two states, two sinks.

use super::run::Run;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tidemill::Engine;
use tidemill::prelude::*;

/// Where a subject keeps its things: everything is in one folder.
pub fn state(folder: &Path) -> PathBuf {
    folder.join("state")
}

/// The file of a sink.
pub fn output(folder: &Path, sink: &str) -> PathBuf {
    folder.join(format!("{sink}.jsonl"))
}

fn build(topology: &Topology<'_>, folder: &Path) {
    let files = |glob: &str| Files::lines(folder.join(glob).display().to_string());
    let plain = topology.source("plain", files("*.txt"));
    let lines = plain.merge(topology.source("packed", files("*.txt.gz")));
    let words = |line: Str, words: &mut Emit<Str>| {
        words.extend(line.split_whitespace().skip(1).map(Str::from))
    };
    let counts = lines
        .clone()
        .flat_map(words)
        .group_by(|word| word.clone())
        .persistent_aggregate("counts", Count);
    counts.changes().sink("changes", Files::to(output(folder, "changes")));
    lines.clone().persistent_aggregate("bytes", of(|line: &Str| line.len() as u64, Sum));
    let loud = lines.filter(|line| line.contains("tide")).map(|line| line.to_uppercase());
    loud.sink("lines", Files::to(output(folder, "lines")));
}

/// Runs the subject to its end in this process, whose working folder is the subject's; ends the
/// process with the exit code.
pub fn main(run: &str) -> ! {
    let run: Run = serde_json::from_str(run).expect("the parent wrote it");
    let folder = std::env::current_dir().expect("the parent has made the folder");
    let settings = run.settings("subject", state(&folder));
    let outcome = Engine::start(settings, move |topology: &Topology<'_>| build(topology, &folder))
        .and_then(|engine| {
            while !engine.is_over() {
                if engine.runtime().is_at_end() {
                    engine.stop();
                }
                std::thread::sleep(Duration::from_millis(1));
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
