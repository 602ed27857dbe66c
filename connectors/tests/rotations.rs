//! Rotations of every kind while a source runs and while it does not, in an order of chance: every
//! line is read once.
//!
//! `TIDEMILL_LONG=1` walks more orders, others each time; `TIDEMILL_TEST_SEED=N` repeats one.

#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tidemill_connectors::{FileSource, Files, Lines, Str};
use tidemill_engine::source::{OnLoss, ReadStatus, Reader, Records, Source, Start};
use tidemill_harness::asked;
use tidemill_harness::random::Random;
use tidemill_state::{Error, Position};

/// A change of a log, or a step of its source.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// So many lines are written.
    Write(u64),
    Rotate(Rotation),
    /// The source is begun, and nothing is read.
    Begin,
    /// The source is begun, and the log rotates so before anything is read.
    Race(Rotation),
    /// Reads all lines that are there, by a start if nothing runs.
    Read,
    /// Reads on for as long as it takes a rotated file to end.
    Wait,
    Stop,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Rotation {
    /// The log is given another name; the next lines begin a new file.
    Rename,
    /// The same, and it is compressed.
    Compress,
    /// It is copied to another name, and cut.
    CopyAndCut,
    /// It is copied to another name, and removed.
    CopyAndRemove,
}

const ROTATIONS: [Rotation; 4] =
    [Rotation::Rename, Rotation::Compress, Rotation::CopyAndCut, Rotation::CopyAndRemove];

const THREADS: u64 = 80;

/// The form of a log, of its rotated names, and of the glob.
#[derive(Clone, Copy, Debug)]
struct Habit {
    /// True if the names of rotated files match too.
    wide: bool,
    /// True if the last one is always `app.log.1`, and the others move.
    shifted: bool,
    /// True if every new file begins with the same line.
    headed: bool,
    /// How long a line is at least.
    length: usize,
}

const HEADING: &str = "the log begins";

/// Longer than the steps between two looks, as in use: what ended too early could not show a
/// rotation.
const ROTATED_AFTER: Duration = Duration::from_millis(150);

/// A source that is read.
struct Run {
    source: FileSource<Lines>,
    readers: BTreeMap<String, Box<dyn Reader<Str>>>,
    known: BTreeMap<String, Option<Position>>,
}

struct Log {
    folder: TempDir,
    habit: Habit,
    run: Option<Run>,
    /// True if a wait is one also if no file has the name.
    waits_without_name: bool,
    recorded: BTreeMap<String, Position>,
    written: u64,
    /// How many files were begun with the heading.
    headings: u64,
    rotations: u64,
    read: BTreeMap<String, u64>,
}

impl Log {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn source(&self) -> FileSource<Lines> {
        let glob = self.path(if self.habit.wide { "app.log*" } else { "app.log" });
        Files::lines(glob.to_str().expect("UTF-8").to_owned()).follow().rotated_after(ROTATED_AFTER)
    }

    fn take(&mut self, step: Step) -> Result<(), Error> {
        // Files are told to be older by their times.
        std::thread::sleep(Duration::from_millis(10));
        match step {
            Step::Write(lines) => {
                let is_new = !self.path("app.log").exists();
                let heading = (is_new && self.habit.headed).then(|| format!("{HEADING}\n"));
                self.headings += u64::from(heading.is_some());
                let width = self.habit.length;
                let lines = (self.written..self.written + lines)
                    .map(|number| format!("n{number:0width$}\n"));
                let text: String = heading.into_iter().chain(lines).collect();
                self.written += text.lines().filter(|line| *line != HEADING).count() as u64;
                let file =
                    fs::OpenOptions::new().append(true).create(true).open(self.path("app.log"));
                file.and_then(|mut file| file.write_all(text.as_bytes())).expect("written");
            }
            Step::Rotate(rotation) => self.rotate(rotation),
            Step::Begin => drop(self.begin()?),
            Step::Race(rotation) => {
                self.run = None;
                match self.start(Some(rotation)) {
                    Err(error) if error.is_perhaps_elsewhere() => self.run = None,
                    started => started?,
                }
            }
            Step::Read => self.read()?,
            // Once all known files have ended, one that had the name while nothing ran is not
            // found: see `FileSource`.
            Step::Wait if !self.waits_without_name && !self.path("app.log").exists() => {
                self.read()?
            }
            Step::Wait => {
                let until = Instant::now() + 3 * ROTATED_AFTER;
                while Instant::now() < until {
                    self.read()?;
                    std::thread::sleep(ROTATED_AFTER / 10);
                }
            }
            Step::Stop => self.run = None,
        }
        Ok(())
    }

