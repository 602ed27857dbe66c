//! Files read to their ends: what is a record, compression, restarts, and bad input.

use flate2::{Compression, write::GzEncoder};
use std::fs;
use std::io::Write;
use std::path::Path;
use tempfile::TempDir;
use tidemill_connectors::{FileSource, Files, Invalid, Lines, Malformed, Str};
use tidemill_engine::conformance;
use tidemill_engine::source::{ReadStatus, Reader, Records, Source};
use tidemill_state::{Error, Kind, Position};

struct Folder(TempDir);

impl Folder {
    fn new(files: &[(&str, &[u8])]) -> Folder {
        let folder = Folder(TempDir::new().expect("a temporary folder"));
        for (name, content) in files {
            folder.write(name, content);
        }
        folder
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("it is UTF-8").to_owned()
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).expect("written");
    }

    fn append(&self, name: &str, content: &[u8]) {
        fs::OpenOptions::new()
            .append(true)
            .open(self.path(name))
            .and_then(|mut file| file.write_all(content))
            .expect("appended");
    }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(content).expect("packed");
    packed.finish().expect("packed")
}

fn zstd(content: &[u8]) -> Vec<u8> {
    zstd::encode_all(content, 1).expect("packed")
}

fn read_all<T>(reader: &mut dyn Reader<T>) -> Result<Vec<T>, Error>
where
    T: Clone,
{
    let mut all = Vec::new();
    loop {
        let mut into = Records::with_limits(100, usize::MAX);
        let status = reader.read(&mut into)?;
        all.extend(into.iter().map(|(_, record)| record.clone()));
        if status == ReadStatus::End {
            return Ok(all);
        }
    }
}

/// Reads the only partition from the beginning.
fn read_only<S: Source>(source: &S) -> Result<Vec<S::Item>, Error> {
    let partitions = source.partitions()?;
    assert_eq!(partitions.len(), 1, "{partitions:?}");
    read_all(&mut *source.open(&partitions[0], None)?)
}

fn strs(lines: &[&str]) -> Vec<Str> {
    lines.iter().map(|line| Str::from(*line)).collect()
}

fn check_error(result: Result<impl Sized, Error>, kind: Kind, parts: &[&str]) {
    let Err(error) = result else { panic!("no error, and one with {parts:?} is expected") };
    assert_eq!(error.kind(), kind, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "{part:?} is not in: {error}");
    }
}

#[test]
fn files_keep_the_contract_of_a_source() {
    let long = "x".repeat(300_000);
    let many: Vec<String> =
        (0..20_000).map(|n| format!("line {n} {}", "y".repeat(n % 97))).collect();
    let many_bytes = many.join("\n").into_bytes();
    let (half, rest) = many_bytes.split_at(many_bytes.len() / 2);
    let folder = Folder::new(&[
        ("a.txt", b"one\ntwo\r\n\nfour\n"),
        ("b.txt", b""),
        ("c.txt", "\u{fc}ber\nunfinished".as_bytes()),
        ("d.txt", format!("{long}\nshort\n{long}\n").as_bytes()),
        ("e.txt", &many_bytes),
        ("f.txt", &[gzip(half), gzip(rest)].concat()),
        ("g.txt", &[zstd(half), zstd(rest)].concat()),
    ]);
    fs::create_dir(folder.path("folder.txt")).expect("made");
    let many: Vec<Str> = many.iter().map(Str::from).collect();
    let expected = [
        (folder.path("a.txt"), strs(&["one", "two", "", "four"])),
        (folder.path("b.txt"), vec![]),
        (folder.path("c.txt"), strs(&["\u{fc}ber", "unfinished"])),
        (folder.path("d.txt"), strs(&[&long, "short", &long])),
        (folder.path("e.txt"), many.clone()),
        (folder.path("f.txt"), many.clone()),
        (folder.path("g.txt"), many),
    ];
    conformance::source(|| Files::lines(folder.path("*.txt")), &expected);
    assert_eq!(Files::lines("x").kind(), "files/lines");
}

#[test]
fn json_lines_keep_the_contract_of_a_source() {
    let lines: Vec<String> = (0..500)
        .map(|n| if n % 7 == 0 { "  ".into() } else { format!("[\"k{n}\",{n}]") })
        .collect();
    let folder = Folder::new(&[("a.json", lines.join("\r\n").as_bytes())]);
    let expected: Vec<(String, u64)> =
        (0..500).filter(|n| n % 7 != 0).map(|n| (format!("k{n}"), n)).collect();
    conformance::source(
        || Files::json_lines::<(String, u64)>(folder.path("a.json")),
        &[(folder.path("a.json"), expected)],
    );
    assert_eq!(Files::json_lines::<u64>("x").kind(), "files/json-lines");
}

