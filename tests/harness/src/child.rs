//! Subjects as child processes: this test binary once more, crashed, killed from outside, bounded
//! in time and never left behind.

use serde::Serialize;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tidemill::CrashPoint;
use tidemill_state::points::CRASH_AT;

/// The environment variable that tells a process of a test binary to be the subject: what it is to
/// run, as JSON.
pub const SUBJECT: &str = "TIDEMILL_TEST_SUBJECT";

/// How long a child may take for anything: generous, for a loaded machine and a broker that comes
/// back.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a child does at a crash point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It aborts by itself.
    Abort,
    /// It waits there, and is killed from outside.
    Kill,
}

/// What arms a point for the `nth` time that it is reached.
pub fn crash_at(point: CrashPoint, how: How, nth: u64) -> String {
    let effect = if how == How::Abort { "abort" } else { "wait" };
    format!("{}:{effect}:{nth}", point.name())
}

/// A child that runs. Dropping it kills it.
pub struct Running {
    child: Child,
    stderr: PathBuf,
    title: String,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; its stderr:\n{}", self.title, self.stderr())
    }
}

impl Running {
    /// Starts the subject that `run` describes, in `folder`. With `crash_at`, as in
    /// `after-write:abort:3`, a crash point is armed in it.
    pub fn start(
        folder: &Path,
        stderr: &Path,
        title: String,
        run: &impl Serialize,
        crash_at: Option<&str>,
    ) -> Running {
        let mut command =
            Command::new(std::env::current_exe().expect("a process knows its binary"));
        command.args(["--exact", "subject", "--nocapture", "--test-threads=1"]);
        // A core file, where the system writes one, goes away with the folder.
        command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(stderr).expect("the folder can be written"));
        command.env(SUBJECT, serde_json::to_string(run).expect("it is plain data"));
        command.env_remove(CRASH_AT).envs(crash_at.map(|at| (CRASH_AT, at)));
        let child = command.spawn().expect("the operating system starts a process");
        Running { child, stderr: stderr.to_path_buf(), title }
    }

    /// Waits until it is at the point that is armed in it: it has aborted there, or waits to be
    /// killed.
    pub fn reaches(&mut self, point: CrashPoint, how: How) {
        let reached = format!("crash point {}", point.name());
        match how {
            How::Abort => {
                let status = self.wait();
                assert!(
                    !status.success() && self.said(&reached),
                    "{} did not abort there: {self:?}",
                    point.name()
                );
            }
            How::Kill => self.wait_until_it_says(&reached),
        }
    }

    fn stderr(&self) -> String {
        fs::read(&self.stderr)
            .map_or(String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Returns whether a text is in its standard error.
    pub fn said(&self, text: &str) -> bool {
        self.stderr().contains(text)
    }

    /// Waits until the child has ended by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let ended = self.ends_within(PATIENCE);
        ended.unwrap_or_else(|| panic!("it does not end: {self:?}"))
    }

    /// How the child has ended, if it does so within this time.
    pub fn ends_within(&mut self, time: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + time;
        loop {
            let ended = self.child.try_wait().expect("a child can be waited for");
            if ended.is_some() || Instant::now() >= until {
                return ended;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn wait_until_it_says(&mut self, text: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.said(text) {
            assert!(Instant::now() < until, "it does not say \"{text}\": {self:?}");
            let ended = self.ends_within(Duration::from_millis(1));
            assert!(
                ended.is_none() || self.said(text),
                "it ended, and did not say \"{text}\": {self:?}"
            );
        }
    }

    /// Kills it with SIGKILL, if it has not ended.
    pub fn kill(mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a killed child ends");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It fails if the child has ended, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
