//! Rotation of followed files: a writer that numbers its lines and rotates in every way, a reader
//! that is killed in between: every number once.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tidemill_harness::binary::{self, Running};
use tidemill_harness::random::Random;

/// A way of rotation, and what the reader's glob matches.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    /// `app.log` to `app.log.1`, and those before one further.
    Renamed(Glob),
    /// The same, and `app.log.1` is compressed at once.
    Compressed(Glob),
    /// `app.log` is copied to `app.log.1` and cut.
    CopiedAndCut(Glob),
    /// `app.log` is copied to `app.log.1` and removed.
    CopiedAndRemoved(Glob),
    /// `app-1.log`, `app-2.log` and so on.
    Dated,
    /// The same, and those that were read to their end are deleted.
    Deleted,
    /// The same, with a link `current` that is turned to the newest; only the link matches.
    Linked,
    /// The same, and both match.
    LinkedBeside,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Glob {
    Fixed,
    Wide,
}

const MODES: [Mode; 12] = [
    Mode::Renamed(Glob::Fixed),
    Mode::Renamed(Glob::Wide),
    Mode::Compressed(Glob::Fixed),
    Mode::Compressed(Glob::Wide),
    Mode::CopiedAndCut(Glob::Fixed),
    Mode::CopiedAndCut(Glob::Wide),
    Mode::CopiedAndRemoved(Glob::Fixed),
    Mode::CopiedAndRemoved(Glob::Wide),
    Mode::Dated,
    Mode::Deleted,
    Mode::Linked,
    Mode::LinkedBeside,
];

const ROTATIONS: u64 = 20;

/// A log that is written and rotated.
struct Log {
    folder: PathBuf,
    mode: Mode,
    turn: u64,
    written: Arc<AtomicU64>,
}

impl Log {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The file that is written now.
    fn now(&self) -> PathBuf {
        match self.mode {
            Mode::Renamed(_)
            | Mode::Compressed(_)
            | Mode::CopiedAndCut(_)
            | Mode::CopiedAndRemoved(_) => self.path("app.log"),
            _ => self.path(&format!("app-{}.log", self.turn)),
        }
    }

    fn glob(&self) -> String {
        let name = match self.mode {
            Mode::Renamed(glob)
            | Mode::Compressed(glob)
            | Mode::CopiedAndCut(glob)
            | Mode::CopiedAndRemoved(glob) => match glob {
                Glob::Fixed => "app.log",
                Glob::Wide => "app.log*",
            },
            Mode::Dated | Mode::Deleted => "app-*.log",
            Mode::Linked => "current",
            Mode::LinkedBeside => "*",
        };
        self.path(name).to_str().expect("UTF-8").to_owned()
    }

    fn write(&self, lines: u64) {
        let from = self.written.load(SeqCst);
        let text: String = (from..from + lines).map(|number| format!("n{number}\n")).collect();
        let mut file =
            OpenOptions::new().append(true).create(true).open(self.now()).expect("opened");
        file.write_all(text.as_bytes()).expect("written");
        self.written.store(from + lines, SeqCst);
    }

    fn write_and_rotate(&mut self, rotations: u64, out: &Path) {
        let mut random = Random::of_the_clock();
        for _ in 0..rotations {
            let until = Instant::now() + Duration::from_millis(random.within(100..900));
            while Instant::now() < until {
                self.write(random.within(1..40));
                sleep(Duration::from_millis(random.within(1..20)));
            }
            self.rotate(out);
        }
        self.write(10);
    }

    /// Begins the first file, or the next.
    fn begin_file(&self) {
        File::create(self.now()).expect("created");
        if matches!(self.mode, Mode::Linked | Mode::LinkedBeside) {
            let (new, link) = (self.folder.with_extension("new"), self.path("current"));
            std::os::unix::fs::symlink(self.now().file_name().expect("a name"), &new)
                .expect("linked");
            fs::rename(new, link).expect("turned");
        }
    }

    fn rotate(&mut self, out: &Path) {
        self.turn += 1;
        match self.mode {
            Mode::Renamed(_) => {
                self.shift("");
                fs::rename(self.now(), self.path("app.log.1")).expect("renamed");
            }
            Mode::Compressed(_) => {
                self.shift(".gz");
                fs::rename(self.now(), self.path("app.log.1")).expect("renamed");
                compress(&self.path("app.log.1"));
            }
            Mode::CopiedAndCut(_) => {
                self.shift("");
                fs::copy(self.now(), self.path("app.log.1")).expect("copied");
                OpenOptions::new().write(true).truncate(true).open(self.now()).expect("cut");
                return;
            }
            Mode::CopiedAndRemoved(_) => {
                self.shift("");
                fs::copy(self.now(), self.path("app.log.1")).expect("copied");
                fs::remove_file(self.now()).expect("removed");
            }
            Mode::Deleted => {
                let read = counts(out);
                let old: Vec<PathBuf> =
                    files(&self.folder).into_iter().filter(|path| *path != self.now()).collect();
                for path in old {
                    let text = fs::read_to_string(&path).expect("read");
                    if text.lines().all(|line| read.contains_key(line)) {
                        fs::remove_file(path).expect("deleted");
                    }
                }
            }
            Mode::Dated | Mode::Linked | Mode::LinkedBeside => {}
        }
        self.begin_file();
    }