#[test]
fn a_changed_file_is_never_read_on() {
    let content: String = (0..3_000).map(|n| format!("line {n}\n")).collect();
    let replaced = content.replace("line 1\n", "LINE 1\n");
    let near = content.replace("line 1999\n", "LINE 1999\n");
    for pack in [<[u8]>::to_vec, gzip, zstd] {
        for damaged in [&content[..content.len() / 4], &replaced, &near, ""] {
            let folder = Folder::new(&[("a", &pack(content.as_bytes()))]);
            let make = || Files::lines(folder.path("a"));
            conformance::damaged_source(make, &folder.path("a"), 2_000, || {
                folder.write("a", &pack(damaged.as_bytes()))
            });
        }
        let folder = Folder::new(&[("a", &pack(content.as_bytes()))]);
        let removed = || fs::remove_file(folder.path("a")).expect("removed");
        conformance::damaged_source(
            || Files::lines(folder.path("a")),
            &folder.path("a"),
            3_000,
            removed,
        );
    }
}

/// Reads the file to its end, changes it, and opens it at that end.
fn after_change(content: &[u8], change: impl FnOnce(&Folder)) -> Result<Vec<Str>, Error> {
    let folder = Folder::new(&[("a", content)]);
    let source = Files::lines(folder.path("a"));
    let mut reader = source.open(&folder.path("a"), None).expect("opened");
    read_all(&mut *reader).expect("read");
    change(&folder);
    read_all(&mut *source.open(&folder.path("a"), Some(&reader.position()))?)
}

#[test]
fn a_file_goes_on_where_it_ended() {
    let grown = |by: &'static str| move |folder: &Folder| folder.append("a", by.as_bytes());
    assert_eq!(after_change(b"1\n2\n", grown("")).expect("nothing new"), strs(&[]));
    assert_eq!(after_change(b"1\n2\n", grown("3\n4")).expect("new lines"), strs(&["3", "4"]));
    assert_eq!(
        after_change(b"1\n2", grown("\n3\n")).expect("the newline of line 2 came later"),
        strs(&["3"])
    );
    assert_eq!(
        after_change(b"1\n2", grown("\r\n3\n")).expect("the newline of line 2 came later"),
        strs(&["3"])
    );
    check_error(
        after_change(b"1\n2", grown("2\n3\n")),
        Kind::SourceLost,
        &["line 2", "byte 3", "grown since", ".follow()", "insert a newline"],
    );
    check_error(
        after_change(b"1\n2\n", |folder| folder.write("a", b"1\n")),
        Kind::SourceLost,
        &["go on at byte 4", "only 2 bytes", "--start-over"],
    );
    check_error(
        after_change(b"1\n2\n", |folder| folder.write("a", b"1\n3\n")),
        Kind::SourceLost,
        &["before byte 4 is not what was read"],
    );
    check_error(
        after_change(b"1\n2\n", |folder| fs::remove_file(folder.path("a")).expect("removed")),
        Kind::SourceLost,
        &["is missing"],
    );
}

#[test]
fn the_way_on_after_an_unfinished_line_that_grew_is_true() {
    // As the error says: a newline where the file had ended.
    let inserted = |folder: &Folder| folder.write("a", b"a b c\n d e\nf\n");
    assert_eq!(after_change(b"a b c", inserted).expect("it goes on"), strs(&[" d e", "f"]));
}

#[test]
fn byte_order_marks_are_passed_over() {
    let read = |content: &[u8]| {
        let folder = Folder::new(&[("a", content)]);
        read_only(&Files::lines(folder.path("a")))
    };
    let marked = b"\xef\xbb\xbfTide\nturns\n";
    for content in [marked.to_vec(), gzip(marked), zstd(marked)] {
        assert_eq!(read(&content).expect("read"), strs(&["Tide", "turns"]));
    }
    assert_eq!(read(b"\xef\xbb\xbf").expect("only a mark"), strs(&[]));
    assert_eq!(read(b"\xef\xbb\xbfTide").expect("unfinished"), strs(&["Tide"]));
    let grown = |folder: &Folder| folder.append("a", b"Tide\n");
    assert_eq!(after_change(b"\xef\xbb\xbf", grown).expect("it goes on"), strs(&["Tide"]));
    let json = Folder::new(&[("a", b"\xef\xbb\xbf17\n")]);
    assert_eq!(read_only(&Files::json_lines::<u64>(json.path("a"))).expect("read"), [17]);
    for (content, encoding) in [
        (&b"\xff\xfeT\0i\0\n\0"[..], "UTF-16LE"),
        (b"\xfe\xff\0T\0i\0\n", "UTF-16BE"),
        (b"\0T\0i\0\n", "UTF-16BE"),
        (b"T\0i\0\n\0", "UTF-16LE"),
        (b"\0\0\xfe\xff\0\0\0T", "UTF-32BE"),
    ] {
        let why = format!("this is {encoding}, not UTF-8; convert the file: iconv -f {encoding}");
        check_error(read(content), Kind::UserCode, &["line 1, byte 0", &why]);
    }
    check_error(read(&[0; 1_000]), Kind::UserCode, &["begins with zeros"]);
}