    fn rotate(&mut self, rotation: Rotation) {
        let log = self.path("app.log");
        if fs::metadata(&log).is_ok_and(|metadata| metadata.len() > 0) {
            self.rotations += 1;
            if self.habit.shifted {
                for number in (1..self.rotations).rev() {
                    for suffix in ["", ".gz"] {
                        let name = |number| self.path(&format!("app.log.{number}{suffix}"));
                        drop(fs::rename(name(number), name(number + 1)));
                    }
                }
            }
            let number = if self.habit.shifted { 1 } else { self.rotations };
            let old = self.path(&format!("app.log.{number}"));
            match rotation {
                Rotation::Rename => fs::rename(log, old).expect("renamed"),
                Rotation::Compress => {
                    fs::rename(log, &old).expect("renamed");
                    assert!(
                        Command::new("gzip").arg(old).status().expect("gzip is there").success()
                    );
                }
                Rotation::CopyAndCut => {
                    fs::copy(&log, old).expect("copied");
                    fs::OpenOptions::new()
                        .write(true)
                        .truncate(true)
                        .open(log)
                        .map(drop)
                        .expect("cut");
                }
                Rotation::CopyAndRemove => {
                    fs::copy(&log, old).expect("copied");
                    fs::remove_file(log).expect("removed");
                }
            }
        }
    }

    fn begin(&self) -> Result<(FileSource<Lines>, tidemill_engine::source::Begun), Error> {
        let source = self.source();
        let begun = source.begin(&Start {
            topology: "t",
            is_new: self.recorded.is_empty(),
            begun: !self.recorded.is_empty(),
            recorded: &self.recorded,
            first: None,
            on_loss: OnLoss::Refuse,
            to_end: false,
        })?;
        Ok((source, begun))
    }

    fn start(&mut self, race: Option<Rotation>) -> Result<(), Error> {
        let (source, begun) = self.begin()?;
        race.into_iter().for_each(|rotation| self.rotate(rotation));
        begun.retired.iter().for_each(|name| drop(self.recorded.remove(name)));
        let run = self.run.insert(Run { source, readers: BTreeMap::new(), known: BTreeMap::new() });
        run.join(begun.partitions, &mut self.recorded)
    }

    /// Reads on, and starts again as the engine does if a file may be elsewhere.
    fn read(&mut self) -> Result<(), Error> {
        for _ in 0..3 {
            if self.run.is_none() {
                self.start(None)?;
            }
            match self.read_once() {
                Err(error) if error.is_perhaps_elsewhere() => self.run = None,
                read => return read,
            }
        }
        self.start(None)?;
        self.read_once()
    }

    fn read_once(&mut self) -> Result<(), Error> {
        let run = self.run.as_mut().expect("it runs");
        let mut retired = Vec::new();
        for (name, reader) in &mut run.readers {
            loop {
                let mut into = Records::with_limits(100, usize::MAX);
                let status = reader.read(&mut into)?;
                into.iter()
                    .for_each(|(_, line)| *self.read.entry(line.to_string()).or_default() += 1);
                let position = reader.position();
                run.source.committed(&[(name.clone(), position.clone())]);
                self.recorded.insert(name.clone(), position);
                match status {
                    ReadStatus::More => {}
                    ReadStatus::Retired => break retired.push(name.clone()),
                    _ => break,
                }
            }
        }
        for name in retired {
            run.readers.remove(&name);
            run.known.remove(&name);
            self.recorded.remove(&name);
        }
        let joining = run.source.discover(&run.known)?;
        run.join(joining, &mut self.recorded)
    }
}

impl Run {
    fn join(
        &mut self,
        joining: Vec<(String, Option<Position>)>,
        recorded: &mut BTreeMap<String, Position>,
    ) -> Result<(), Error> {
        recorded
            .extend(joining.iter().filter_map(|(name, from)| Some((name.clone(), from.clone()?))));
        for (name, from) in joining {
            self.readers.insert(name.clone(), self.source.open(&name, from.as_ref())?);
            self.known.insert(name, from);
        }
        Ok(())
    }
}

