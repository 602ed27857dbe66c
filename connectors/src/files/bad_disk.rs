//! Tests: files on a disk that fails for a while, or beside one file that does. No line is lost or
//! read twice.

use super::locate::Known;
use super::{FileSource, Files, Lines, disk};
use crate::Str;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tidemill_engine::source::{Begun, OnLoss, ReadStatus, Reader, Records, Source, Start};
use tidemill_state::{Kind, Position, Result};

struct Folder(TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Folder {
        let folder = Folder(TempDir::new().expect("a folder"));
        files.iter().for_each(|(name, content)| folder.write(name, content));
        folder
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn name(&self, name: &str) -> String {
        self.at(name).to_str().expect("UTF-8").to_owned()
    }

    fn write(&self, name: &str, content: &str) {
        fs::create_dir_all(self.at(name).parent().expect("it has one")).expect("made");
        fs::write(self.at(name), content).expect("written");
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.at(from), self.at(to)).expect("renamed");
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.at(name)).expect("removed");
    }

    fn append(&self, name: &str) -> File {
        OpenOptions::new().append(true).open(self.at(name)).expect("opened")
    }

    fn source(&self, glob: &str) -> FileSource<Lines> {
        Files::lines(self.name(glob)).follow().rotated_after(Duration::from_millis(30))
    }

    fn open(&self, source: &FileSource<Lines>, name: &str) -> Box<dyn Reader<Str>> {
        let mut reader = source.open(&self.name(name), None).expect("opened");
        reader.wake_with(Waker::from(Arc::new(Sleeper)));
        reader
    }

    /// Returns a reader that has taken one line of several. The reader holds its file open.
    fn hold(&self, source: &FileSource<Lines>, name: &str) -> Box<dyn Reader<Str>> {
        let mut reader = self.open(source, name);
        assert_eq!(reader.read(&mut Records::with_limits(1, 1)).expect("read"), ReadStatus::More);
        reader
    }

    /// The positions after all lines of these files.
    fn read_all(&self, source: &FileSource<Lines>, names: &[&str]) -> BTreeMap<String, Position> {
        let begun = begin(source, &BTreeMap::new(), OnLoss::Refuse).expect("it begins");
        let mut recorded = BTreeMap::new();
        for (name, from) in begun
            .partitions
            .into_iter()
            .filter(|(name, _)| names.iter().any(|file| self.name(file) == *name))
        {
            let mut reader = source.open(&name, from.as_ref()).expect("opened");
            read(&mut *reader, MOMENT);
            recorded.insert(name, reader.position());
        }
        recorded
    }
}

/// Nobody waits for a wake here.
struct Sleeper;

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {}
}

fn begin(
    source: &FileSource<Lines>,
    recorded: &BTreeMap<String, Position>,
    on_loss: OnLoss,
) -> Result<Begun> {
    let begun = !recorded.is_empty();
    source.begin(&Start {
        topology: "t",
        is_new: !begun,
        begun,
        recorded,
        first: None,
        on_loss,
        to_end: false,
    })
}

const MOMENT: Duration = Duration::from_millis(150);
const LONG: Duration = Duration::from_secs(60);

