//! Files that are followed while they grow.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tidemill_connectors::{FileSource, Files, Lines, Str, Unreadable};
use tidemill_engine::conformance;
use tidemill_engine::source::{Begun, OnLoss, ReadStatus, Reader, Records, Source, Start};
use tidemill_state::{Error, Kind, Position};

struct Log {
    _folder: TempDir,
    path: PathBuf,
    file: File,
}

impl Log {
    fn new(content: &str) -> Log {
        let folder = TempDir::new().expect("a temporary folder");
        let path = folder.path().join("app.log");
        fs::write(&path, content).expect("written");
        let file = OpenOptions::new().append(true).open(&path).expect("opened");
        Log { _folder: folder, path, file }
    }

    fn name(&self) -> String {
        self.path.to_str().expect("it is UTF-8").to_owned()
    }

    fn source(&self) -> FileSource<Lines> {
        Files::lines(self.name()).follow()
    }

    fn reader(&self) -> Box<dyn Reader<Str>> {
        self.source().open(&self.name(), None).expect("opened")
    }

    fn append(&mut self, content: &str) {
        self.file.write_all(content.as_bytes()).expect("appended");
    }
}

/// What can be read now.
fn now(reader: &mut dyn Reader<Str>) -> Result<Vec<Str>, Error> {
    let mut all = Vec::new();
    loop {
        let mut into = Records::with_limits(100, usize::MAX);
        let status = reader.read(&mut into)?;
        all.extend(into.iter().map(|(_, line)| line.clone()));
        match status {
            ReadStatus::More => {}
            ReadStatus::Idle(wait) => {
                assert_eq!(wait, Duration::from_millis(10));
                return Ok(all);
            }
            ReadStatus::End | ReadStatus::Retired => panic!("a followed file has no end"),
        }
    }
}

/// The error that the reader comes to.
fn error(reader: &mut dyn Reader<Str>) -> Error {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        match now(reader) {
            Ok(lines) => assert!(lines.is_empty(), "{lines:?}"),
            Err(error) => return error,
        }
    }
    panic!("the reader goes on");
}

#[test]
fn lines_wait_for_their_newlines() {
    let mut log = Log::new("");
    let mut reader = log.reader();
    assert_eq!(now(&mut *reader).expect("empty"), Vec::<Str>::new());
    for (written, read) in [
        ("one\nt", vec!["one"]),
        ("w", vec![]),
        ("o\r", vec![]),
        ("\nthree\n\n", vec!["two", "three", ""]),
    ] {
        log.append(written);
        assert_eq!(now(&mut *reader).expect("read"), read, "after {written:?}");
    }
    let position = reader.position();
    assert_eq!(position.offset, 16);
    log.append("four\n");
    assert_eq!(reader.lag(), Some(0));
    let mut again = log.source().open(&log.name(), Some(&position)).expect("opened");
    assert_eq!(now(&mut *again).expect("read"), ["four"]);
    assert_eq!(now(&mut *reader).expect("read"), ["four"]);
}

#[test]
fn followed_files_keep_the_contract_of_a_source() {
    let lines: Vec<Str> = (0..3_000).map(|n| Str::from(format!("line {n}"))).collect();
    let log = Log::new(&format!("{}\nnot yet", lines.join("\n")));
    conformance::source(|| log.source(), &[(log.name(), lines)]);
    let path = log.path.clone();
    conformance::damaged_source(
        || log.source(),
        &log.name(),
        3_000,
        || fs::write(path, "x\n").expect("cut"),
    );
}

#[test]
fn a_file_that_does_not_only_grow_is_an_error() {
    let check = |damage: fn(&Log), part: &str| {
        let log = Log::new("one\ntwo\n");
        let mut reader = log.reader();
        assert_eq!(now(&mut *reader).expect("read"), ["one", "two"]);
        damage(&log);
        let error = error(&mut *reader);
        assert_eq!(error.kind(), Kind::SourceLost, "{error}");
        assert!(
            error.to_string().contains(part) && error.to_string().contains("app.log"),
            "{error}"
        );
    };
    check(
        |log| fs::write(&log.path, "one\n").expect("cut"),
        "was cut or overwritten while it was read",
    );
    check(
        |log| fs::write(&log.path, "ONE\nTWO\nthree\n").expect("rewritten"),
        "before byte 8 is not what was read",
    );
}

