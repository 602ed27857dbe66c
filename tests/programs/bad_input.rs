//! Bad input, bad arguments and a bad disk: each gets its exit code and an error that says what,
//! where and what to do, and nothing is lost.

use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tidemill::Kind;
use tidemill::prelude::*;
use tidemill::testing::Kit;
use tidemill_harness::binary::{self, Running, counts_are, folder, recount, run};
use tidemill_harness::edits;

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A folder with an input and a state.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn of(input: &[u8]) -> Place {
        let place = Place { folder: folder() };
        fs::write(place.input(), input).expect("it can be written");
        place
    }

    fn input(&self) -> PathBuf {
        self.folder.path().join("input.txt")
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }
}

/// Runs an example with these arguments, in which {input}, {state} and {folder} stand for the
/// place's own; it must end so.
fn check(case: &str, place: &Place, command: &str, code: i32, parts: &[&str]) -> binary::Outcome {
    let filled = |word: &str| {
        let filled =
            word.replace("{input}", text(&place.input())).replace("{state}", text(&place.state()));
        filled.replace("{folder}", text(place.folder.path()))
    };
    let words: Vec<String> = command.split_whitespace().map(filled).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let parts: Vec<String> = parts.iter().map(|part| filled(part)).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let outcome = run(words[0], &words[1..]);
    outcome.is(case, code, &parts);
    outcome
}

/// Nothing was committed, and after the input is mended all of it is counted.
fn mended(case: &str, place: &Place, good: &str) {
    fs::write(place.input(), good).expect("it can be written");
    check(case, place, &format!("{COUNT} --input {{input}}"), 0, &["stopped after batch 1"]);
    counts_are(case, &place.state(), &recount([good]));
}

const COUNT: &str = "word_count run --state {state} --listen none --exit-at-end";
const EDITS: &str = "wiki_edits run --state {state} --listen none --exit-at-end";

#[test]
fn input_that_is_not_there() {
    let place = Place::of(b"a b\n");
    let none = format!("{COUNT} --input {{folder}}/none-*.txt");
    check(
        "a glob without a match",
        &place,
        &none,
        64,
        &["no file matches", "{folder}/none-*.txt", "check the path"],
    );
    let checked = none.replace("run --state", "check --state");
    check(
        "a glob without a match, check",
        &place,
        &checked,
        64,
        &["no file matches", "{folder}/none-*.txt"],
    );
    check(
        "a glob that is none",
        &place,
        &format!("{COUNT} --input {{folder}}/[a"),
        64,
        &["cannot be understood"],
    );
    fs::create_dir(place.folder.path().join("folder.txt")).expect("a folder");
    check(
        "only a folder",
        &place,
        &format!("{COUNT} --input {{folder}}/folder.txt"),
        64,
        &["no file matches"],
    );
    std::os::unix::fs::symlink("nowhere", place.folder.path().join("dangling.txt"))
        .expect("a link");
    check(
        "a dangling link",
        &place,
        &format!("{COUNT} --input {{folder}}/dangling.txt"),
        64,
        &["no file matches"],
    );
    let named_twice = Place::of(b"a b\n");
    std::os::unix::fs::symlink("input.txt", named_twice.folder.path().join("alias.txt"))
        .expect("a link");
    let once = ["alias.txt", "input.txt", "the same file, which is read once"];
    check(
        "one file under two names",
        &named_twice,
        &format!("{COUNT} --input {{folder}}/*.txt"),
        0,
        &once,
    );
    counts_are("one file under two names", &named_twice.state(), &recount(["a b\n"]));
    check(
        "a device",
        &place,
        &format!("{COUNT} --input /dev/null"),
        64,
        &["/dev/null", "not a regular file"],
    );
    mended("the same state after all of that", &place, "a b\n");
}

