//! Bad input beside good: lines that are no records, and files that cannot be read or go away.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tidemill::connectors::{FileSource, Lines};
use tidemill::prelude::*;
use tidemill::source::{DeadLetter, OnLoss};
use tidemill::{Engine, Kind, Settings, Status};
use tidemill_harness::alone::alone;
use tidemill_harness::waiting::wait_until;

const PATIENCE: Duration = Duration::from_secs(60);

/// A folder of input, and what comes of it.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(TempDir::new().expect("a folder"));
        fs::create_dir(place.0.path().join("in")).expect("a folder");
        place
    }

    fn input(&self, name: &str) -> PathBuf {
        self.0.path().join("in").join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.input(name), content).expect("written");
    }

    fn append(&self, name: &str, content: &str) {
        let file = OpenOptions::new().append(true).create(true).open(self.input(name));
        file.and_then(|mut file| file.write_all(content.as_bytes())).expect("written");
    }

    fn source(&self) -> FileSource<Lines> {
        Files::lines(text(&self.input("*")))
    }

    fn letters(&self) -> PathBuf {
        self.0.path().join("letters.jsonl")
    }

    fn read_letters(&self) -> Vec<DeadLetter> {
        let written = fs::read_to_string(self.letters()).expect("there are some");
        written
            .lines()
            .map(|letter| serde_json::from_str(letter).expect("it is a letter"))
            .collect()
    }

    fn settings(&self) -> Settings {
        Settings { workers: 2, ..Settings::new("files", self.0.path().join("state")) }
    }

    fn start(&self, source: FileSource<Lines>) -> Result<Engine> {
        self.start_with(self.settings(), source)
    }

    /// Writes the lines out.
    fn start_with(&self, settings: Settings, source: FileSource<Lines>) -> Result<Engine> {
        let out = self.0.path().join("out.jsonl");
        Engine::start(settings, move |topology| {
            topology.source("lines", source.clone()).sink("out", Files::to(&out))
        })
    }

    /// Runs until the status is so.
    fn run(&self, source: FileSource<Lines>, wanted: impl Fn(&Status) -> bool) -> Status {
        stop(self.start(source).expect("it starts"), wanted)
    }

    /// What was written out, in order of the text.
    #[track_caller]
    fn has(&self, expected: &[&str]) {
        let written = fs::read_to_string(self.0.path().join("out.jsonl")).unwrap_or_default();
        let mut lines: Vec<String> =
            written.lines().map(|line| serde_json::from_str(line).expect("a text")).collect();
        lines.sort_unstable();
        assert_eq!(lines, expected);
    }
}

fn stop(engine: Engine, wanted: impl Fn(&Status) -> bool) -> Status {
    let status = wait_until(&engine, PATIENCE, wanted);
    engine.stop();
    engine.wait().expect("a clean end");
    status
}

fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

fn at_end(status: &Status) -> bool {
    status.sources_at_end
}

/// What is in trouble, with the reasons.
fn troubles(status: &Status) -> Vec<(&str, &str)> {
    let troubled = status.partitions.iter();
    let mut troubled: Vec<(&str, &str)> = troubled
        .filter_map(|partition| Some((&*partition.partition, partition.trouble.as_deref()?)))
        .collect();
    troubled.sort_unstable();
    troubled
}