#[test]
fn a_file_that_is_replaced_by_its_copy_is_told_from_one_with_the_same_heading() {
    for (lines, is_copy) in [(1, false), (1_000, true)] {
        let content = "a line\n".repeat(lines);
        let log = Log::new(&content);
        let mut reader = log
            .source()
            .rotated_after(Duration::from_millis(50))
            .open(&log.name(), None)
            .expect("opened");
        assert_eq!(now(&mut *reader).expect("read").len(), lines);
        fs::rename(&log.path, log.path.with_extension("1")).expect("renamed");
        fs::write(&log.path, content + "another\n").expect("written");
        let began = Instant::now();
        let end = loop {
            match reader.read(&mut Records::with_limits(100, usize::MAX)) {
                Ok(ReadStatus::Idle(_) | ReadStatus::More) => {
                    assert!(began.elapsed() < Duration::from_secs(10), "it reads on")
                }
                end => break end,
            }
        };
        match end {
            Err(error) => assert!(
                is_copy && error.to_string().contains("is replaced by its copy"),
                "{lines} lines: {error}"
            ),
            end => assert!(
                !is_copy && matches!(end, Ok(ReadStatus::Retired)),
                "{lines} lines: {end:?}"
            ),
        }
    }
}

#[test]
fn the_bytes_of_a_mark_may_come_one_by_one() {
    let mut log = Log::new("");
    let mut reader = log.reader();
    for byte in *b"\xef\xbb\xbf" {
        log.file.write_all(&[byte]).expect("appended");
        assert_eq!(now(&mut *reader).expect("read"), Vec::<Str>::new());
    }
    log.append("Tide\n");
    assert_eq!(now(&mut *reader).expect("read"), ["Tide"]);
    assert_eq!(reader.position().offset, 8);
}

#[test]
fn compressed_files_are_not_followed() {
    let packed = zstd::encode_all(&b"one\n"[..], 1).expect("packed");
    let mut log = Log::new("");
    let mut reader = log.reader();
    assert_eq!(now(&mut *reader).expect("empty"), Vec::<Str>::new());
    log.file.write_all(&packed).expect("appended");
    // The files beside it are read on.
    let status = reader.read(&mut Records::with_limits(100, usize::MAX)).expect("left out");
    assert!(
        matches!(status, ReadStatus::Idle(wait) if wait >= Duration::from_secs(1)),
        "{status:?}"
    );
    assert!(
        reader.trouble().is_some_and(|why| why.contains("zstd")) && reader.position().offset == 0
    );
    let opened = log.source().open(&log.name(), None).expect("left out");
    assert!(opened.trouble().is_some_and(|why| why.contains("zstd")));
    let strict = || log.source().unreadable(Unreadable::Fail);
    let Err(error) = strict().open(&log.name(), None) else { panic!("it is compressed") };
    assert!(error.kind() == Kind::Config && error.to_string().contains("zstd"), "{error}");
    std::fs::write(&log.path, "").expect("emptied");
    let mut reader = strict().open(&log.name(), None).expect("opened");
    log.file.write_all(&packed).expect("appended");
    assert_eq!(now(&mut *reader).expect_err("compressed later").kind(), Kind::Config);
}

/// A waker that can be waited for.
#[derive(Default)]
struct Woken(Mutex<bool>, Condvar);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        *self.0.lock().expect("no holder panics") = true;
        self.1.notify_all();
    }
}

impl Woken {
    fn wait(&self) {
        let woken = self.0.lock().expect("no holder panics");
        let waited = self.1.wait_timeout_while(woken, Duration::from_secs(60), |woken| !*woken);
        let (mut woken, late) = waited.expect("no holder panics");
        assert!(!late.timed_out(), "nothing has woken the reader");
        *woken = false;
    }
}

/// What comes until the reader rests, or has ended.
fn until_it_rests(reader: &mut dyn Reader<Str>) -> (Vec<Str>, ReadStatus) {
    let (mut all, start) = (Vec::new(), Instant::now());
    loop {
        let mut into = Records::with_limits(100, usize::MAX);
        let status = reader.read(&mut into).expect("read");
        all.extend(into.iter().map(|(_, line)| line.clone()));
        match status {
            ReadStatus::Idle(wait) if wait < Duration::from_secs(1) => std::thread::sleep(wait),
            ReadStatus::More => {}
            _ => return (all, status),
        }
        assert!(start.elapsed() < Duration::from_secs(60), "it does not rest");
    }
}