#[test]
fn lines_that_are_no_records() {
    let long = [b"a b\n".as_slice(), &[b'x'; (1 << 20) + 1], b"\nc\n"].concat();
    let edit = |bytes: u32| {
        format!(
            "{{\"channel\":\"#en.wikipedia\",\"namespace\":\"Main\",\"isNew\":false,\"isRobot\":true,\"isAnonymous\":false,\"added\":{bytes}}}\n"
        )
    };
    let cut = format!("{}{}{}", edit(1), "{\"channel\":\"#en\n", edit(2));
    let negative = format!("{}{}", edit(1), edit(2).replace(":2}", ":-2}"));
    let cases: [(&str, &str, &[u8], &[&str]); 6] = [
        (
            "not UTF-8",
            COUNT,
            b"a b\nc \xff\xfe d\ne\n",
            &["line 2", "byte 6", "not UTF-8", "Invalid::Lossy", "\\xff\\xfe"],
        ),
        (
            "a line over the limit",
            COUNT,
            &long,
            &["line 2", "byte 4", "longer than 1048576 bytes", ".max_line_bytes", "xxx"],
        ),
        ("cut off JSON", EDITS, cut.as_bytes(), &["line 2", "not the JSON of", "Malformed::Skip"]),
        ("JSON of another type", EDITS, negative.as_bytes(), &["line 2", "-2", "u64", "column"]),
        ("text for JSON", EDITS, b"hello\n", &["line 1, byte 0", "not the JSON of"]),
        ("binary for JSON", EDITS, b"\x00\xff\x01\n", &["line 1", "not UTF-8"]),
    ];
    for (case, program, input, parts) in cases {
        let place = Place::of(input);
        let command = format!("{program} --input {{input}}");
        check(case, &place, &command, 69, &[&["{input}", "source"], parts].concat());
        check(&format!("{case}, again"), &place, &command, 69, parts);
        if program == COUNT {
            mended(case, &place, "a b\nc d\n");
        }
    }
}

#[test]
fn a_compressed_file_that_is_cut_off_or_followed() {
    let gzip = fs::read(edits::file()).expect("the edits are there");
    let place = Place::of(&gzip[..gzip.len() / 2]);
    let parts = ["{input}", "gzip", "damaged or cut off after byte"];
    check("cut off", &place, &format!("{EDITS} --input {{input}}"), 67, &parts);
    check(
        "followed",
        &place,
        &format!("{COUNT} --input {{input}} --follow --name x --state {{folder}}/other"),
        64,
        &["cannot be"],
    );
}

#[test]
fn a_settings_file_that_cannot_be() {
    let place = Place::of(b"a\n");
    let config = |text: &str| {
        fs::write(place.folder.path().join("config.toml"), text).expect("it can be written")
    };
    config("worker = 2\n");
    let with_config = format!("{COUNT} --config {{folder}}/config.toml");
    let unknown = ["{folder}/config.toml", "unknown field `worker`", "`workers`"];
    check("an unknown key of the file", &place, &with_config, 64, &unknown);
    config("[workers]\nn = 2\n");
    check(
        "a wrong value of the file",
        &place,
        &with_config,
        64,
        &["{folder}/config.toml", "workers"],
    );
}

#[test]
fn arguments_that_cannot_be() {
    let place = Place::of(b"a\n");
    let cases: [(&str, &str, &[&str]); 14] = [
        (
            "an unknown flag",
            "word_count run --state {state} --wrokers 2",
            &["--wrokers", "--workers"],
        ),
        ("an unknown command", "word_count count", &["count"]),
        ("no command", "word_count", &["Usage"]),
        ("no state", "word_count run --listen none", &["--state DIR", "TIDEMILL_STATE"]),
        (
            "workers 0",
            "word_count run --state {state} --listen none --workers 0",
            &["workers is 0", "at least 1"],
        ),
        (
            "no records",
            "word_count run --state {state} --listen none --max-batch-records 0",
            &["max_batch_records is 0"],
        ),
        (
            "none in flight",
            "word_count run --state {state} --listen none --max-batches-in-flight 0",
            &["in_flight is 0"],
        ),
        (
            "no delay's unit",
            "word_count run --state {state} --max-batch-delay 50",
            &["no duration", "50ms"],
        ),
        ("no size", "word_count run --state {state} --fold-bytes lots", &["no size", "64MiB"]),
        (
            "contradicting flags",
            "word_count run --state {state} --start-over --sink-assume lost --listen none",
            &["contradict"],
        ),
        (
            "two places",
            "word_count state scan counts --state {state} --at 127.0.0.1:1",
            &["cannot be used with"],
        ),
        ("no place", "word_count state scan counts", &["--state DIR", "--at URL"]),
        (
            "open to all",
            "word_count run --state {state} --listen 0.0.0.0:0",
            &["--token-file", "127.0.0.1", "127.0.0.1"],
        ),
        (
            "no topology's state",
            "word_count state list --state {folder}",
            &["no state in {folder}"],
        ),
    ];
    for (case, command, parts) in cases {
        check(case, &place, command, 64, parts);
        assert!(!place.state().exists(), "{case}: no state was begun");
    }
}