#[test]
fn lines_that_are_no_records_go_to_the_dead_letters_as_a_whole() {
    let place = Place::new();
    let long = [vec![b'x'; 150], vec![b'y'; 300_000], vec![b'z'; 200]];
    let content = [b"a\n", &long[0][..], b"\r\nb\xff\n", &long[1], b"\nc\n", &long[2]].concat();
    place.write("f", &content);
    let source = || place.source().max_line_bytes(100).dead_letters(Files::to(place.letters()));
    let status = place.run(source(), at_end);
    place.has(&["a", "c"]);
    let path = text(&place.input("f"));
    let expected = [
        (2, long[0].clone(), "line 2, byte 2: the line has 150 bytes, and may have 100"),
        (154, b"b\xff".to_vec(), "line 3, byte 155: this is not UTF-8"),
        (157, long[1].clone(), "line 4, byte 157: the line has 300000 bytes"),
        (300_160, long[2].clone(), "line 6, byte 300160: the line has 200 bytes"),
    ];
    let letters = place.read_letters();
    assert_eq!(letters.len(), expected.len());
    for (letter, (offset, bytes, error)) in letters.iter().zip(expected) {
        assert_eq!(
            (letter.offset, letter.bytes.as_ref()),
            (Some(offset), Some(&bytes)),
            "{}",
            letter.error
        );
        assert_eq!(
            (letter.source.as_deref(), letter.partition.as_deref()),
            (Some("lines"), Some(&*path))
        );
        assert!(letter.error.starts_with(&format!("{path}: {error}")), "{}", letter.error);
    }
    assert_eq!(
        (status.records, status.set_aside.values().sum::<u64>()),
        (6, 4),
        "they are counted"
    );
    assert!(
        status.set_aside.keys().all(|by| by.contains("source \"lines\"")),
        "{:?}",
        status.set_aside
    );
    assert_eq!(place.run(source(), at_end).records, 0, "they do not come again");
    assert_eq!(place.read_letters().len(), 4);
}

#[test]
fn long_lines_are_passed_over_or_fail() {
    let place = Place::new();
    place.write("f", [b"a\n", &[b'x'; 300_000][..], b"\nb\n", &[b'y'; 101], b"\nc\n"].concat());
    let error = place
        .start(place.source().max_line_bytes(100))
        .expect("it starts")
        .wait()
        .expect_err("the line is too long");
    assert_eq!(error.kind(), Kind::UserCode, "{error}");
    assert!(error.to_string().contains(".skip_long_lines()"), "{error}");
    let skipping = place.source().max_line_bytes(100).skip_long_lines();
    place.run(skipping, |status| {
        at_end(status) && status.partitions.iter().any(|of| of.skipped == 2)
    });
    place.has(&["a", "b", "c"]);
}

#[test]
fn a_line_too_long_for_a_letter_leaves_its_beginning() {
    let place = Place::new();
    place.write("f", [&vec![b'x'; 17 << 20][..], b"\na\n"].concat());
    let source = place.source().max_line_bytes(100).dead_letters(Files::to(place.letters()));
    let status = place.run(source, at_end);
    place.has(&["a"]);
    let letters = place.read_letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].bytes.as_ref().map(Vec::len), Some(16 << 20));
    assert!(
        letters[0].error.contains("17825792 bytes")
            && letters[0].error.contains("the first 16777216"),
        "{}",
        letters[0].error
    );
    assert_eq!(status.records, 2);
}

#[test]
fn a_long_line_that_is_not_over_is_begun_again_by_a_restart() {
    let place = Place::new();
    place.write("f", [b"a\n", &[b'x'; 300_000][..]].concat());
    let source = || place.source().max_line_bytes(100).skip_long_lines().follow();
    let all_read = |status: &Status| {
        status.records == 1 && status.partitions.iter().any(|of| of.lag == Some(300_000))
    };
    let status = place.run(source(), all_read);
    assert_eq!(status.partitions[0].offset, 2);
    place.append("f", "xx\nb\n");
    let status = place.run(source(), |status| {
        status.records == 1 && status.partitions.iter().any(|of| of.skipped == 1)
    });
    assert_eq!(status.partitions[0].lag, Some(0));
    place.has(&["a", "b"]);
}