#[test]
fn a_quiet_file_rests_until_something_comes_or_its_name_does_not_lead_to_it() {
    let mut log = Log::new("one\n");
    let mut reader = log
        .source()
        .rotated_after(Duration::from_millis(200))
        .open(&log.name(), None)
        .expect("opened");
    let woken = Arc::new(Woken::default());
    assert!(reader.wake_with(Waker::from(Arc::clone(&woken))));
    let rests = |reader: &mut dyn Reader<Str>, expected: &[&str]| {
        let (lines, status) = until_it_rests(reader);
        assert_eq!(lines, expected);
        assert!(matches!(status, ReadStatus::Idle(_)), "{status:?}");
    };
    rests(&mut *reader, &["one"]);
    for (written, expected) in [("two\nthr", &["two"][..]), ("ee\n", &["three"])] {
        log.append(written);
        woken.wait();
        rests(&mut *reader, expected);
    }
    // Renamed with a line that is not read, and another comes after that: it ends with both.
    log.append("four\n");
    fs::rename(&log.path, log.path.with_file_name("app.log.1")).expect("renamed");
    woken.wait();
    log.append("five\n");
    assert_eq!(
        until_it_rests(&mut *reader),
        (vec!["four".into(), "five".into()], ReadStatus::Retired)
    );
}

#[test]
fn a_file_that_is_cut_while_it_rests_is_an_error() {
    let log = Log::new("one\ntwo\n");
    let mut reader = log.reader();
    let woken = Arc::new(Woken::default());
    assert!(reader.wake_with(Waker::from(Arc::clone(&woken))));
    assert_eq!(until_it_rests(&mut *reader).0, ["one", "two"]);
    fs::write(&log.path, "1\n").expect("cut");
    woken.wait();
    let error = error(&mut *reader);
    assert!(error.kind() == Kind::SourceLost && error.is_perhaps_elsewhere(), "{error}");
}

/// The length alone does not show that it was cut: lines of a fixed width are as long as those
/// before them.
#[test]
fn a_file_that_is_written_anew_to_the_same_length_while_it_rests_is_an_error() {
    let overwrite = |path: &Path| {
        let mut file = fs::OpenOptions::new().write(true).open(path).expect("opened");
        file.write_all(b"6\n7\n").expect("written");
    };
    let cut = |path: &Path| fs::write(path, "6\n7\n").expect("written");
    for change in [&overwrite as &dyn Fn(&Path), &cut] {
        let log = Log::new("1\n2\n");
        let mut reader = log.reader();
        let woken = Arc::new(Woken::default());
        assert!(reader.wake_with(Waker::from(Arc::clone(&woken))));
        assert_eq!(until_it_rests(&mut *reader).0, ["1", "2"]);
        change(&log.path);
        woken.wait();
        let error = error(&mut *reader);
        assert!(error.kind() == Kind::SourceLost && error.is_perhaps_elsewhere(), "{error}");
    }
}

/// A source of two files at a time, the first of which is at its end and closed while the second
/// and a third are open.
struct Crowd {
    folder: TempDir,
    source: FileSource<Lines>,
    first: Box<dyn Reader<Str>>,
    woken: Arc<Woken>,
    others: Vec<Box<dyn Reader<Str>>>,
}

impl Crowd {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn new() -> Crowd {
        let folder = TempDir::new().expect("a folder");
        let name = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
        ["a.log", "b.log", "c.log"]
            .iter()
            .for_each(|file| fs::write(name(file), format!("{file}\n")).expect("written"));
        let source = Files::lines(name("*.log"))
            .follow()
            .open_files(2)
            .rotated_after(Duration::from_millis(50));
        let open = |file: &str| {
            let mut reader = source.open(&name(file), None).expect("opened");
            let woken = Arc::new(Woken::default());
            assert!(reader.wake_with(Waker::from(Arc::clone(&woken))));
            (reader, woken)
        };
        let ((mut first, woken), (mut second, _), (mut third, _)) =
            (open("a.log"), open("b.log"), open("c.log"));
        let read = |reader: &mut dyn Reader<Str>| {
            reader.read(&mut Records::with_limits(1, 1)).expect("read")
        };
        assert_eq!(read(&mut *second), ReadStatus::More);
        assert_eq!(until_it_rests(&mut *first).0, ["a.log"]);
        assert_eq!(read(&mut *third), ReadStatus::More);
        Crowd { source, first, woken, others: vec![second, third], folder }
    }

    fn begin(
        &self,
        recorded: &BTreeMap<String, Position>,
        on_loss: OnLoss,
    ) -> Result<Begun, Error> {
        self.source.begin(&Start {
            topology: "t",
            is_new: false,
            begun: true,
            recorded,
            first: None,
            on_loss,
            to_end: false,
        })
    }

    fn read_first(&mut self) -> Result<ReadStatus, Error> {
        self.first.read(&mut Records::with_limits(100, usize::MAX))
    }
}