#[test]
fn help_and_a_topology_that_is_not_there() {
    let place = Place::of(b"a\n");
    check(
        "--help",
        &place,
        "word_count run --help",
        0,
        &["--max-batch-delay", "--input", "--start-over"],
    );
    check(
        "nobody there",
        &place,
        "word_count status --at 127.0.0.1:1",
        75,
        &["no topology answers", "--at URL"],
    );
}

#[test]
fn a_port_in_use() {
    let place = Place::of(b"a\n");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let command = format!(
        "word_count run --state {{state}} --input {{input}} --exit-at-end --listen {address}"
    );
    check("a port in use", &place, &command, 64, &[&address, "in use", "--listen none"]);
    assert!(!place.state().exists(), "no state was begun");
    let over = format!("{command} --start-over");
    mended("without the port", &place, "a\n");
    check("a port in use, and --start-over", &place, &over, 64, &["in use"]);
    assert!(place.state().exists(), "the state was not moved aside");
}

#[test]
fn a_state_folder_that_cannot_be() {
    let place = Place::of(b"a\n");
    let under = "word_count run --listen none --exit-at-end --input {input} --state {input}/state";
    check(
        "under a file",
        &place,
        under,
        64,
        &["state folder {input}/state cannot be written", "--state"],
    );
    check("under a file, check", &place, &under.replace(" run ", " check "), 0, &["new topology"]);
    let file = "word_count run --listen none --exit-at-end --input {input} --state {input}";
    check("a file", &place, file, 64, &["{input}", "--state"]);
    let full = "word_count run --listen none --exit-at-end --input {input} --state {folder}";
    for full in [full, &full.replace(" run ", " check ")] {
        check(
            "a folder of something else",
            &place,
            full,
            64,
            &["{folder} is not empty and holds no state", "--state"],
        );
    }
    assert_eq!(
        fs::read_dir(place.folder.path()).expect("a folder").count(),
        1,
        "nothing was made there"
    );
    let proc = "word_count run --listen none --exit-at-end --input {input} --state /proc/tidemill";
    check("where nobody writes", &place, proc, 64, &["/proc/tidemill cannot be written"]);
    fs::create_dir(place.folder.path().join("out")).expect("a folder");
    for (case, out, part) in [
        ("an output that is a folder", "{folder}/out", "is a folder"),
        ("an output in no folder", "{folder}/none/out", "there is no folder {folder}/none"),
        ("an output that is somebody's", "{input}", "was not written by this topology"),
    ] {
        check(case, &place, &format!("{COUNT} --input {{input}} --out {out}"), 64, &[part]);
    }
    assert_eq!(
        fs::read_to_string(place.input()).expect("it is there"),
        "a\n",
        "the input is as it was"
    );
}

#[test]
fn a_file_that_changed_under_its_position() {
    type Change = fn(&Path);
    let cases: [(&str, Change, &[&str]); 4] = [
        (
            "shrunk",
            |input| fs::write(input, "a b\n").expect("written"),
            &["go on at byte 12", "only 4 bytes", "--start-over"],
        ),
        (
            "changed",
            |input| fs::write(input, "a b\nc x\ne f\ng\n").expect("written"),
            &["before byte 12", "was changed or replaced"],
        ),
        (
            "emptied",
            |input| fs::write(input, "").expect("written"),
            &["go on at byte 12", "only 0 bytes"],
        ),
        (
            "compressed",
            |input| {
                fs::copy(edits::file(), input).expect("copied");
            },
            &["was changed or replaced"],
        ),
    ];
    for (case, change, parts) in cases {
        let place = Place::of(b"a b\nc d\ne f\n");
        // A second file, so that the glob goes on matching when the first is gone.
        fs::write(place.folder.path().join("second.txt"), "z\n").expect("it can be written");
        let command = format!("{COUNT} --input {{folder}}/*.txt");
        check(case, &place, &command, 0, &[]);
        change(&place.input());
        check(case, &place, &command, 67, &[&["{input}", "sentences"], parts].concat());
        check(&format!("{case}, check"), &place, &command.replace(" run ", " check "), 67, parts);
        // Nothing of it was counted, and with the file restored it goes on.
        fs::write(place.input(), "a b\nc d\ne f\ng\n").expect("it can be written");
        check(case, &place, &command, 0, &["go on after batch 1"]);
        counts_are(case, &place.state(), &recount(["a b c d e f g z"]));
    }
}