fn check(seed: u64) {
    let mut random = Random::new(seed);
    let habit = Habit {
        wide: random.within(0..2) == 0,
        shifted: random.within(0..2) == 0,
        headed: random.within(0..2) == 0,
        length: random.one_of(&[1, 1, 100, 3_000]),
    };
    let mut steps = vec![Step::Write(3), Step::Read];
    for _ in 0..30 {
        steps.push(match random.within(0..12) {
            0..3 => Step::Rotate(random.one_of(&ROTATIONS)),
            3 => Step::Begin,
            4 => Step::Race(random.one_of(&ROTATIONS)),
            5 => Step::Read,
            6 => Step::Wait,
            7 => Step::Stop,
            _ => Step::Write(random.within(1..4)),
        });
    }
    steps.extend([Step::Stop, Step::Read, Step::Stop, Step::Read]);
    walk(&format!("seed {seed}"), habit, &steps, false);
}

/// Takes these steps. What a start reads is compared with what was written.
fn walk(title: &str, habit: Habit, steps: &[Step], waits_without_name: bool) {
    let mut log = Log {
        folder: TempDir::new().expect("a folder"),
        habit,
        run: None,
        waits_without_name,
        recorded: BTreeMap::new(),
        written: 0,
        headings: 0,
        rotations: 0,
        read: BTreeMap::new(),
    };
    for (at, step) in steps.iter().enumerate() {
        let taken = &steps[..=at];
        log.take(*step).unwrap_or_else(|error| panic!("{title}, {habit:?}: {taken:?}: {error}"));
        if taken.ends_with(&[Step::Stop, Step::Read]) {
            let width = habit.length;
            let times =
                |n: u64| log.read.get(&format!("n{n:0width$}")).copied().unwrap_or_default();
            let wrong: Vec<_> =
                (0..log.written).map(|n| (n, times(n))).filter(|(_, times)| *times != 1).collect();
            assert!(
                wrong.is_empty(),
                "{title}, {habit:?}: {taken:?}: lines and how often they were read: {wrong:?}"
            );
            let headings = log.read.get(HEADING).copied().unwrap_or_default();
            assert_eq!(headings, log.headings, "{title}, {habit:?}: {taken:?}: headings");
        }
    }
}

#[test]
fn orders_in_which_lines_were_lost_or_read_twice() {
    use Rotation::{CopyAndCut, CopyAndRemove, Rename};
    use Step::{Read, Rotate, Stop, Wait, Write};
    let plain = Habit { wide: false, shifted: false, headed: false, length: 1 };
    for (title, habit, steps) in [
        (
            "cut, then renamed",
            plain,
            &[Stop, Rotate(CopyAndCut), Write(2), Rotate(Rename), Write(1)][..],
        ),
        (
            "a copy that had the name for a while, and its original, which was written on",
            plain,
            &[
                Stop,
                Rotate(Rename),
                Write(2),
                Rotate(CopyAndCut),
                Read,
                Stop,
                Write(3),
                Rotate(Rename),
            ],
        ),
        (
            "copied and removed, and its partition ends before the next file comes",
            plain,
            &[Rotate(CopyAndRemove), Wait, Read, Wait],
        ),
        (
            "cut before anything was read of it, and again",
            plain,
            &[
                Rotate(CopyAndRemove),
                Write(9),
                Read,
                Rotate(CopyAndCut),
                Write(1),
                Rotate(CopyAndCut),
                Wait,
                Write(1),
                Rotate(CopyAndCut),
                Read,
                Write(2),
            ],
        ),
        (
            "copied and removed, and the next file begins with the same line",
            Habit { headed: true, ..plain },
            &[Rotate(CopyAndRemove), Wait, Write(1), Write(1), Wait, Read, Write(3)],
        ),
    ] {
        let steps = [&[Write(3), Read], steps, &[Stop, Read, Stop, Read]].concat();
        walk(title, habit, &steps, true);
    }
}

#[test]
fn every_line_is_read_once_however_a_log_is_rotated() {
    if let Some(seed) = asked::seed() {
        return check(seed);
    }
    let (from, count) =
        if asked::long() { (Random::of_the_clock().next() >> 16, 24_000) } else { (0, 400) };
    // Most of the time they sleep.
    let failed = |thread| {
        let seeds = (from + thread..from + count).step_by(THREADS as usize);
        let failed = |seed: &u64| std::panic::catch_unwind(|| check(*seed)).is_err();
        seeds.filter(failed).collect::<Vec<u64>>()
    };
    let failed: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..THREADS).map(|thread| scope.spawn(move || failed(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a failure is caught")).collect()
    });
    assert!(failed.is_empty(), "{} of {count} seeds fail: {failed:?}", failed.len());
}