#[test]
fn lines_of_a_closed_file_that_was_seen_to_grow_and_is_removed_are_lost_and_not_forgotten() {
    let mut crowd = Crowd::new();
    let position = crowd.first.position();
    let log = crowd.path("a.log");
    OpenOptions::new()
        .append(true)
        .open(&log)
        .and_then(|mut file| file.write_all(b"lost\n"))
        .expect("appended");
    crowd.woken.wait();
    let status = crowd.read_first().expect("it waits for a descriptor");
    assert!(
        matches!(status, ReadStatus::Idle(wait) if wait < Duration::from_secs(1)),
        "{status:?}"
    );
    fs::remove_file(&log).expect("removed");
    crowd.others.clear();
    let error = crowd.read_first().expect_err("what came is gone");
    assert!(error.kind() == Kind::SourceLost && error.is_perhaps_elsewhere(), "{error}");
    // The start after it, in the same process, lets that be recorded; so does every later one know
    // it.
    let name = log.to_str().expect("UTF-8").to_owned();
    let mut recorded = BTreeMap::from([(name.clone(), position)]);
    let begun = crowd.begin(&recorded, OnLoss::Refuse).expect("it is recorded first");
    let kept = begun
        .partitions
        .iter()
        .find(|(of, _)| *of == name)
        .and_then(|(_, position)| position.clone());
    let kept = kept.expect("it is not forgotten");
    assert!(kept.offset == recorded[&name].offset && kept != recorded[&name]);
    assert_eq!(
        crowd.source.open(&name, Some(&kept)).err().map(|error| error.kind()),
        Some(Kind::SourceLost)
    );
    recorded.insert(name.clone(), kept);
    for source in
        [crowd.source.clone(), Files::lines(crowd.path("*.log").to_str().expect("UTF-8")).follow()]
    {
        crowd.source = source;
        let error = crowd.begin(&recorded, OnLoss::Refuse).expect_err("lines are lost");
        assert!(
            error.kind() == Kind::SourceLost && error.to_string().contains("is missing"),
            "{error}"
        );
    }
    let begun = crowd.begin(&recorded, OnLoss::Earliest).expect("the operator lets go of it");
    assert_eq!(begun.retired, [name]);
}

#[test]
fn a_closed_file_of_which_all_was_read_is_forgotten_once_others_were_looked_for() {
    let mut crowd = Crowd::new();
    let known = BTreeMap::new();
    crowd.source.discover(&known).expect("it looks");
    fs::remove_file(crowd.path("a.log")).expect("removed");
    crowd.woken.wait();
    crowd.others.clear();
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(300) {
        let status = crowd.read_first().expect("it may come back");
        assert!(
            matches!(status, ReadStatus::Idle(_)),
            "{status:?}: nobody has looked for others yet"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut status = crowd.read_first();
    while matches!(status, Ok(ReadStatus::Idle(_))) && began.elapsed() < Duration::from_secs(60) {
        crowd.source.discover(&known).expect("it looks");
        std::thread::sleep(Duration::from_millis(10));
        status = crowd.read_first();
    }
    assert_eq!(status.expect("it ends"), ReadStatus::Retired);
}

#[test]
fn a_reader_that_waits_long_for_a_descriptor_says_so_and_other_sources_do_not_wait() {
    let mut crowd = Crowd::new();
    let log = crowd.path("a.log");
    OpenOptions::new()
        .append(true)
        .open(&log)
        .and_then(|mut file| file.write_all(b"late\n"))
        .expect("appended");
    crowd.woken.wait();
    // A source with a limit of its own has descriptors of its own.
    let other = Files::lines(log.to_str().expect("UTF-8")).follow().open_files(2);
    let mut reader = other.open(log.to_str().expect("UTF-8"), None).expect("opened");
    assert_eq!(now(&mut *reader).expect("read"), ["a.log", "late"]);
    let began = Instant::now();
    while crowd.first.trouble().is_none() {
        assert!(began.elapsed() < Duration::from_secs(60), "nothing names the wait");
        assert!(matches!(crowd.read_first().expect("it waits"), ReadStatus::Idle(_)));
        std::thread::sleep(Duration::from_millis(20));
    }
    let why = crowd.first.trouble().unwrap_or_default();
    assert!(why.contains("a.log") && why.contains("open_files") && why.contains('2'), "{why}");
    crowd.others.clear();
    assert_eq!(until_it_rests(&mut *crowd.first).0, ["late"]);
    assert_eq!(crowd.first.trouble(), None);
}

#[test]
fn new_files_are_listed_when_they_appear() {
    let log = Log::new("one\n");
    let source =
        Files::lines(log.path.with_file_name("*.log").to_str().expect("it is UTF-8")).follow();
    assert!(source.discover_every().is_some_and(|every| every <= Duration::from_millis(500)));
    assert_eq!(source.partitions().expect("listed").len(), 1);
    fs::write(log.path.with_file_name("new.log"), "two\n").expect("written");
    assert_eq!(source.partitions().expect("listed").len(), 2);
}