#[test]
fn a_file_that_was_read_to_its_end_may_be_removed() {
    let place = Place::of(b"a b\n");
    fs::write(place.folder.path().join("second.txt"), "z\n").expect("it can be written");
    let command = format!("{COUNT} --input {{folder}}/*.txt");
    check("before", &place, &command, 0, &[]);
    fs::remove_file(place.input()).expect("removed");
    check(
        "removed",
        &place,
        &command,
        0,
        &["{input}: is gone, and was read to its end, byte 4: it is forgotten"],
    );
    counts_are("removed", &place.state(), &recount(["a b z"]));
}

#[test]
fn a_file_that_is_cut_while_it_is_followed() {
    let place = Place::of(b"a b\nc d\n");
    let arguments = [
        "run",
        "--state",
        text(&place.state()),
        "--input",
        text(&place.input()),
        "--follow",
        "--listen",
        "none",
    ]
    .map(str::to_string);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut following = Running::start("word_count", &arguments);
    following.says("first commit");
    fs::write(place.input(), "a\n").expect("it can be written");
    following.wait().is(
        "cut",
        67,
        &["was cut or overwritten while it was read", text(&place.input()), "--start-over"],
    );
}

/// A record that becomes what it says only as long as it is not cursed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
struct Cursed(u64);

impl Serialize for Cursed {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            13 => Err(serde::ser::Error::custom("the curse of 13")),
            number => to.serialize_u64(number),
        }
    }
}

/// Feeds good records, a cursed one, and good ones again, to a topology whose state or sink cannot
/// take the cursed.
fn cursed(
    case: &str,
    parts: &[&str],
    build: impl Fn(&Topology<'_>, &tidemill::testing::Io, bool) + Copy + Send + Sync + 'static,
) {
    let mut kit = Kit::new(move |topology, io| build(topology, io, true));
    kit.feed("in", [1u64, 2, 2]);
    kit.step();
    kit.feed("in", [2u64, 13, 1]);
    let error = kit.try_step().expect_err(case);
    assert_eq!(error.kind(), Kind::UserCode, "{case}: {error}");
    for part in parts {
        assert!(error.to_string().contains(part), "{case}: {part:?} is not in: {error}");
    }
    let again = kit.try_restart().and_then(|()| kit.try_step()).expect_err(case);
    assert_eq!(again.kind(), Kind::UserCode, "{case}: {again}");
    // The program is mended: it passes over what cannot be written.
    kit.change_program(move |topology, io| build(topology, io, false));
    kit.restart();
    kit.step();
    let counts: std::collections::BTreeMap<u64, u64> = kit.state("counts");
    assert_eq!(counts, [(1, 2), (2, 3)].into(), "{case}: everything but the cursed record, once");
}

#[test]
fn keys_values_and_records_that_cannot_be_serialized() {
    cursed("a key", &["counts", "the curse of 13", "batch 2"], |topology, io, cursed| {
        let numbers = topology
            .source("in", io.source::<u64>("in"))
            .filter(move |number| cursed || *number != 13);
        numbers.clone().group_by(|number: &u64| *number).persistent_aggregate("plain", Count);
        numbers.group_by(|number: &u64| Cursed(*number)).persistent_aggregate("counts", Count);
    });
    cursed("a value", &["greatest", "the curse of 13", "batch 2"], |topology, io, cursed| {
        let numbers = topology
            .source("in", io.source::<u64>("in"))
            .filter(move |number| cursed || *number != 13);
        numbers.clone().group_by(|number: &u64| *number).persistent_aggregate("counts", Count);
        numbers
            .group_by(|_: &u64| 0u64)
            .persistent_aggregate("greatest", of(|number: &u64| Cursed(*number), Max));
    });
    cursed(
        "a record for a sink",
        &["out", "the curse of 13", "batch 2"],
        |topology, io, cursed| {
            let numbers = topology
                .source("in", io.source::<u64>("in"))
                .filter(move |number| cursed || *number != 13);
            numbers.clone().group_by(|number: &u64| *number).persistent_aggregate("counts", Count);
            numbers.map(Cursed).sink("out", io.sink::<Cursed>("out"));
        },
    );
}

/// A small file system of a test's own, in memory. None, with the reason printed, where it may not
/// be mounted.
struct SmallDisk {
    at: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(megabytes: u32) -> Option<SmallDisk> {
        let at = folder();
        let size = format!("size={megabytes}m");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tidemill", text(at.path())])
            .output();
        match mounted {
            Ok(mounted) if mounted.status.success() => Some(SmallDisk { at }),
            Ok(mounted) => {
                println!(
                    "skipped: a tmpfs cannot be mounted here: {}",
                    String::from_utf8_lossy(&mounted.stderr).trim()
                );
                None
            }
            Err(why) => {
                println!("skipped: there is no mount here: {why}");
                None
            }
        }
    }

    /// Takes all but so many bytes.
    fn fill_up(&self, leave: u64) -> PathBuf {
        let ballast = self.at.path().join("ballast");
        let free = tidemill_free(self.at.path());
        fs::write(&ballast, vec![1u8; usize::try_from(free.saturating_sub(leave)).expect("small")])
            .expect("it fits");
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.at.path()).status();
    }
}

