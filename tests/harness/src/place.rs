//! A folder with an input, in which one subject is run again and again, crashed, and checked.

use super::child::{How, Running, crash_at};
use super::input::Input;
use super::run::Run;
use super::seen::Seen;
use std::fs;
use std::path::Path;
use tidemill::CrashPoint;

/// A folder with an input, in which one subject is run again and again.
pub struct Place {
    folder: tempfile::TempDir,
    /// The input that lies there.
    pub input: Input,
    /// What is done there, for messages.
    pub title: String,
    runs: usize,
}

impl Place {
    /// A new folder with the input that this seed makes, of about so many lines a file.
    pub fn new(title: impl Into<String>, seed: u64, lines: u64) -> Place {
        let folder = tempfile::tempdir_in(crate::checkout::scratch())
            .expect("the target folder can be written");
        let input = Input::write(folder.path(), seed, lines);
        Place { folder, input, title: title.into(), runs: 0 }
    }

    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a child. With `crash_at`, as in `after-write:abort:3`, a crash point is armed in it.
    pub fn start(&mut self, run: &Run, crash_at: Option<&str>) -> Running {
        self.runs += 1;
        let title = format!(
            "{}, start {} with {run:?} {}",
            self.title,
            self.runs,
            crash_at.unwrap_or_default()
        );
        let stderr = self.folder().join(format!("stderr-{}", self.runs));
        Running::start(self.folder(), &stderr, title, run, crash_at)
    }

    /// Runs a child until the `nth` time that it reaches `point`, and crashes it there.
    pub fn crash(&mut self, run: &Run, point: CrashPoint, how: How, nth: u64) {
        let mut child = self.start(run, Some(&crash_at(point, how, nth)));
        child.reaches(point, how);
        child.kill();
    }

    /// Runs a child to the end of its input.
    pub fn finish(&mut self, run: &Run) {
        let mut child = self.start(run, None);
        let status = child.wait();
        assert!(status.success(), "it did not come to its end: {child:?}");
    }

    /// Checks what a crash has left: what is committed is whole, and nothing else is there.
    pub fn check_after_crash(&self) {
        self.check(
            "after the crash",
            &Seen::after_crash(self.folder())
                .map_or(Vec::new(), |seen| seen.complaints(&self.input)),
        );
    }

    /// Checks what a run to the end has left: everything, once.
    pub fn check_at_end(&self) {
        self.check("at the end", &Seen::at_end(self.folder()).complaints_at_end(&self.input));
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
}

/// What a failed test leaves is what its cause is found by: the folder stays. Its title names the
/// case, and the seed of a random one, whatever failed and with which message.
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
