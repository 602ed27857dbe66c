//! The example programs as processes: run to their end, or running and asked over their port.

use super::checkout;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long anything may take: generous, for a loaded machine. Longer than a transaction that a killed
/// broker leaves open: 60 s, and the broker looks every 10 s.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The text that `word_count` counts if it is not told otherwise.
pub const TEXTS: &str = "examples/data/text/*.txt";

/// A folder of a test's own, on the disk that the build lies on.
pub fn folder() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("tidemill")
        .tempdir_in(crate::checkout::scratch())
        .expect("a folder can be made")
}

/// A command without the settings of Tidemill's that this process was given.
pub fn plain(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TIDEMILL_"))
    {
        command.env_remove(name);
    }
    command.env_remove("RUST_LOG");
    command
}

fn command(example: &str, arguments: &[&str]) -> Command {
    let mut command = plain(&checkout::program(&format!("examples/{example}")));
    command.args(arguments).current_dir(checkout::root()).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the program `tidemill` in a folder to its end, with these in its environment.
pub fn tidemill(arguments: &[&str], folder: &Path, environment: &[(&str, &str)]) -> Outcome {
    let mut command = plain(&checkout::program("tidemill"));
    Running::of(command.args(arguments).current_dir(folder).envs(environment.iter().copied()))
        .wait()
}

/// What a process that has ended said.
#[derive(Debug)]
pub struct Outcome {
    /// None if a signal ended it.
    pub code: Option<i32>,
    /// Its whole standard output.
    pub out: String,
    /// Its whole standard error.
    pub err: String,
}

impl Outcome {
    /// Asserts that it ended with this code, and said all of these.
    #[track_caller]
    pub fn is(&self, case: &str, code: i32, parts: &[&str]) -> &Outcome {
        assert_eq!(self.code, Some(code), "{case}: {self:#?}");
        for part in parts {
            assert!(
                self.err.contains(part) || self.out.contains(part),
                "{case}: {part:?} is not in {self:#?}"
            );
        }
        self
    }
}

/// Runs an example to its end.
pub fn run(program: &str, arguments: &[&str]) -> Outcome {
    Running::start(program, arguments).wait()
}

/// An example that runs. Dropping it kills it.
pub struct Running {
    child: Child,
    out: Pipe,
    err: Pipe,
}

/// What a process writes, read as it comes.
struct Pipe {
    text: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Pipe {
    fn read(from: impl Read + Send + 'static) -> Pipe {
        let text = Arc::new(Mutex::new(String::new()));
        let into = Arc::clone(&text);
        let reader = std::thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            while from.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                into.lock().expect("no holder panics").push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Pipe { text, reader: Some(reader) }
    }

    fn so_far(&self) -> String {
        self.text.lock().expect("no holder panics").clone()
    }

    fn read_to_the_end(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader does not panic");
        }
        self.so_far()
    }
}

impl Running {
    /// Starts a program, and reads what it writes.
    pub fn start(program: &str, arguments: &[&str]) -> Running {
        Running::start_with(program, arguments, &[])
    }

    /// As [`Running::start`], with these in its environment.
    pub fn start_with(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Running {
        Running::of(command(program, arguments).envs(environment.iter().copied()))
    }

    /// Any program, whose output is read.
    pub fn of(command: &mut Command) -> Running {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it can be started");
        let out = Pipe::read(child.stdout.take().expect("it is piped"));
        let err = Pipe::read(child.stderr.take().expect("it is piped"));
        Running { child, out, err }
    }

    /// Returns the process's id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns what it has written to its standard error so far.
    pub fn err(&self) -> String {
        self.err.so_far()
    }

    /// Returns whether the process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it is this process's child").is_some()
    }

    /// Waits until it says this on its standard error, and gives all that it said.
    #[track_caller]
    pub fn says(&mut self, part: &str) -> String {
        let began = Instant::now();
        loop {
            let said = self.err.so_far();
            if said.contains(part) {
                return said;
            }
            assert!(
                !self.has_ended() && began.elapsed() < PATIENCE,
                "it does not say {part:?}, but\n{said}"
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Where it listens, once it is ready.
    #[track_caller]
    pub fn url(&mut self) -> String {
        let said = self.says("listening on ");
        let url =
            said.split("listening on ").nth(1).and_then(|rest| rest.split_whitespace().next());
        url.expect("an address").to_string()
    }

    /// The answer of its port: status and JSON. What is not JSON comes as a text.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> (u16, Json) {
        let url = format!("{}{path}", self.url());
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .proxy(None);
        let mut answer = config
            .build()
            .new_agent()
            .get(&url)
            .call()
            .unwrap_or_else(|why| panic!("{url}: {why}"));
        let body = answer.body_mut().read_to_string().unwrap_or_else(|why| panic!("{url}: {why}"));
        (answer.status().as_u16(), serde_json::from_str(&body).unwrap_or(Json::String(body)))
    }

    /// Asks until the answer is as wanted, and gives it.
    #[track_caller]
    pub fn get_until(&mut self, path: &str, wanted: impl Fn(&Json) -> bool) -> Json {
        let began = Instant::now();
        loop {
            let (_, answer) = self.get(path);
            if wanted(&answer) {
                return answer;
            }
            assert!(began.elapsed() < PATIENCE, "{path} stays {answer}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Sends it a signal, by name: `TERM`, `KILL`.
    pub fn signal(&self, signal: &str) {
        let sent =
            Command::new("kill").args([&format!("-{signal}"), &self.pid().to_string()]).status();
        assert!(sent.is_ok_and(|sent| sent.success()), "the signal can be sent");
    }

    /// Ends it as kill -9 does.
    pub fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it is this process's child");
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(mut self) -> Outcome {
        let began = Instant::now();
        while !self.has_ended() {
            assert!(began.elapsed() < PATIENCE, "it does not end: {}", self.err.so_far());
            std::thread::sleep(Duration::from_millis(2));
        }
        let code = self.child.wait().expect("it has ended").code();
        Outcome { code, out: self.out.read_to_the_end(), err: self.err.read_to_the_end() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A stopped topology's state, by `state scan`: keys in the order in which they come, those that
/// are no texts as JSON.
#[track_caller]
pub fn scan(program: &str, state: &str, dir: &Path) -> Vec<(String, u64)> {
    let dir = dir.to_str().expect("UTF-8");
    let scanned = run(program, &["state", "scan", state, "--state", dir]);
    scanned.is("state scan", 0, &[]);
    let row = |line: &str| {
        let row: Json = serde_json::from_str(line).unwrap_or_else(|why| panic!("{line}: {why}"));
        let key = row["key"].as_str().map_or_else(|| row["key"].to_string(), str::to_string);
        (key, row["value"].as_u64().unwrap_or_else(|| panic!("no number for a value: {line}")))
    };
    scanned.out.lines().map(row).collect()
}

/// The independent recount of words: a plain map.
pub fn recount<'a>(texts: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for word in texts.into_iter().flat_map(str::split_whitespace) {
        *counts.entry(word.to_string()).or_default() += 1;
    }
    counts
}

/// The bundled texts.
pub fn texts() -> String {
    let folder = checkout::root().join("examples/data/text");
    let files = std::fs::read_dir(folder).expect("the texts are there");
    files
        .map(|file| std::fs::read_to_string(file.expect("an entry").path()).expect("a text") + "\n")
        .collect()
}

/// Asserts that the state `counts` is exactly these texts' words, in the order of the words.
#[track_caller]
pub fn counts_are(case: &str, dir: &Path, expected: &BTreeMap<String, u64>) {
    let counts = scan("word_count", "counts", dir);
    assert!(counts.is_sorted_by(|a, b| a.0 < b.0), "{case}: the keys are not in order");
    let counts: BTreeMap<String, u64> = counts.into_iter().collect();
    if counts != *expected {
        let wrong: Vec<_> = counts
            .iter()
            .filter(|(word, count)| expected.get(*word) != Some(count))
            .take(5)
            .collect();
        let missing: Vec<_> =
            expected.iter().filter(|(word, _)| !counts.contains_key(*word)).take(5).collect();
        panic!(
            "{case}: the counts are wrong: {wrong:?}, missing: {missing:?} ({} words of {})",
            counts.len(),
            expected.len()
        );
    }
}

/// The newest count of each word in a file of `[word, count]` lines, and how many lines there are.
#[track_caller]
pub fn newest_in(out: &Path) -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(out).expect("the output is there");
    let mut newest = BTreeMap::new();
    for line in text.lines() {
        let (word, count): (String, u64) =
            serde_json::from_str(line).unwrap_or_else(|why| panic!("{line}: {why}"));
        let before = newest.insert(word, count);
        assert!(
            before.is_none_or(|before| before < count),
            "a count goes back, or comes twice: {line}"
        );
    }
    newest
}