fn tidemill_free(at: &Path) -> u64 {
    let said = std::process::Command::new("df")
        .args(["-B1", "--output=avail", text(at)])
        .output()
        .expect("df is there");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    said.lines().nth(1).and_then(|bytes| bytes.trim().parse().ok()).expect("a number of bytes")
}

/// So many lines of words that are all different, from the `first` on.
fn different_words(first: u64, lines: u64) -> String {
    (first..first + lines)
        .map(|line| (0..8).map(|word| format!("word-{line}-{word} ")).collect::<String>() + "\n")
        .collect()
}

fn append(to: &Path, text: &str) {
    let mut file = fs::OpenOptions::new().append(true).open(to).expect("it is there");
    std::io::Write::write_all(&mut file, text.as_bytes()).expect("it can be written");
}

#[test]
fn below_the_reserve_the_sources_wait_and_go_on_by_themselves() {
    let Some(disk) = SmallDisk::mount(64) else { return };
    let state = disk.at.path().join("state");
    let place = Place::of(b"");
    let input = place.input();
    let mut whole = different_words(0, 100);
    fs::write(&input, &whole).expect("it can be written");
    let arguments = [
        "run",
        "--state",
        text(&state),
        "--input",
        text(&input),
        "--follow",
        "--listen",
        "127.0.0.1:0",
        "--disk-reserve",
    ];
    let mut running = Running::start("word_count", &[&arguments[..], &["32MiB"]].concat());
    running.get_until("/v1/status", |status| status["records"] == 100);
    let ballast = disk.fill_up(16 << 20);
    let waiting = running.get_until("/v1/status", |status| status["waiting"].is_string());
    let why = waiting["waiting"].as_str().expect("a text");
    for part in ["disk full", "waiting at committed txid", "nothing lost", text(&state)] {
        assert!(why.contains(part), "{part:?} is not in: {why}");
    }
    let told = run("word_count", &["status", "--at", &running.url()]);
    told.is("status", 0, &["disk full", "nothing lost"]);
    running.says("disk full");
    let more = different_words(100, 100);
    append(&input, &more);
    whole += &more;
    std::thread::sleep(Duration::from_millis(500));
    let (_, status) = running.get("/v1/status");
    assert!(status["records"].as_u64() < Some(200), "the sources wait: {status}");
    assert_eq!(
        running.get("/v1/state/counts/word-1-1").1["value"],
        1,
        "values are answered meanwhile"
    );
    fs::remove_file(ballast).expect("it is there");
    running
        .get_until("/v1/status", |status| status["records"] == 200 && status["waiting"].is_null());
    running.says("there is disk space again");
    running.signal("TERM");
    running.wait().is("a clean stop", 0, &["stopped after batch"]);
    counts_are("after the disk was full", &state, &recount([whole.as_str()]));
}

#[test]
fn a_write_that_fails_ends_the_run_and_the_next_start_goes_on() {
    let whole = different_words(0, 40_000);
    // The write that fails is a commit's, or a fold's.
    for fold_bytes in ["48MiB", "300KB"] {
        let Some(disk) = SmallDisk::mount(64) else { return };
        let state = disk.at.path().join("state");
        let place = Place::of(whole.as_bytes());
        let input = place.input();
        let arguments = [
            "run",
            "--state",
            text(&state),
            "--input",
            text(&input),
            "--listen",
            "none",
            "--exit-at-end",
        ];
        let small =
            ["--disk-reserve", "0", "--max-batch-records", "1000", "--fold-bytes", fold_bytes];
        let arguments = [&arguments[..], &small].concat();
        fs::create_dir(&state).expect("a folder");
        let ballast = disk.fill_up(3 << 20);
        let failed = run("word_count", &arguments);
        failed.is(
            "a full disk",
            75,
            &[
                "first commit: batch 1",
                "No space left",
                "othing is lost",
                "start again",
                text(&state),
            ],
        );
        run("word_count", &arguments).is("it is still full", 75, &["No space left", text(&state)]);
        fs::remove_file(ballast).expect("it is there");
        run("word_count", &arguments).is("after space was freed", 0, &["go on after batch"]);
        counts_are("after a write failed", &state, &recount([whole.as_str()]));
    }
}