    fn shift(&self, suffix: &str) {
        for number in (1..self.turn).rev() {
            let from = self.path(&format!("app.log.{number}{suffix}"));
            fs::rename(from, self.path(&format!("app.log.{}{suffix}", number + 1)))
                .expect("shifted");
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).expect("listed").map(|entry| entry.expect("an entry").path()).collect()
}

/// The original keeps its name until the compressed file is whole, which has its time.
fn compress(path: &Path) {
    let packed = Command::new("gzip").arg(path).status().expect("gzip is there");
    assert!(packed.success(), "gzip {}", path.display());
}

/// How often each line was counted, by the output, of which the last line may not be whole.
fn counts(out: &Path) -> BTreeMap<String, u64> {
    let text = fs::read_to_string(out).unwrap_or_default();
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    let mut counts = BTreeMap::new();
    for line in whole.lines() {
        let (word, count): (String, u64) =
            serde_json::from_str(line).unwrap_or_else(|why| panic!("{line}: {why}"));
        counts.insert(word, count);
    }
    counts
}

struct Reader {
    arguments: Vec<String>,
    running: Option<Running>,
    starts: u32,
    mode: Mode,
}

impl Reader {
    fn start(&mut self) {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        self.running = Some(Running::start("word_count", &arguments));
        self.starts += 1;
    }

    fn kill(&mut self) {
        self.check();
        self.running.take().expect("it runs").kill();
    }

    /// It ends by nothing but its kills.
    fn check(&mut self) {
        let mut running = self.running.take().expect("it runs");
        if running.has_ended() {
            panic!("{:?}, start {}: {:#?}", self.mode, self.starts, running.wait());
        }
        self.running = Some(running);
    }

    fn run_for(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.check();
            sleep(Duration::from_millis(20));
        }
    }
}

fn check(mode: Mode, rotations: u64) {
    let place = binary::folder();
    let folder = place.path().join("logs");
    fs::create_dir(&folder).expect("made");
    let out = place.path().join("out.jsonl");
    let written = Arc::new(AtomicU64::new(0));
    let mut log = Log { folder, mode, turn: 0, written: Arc::clone(&written) };
    log.begin_file();
    log.write(10);
    let arguments = arguments(&place.path().join("state"), &log.glob(), &out);
    let mut reader = Reader { arguments, running: None, starts: 0, mode };
    // What had the name before the first start is nobody's.
    reader.start();
    reader.running.as_mut().expect("it runs").says("first commit");
    let over = Arc::new(AtomicBool::new(false));
    let writer = {
        let (over, out) = (Arc::clone(&over), out.clone());
        std::thread::spawn(move || {
            log.write_and_rotate(rotations, &out);
            over.store(true, SeqCst);
        })
    };
    let mut random = Random::of_the_clock();
    while !over.load(SeqCst) {
        assert!(!writer.is_finished() || over.load(SeqCst), "{mode:?}: the writer has failed");
        reader.run_for(Duration::from_millis(random.within(200..2_000)));
        reader.kill();
        sleep(Duration::from_millis(random.within(0..1_500)));
        reader.start();
    }
    writer.join().expect("the writer does not fail");
    let all = written.load(SeqCst);
    let began = Instant::now();
    while u64::try_from(counts(&out).len()).expect("a number") < all
        && began.elapsed() < Duration::from_secs(60)
    {
        reader.run_for(Duration::from_millis(50));
    }
    // Long enough for what has rotated to end, and to be found again if it were forgotten too
    // early.
    reader.run_for(Duration::from_secs(8));
    reader.kill();
    reader.start();
    reader.run_for(Duration::from_secs(2));
    reader.kill();
    each_is_counted_once(all, &counts(&out), &reader);
}

/// The arguments of a program that follows these files.
fn arguments(state: &Path, glob: &str, out: &Path) -> Vec<String> {
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let arguments = [
        "run",
        "--state",
        &text(state),
        "--input",
        glob,
        "--follow",
        "--listen",
        "none",
        "--workers",
        "1",
        "--out",
        &text(out),
        "--durability",
        "process",
        "--max-batch-delay",
        "5ms",
    ];
    arguments.map(str::to_owned).to_vec()
}

/// Asserts that the numbers below `all` have been counted once each, and no other word.
fn each_is_counted_once(all: u64, counts: &BTreeMap<String, u64>, reader: &Reader) {
    let mode = reader.mode;
    let wrong: Vec<String> = (0..all)
        .map(|number| (number, counts.get(&format!("n{number}")).copied().unwrap_or(0)))
        .filter(|(_, count)| *count != 1)
        .map(|(number, count)| format!("n{number}: {count} times"))
        .collect();
    let some = wrong.iter().take(5).collect::<Vec<_>>();
    assert!(
        wrong.is_empty(),
        "{mode:?}, {} starts: {} of {all} numbers are wrong: {some:?}",
        reader.starts,
        wrong.len()
    );
    assert_eq!(
        counts.len(),
        usize::try_from(all).expect("a number"),
        "{mode:?}: there are other words"
    );
}

#[test]
fn every_line_is_read_once_in_every_way_of_rotation() {
    let rounds = if std::env::var_os("TIDEMILL_LONG").is_some() { 5 } else { 1 };
    for _ in 0..rounds {
        // Side by side: they wait most of the time.
        std::thread::scope(|scope| {
            let checks = MODES.map(|mode| (mode, scope.spawn(move || check(mode, ROTATIONS))));
            let failed: Vec<Mode> = checks
                .into_iter()
                .filter_map(|(mode, check)| check.join().is_err().then_some(mode))
                .collect();
            assert!(failed.is_empty(), "{failed:?}");
        });
    }
}
