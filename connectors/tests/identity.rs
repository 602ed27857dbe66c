//! Which file is which: starts of a source after files were renamed, copied, cut, compressed and
//! removed.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tidemill_connectors::{FileSource, Files, Lines, Str};
use tidemill_engine::source::{OnLoss, ReadStatus, Reader, Records, Source, Start};
use tidemill_state::{Error, Kind, Position};
use xxhash_rust::xxh3::xxh3_64;

/// A folder, and how far its files were read.
struct Place {
    folder: TempDir,
    recorded: BTreeMap<String, Position>,
    on_loss: OnLoss,
    follow: bool,
}

/// What a run has read, and what it was warned of.
#[derive(Debug)]
struct Run {
    lines: Vec<String>,
    warnings: String,
}

impl Place {
    fn new(files: &[(&str, &str)]) -> Place {
        let place = Place {
            folder: TempDir::new().expect("a temporary folder"),
            recorded: BTreeMap::new(),
            on_loss: OnLoss::Refuse,
            follow: false,
        };
        files.iter().for_each(|(name, content)| place.write(name, content.as_bytes()));
        place
    }

    fn followed(files: &[(&str, &str)]) -> Place {
        Place { follow: true, ..Place::new(files) }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("it is UTF-8").to_owned()
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).expect("written");
    }

    fn append(&self, name: &str, content: &str) {
        let file = fs::OpenOptions::new().append(true).open(self.path(name));
        file.and_then(|mut file| file.write_all(content.as_bytes())).expect("appended");
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).expect("renamed");
    }

    fn copy(&self, from: &str, to: &str) {
        fs::copy(self.path(from), self.path(to)).expect("copied");
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).expect("removed");
    }

    /// As `gzip` does, which keeps the time of the original.
    fn gzip(&self, name: &str) {
        let modified =
            fs::metadata(self.path(name)).and_then(|metadata| metadata.modified()).expect("a time");
        let content = fs::read(self.path(name)).expect("read");
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&content).expect("packed");
        let packed_name = format!("{name}.gz");
        self.write(&packed_name, &packed.finish().expect("packed"));
        let file = fs::File::options().write(true).open(self.path(&packed_name)).expect("opened");
        file.set_modified(modified).expect("the time is kept");
        self.remove(name);
    }

    fn source(&self, glob: &str) -> FileSource<Lines> {
        let source = Files::lines(self.path(glob));
        if self.follow { source.follow().rotated_after(Duration::from_millis(30)) } else { source }
    }

    fn begin(&self, source: &FileSource<Lines>) -> Result<tidemill_engine::source::Begun, Error> {
        source.begin(&Start {
            topology: "t",
            is_new: self.recorded.is_empty(),
            begun: !self.recorded.is_empty(),
            recorded: &self.recorded,
            first: None,
            on_loss: self.on_loss,
            to_end: false,
        })
    }

    /// Starts, reads what there is, records how far, and ends.
    fn run(&mut self, glob: &str) -> Result<Run, Error> {
        let source = self.source(glob);
        let begun = self.begin(&source)?;
        begun.retired.iter().for_each(|name| drop(self.recorded.remove(name)));
        let mut lines = Vec::new();
        for (name, from) in begun.partitions {
            let mut reader = source.open(&name, from.as_ref())?;
            let (read, status) = read_now(&mut *reader)?;
            lines.extend(read);
            match status {
                ReadStatus::Retired => drop(self.recorded.remove(&name)),
                _ => drop(self.recorded.insert(name, reader.position())),
            }
        }
        lines.sort_unstable();
        Ok(Run { lines, warnings: begun.warnings.join("\n") })
    }

    #[track_caller]
    fn reads(&mut self, glob: &str, expected: &[&str]) -> String {
        let run = self.run(glob).unwrap_or_else(|why| panic!("it does not start: {why}"));
        assert_eq!(run.lines, expected, "{}", run.warnings);
        run.warnings
    }

    #[track_caller]
    fn refuses(&mut self, glob: &str, kind: Kind, parts: &[&str]) {
        check_error(&self.run(glob).expect_err("it starts"), kind, parts);
    }
}

#[track_caller]
fn check_error(error: &Error, kind: Kind, parts: &[&str]) {
    assert_eq!(error.kind(), kind, "{error}");
    parts
        .iter()
        .for_each(|part| assert!(error.to_string().contains(part), "{part:?} is not in: {error}"));
}