#[test]
fn files_that_cannot_be_read_are_named_and_the_others_are_read() {
    let place = Place::new();
    place.write("good", "a\n");
    let formats: [(&str, &[u8], &str); 4] = [
        ("bzip2.log", b"BZh91AY&SY\0\0\0\0", "is bzip2 data"),
        ("lz4.log", b"\x04\x22\x4d\x18\0\0\0\0", "is lz4 data"),
        ("xz.log", b"\xfd7zXZ\0\0\0\0", "is xz data"),
        ("zip.log", b"PK\x03\x04\0\0\0\0", "is zip data"),
    ];
    for (name, content, _) in formats {
        place.write(name, content);
    }
    let pipe = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, place.input("pipe"), rustix::fs::FileType::Fifo, pipe, 0)
        .expect("made");
    fs::create_dir(place.input("folder")).expect("made");
    let refused =
        place.start(place.source()).err().expect("a source that does not follow refuses by itself");
    assert_eq!(refused.kind(), Kind::Config, "{refused}");

    let named = |status: &Status| {
        let found = troubles(status);
        let all = formats
            .iter()
            .map(|(name, _, why)| (*name, *why))
            .chain([("pipe", "is not a regular file")]);
        found.len() == 5
            && all.clone().all(|(name, why)| {
                found.iter().any(|(path, trouble)| {
                    *path == text(&place.input(name)) && trouble.contains(why)
                })
            })
    };
    let status = place.run(place.source().unreadable(Unreadable::LeaveOut), |status| {
        at_end(status) && named(status)
    });
    assert_eq!(status.records, 1);
    let engine = place.start(place.source().follow()).expect("it starts");
    wait_until(&engine, PATIENCE, named);
    // They are mended while it runs.
    place.append("good", "b\n");
    place.write("xz.log", "c\n");
    fs::remove_file(place.input("pipe")).expect("removed");
    place.write("pipe", "d\n");
    let status = stop(engine, |status| status.records == 3 && troubles(status).len() == 3);
    assert!(
        troubles(&status)
            .iter()
            .all(|(path, _)| !path.ends_with("xz.log") && !path.ends_with("pipe")),
        "{status:?}"
    );
    place.has(&["a", "b", "c", "d"]);
}

#[test]
fn a_pattern_that_meets_nothing_is_named_until_it_does() {
    let place = Place::new();
    place.write("one", "a\n");
    let source = || {
        let globs = [place.input("one"), place.input("later/*.log")];
        Files::lines_of(globs.iter().map(|glob| text(glob)))
    };
    let refused = place.start(source()).err().expect("without follow nothing can come");
    assert_eq!(refused.kind(), Kind::Config, "{refused}");
    let engine = place.start(source().follow()).expect("it starts before its second log does");
    let named = |status: &Status| {
        let found = troubles(status);
        found.len() == 1
            && found[0].0.ends_with("later/*.log")
            && found[0].1.contains("no file matches")
    };
    wait_until(&engine, PATIENCE, |status| status.records == 1 && named(status));
    fs::create_dir(place.input("later")).expect("made");
    place.write("later/x.log", "b\n");
    stop(engine, |status| status.records == 2 && troubles(status).is_empty());
    place.has(&["a", "b"]);
}

#[test]
fn a_file_that_goes_away_after_it_was_read_is_forgotten_once() {
    let place = Place::new();
    let source = || place.source().follow().rotated_after(Duration::from_millis(200));
    place.write("old", "a\n");
    place.write("new", "b\n");
    let engine = place.start(source()).expect("it starts");
    wait_until(&engine, PATIENCE, |status| status.records == 2);
    fs::remove_file(place.input("old")).expect("removed");
    let only_new = |status: &Status| {
        let names: Vec<&str> = status.partitions.iter().map(|of| &*of.partition).collect();
        names == [text(&place.input("new"))]
    };
    wait_until(&engine, PATIENCE, only_new);
    place.append("new", "c\n");
    stop(engine, |status| status.records == 3);
    // The same while nothing runs, and a start after that knows nothing of it.
    place.write("old", "d\n");
    place.run(source(), |status| status.records == 1);
    fs::remove_file(place.input("old")).expect("removed");
    for _ in 0..2 {
        place.run(source(), only_new);
    }
    // If files are to stay, it is a loss that is accepted once.
    fs::remove_file(place.input("new")).expect("removed");
    place.write("third", "e\n");
    let strict = || source().removed(Removed::Fail);
    let error = place.start(strict()).err().expect("it is gone");
    assert_eq!(error.kind(), Kind::SourceLost, "{error}");
    let accepting = Settings { on_loss: OnLoss::Earliest, ..place.settings() };
    stop(place.start_with(accepting, strict()).expect("it is accepted"), |status| {
        status.records == 1
    });
    let engine = place.start(strict()).expect("it was accepted");
    wait_until(&engine, PATIENCE, |status| {
        status.partitions.len() == 1 && status.partitions[0].lag == Some(0)
    });
    fs::remove_file(place.input("third")).expect("removed");
    let error = engine.wait().expect_err("it goes away while it is followed");
    assert_eq!(error.kind(), Kind::SourceLost, "{error}");
    place.has(&["a", "b", "c", "d", "e"]);
}

