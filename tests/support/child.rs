//! Subjects as child processes: started, crashed, killed from outside, each bounded in time and never left behind.

use super::input::Input;
use super::seen::Seen;
use super::subject::{Run, SUBJECT};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tidemill::CrashPoint;

/// How long a child may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with an input, in which one subject is run again and again.
pub(crate) struct Place {
    folder: tempfile::TempDir,
    pub(crate) input: Input,
    /// What is done there, for messages.
    pub(crate) title: String,
    runs: usize,
}

/// What a child does at a crash point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// It aborts by itself.
    Abort,
    /// It waits there, and is killed from outside.
    Kill,
}

impl Place {
    /// A new folder with the input that this seed makes, of about so many lines a file.
    pub(crate) fn new(title: impl Into<String>, seed: u64, lines: u64) -> Place {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target folder can be written");
        let input = Input::write(folder.path(), seed, lines);
        Place { folder, input, title: title.into(), runs: 0 }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a child. With `crash_at`, as in `after-write:abort:3`, a crash point is armed in it.
    pub(crate) fn start(&mut self, run: &Run, crash_at: Option<&str>) -> Running {
        self.runs += 1;
        let title = format!("{}, start {} with {run:?} {}", self.title, self.runs, crash_at.unwrap_or_default());
        let stderr = self.folder().join(format!("stderr-{}", self.runs));
        let mut command = Command::new(std::env::current_exe().expect("a process knows its binary"));
        command.args(["--exact", "subject", "--nocapture", "--test-threads=1"]);
        // A core file, where the system writes one, goes away with the folder.
        command.current_dir(self.folder()).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(&stderr).expect("the folder can be written"));
        command.env(SUBJECT, serde_json::to_string(run).expect("it is plain data"));
        command.env_remove(tidemill_state::points::CRASH_AT);
        command.envs(crash_at.map(|at| (tidemill_state::points::CRASH_AT, at)));
        let child = command.spawn().expect("the operating system starts a process");
        Running { child, stderr, title }
    }

    /// Runs a child until the `nth` time that it reaches `point`, and crashes it there.
    pub(crate) fn crash(&mut self, run: &Run, point: CrashPoint, how: How, nth: u64) {
        let effect = if how == How::Abort { "abort" } else { "wait" };
        let mut child = self.start(run, Some(&format!("{}:{effect}:{nth}", point.name())));
        let reached = format!("crash point {}", point.name());
        match how {
            How::Abort => {
                let status = child.wait();
                assert!(!status.success() && child.said(&reached), "{} did not abort there: {child:?}", point.name());
            }
            How::Kill => {
                child.wait_until_it_says(&reached);
                child.kill();
            }
        }
    }

    /// Runs a child to the end of its input.
    pub(crate) fn finish(&mut self, run: &Run) {
        let mut child = self.start(run, None);
        let status = child.wait();
        assert!(status.success(), "it did not come to its end: {child:?}");
    }

    /// Checks what a crash has left: what is committed is whole, and nothing else is there.
    pub(crate) fn check_after_crash(&self) {
        self.check("after the crash", &Seen::after_crash(self.folder()).map_or(Vec::new(), |seen| seen.complaints(&self.input)));
    }

    /// Checks what a run to the end has left: everything, once.
    pub(crate) fn check_at_end(&self) {
        self.check("at the end", &Seen::at_end(self.folder()).complaints_at_end(&self.input));
    }

    fn check(&self, when: &str, complaints: &[String]) {
        let logs: Vec<String> = (1..=self.runs)
            .map(|run| fs::read_to_string(self.folder().join(format!("stderr-{run}"))).unwrap_or_default())
            .collect();
        assert!(complaints.is_empty(), "{}: {when}:\n  {}\nstderr:\n{}", self.title, complaints.join("\n  "), logs.join("--\n"));
    }
}

/// What a failed test leaves is what its cause is found by: the folder stays. Its title names the case, and the seed of a random one, whatever
/// failed and with which message.
impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.folder.disable_cleanup(true);
            eprintln!("{}, start {}: this failed, and its folder is kept: {}", self.title, self.runs, self.folder().display());
        }
    }
}

/// A child that runs. Dropping it kills it.
pub(crate) struct Running {
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
    fn stderr(&self) -> String {
        fs::read(&self.stderr).map_or(String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    pub(crate) fn said(&self, text: &str) -> bool {
        self.stderr().contains(text)
    }

    /// Waits until the child has ended by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let ended = self.ends_within(PATIENCE);
        ended.unwrap_or_else(|| panic!("it does not end: {self:?}"))
    }

    /// How the child has ended, if it does so within this time.
    pub(crate) fn ends_within(&mut self, time: Duration) -> Option<ExitStatus> {
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
            assert!(ended.is_none() || self.said(text), "it ended, and did not say \"{text}\": {self:?}");
        }
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("a child that was not waited for can be killed");
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
