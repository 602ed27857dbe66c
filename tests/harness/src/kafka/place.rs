//! A folder and topics, on which one subject is run again and again, crashed, and checked.

use super::super::child::Running;
use super::super::run::Run;
use super::super::topics::{create_topic, delete_topic};
use super::input::{Content, Input};
use super::seen::Seen;
use super::subject::{Job, SINKS, output};
use std::fs;
use std::path::Path;

/// A folder and topics, on which one subject is run again and again.
pub struct Place {
    folder: tempfile::TempDir,
    brokers: String,
    name: String,
    inputs: [String; 2],
    /// What is done there, for messages.
    pub title: String,
    runs: usize,
}

impl Place {
    /// A new folder, and new topics for the output of a topology of this name.
    pub fn new(title: impl Into<String>, brokers: &str, name: &str, input: &Input) -> Place {
        let folder = tempfile::tempdir_in(crate::checkout::scratch())
            .expect("the target folder can be written");
        SINKS.iter().for_each(|sink| create_topic(brokers, &output(name, sink), 3, &[]));
        let (brokers, name, inputs) = (brokers.to_string(), name.to_string(), input.topics.clone());
        Place { folder, brokers, name, inputs, title: title.into(), runs: 0 }
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a child. With `crash_at`, a crash point is armed in it; with `content`, it stops when
    /// all of that is done.
    pub fn start(
        &mut self,
        run: &Run,
        crash_at: Option<&str>,
        content: Option<&Content>,
    ) -> Running {
        self.runs += 1;
        let title = format!(
            "{}, start {} with {run:?} {}",
            self.title,
            self.runs,
            crash_at.unwrap_or_default()
        );
        let job = Job {
            run: run.clone(),
            brokers: self.brokers.clone(),
            name: self.name.clone(),
            inputs: self.inputs.clone(),
            ends: content.map(|content| content.ends.clone()),
        };
        let stderr = self.folder().join(format!("stderr-{}", self.runs));
        Running::start(self.folder(), &stderr, title, &job, crash_at)
    }

    /// Checks what a crash has left: what is committed is whole, and nothing else is there.
    pub fn check_after_crash(&self, content: &Content) {
        let complaints =
            Seen::after_crash(self.folder()).map_or(Vec::new(), |seen| seen.complaints(content));
        self.check("after the crash", &complaints);
    }

    /// What a run to the end has left.
    pub fn seen_at_end(&self) -> Seen {
        Seen::at_end(self.folder(), &self.brokers, &self.name)
    }

    /// Checks what a run to the end has left: everything, once.
    pub fn check_at_end(&self, content: &Content) {
        let seen = self.seen_at_end();
        let complaints = seen.complaints_at_end(content);
        if !complaints.is_empty() {
            // The topics go with the broker.
            for (sink, messages) in SINKS.iter().zip([&seen.changes, &seen.lines]) {
                let text: String =
                    messages.iter().map(|message| format!("{message:?}\n")).collect();
                fs::write(self.folder().join(format!("{sink}.txt")), text)
                    .expect("the folder can be written");
            }
        }
        self.check("at the end", &complaints);
    }

    fn check(&self, when: &str, complaints: &[String]) {
        let logs: Vec<String> = (1..=self.runs)
            .map(|run| {
                fs::read_to_string(self.folder().join(format!("stderr-{run}"))).unwrap_or_default()
            })
            .collect();
        assert!(
            complaints.is_empty(),
            "{}: {when}:\n  {}\nstderr:\n{}",
            self.title,
            complaints.join("\n  "),
            logs.join("--\n")
        );
    }

    /// Removes the topics, so that a broker can serve many.
    pub fn remove_topics(&self) {
        for sink in SINKS {
            delete_topic(&self.brokers, &output(&self.name, sink));
            delete_topic(&self.brokers, &format!("{}.{sink}.progress", self.name));
        }
    }
}

/// What a failed test leaves is what its cause is found by: the folder stays.
impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.folder.disable_cleanup(true);
            eprintln!(
                "{}, start {}: this failed, and its folder is kept: {}",
                self.title,
                self.runs,
                self.folder().display()
            );
        }
    }
}