/// Reads until nothing comes any more.
fn read_now(reader: &mut dyn Reader<Str>) -> Result<(Vec<String>, ReadStatus), Error> {
    let mut lines = Vec::new();
    loop {
        let mut into = Records::with_limits(100, usize::MAX);
        let status = reader.read(&mut into)?;
        lines.extend(into.iter().map(|(_, line)| line.to_string()));
        if status != ReadStatus::More {
            return Ok((lines, status));
        }
    }
}

/// Reads until it says something other than that nothing has come.
fn wait_for_the_end(reader: &mut dyn Reader<Str>) -> Result<(Vec<String>, ReadStatus), Error> {
    let began = Instant::now();
    let mut lines = Vec::new();
    loop {
        let (read, status) = read_now(reader)?;
        lines.extend(read);
        if !matches!(status, ReadStatus::Idle(_)) {
            return Ok((lines, status));
        }
        assert!(began.elapsed() < Duration::from_secs(10), "it does not end");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn names_that_shift_while_nothing_runs() {
    for follow in [false, true] {
        let mut place = Place { follow, ..Place::new(&[("app.log", "a1\na2\n")]) };
        place.reads("app.log*", &["a1", "a2"]);
        place.append("app.log", "a3\n");
        place.rename("app.log", "app.log.1");
        place.write("app.log", b"b1\n");
        place.reads("app.log*", &["a3", "b1"]);
        place.rename("app.log.1", "app.log.2");
        place.rename("app.log", "app.log.1");
        place.write("app.log", b"c1\n");
        place.reads("app.log*", &["c1"]);
        place.reads("app.log*", &[]);
    }
}

#[test]
fn the_rest_of_a_file_that_is_let_go_of_is_not_read_under_its_rotated_name() {
    let mut place = Place::followed(&[("app.log", "a1\na2\na3\n")]);
    place.reads("app.log", &["a1", "a2", "a3"]);
    std::thread::sleep(Duration::from_millis(20));
    place.write("app.log", b"a1\na2\n");
    place.rename("app.log", "app.log.1");
    place.write("app.log", b"b1\n");
    place.refuses("app.log", Kind::SourceLost, &["app.log"]);
    place.on_loss = OnLoss::Earliest;
    place.reads("app.log", &["b1"]);
}

#[test]
fn a_fixed_name_is_rotated_while_nothing_runs() {
    for follow in [false, true] {
        let mut place = Place { follow, ..Place::new(&[("app.log", "a1\n")]) };
        place.reads("app.log", &["a1"]);
        // Twice, so that one file had the name in between only.
        place.append("app.log", "a2\n");
        for content in ["b1\n", "c1\n"] {
            // Files are told to be older by their times.
            std::thread::sleep(Duration::from_millis(20));
            if Path::new(&place.path("app.log.1")).exists() {
                place.rename("app.log.1", "app.log.2");
            }
            place.rename("app.log", "app.log.1");
            place.write("app.log", content.as_bytes());
        }
        place.reads("app.log", &["a2", "b1", "c1"]);
        place.reads("app.log", &[]);
    }
}

#[test]
fn rotated_files_are_compressed_while_nothing_runs() {
    for (follow, glob) in
        [(false, "app.log*"), (true, "app.log*"), (false, "app.log"), (true, "app.log")]
    {
        let mut place = Place { follow, ..Place::new(&[("app.log", "a1\na2\n")]) };
        place.reads(glob, &["a1", "a2"]);
        place.append("app.log", "a3\n");
        place.rename("app.log", "app.log.1");
        place.gzip("app.log.1");
        place.write("app.log", b"b1\n");
        place.reads(glob, &["a3", "b1"]);
        place.reads(glob, &[]);
        place.rename("app.log.1.gz", "app.log.2.gz");
        place.rename("app.log", "app.log.1");
        place.gzip("app.log.1");
        place.write("app.log", b"c1\n");
        place.reads(glob, &["c1"]);
    }
}

#[test]
fn a_file_is_copied_and_cut_while_nothing_runs() {
    for (follow, glob) in
        [(false, "app.log*"), (true, "app.log*"), (false, "app.log"), (true, "app.log")]
    {
        let mut place = Place { follow, ..Place::new(&[("app.log", "a1\na2\n")]) };
        place.reads(glob, &["a1", "a2"]);
        place.append("app.log", "a3\n");
        place.copy("app.log", "app.log.1");
        // In place: the inode stays.
        place.write("app.log", b"b1, which is longer than all that was there before\n");
        place.reads(glob, &["a3", "b1, which is longer than all that was there before"]);
        place.reads(glob, &[]);
    }
}

#[test]
fn a_file_that_lost_content_is_refused_and_never_read_twice() {
    for follow in [false, true] {
        let place = || Place { follow, ..Place::new(&[("app.log", "a1\na2\na3\n")]) };
        // Cut: what is left was read.
        let mut cut = place();
        cut.reads("*", &["a1", "a2", "a3"]);
        cut.write("app.log", b"a1\na2\n");
        cut.refuses(
            "*",
            Kind::SourceLost,
            &["app.log", "byte 9", "a copy of it beside it", "--on-loss earliest"],
        );
        cut.on_loss = OnLoss::Earliest;
        let warnings = cut.reads("*", &[]);
        assert!(warnings.contains("counts as read"), "{warnings}");
        cut.on_loss = OnLoss::Refuse;
        cut.append("app.log", "b1\n");
        cut.reads("*", &["b1"]);
        // Overwritten: what it has now was never read.
        let mut overwritten = place();
        overwritten.reads("*", &["a1", "a2", "a3"]);
        overwritten.write("app.log", b"b1\nb2\n");
        overwritten.refuses("*", Kind::SourceLost, &["app.log"]);
        overwritten.on_loss = OnLoss::Latest;
        overwritten.reads("*", &["b1", "b2"]);
        overwritten.on_loss = OnLoss::Refuse;
        overwritten.reads("*", &[]);
        // Copied and cut, and the copy lacks what was read after it was made.
        let mut short = place();
        short.reads("*", &["a1", "a2", "a3"]);
        short.write("app.log.1", b"a1\na2\n");
        short.write("app.log", b"b1\n");
        short.refuses("*", Kind::SourceLost, &["app.log"]);
        short.on_loss = OnLoss::Earliest;
        short.reads("*", &["b1"]);
        short.on_loss = OnLoss::Refuse;
        short.reads("*", &[]);
        // The same, and enough was read to know the copy by its beginning: all that it has was
        // read.
        let many = |from: u32, upto: u32| {
            (from..upto).map(|n| format!("line {n:08}\n")).collect::<String>()
        };
        for glob in ["app.log", "*"] {
            let mut busy = Place { follow, ..Place::new(&[("app.log", &many(0, 1000))]) };
            assert_eq!(busy.run(glob).expect("it starts").lines.len(), 1000);
            busy.write("app.log.1", many(0, 990).as_bytes());
            busy.write("app.log", b"b1\n");
            let warnings = busy.reads(glob, &["b1"]);
            assert!(warnings.contains("was cut after it had been copied"), "{warnings}");
            busy.append("app.log", "b2\n");
            busy.reads(glob, &["b2"]);
            // An older copy is no copy of what was read.
            let mut alone = Place {
                follow,
                ..Place::new(&[("app.log", &many(0, 1000)), ("app.log.1", &many(5000, 5990))])
            };
            alone.run(glob).expect("it starts");
            alone.write("app.log", b"b1\n");
            alone.refuses(glob, Kind::SourceLost, &["app.log"]);
        }
        // The way on that is named: a copy of the old content, under any name.
        let mut restored = place();
        restored.reads("*", &["a1", "a2", "a3"]);
        restored.write("app.log", b"b1\n");
        restored.refuses("*", Kind::SourceLost, &["app.log"]);
        restored.write("found.again", b"a1\na2\na3\na4\n");
        restored.reads("*", &["a4", "b1"]);
    }
}

#[test]
fn a_file_that_was_read_to_its_end_may_be_deleted() {
    for follow in [false, true] {
        let mut place =
            Place { follow, ..Place::new(&[("app-1.log", "a1\n"), ("app-2.log", "b1\n")]) };
        place.reads("app-*.log", &["a1", "b1"]);
        place.remove("app-1.log");
        let warnings = place.reads("app-*.log", &[]);
        assert!(warnings.contains("app-1.log") && warnings.contains("is forgotten"), "{warnings}");
        assert_eq!(place.reads("app-*.log", &[]), "");
        place.remove("app-2.log");
        let warnings = place.reads("app-*.log", &[]);
        assert!(warnings.contains("no file matches"), "{warnings}");
    }
}

#[test]
fn a_file_that_was_not_read_to_its_end_may_not_be_deleted() {
    let mut place = Place::followed(&[("app-1.log", "a1\na2\n"), ("app-2.log", "b1\n")]);
    let source = place.source("app-*.log");
    let begun = place.begin(&source).expect("it begins");
    for (name, from) in begun.partitions {
        let mut reader = source.open(&name, from.as_ref()).expect("opened");
        reader.read(&mut Records::with_limits(1, usize::MAX)).expect("read");
        place.recorded.insert(name, reader.position());
    }
    place.remove("app-1.log");
    place.refuses("app-*.log", Kind::SourceLost, &["app-1.log: is missing", "byte 3"]);
    place.on_loss = OnLoss::Earliest;
    let warnings = place.reads("app-*.log", &[]);
    assert!(warnings.contains("nothing more is read of"), "{warnings}");
    place.on_loss = OnLoss::Refuse;
    assert_eq!(place.reads("app-*.log", &[]), "", "it is forgotten");
}

#[test]
fn copies_are_not_read() {
    for follow in [false, true] {
        let mut place = Place { follow, ..Place::new(&[("a.log", "a1\na2\n")]) };
        place.reads("*", &["a1", "a2"]);
        place.copy("a.log", "copy.log");
        place.write("part.log", b"a1\n");
        let warnings = place.reads("*", &[]);
        assert!(
            warnings.contains("copy.log: has the content of") && warnings.contains("part.log"),
            "{warnings}"
        );
        place.copy("a.log", "packed");
        place.gzip("packed");
        let warnings = place.reads("*", &[]);
        assert!(warnings.contains("packed.gz: has the content of"), "{warnings}");
        // What was taken for a copy, and is none.
        place.append("part.log", "p2\n");
        place.reads("*", &["a1", "p2"]);
    }
}

#[test]
fn files_with_the_same_headings_are_files_of_their_own() {
    let mut place = Place::new(&[("1.csv", "id,name\n")]);
    place.reads("*", &["id,name"]);
    place.write("2.csv", b"id,name\n7,x\n");
    place.reads("*", &["7,x", "id,name"]);
    // Files that are equal at the first start are all read.
    Place::new(&[("a", "x\n"), ("b", "x\n")]).reads("*", &["x", "x"]);
}

#[test]
fn a_followed_file_that_begins_as_the_one_before_it_is_read_from_its_beginning() {
    for glob in ["app.log", "app.log*"] {
        let mut place = Place::followed(&[("app.log", "id,name\n")]);
        place.reads(glob, &["id,name"]);
        place.rename("app.log", "app.log.1");
        place.write("app.log", b"id,name\n7,x\n");
        place.reads(glob, &["7,x", "id,name"]);
        place.append("app.log", "8,y\n");
        place.reads(glob, &["8,y"]);
    }
}

#[test]
fn a_file_that_is_cut_between_its_opening_and_its_first_read_is_not_taken_for_the_one_that_was_listed()
 {
    let place = Place::followed(&[("app.log", "a1\na2\n")]);
    let source = place.source("app.log");
    let (name, from) = place.begin(&source).expect("it begins").partitions.remove(0);
    let mut reader = source.open(&name, from.as_ref()).expect("it is there");
    place.copy("app.log", "app.log.1");
    place.write("app.log", b"b1\nb2\nb3\n");
    let error = read_now(&mut *reader).expect_err("it has other content");
    assert_eq!(error.kind(), Kind::SourceLost, "{error}");
    let mut again = source.open(&name, from.as_ref());
    assert!(again.as_mut().is_err_and(|error| error.kind() == Kind::SourceLost));
}

#[test]
fn a_hidden_file_that_is_followed_is_found_under_its_rotated_name() {
    let mut place = Place::followed(&[(".app.log", "a1\n")]);
    place.reads(".app.log", &["a1"]);
    place.append(".app.log", "a2\n");
    place.rename(".app.log", ".app.log.1");
    place.write(".app.log", b"b1\n");
    place.reads(".app.log", &["a2", "b1"]);
}

#[test]
fn a_file_that_is_replaced_by_a_longer_copy_is_read_on() {
    for keeps_backup in [false, true] {
        let mut place = Place::new(&[("app.log", "a1\n")]);
        place.reads("app.log", &["a1"]);
        place.write("new", b"a1\na2\n");
        if keeps_backup {
            place.rename("app.log", "app.log.bak");
        }
        place.rename("new", "app.log");
        place.reads("app.log", &["a2"]);
        place.append("app.log", "a3\n");
        place.reads("app.log", &["a3"]);
    }
}

#[test]
fn positions_of_the_format_before_get_their_identity_at_the_first_start() {
    let mut place = Place::new(&[("app.log", "a1\na2\n")]);
    let mut witness = vec![1];
    for part in [1, xxh3_64(b"a1\n"), xxh3_64(b"a1\n"), 0] {
        witness.extend_from_slice(&part.to_le_bytes());
    }
    place.recorded.insert(place.path("app.log"), Position { offset: 3, witness });
    let begun = place.begin(&place.source("*")).expect("it begins");
    let (name, Some(position)) = &begun.partitions[0] else { panic!("{begun:?}") };
    assert!(
        *name == place.path("app.log") && position.offset == 3 && position.witness[0] == 2,
        "{position:?}"
    );
    place.recorded.insert(name.clone(), position.clone());
    place.rename("app.log", "app.log.1");
    place.reads("*", &["a2"]);
}

#[test]
fn a_used_inode_is_not_the_removed_file() {
    use std::os::unix::fs::MetadataExt;
    for follow in [false, true] {
        let mut place = Place { follow, ..Place::new(&[("app-1.log", "a1\na2\n")]) };
        place.reads("app-*.log", &["a1", "a2"]);
        let inode = |name: &str| fs::metadata(place.path(name)).expect("there").ino();
        let before = inode("app-1.log");
        std::thread::sleep(Duration::from_millis(20));
        place.remove("app-1.log");
        place.write("app-2.log", b"b1\n");
        // Where the file system gives another inode, there is nothing to be mistaken for: the same
        // must come of it.
        eprintln!("the inode was used again: {}", inode("app-2.log") == before);
        let warnings = place.reads("app-*.log", &["b1"]);
        assert!(warnings.contains("app-1.log: is gone, and was read to its end"), "{warnings}");
    }
}

/// Reads so many records of each file, and records how far.
fn read_some(place: &mut Place, glob: &str, records: usize) {
    let source = place.source(glob);
    for (name, from) in place.begin(&source).expect("it begins").partitions {
        let mut reader = source.open(&name, from.as_ref()).expect("opened");
        reader.read(&mut Records::with_limits(records, usize::MAX)).expect("read");
        place.recorded.insert(name, reader.position());
    }
}

#[test]
fn a_file_of_which_only_its_heading_was_read_is_not_taken_for_another() {
    // Removed: its rows are lost, and no other file with that heading has them.
    let mut place = Place::new(&[("a-1.csv", "id,name\n1,x\n")]);
    read_some(&mut place, "a-*.csv", 1);
    place.remove("a-1.csv");
    place.write("a-2.csv", b"id,name\n7,a longer row than that\n");
    place.refuses("a-*.csv", Kind::SourceLost, &["a-1.csv: is missing", "byte 8"]);
    // Renamed: what stands under its name is another.
    let mut place = Place::new(&[("app.log", "id,name\n1,x\n")]);
    read_some(&mut place, "app.log", 1);
    place.rename("app.log", "app.log.1");
    place.write("app.log", b"id,name\n7,a longer row than that\n");
    place.reads("app.log", &["1,x", "7,a longer row than that", "id,name"]);
}

#[test]
fn partitions_are_named_by_the_first_path() {
    let mut place = Place::new(&[("app.log", "a1\n")]);
    place.reads("app.log*", &["a1"]);
    place.rename("app.log", "app.log.1");
    place.write("app.log", b"b1\n");
    place.reads("app.log*", &["b1"]);
    let names: Vec<&String> = place.recorded.keys().collect();
    assert_eq!(names, [&place.path("app.log"), &format!("{}#2", place.path("app.log"))]);
}

#[test]
fn names_that_cannot_be_read_are_named() {
    use std::os::unix::ffi::OsStrExt;
    let odd = |place: &Place| {
        fs::write(place.folder.path().join(std::ffi::OsStr::from_bytes(b"bad\xff.log")), "x\n")
            .expect("written");
    };
    let fifo = |place: &Place| {
        let made = std::process::Command::new("mkfifo")
            .arg(place.path("fifo.log"))
            .status()
            .expect("mkfifo runs");
        assert!(made.success());
    };
    let bzip2 = |place: &Place| place.write("b.log", b"BZh91AY&SY and so on");
    type Make<'a> = &'a dyn Fn(&Place);
    let cases: [(Make<'_>, &str); 3] =
        [(&odd, "the name is not UTF-8"), (&fifo, "not a regular file"), (&bzip2, "is bzip2 data")];
    for (make, part) in cases {
        let mut place = Place::new(&[("a.log", "a1\n")]);
        make(&place);
        place.refuses("*.log", Kind::Config, &[part]);
        let mut place = Place::followed(&[("a.log", "a1\n")]);
        make(&place);
        let warnings = place.reads("*.log", &["a1"]);
        assert!(warnings.contains(part) && warnings.contains("left out"), "{warnings}");
    }
    let mut place = Place::new(&[("a.log", "a1\n"), (".a.log.swp", "hidden\n")]);
    std::os::unix::fs::symlink("gone", place.path("dangling.log")).expect("linked");
    std::os::unix::fs::symlink("a.log", place.path("link.log")).expect("linked");
    place.reads("*", &["a1"]);
    assert_eq!(place.recorded.keys().collect::<Vec<_>>(), [&place.path("a.log")]);
}

/// What a look for new files finds, by name.
fn discovered(
    source: &FileSource<Lines>,
    known: &mut BTreeMap<String, Option<Position>>,
) -> Vec<String> {
    let found = source.discover(known).expect("it looks");
    let names = found.iter().map(|(name, _)| name.clone()).collect();
    known.extend(found);
    names
}

#[test]
fn new_files_join_by_their_identity() {
    let place = Place::followed(&[("app.log", "a1\na2\n")]);
    let source = place.source("app.log*");
    let mut known: BTreeMap<_, _> =
        place.begin(&source).expect("it begins").partitions.into_iter().collect();
    assert_eq!(discovered(&source, &mut known), [""; 0]);
    place.rename("app.log", "app.log.1");
    place.write("app.log", b"");
    assert_eq!(
        discovered(&source, &mut known),
        [""; 0],
        "a file has no identity until it has a line"
    );
    place.append("app.log", "b1");
    assert_eq!(discovered(&source, &mut known), [""; 0]);
    place.append("app.log", "\n");
    assert_eq!(discovered(&source, &mut known), [format!("{}#2", place.path("app.log"))]);
    // A copy in the making.
    place.write("app.log.copy", b"a1\n");
    assert_eq!(discovered(&source, &mut known), [""; 0]);
    place.append("app.log.copy", "a2\n");
    assert_eq!(discovered(&source, &mut known), [""; 0]);
    // The original goes: what begins as it did waits for a start, which decides.
    place.remove("app.log.1");
    assert_eq!(discovered(&source, &mut known), [""; 0]);
    std::process::Command::new("mkfifo")
        .arg(place.path("app.log.fifo"))
        .status()
        .expect("mkfifo runs");
    place.write("app.log.new", b"c1\n");
    place.write("app.log.zip", b"PK\x03\x04 and so on");
    assert_eq!(
        discovered(&source, &mut known),
        [place.path("app.log.new")],
        "one that cannot be read hides no other"
    );
}

#[test]
fn a_file_that_had_the_name_between_two_looks_is_not_missed() {
    for (glob, compressed) in [("app.log", false), ("app.log", true), ("app.log*", true)] {
        let place = Place::followed(&[("app.log", "a1\n")]);
        let source = place.source(glob);
        let mut known: BTreeMap<_, _> =
            place.begin(&source).expect("it begins").partitions.into_iter().collect();
        let rotate = |new: &str| {
            // Files are told to be older by their times.
            std::thread::sleep(Duration::from_millis(20));
            place.rename("app.log", "app.log.1");
            if compressed {
                place.gzip("app.log.1");
            }
            place.write("app.log", new.as_bytes());
        };
        rotate("b1\n");
        let suffix = if compressed { ".gz" } else { "" };
        place.rename(&format!("app.log.1{suffix}"), &format!("app.log.2{suffix}"));
        rotate("c1\n");
        let name = place.path("app.log");
        let joined = discovered(&source, &mut known);
        assert_eq!(
            joined,
            [format!("{name}#2"), format!("{name}#3")],
            "{glob}, compressed: {compressed}"
        );
        let read = |partition: &String| {
            let mut reader = source.open(partition, known[partition].as_ref()).expect("opened");
            read_now(&mut *reader).expect("read").0
        };
        assert_eq!(
            (read(&joined[0]), read(&joined[1])),
            (vec!["c1".to_owned()], vec!["b1".to_owned()])
        );
        assert_eq!(discovered(&source, &mut known), [""; 0]);
    }
}

#[test]
fn a_known_file_that_is_cut_ends_the_look_for_new_files() {
    let place = Place::followed(&[("app.log", "a1\na2\n")]);
    let source = place.source("app.log*");
    let known = place.begin(&source).expect("it begins").partitions.into_iter().collect();
    place.write("app.log", b"b1\n");
    let error = source.discover(&known).expect_err("it was cut");
    assert!(error.kind() == Kind::SourceLost && error.is_perhaps_elsewhere(), "{error}");
}

#[test]
fn a_renamed_file_is_read_to_its_end_and_ends() {
    let place = Place::followed(&[("app.log", "a1\n")]);
    let source = place.source("app.log");
    let mut reader = source.open(&place.path("app.log"), None).expect("opened");
    assert_eq!(read_now(&mut *reader).expect("read").0, ["a1"]);
    place.rename("app.log", "app.log.1");
    place.append("app.log.1", "a2\nunfinished");
    let (lines, status) = wait_for_the_end(&mut *reader).expect("it ends");
    assert_eq!(
        (lines, status),
        (vec!["a2".to_owned(), "unfinished".to_owned()], ReadStatus::Retired)
    );
    assert_eq!(reader.position().offset, 16);
}

#[test]
fn a_renamed_file_that_still_matches_does_not_end() {
    let place = Place::followed(&[("app.log", "a1\n")]);
    let source = place.source("app.log*");
    let mut reader = source.open(&place.path("app.log"), None).expect("opened");
    assert_eq!(read_now(&mut *reader).expect("read").0, ["a1"]);
    place.rename("app.log", "app.log.1");
    place.write("app.log", b"b1\n");
    let until = Instant::now() + Duration::from_millis(200);
    while Instant::now() < until {
        let (lines, status) = read_now(&mut *reader).expect("read");
        assert!(lines.is_empty() && matches!(status, ReadStatus::Idle(_)), "{lines:?} {status:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
    place.remove("app.log.1");
    assert_eq!(wait_for_the_end(&mut *reader).expect("it ends").1, ReadStatus::Retired);
}

#[test]
fn a_file_whose_copy_would_join_after_it_is_not_forgotten() {
    let place = Place::followed(&[("app.log", "a1\n")]);
    let source = place.source("app.log*");
    let mut reader = source.open(&place.path("app.log"), None).expect("opened");
    assert_eq!(read_now(&mut *reader).expect("read").0, ["a1"]);
    place.copy("app.log", "app.log.1");
    place.remove("app.log");
    let error = wait_for_the_end(&mut *reader).expect_err("the copy has its place");
    assert!(error.kind() == Kind::SourceLost && error.is_perhaps_elsewhere(), "{error}");
}

#[test]
fn a_file_that_is_cut_while_the_reader_lags_is_found_before_its_new_content_is_read() {
    for follow in [false, true] {
        let old: String = (0..50_000).map(|n| format!("old {n}\n")).collect();
        let place = Place { follow, ..Place::new(&[("app.log", &old)]) };
        let mut reader =
            place.source("app.log").open(&place.path("app.log"), None).expect("opened");
        let mut into = Records::with_limits(1_000, usize::MAX);
        reader.read(&mut into).expect("read");
        // Longer than what was read, and than what there was.
        let new: String = (0..200_000).map(|n| format!("new {n}\n")).collect();
        place.write("app.log", new.as_bytes());
        let mut given = into.len();
        let error = loop {
            let mut into = Records::with_limits(1_000, usize::MAX);
            let read = reader.read(&mut into);
            into.iter().for_each(|(_, line)| {
                assert_eq!(*line, format!("old {given}"), "nothing of the new content is read");
                given += 1;
            });
            if let Err(error) = read {
                break error;
            }
        };
        check_error(
            &error,
            Kind::SourceLost,
            &["app.log", "was cut or overwritten while it was read"],
        );
        let length: usize = (0..given).map(|n| format!("old {n}\n").len()).sum();
        assert_eq!(
            reader.position().offset,
            u64::try_from(length).expect("small"),
            "it is after what was given"
        );
    }
}