#[test]
fn zeros_after_a_compressed_member_are_its_end() {
    for pack in [gzip, zstd] {
        for zeros in [1, 7, 1_024, 100_000] {
            let folder =
                Folder::new(&[("a", &[pack(b"1\n"), pack(b"2\n"), vec![0; zeros]].concat())]);
            assert_eq!(
                read_only(&Files::lines(folder.path("a"))).expect("read"),
                strs(&["1", "2"])
            );
            folder.append("a", &pack(b"3\n"));
            check_error(
                read_only(&Files::lines(folder.path("a"))),
                Kind::SourceLost,
                &["zeros follow a member"],
            );
        }
    }
}

#[test]
fn no_line_of_a_damaged_compressed_file_is_given() {
    let lines: Vec<u8> = (0..100_000).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
    // With checksums, as the command `zstd` writes them.
    let zstd = |content: &[u8]| {
        let mut packed = zstd::Encoder::new(Vec::new(), 1).expect("made");
        packed.include_checksum(true).and_then(|()| packed.write_all(content)).expect("packed");
        packed.finish().expect("packed")
    };
    for pack in [&gzip as &dyn Fn(&[u8]) -> Vec<u8>, &zstd] {
        let whole = [pack(&lines), pack(&lines)].concat();
        let mut cut = whole.clone();
        cut.truncate(whole.len() - 3);
        // In the checksum itself, so that all lines can be decompressed.
        let mut flipped = whole.clone();
        let at = flipped.len() - 8 + if flipped[0] == 0x1f { 0 } else { 5 };
        flipped[at] ^= 1;
        for damaged in [cut, flipped] {
            let folder = Folder::new(&[("a", &damaged)]);
            let mut reader =
                Files::lines(folder.path("a")).open(&folder.path("a"), None).expect("opened");
            let error = loop {
                let mut into = Records::with_limits(100, usize::MAX);
                let read = reader.read(&mut into);
                assert!(into.is_empty(), "a line was given");
                if let Err(error) = read {
                    break error;
                }
            };
            check_error(
                Err::<(), _>(error),
                Kind::SourceLost,
                &["damaged or cut off", "no line of it was given"],
            );
        }
    }
}

#[test]
fn a_zstd_window_that_is_too_large_is_named() {
    let mut packed = zstd::Encoder::new(Vec::new(), 1).expect("made");
    packed.window_log(28).and_then(|()| packed.long_distance_matching(true)).expect("set");
    packed.write_all(b"1\n").expect("packed");
    let folder = Folder::new(&[("a", &packed.finish().expect("packed"))]);
    check_error(
        read_only(&Files::lines(folder.path("a"))),
        Kind::Config,
        &["window is larger than 128 MiB", "--long=27"],
    );
}

#[test]
fn a_compressed_file_that_has_ended_is_not_decompressed_again() {
    let content: Vec<u8> = (0..100_000).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
    for pack in [gzip, zstd] {
        let folder = Folder::new(&[("a", &pack(&content))]);
        let source = Files::lines(folder.path("a"));
        let mut reader = source.open(&folder.path("a"), None).expect("opened");
        assert_eq!(read_all(&mut *reader).expect("read").len(), 100_000);
        let end = reader.position();
        let mut again = source.open(&folder.path("a"), Some(&end)).expect("opened");
        assert_eq!(
            again.read(&mut Records::with_limits(1, 1)).expect("read"),
            ReadStatus::End,
            "with the first read"
        );
        assert_eq!(again.position(), end);
        folder.append("a", &pack(b"more\n"));
        let mut again = source.open(&folder.path("a"), Some(&end)).expect("opened");
        assert_eq!(read_all(&mut *again).expect("read"), strs(&["more"]));
    }
}

#[test]
fn positions_of_other_versions_are_refused() {
    let folder = Folder::new(&[("a", b"1\n2\n")]);
    let source = Files::lines(folder.path("a"));
    for witness in [vec![], vec![9; 33], vec![1; 32]] {
        check_error(
            source.open(&folder.path("a"), Some(&Position { offset: 2, witness })),
            Kind::SourceLost,
            &["not written by this version"],
        );
    }
}