#[test]
fn a_loss_of_lines_is_accepted_once() {
    let place = Place::new();
    place.write("kept", "a\n");
    place.write("lost", "b\nnot a line yet");
    let source = || place.source().follow();
    place.run(source(), |status| status.records == 2);
    fs::remove_file(place.input("lost")).expect("removed");
    let error = place.start(source()).err().expect("what was not read is lost");
    assert_eq!(error.kind(), Kind::SourceLost, "{error}");
    let accepting = Settings { on_loss: OnLoss::Earliest, ..place.settings() };
    stop(place.start_with(accepting, source()).expect("it is accepted"), |status| {
        status.partitions.len() == 1
    });
    place.append("kept", "c\n");
    place.run(source(), |status| status.records == 1);
    place.has(&["a", "b", "c"]);
}

/// How many files below this folder this process has open.
fn open_below(folder: &Path) -> usize {
    let open = fs::read_dir("/proc/self/fd").expect("it is there").flatten();
    open.filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter(|path| path.starts_with(folder))
        .count()
}

/// In a process of its own: how many files are open is counted over all of it.
#[test]
fn files_are_read_and_rotated_with_fewer_descriptors_than_files() {
    alone("files::files_are_read_and_rotated_with_fewer_descriptors_than_files", || {
        const FILES: usize = 60;
        const OPEN: usize = 6;
        let place = Place::new();
        let name = |file: usize| format!("{file:03}.log");
        let mut expected = Vec::new();
        let mut round = |place: &Place, round: usize| {
            for file in 0..FILES {
                place.append(&name(file), &format!("{file:03} {round}\n"));
                expected.push(format!("{file:03} {round}"));
            }
        };
        round(&place, 0);
        let source = || {
            let globs = Files::lines(text(&place.input("*.log")));
            globs.follow().open_files(OPEN).rotated_after(Duration::from_millis(500))
        };
        let engine = place.start(source()).expect("it starts");
        let folder = fs::canonicalize(place.input("")).expect("it is there");
        let read = |rounds: usize| move |status: &Status| status.records == (rounds * FILES) as u64;
        wait_until(&engine, PATIENCE, read(1));
        round(&place, 1);
        wait_until(&engine, PATIENCE, |status| {
            assert!(open_below(&folder) <= OPEN + 4, "{} files are open", open_below(&folder));
            read(2)(status)
        });
        // Renamed with lines that were not read, while their readers rest: no name matches any
        // more.
        round(&place, 2);
        for file in 0..FILES / 2 {
            fs::rename(place.input(&name(file)), place.input(&format!("{}.1", name(file))))
                .expect("renamed");
        }
        wait_until(&engine, PATIENCE, read(3));
        round(&place, 3);
        wait_until(&engine, PATIENCE, read(4));
        // Removed after they were read.
        for file in FILES / 2..FILES {
            fs::remove_file(place.input(&name(file))).expect("removed");
        }
        stop(engine, |status| status.partitions.len() == FILES / 2);
        place.run(source(), |status| status.partitions.len() == FILES / 2);
        expected.sort_unstable();
        place.has(&expected.iter().map(String::as_str).collect::<Vec<_>>());
    });
}