/// Returns the lines read until the time is over or the reader has ended, and the last status.
fn read(reader: &mut dyn Reader<Str>, time: Duration) -> (Vec<String>, ReadStatus) {
    let (mut lines, began) = (Vec::new(), Instant::now());
    loop {
        let mut into = Records::with_limits(100, usize::MAX);
        let status = reader.read(&mut into).expect("read");
        lines.extend(into.iter().map(|(_, line)| line.to_string()));
        if began.elapsed() >= time || matches!(status, ReadStatus::End | ReadStatus::Retired) {
            return (lines, status);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Reads until the reader is closed while it rests.
fn read_to_rest(reader: &mut dyn Reader<Str>) -> Vec<String> {
    let (mut lines, began) = (Vec::new(), Instant::now());
    loop {
        let mut into = Records::with_limits(100, usize::MAX);
        let status = reader.read(&mut into).expect("read");
        lines.extend(into.iter().map(|(_, line)| line.to_string()));
        if matches!(status, ReadStatus::Idle(wait) if wait > Duration::from_secs(30)) {
            return lines;
        }
        assert!(began.elapsed() < LONG, "it does not rest");
    }
}

fn numbered(lines: usize) -> String {
    (0..lines).map(|line| format!("line {line}\n")).collect()
}

#[test]
fn a_disk_that_fails_while_a_compressed_file_is_rewound_does_not_move_its_position_back() {
    let folder = Folder::new(&[]);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(numbered(40_000).as_bytes()).expect("packed");
    fs::write(folder.at("a.gz"), packed.finish().expect("packed")).expect("written");
    let source = Files::lines(folder.name("a.gz"));
    let name = folder.name("a.gz");
    let mut reader = source.open(&name, None).expect("opened");
    let mut count = 0;
    while count < 30_000 {
        let mut into = Records::with_limits(1_000, usize::MAX);
        reader.read(&mut into).expect("read");
        count += into.iter().count();
    }
    let recorded = reader.position();
    let mut again = source.open(&name, Some(&recorded)).expect("opened");
    again.read(&mut Records::with_limits(100, usize::MAX)).expect("a step of the way");
    let failing = disk::fail_reads(&folder.at("a.gz"), 0, Errno::IO);
    let error = again.read(&mut Records::with_limits(100, usize::MAX)).expect_err("the disk fails");
    assert_eq!(
        (error.kind(), again.position(), again.offset()),
        (Kind::TryAgain, recorded.clone(), recorded.offset)
    );
    drop(failing);
    let mut again = source.open(&name, Some(&again.position())).expect("opened");
    assert_eq!(read(&mut *again, LONG).0.len(), 40_000 - count);
}

#[test]
fn a_closed_file_that_is_removed_is_not_read_on_in_another_of_the_same_beginning() {
    let folder = Folder::new(&[("a.log", "heading\n"), ("b.log", "heading\nrow\n")]);
    let source = folder.source("*.log").open_files(2);
    let (mut first, mut second) = (folder.open(&source, "a.log"), folder.hold(&source, "b.log"));
    assert_eq!(read_to_rest(&mut *first), ["heading"]);
    folder.remove("a.log");
    assert_eq!(read(&mut *first, LONG), (vec![], ReadStatus::Retired));
    assert_eq!(read(&mut *second, MOMENT).0, ["row"]);
}

#[test]
fn a_file_that_is_removed_while_it_is_read_does_not_give_way() {
    let folder = Folder::new(&[("a.log", ""), ("b.log", "b\nb\n"), ("c.log", "c\n")]);
    let source = folder.source("*.log").open_files(2);
    let (mut first, _second) = (folder.open(&source, "a.log"), folder.hold(&source, "b.log"));
    let mut third = folder.open(&source, "c.log");
    assert_eq!(read(&mut *third, MOMENT).0, Vec::<String>::new(), "it waits for a descriptor");
    let mut log = folder.append("a.log");
    folder.remove("a.log");
    for line in 0..200 {
        log.write_all(format!("{line}\n").as_bytes()).expect("appended");
        assert_eq!(read(&mut *first, Duration::from_millis(2)).0, [line.to_string()]);
    }
}

#[test]
fn a_removed_file_is_read_on_after_a_passing_error() {
    // At the read, and at the comparison after it.
    for after in [0, 1] {
        let folder = Folder::new(&[("a.log", "one\n")]);
        let mut reader = folder.open(&folder.source("*.log").rotated_after(LONG), "a.log");
        assert_eq!(read(&mut *reader, MOMENT).0, ["one"]);
        let mut log = folder.append("a.log");
        folder.remove("a.log");
        log.write_all(b"two\n").expect("appended");
        let failing = disk::fail_reads(&folder.at("a.log"), after, Errno::IO);
        assert_eq!(read(&mut *reader, MOMENT), (vec![], ReadStatus::Idle(Duration::from_secs(5))));
        assert!(
            reader.trouble().is_some_and(|why| why.contains("a.log")),
            "{:?}",
            reader.trouble()
        );
        drop(failing);
        assert_eq!(read(&mut *reader, MOMENT).0, ["two"], "after {after} reads");
        assert_eq!(reader.trouble(), None);
    }
}

#[test]
fn a_nameless_file_that_is_read_is_not_closed_for_an_error_of_another_file() {
    let folder = Folder::new(&[("app.log", "one\n")]);
    let mut reader = folder.open(&folder.source("app.log"), "app.log");
    assert_eq!(read(&mut *reader, MOMENT).0, ["one"]);
    fs::create_dir(folder.at("far")).expect("made");
    let mut log = folder.append("app.log");
    folder.rename("app.log", "far/app.log");
    folder.write("app.log", "another\n");
    let failing = disk::fail_reads(&folder.at("app.log"), 0, Errno::IO);
    assert!(
        matches!(read(&mut *reader, Duration::from_millis(500)), (lines, ReadStatus::Idle(_)) if lines.is_empty())
    );
    assert_eq!(reader.trouble(), None);
    log.write_all(b"two\n").expect("appended");
    drop(failing);
    assert_eq!(read(&mut *reader, LONG), (vec!["two".into()], ReadStatus::Retired));
}

#[test]
fn a_start_that_cannot_read_a_file_records_that_it_had_more() {
    let folder = Folder::new(&[("a.log", "one\n")]);
    let source = folder.source("*.log");
    let recorded = folder.read_all(&source, &["a.log"]);
    let name = folder.name("a.log");
    let ended = |position: &Position| Known::read(&name, position).expect("ours").witness.ended;
    assert!(ended(&recorded[&name]));
    source.settings().shared.has_grown(&name, 4);
    let _failing = disk::fail_reads(&folder.at("a.log"), 0, Errno::IO);
    let begun = begin(&source, &recorded, OnLoss::Refuse).expect("it is left out");
    let [(_, Some(position))] = &begun.partitions[..] else { panic!("{begun:?}") };
    assert!(position.offset == 4 && !ended(position));
}

#[test]
fn a_closed_file_that_may_be_where_nobody_can_look_is_not_forgotten() {
    let folder = Folder::new(&[("a/x.log", "x\n"), ("b/y.log", "y\ny\n")]);
    let source = folder.source("*/*.log").open_files(2);
    let (mut first, _second) = (folder.open(&source, "a/x.log"), folder.hold(&source, "b/y.log"));
    assert_eq!(read_to_rest(&mut *first), ["x"]);
    folder.rename("a/x.log", "b/x.old");
    // It is seen to be gone, and what matches is listed.
    assert!(matches!(read(&mut *first, Duration::ZERO).1, ReadStatus::Idle(_)));
    folder.rename("b/x.old", "b/x.log");
    let _failing = disk::fail(&folder.at("b"), Errno::IO);
    let (lines, status) = read(&mut *first, MOMENT);
    assert!(lines.is_empty() && matches!(status, ReadStatus::Idle(_)), "{status:?}");
}

#[test]
fn the_operator_can_let_go_of_a_file_that_may_be_where_nobody_may_ever_look() {
    for (errno, on_loss, is_kept) in [
        (Errno::ACCESS, OnLoss::Refuse, true),
        (Errno::ACCESS, OnLoss::Earliest, false),
        (Errno::ACCESS, OnLoss::Latest, false),
        (Errno::IO, OnLoss::Earliest, true),
    ] {
        let folder = Folder::new(&[("a/x.log", "x\n"), ("b/y.log", "y\n"), ("c/z.log", "z\n")]);
        let source = folder.source("**/*.log");
        let recorded = folder.read_all(&source, &["a/x.log", "b/y.log"]);
        folder.remove("a/x.log");
        let _failing = disk::fail(&folder.at("c"), errno);
        let begun = begin(&source, &recorded, on_loss).expect("it begins");
        let names: Vec<&String> = begun.partitions.iter().map(|(name, _)| name).collect();
        assert_eq!(
            names.contains(&&folder.name("a/x.log")),
            is_kept,
            "{errno} {on_loss:?}: {begun:?}"
        );
        assert!(names.contains(&&folder.name("b/y.log")), "{errno}: {begun:?}");
    }
}

#[test]
fn a_neighbour_that_cannot_be_read_does_not_end_a_start() {
    let content = numbered(1_000);
    let rotate = |change: &dyn Fn(&Folder)| {
        let folder =
            Folder::new(&[("app.log", &content), ("other.log", &content.replace("line", "file"))]);
        let recorded = folder.read_all(&folder.source("*.log"), &["app.log"]);
        change(&folder);
        let _failing = disk::fail_reads(&folder.at("other.log"), 0, Errno::IO);
        let begun = begin(&folder.source("*.log*"), &recorded, OnLoss::Refuse).expect("it begins");
        let name = folder.name("app.log");
        let kept = begun
            .partitions
            .iter()
            .find(|(of, _)| *of == name)
            .and_then(|(_, position)| position.clone());
        let path =
            kept.map(|position| Known::read(&name, &position).expect("ours").path().to_owned());
        (path.map(|path| path.replace(&format!("{}/", folder.0.path().display()), "")), begun)
    };
    let (path, begun) = rotate(&|folder| {
        folder.write("app.log.1", &content);
        folder.write("app.log", "new\n");
    });
    assert_eq!(path.as_deref(), Some("app.log.1"), "copied and cut: {begun:?}");
    let (path, begun) = rotate(&|folder| {
        folder.write("app.log.1", &content[..content.len() / 2]);
        folder.write("app.log", "new\n");
    });
    assert!(
        begun.warnings.iter().any(|why| why.contains("was cut after it had been copied")),
        "{path:?} {begun:?}"
    );
    let (path, begun) = rotate(&|folder| {
        folder.write("app.log.1", &content);
        folder.remove("app.log");
    });
    assert_eq!(path.as_deref(), Some("app.log.1"), "copied and removed: {begun:?}");
}

#[test]
fn a_new_file_that_cannot_be_read_under_an_old_name_does_not_end_a_start() {
    let content = numbered(1_000);
    let folder = Folder::new(&[("app.log", &content)]);
    let recorded = folder.read_all(&folder.source("*.log"), &["app.log"]);
    folder.rename("app.log", "app.log.1");
    folder.write("app.log", &content);
    let _failing = disk::fail_reads(&folder.at("app.log"), 0, Errno::IO);
    let begun = begin(&folder.source("*.log*"), &recorded, OnLoss::Refuse).expect("it begins");
    assert!(
        begun.partitions.len() == 1 && begun.warnings.iter().any(|why| why.contains("left out")),
        "{begun:?}"
    );
}

#[test]
fn files_that_cannot_be_read_and_cannot_be_copies_keep_no_nameless_file_from_ending() {
    let folder = Folder::new(&[("a.log", &numbered(10)), ("b.log", &numbered(100))]);
    let source = folder.source("*.log");
    let (mut reader, mut other) = (folder.open(&source, "a.log"), folder.open(&source, "b.log"));
    assert_eq!((read(&mut *reader, MOMENT).0.len(), read(&mut *other, MOMENT).0.len()), (10, 100));
    folder.write("short.log", "short\n");
    folder.rename("a.log", "a.old");
    let _failing =
        ["b.log", "short.log"].map(|name| disk::fail_reads(&folder.at(name), 0, Errno::IO));
    assert_eq!(read(&mut *reader, LONG).1, ReadStatus::Retired);
}