#[test]
fn what_cannot_be_listed_is_a_configuration_error() {
    let folder = Folder::new(&[("a", b"1\n"), ("b", b"2\n")]);
    let lines = |globs: &[&str]| {
        Files::lines_of(globs.iter().map(|glob| folder.path(glob)).collect::<Vec<_>>()).partitions()
    };
    assert_eq!(lines(&["*", "a"]).expect("each once"), [folder.path("a"), folder.path("b")]);
    check_error(lines(&["nothing*"]), Kind::Config, &["no file matches", "nothing*"]);
    check_error(lines(&["a", "nothing"]), Kind::Config, &["no file matches"]);
    check_error(lines(&["a***"]), Kind::Config, &["cannot be understood"]);
    check_error(lines(&[]), Kind::Config, &["no glob"]);
    check_error(Files::lines("no/such/*.txt").partitions(), Kind::Config, &["looked from"]);
    std::os::unix::fs::symlink(folder.path("a"), folder.path("link")).expect("linked");
    assert_eq!(
        lines(&["*"]).expect("a link is no file of its own"),
        [folder.path("a"), folder.path("b")]
    );
}

#[test]
fn bad_lines_are_named() {
    let read = |content: &[u8], with: fn(FileSource<Lines>) -> FileSource<Lines>| {
        let folder = Folder::new(&[("a", content)]);
        read_only(&with(Files::lines(folder.path("a"))))
    };
    check_error(
        read(b"ok\nab\xffcd\n", |s| s),
        Kind::UserCode,
        &["/a: line 2, byte 5", "not UTF-8", "\\xffcd"],
    );
    assert_eq!(
        read(b"ok\nab\xffcd\n", |s| s.invalid_utf8(Invalid::Lossy)).expect("lossy"),
        strs(&["ok", "ab\u{fffd}cd"])
    );

    let short = |s: FileSource<Lines>| s.max_line_bytes(4);
    assert_eq!(
        read(b"1234\r\n1234\n1234", short).expect("at the limit"),
        strs(&["1234", "1234", "1234"])
    );
    check_error(
        read(b"1234\n12345\n", short),
        Kind::UserCode,
        &["line 2, byte 5", "longer than 4 bytes", "max_line_bytes"],
    );
    check_error(read(b"1234\n12345", short), Kind::UserCode, &["line 2, byte 5"]);
    let long = vec![b'x'; 3 << 20];
    check_error(read(&long, |s| s), Kind::UserCode, &["line 1, byte 0", "1048576"]);
    check_error(
        read(&gzip(b"one\ntwo\n")[..20], |s| s),
        Kind::SourceLost,
        &["gzip data is damaged or cut off"],
    );
}

#[test]
fn line_numbers_go_on_after_a_restart() {
    let folder = Folder::new(&[("a", b"1\n2\n3\n\xff\n")]);
    let source = Files::lines(folder.path("a"));
    let mut reader = source.open(&folder.path("a"), None).expect("opened");
    reader.read(&mut Records::with_limits(2, usize::MAX)).expect("read");
    let again = source
        .open(&folder.path("a"), Some(&reader.position()))
        .and_then(|mut reader| read_all(&mut *reader));
    check_error(again, Kind::UserCode, &["line 4, byte 6"]);
}

#[test]
fn malformed_json_stops_or_is_counted() {
    let folder = Folder::new(&[("a", b"1\n\n17 x\n2\n\"three\"\n")]);
    let source = Files::json_lines::<u64>(folder.path("a"));
    check_error(
        read_only(&source),
        Kind::UserCode,
        &[
            "/a: line 3, byte 3",
            "not the JSON of a u64",
            "trailing characters at column 4",
            "\"17 x\"",
            "Malformed::Skip",
        ],
    );
    let source = source.malformed(Malformed::Skip);
    let mut reader = source.open(&folder.path("a"), None).expect("opened");
    assert_eq!(read_all(&mut *reader).expect("read"), [1, 2]);
    assert_eq!((reader.take_skipped(), reader.take_skipped()), (2, 0));
}

#[test]
fn files_are_open_only_while_they_are_read() {
    let folder = Folder::new(&[]);
    for n in 0..3_000 {
        folder.write(&format!("{n}.txt"), b"line\n");
    }
    let open_files = || {
        let links = fs::read_dir("/proc/self/fd")
            .expect("Linux")
            .filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
        links.filter(|path| path.starts_with(folder.0.path())).count()
    };
    let source = Files::lines(folder.path("*.txt"));
    let mut readers: Vec<_> = source
        .partitions()
        .expect("listed")
        .iter()
        .map(|name| source.open(name, None).expect("opened"))
        .collect();
    assert_eq!(open_files(), 0);
    for reader in &mut readers {
        assert_eq!(read_all(&mut **reader).expect("read").len(), 1);
    }
    assert_eq!(open_files(), 0);
    assert!(Path::new(&folder.path("0.txt")).exists());
}