#[test]
fn a_fold_that_finds_no_room_is_put_off_and_the_sources_wait() {
    let Some(disk) = SmallDisk::mount(96) else { return };
    let state = disk.at.path().join("state");
    let place = Place::of(different_words(0, 400).as_bytes());
    let input = place.input();
    let once = [
        "run",
        "--state",
        text(&state),
        "--input",
        text(&input),
        "--listen",
        "none",
        "--exit-at-end",
    ];
    run("word_count", &[&once[..], &["--disk-reserve", "0"]].concat()).is(
        "the first run",
        0,
        &["stopped after batch 1"],
    );
    // As a kill within a fold leaves it.
    let leftover = state.join("fold.sst");
    fs::write(&leftover, vec![1; 3 << 20]).expect("it can be written");
    // More is free than the reserve that is set, and less than a fold and a flush may need.
    let ballast = disk.fill_up(12 << 20);
    let arguments = [
        "run",
        "--state",
        text(&state),
        "--input",
        text(&input),
        "--follow",
        "--listen",
        "127.0.0.1:0",
    ];
    let mut running = Running::start(
        "word_count",
        &[&arguments[..], &["--disk-reserve", "1MiB", "--fold-bytes", "4KB"]].concat(),
    );
    running.says("the log is not folded now");
    assert!(!leftover.exists(), "it takes room");
    let said = running.says("disk full");
    for part in ["a fold may need", "free some space", text(&state)] {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
    let (_, status) = running.get("/v1/status");
    assert!(status["unfolded_bytes"].as_u64() > Some(4000), "it is not folded: {status}");
    fs::remove_file(ballast).expect("it is there");
    append(&input, &different_words(400, 100));
    running.get_until("/v1/status", |status| {
        status["records"] == 100
            && status["unfolded_bytes"].as_u64().is_some_and(|bytes| bytes < 4000)
    });
    running.says("the log is folded again");
    running.signal("TERM");
    running.wait().is("a clean stop", 0, &["stopped after batch"]);
    counts_are("after a fold found no room", &state, &recount([different_words(0, 500).as_str()]));
}

#[test]
fn a_sink_whose_disk_is_full_is_tried_again_and_gets_all_of_it_once() {
    let Some(disk) = SmallDisk::mount(16) else { return };
    let out = disk.at.path().join("out.jsonl");
    let place = Place::of(different_words(0, 10).as_bytes());
    let (state, input) = (place.state(), place.input());
    let arguments = [
        "run",
        "--state",
        text(&state),
        "--input",
        text(&input),
        "--follow",
        "--listen",
        "127.0.0.1:0",
        "--out",
    ];
    let small = [text(&out), "--outbox-bytes", "200KB", "--max-batch-records", "500"];
    let mut running = Running::start("word_count", &[&arguments[..], &small].concat());
    running.get_until("/v1/status", |status| status["sinks"][0]["published"] == 1);
    let ballast = disk.fill_up(64 << 10);
    append(&input, &different_words(10, 20_000));
    let waiting = running.get_until("/v1/status", |status| status["waiting"].is_string());
    for part in ["outbox holds", "sources wait", "nothing is lost"] {
        assert!(
            waiting["waiting"].as_str().is_some_and(|why| why.contains(part)),
            "{part:?} is not in: {waiting}"
        );
    }
    let error = running.get_until("/v1/status", |status| status["sinks"][0]["error"].is_string());
    assert!(
        error["sinks"][0]["error"].as_str().is_some_and(|why| why.contains("No space left")),
        "{error}"
    );
    assert_eq!(
        running.get("/v1/state/counts/word-11-0").1["value"],
        1,
        "what is committed is answered"
    );
    fs::remove_file(ballast).expect("it is there");
    running.get_until("/v1/status", |status| {
        status["records"] == 20_010 && status["sinks"][0]["backlog_bytes"] == 0
    });
    running.signal("TERM");
    running.wait().is("a clean stop", 0, &["stopped after batch"]);
    let whole = recount([different_words(0, 20_010).as_str()]);
    counts_are("after the sink's disk was full", &state, &whole);
    assert_eq!(binary::newest_in(&out), whole);
}
