//! The exit code and the text of each class of errors, at each phase of a process: `docs/errors.md`
//! as tables, by injection.
//!
//! Errors of the operating system are made by `tests/shim/io.c`, which is preloaded, and by real
//! limits. After each of them the same command without it finishes, and every record has counted
//! once.

use super::io_errors::{Place, in_parallel, random_line, text};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;
use tidemill_harness::binary::{Outcome, Running, run};
use tidemill_harness::checkout;

/// The numbers of errors on Linux.
const EIO: &str = "5";
const ENOMEM: &str = "12";
const EACCES: &str = "13";
const ENFILE: &str = "23";
const EMFILE: &str = "24";
const ENOSPC: &str = "28";
const EROFS: &str = "30";
const ESTALE: &str = "116";
const EDQUOT: &str = "122";

/// What the process has before the error.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Before {
    Nothing,
    /// A run to the end of the input that there was: then more came.
    ARun,
}

/// A call that fails, from the `at`th on: its name, and a part of the paths.
struct Row {
    before: Before,
    call: &'static str,
    named: &'static str,
    at: &'static str,
    errno: &'static str,
    code: i32,
    parts: &'static [&'static str],
}

const fn row(before: Before, call: &'static str, named: &'static str, at: &'static str) -> Row {
    Row { before, call, named, at, errno: "", code: 0, parts: &[] }
}

impl Row {
    const fn is(self, errno: &'static str, code: i32, parts: &'static [&'static str]) -> Row {
        Row { errno, code, parts, ..self }
    }
}

const HEALTHY: &str = "make sure that the disk is healthy";
const SPACE: &str = "free some space";

#[expect(clippy::too_many_lines, reason = "one table, a row for each case")]
fn rows() -> Vec<Row> {
    use Before::{ARun, Nothing};
    vec![
        // A start: the folder of the state.
        row(Nothing, "open", "state/lock", "1").is(EACCES, 64, &["cannot be written", "--state"]),
        row(Nothing, "open", "state/lock", "1").is(
            EROFS,
            64,
            &["Read-only file system", "--state"],
        ),
        row(Nothing, "open", "state/lock", "1").is(ENOSPC, 75, &["No space left", SPACE]),
        row(Nothing, "open", "state/lock", "1").is(
            ENFILE,
            75,
            &["Too many open files in system", "fs.file-max"],
        ),
        row(Nothing, "rename", "state/mode", "1").is(EDQUOT, 75, &["uota exceeded", SPACE]),
        row(ARun, "stat", "state/db", "1").is(EIO, 75, &["cannot be looked into", HEALTHY]),
        row(ARun, "stat", "state/db", "1").is(EACCES, 64, &["cannot be looked into", "the right"]),
        row(ARun, "open", "state/mode", "1").is(EIO, 75, &["state/mode cannot be read", HEALTHY]),
        row(ARun, "open", "state/mode", "1").is(
            EACCES,
            64,
            &["state/mode cannot be read", "the right"],
        ),
        // A start: RocksDB.
        row(Nothing, "open", "db.new", "1").is(EIO, 75, &["Input/output error", HEALTHY]),
        row(ARun, "open", "state/db", "1").is(EMFILE, 75, &["Too many open files", "ulimit -n"]),
        row(ARun, "open", "MANIFEST", "1").is(EMFILE, 75, &["Too many open files", "ulimit -n"]),
        row(ARun, "open", "MANIFEST", "1").is(EACCES, 64, &["Permission denied", "the right"]),
        row(ARun, "open", ".sst", "1").is(EIO, 75, &["Input/output error", HEALTHY]),
        row(ARun, "open", ".sst", "1").is(ENOMEM, 75, &["Cannot allocate memory", "memory"]),
        row(ARun, "read", ".sst", "1").is(EIO, 75, &["Input/output error", HEALTHY]),
        row(ARun, "open", "CURRENT", "1").is(ESTALE, 75, &["Stale file handle", HEALTHY]),
        // A start: the input. One that was read is not taken for gone.
        row(Nothing, "open", "input.txt", "1").is(
            EMFILE,
            75,
            &["input.txt", "Too many open files", "ulimit -n"],
        ),
        row(Nothing, "open", "input.txt", "1").is(EACCES, 64, &["input.txt", "Permission denied"]),
        row(ARun, "stat", "input.txt", "1").is(EIO, 75, &["input.txt", HEALTHY]),
        row(ARun, "stat", "input.txt", "1").is(EACCES, 64, &["input.txt", "the right"]),
        row(ARun, "open", "input.txt", "1").is(EMFILE, 75, &["input.txt", "ulimit -n"]),
        // A start: the output.
        row(ARun, "open", "out.jsonl.marker", "1").is(EIO, 75, &["out.jsonl.marker", HEALTHY]),
        row(ARun, "open", "out.jsonl.marker", "1").is(
            EACCES,
            64,
            &["out.jsonl.marker", "the right"],
        ),
        // A run.
        row(Nothing, "read", "input.txt", "2").is(
            EIO,
            75,
            &["input.txt", "nothing is lost", HEALTHY],
        ),
        row(Nothing, "fdatasync", ".log", "9").is(EIO, 75, &["nothing is lost", HEALTHY]),
        row(Nothing, "fdatasync", ".log", "9").is(EDQUOT, 75, &["nothing is lost", SPACE]),
        row(Nothing, "fdatasync", ".log", "9").is(EROFS, 64, &["nothing is lost", "for writing"]),
        row(Nothing, "rename", "out.jsonl.marker", "3").is(
            EROFS,
            64,
            &["nothing is lost", "for writing"],
        ),
        row(Nothing, "unlink", "fold.sst", "1").is(
            EROFS,
            64,
            &["fold.sst", "nothing is lost", "for writing"],
        ),
        row(Nothing, "unlink", "fold.sst", "1").is(
            EACCES,
            64,
            &["fold.sst", "nothing is lost", "the right"],
        ),
        row(Nothing, "unlink", "fold.sst", "1").is(EIO, 0, &["nothing is lost", HEALTHY]),
        // A stop.
        row(ARun, "rename", "state/mode", "2").is(EIO, 75, &["cannot be written", HEALTHY]),
        row(ARun, "rename", "state/mode", "2").is(EROFS, 64, &["cannot be written", "--state"]),
    ]
}

#[test]
fn i1_each_error_of_the_system_has_its_exit_code_in_each_phase_and_loses_nothing() {
    in_parallel(&rows(), |row| {
        let Row { before, call, named, at, errno, code, parts } = row;
        let case = format!("{before:?}, then {call} number {at} of {named} fails with {errno}");
        let mut place = Place::new();
        if *before == Before::ARun {
            place.run(&[]).is(&case, 0, &[]);
            more_input(&mut place);
        }
        let set = [
            ("IO_CALL", *call),
            ("IO_NAMED", *named),
            ("IO_AT", *at),
            ("IO_TIMES", "1000000"),
            ("IO_ERRNO", *errno),
        ];
        let failed = place.run_with(&["--drain", "2s"], &set);
        failed.is(&case, *code, parts);
        for never in ["panicked", "is damaged", "--start-over"] {
            assert!(!failed.err.contains(never), "{case}: {never:?} is in {failed:#?}");
        }
        place.run(&[]).is(&format!("{case}, and without it"), 0, &[]);
        place.is_exact(&case);
    });
}

/// Appends to the input.
fn more_input(place: &mut Place) {
    let more: String = (300..320).map(random_line).collect();
    let file = std::fs::File::options().append(true).open(place.folder.path().join("input.txt"));
    file.expect("it is there").write_all(more.as_bytes()).expect("it can be written");
    place.input += &more;
}

#[test]
fn i1_a_file_that_may_be_the_rest_of_one_that_is_gone_is_not_taken_for_another_while_it_cannot_be_read()
 {
    for (call, errno, part) in [("open", EMFILE, "ulimit -n"), ("read", EIO, HEALTHY)] {
        let place = Place::new();
        let folder = place.folder.path();
        let both = ["--input", &format!("{}/input*", folder.display())].map(str::to_string);
        let command = |case: &str, set: &[(&str, &str)], code: i32, parts: &[&str]| {
            let mut arguments = place.arguments("run", &["--exit-at-end"]);
            let given = arguments.iter().position(|word| word == "--input").expect("it is given");
            arguments.splice(given..given + 2, both.iter().cloned());
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            Running::start_with("word_count", &arguments, &place.preloaded(set))
                .wait()
                .is(case, code, parts);
        };
        command("the first run", &[], 0, &[]);
        std::fs::copy(folder.join("input.txt"), folder.join("input-copy.txt")).expect("copied");
        std::fs::remove_file(folder.join("input.txt")).expect("removed");
        let set = [
            ("IO_CALL", call),
            ("IO_NAMED", "input-copy"),
            ("IO_AT", "1"),
            ("IO_TIMES", "1000"),
            ("IO_ERRNO", errno),
        ];
        command("the copy cannot be read", &set, 75, &["input-copy.txt", part]);
        command("the copy can be read", &[], 0, &["has what was read of it"]);
        place.is_exact(call);
    }
}

/// A command under a limit of the shell's.
fn limited(limit: &str, program: &str, arguments: &[String]) -> Outcome {
    let program = checkout::program(program);
    let script = format!("ulimit {limit}; exec \"$0\" \"$@\"");
    Running::of(
        Command::new("sh")
            .args(["-c", &script])
            .arg(program)
            .args(arguments)
            .current_dir(checkout::root()),
    )
    .wait()
}

#[test]
fn real_limits_are_errors_with_a_text_that_names_them() {
    let place = Place::new();
    place.run(&[]).is("a run", 0, &[]);
    let few = limited("-n 8", "examples/word_count", &place.arguments("check", &[]));
    few.is("8 open files", 75, &["Too many open files", "ulimit -n"]);
    assert!(!few.err.contains("--start-over"), "{few:#?}");
    // A soft limit is raised by the command itself, and a low hard one is named.
    let soft = limited("-S -n 8", "examples/word_count", &place.arguments("check", &[]));
    soft.is("8 open files, of more that there may be", 0, &["go on after batch"]);
    let low = limited("-n 300", "examples/word_count", &place.arguments("run", &["--exit-at-end"]));
    low.is("300 open files", 0, &["this process may have 300 files open"]);
    // The files of the store grow beyond 16 blocks, and no signal ends the process.
    let fresh = Place::new();
    let large =
        limited("-f 16", "examples/word_count", &fresh.arguments("run", &["--exit-at-end"]));
    large.is("a small limit of files", 64, &["File too large", "ulimit -f"]);
    fresh.run(&[]).is("without the limit", 0, &[]);
    fresh.is_exact("a small limit of files");
}

/// Runs a program, of whose output nobody reads a byte.
fn unread(program: &str, arguments: &[&str], and_errors: bool) -> (Option<i32>, String) {
    let mut command = Command::new(checkout::program(program));
    command
        .args(arguments)
        .current_dir(checkout::root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.env_remove("RUST_BACKTRACE");
    let mut child = command.spawn().expect("it can be started");
    drop(child.stdout.take());
    let mut said = String::new();
    match child.stderr.take() {
        Some(errors) if and_errors => drop(errors),
        errors => drop(errors.expect("it is piped").read_to_string(&mut said)),
    }
    (child.wait().expect("it ends").code(), said)
}

#[test]
fn a_closed_pipe_ends_a_command_quietly() {
    let place = Place { has_sink: false, ..Place::new() };
    place.run(&[]).is("a run", 0, &[]);
    let state = place.state();
    let (state, input) = (text(&state), place.folder.path().join("input.txt"));
    let of_state = ["--state", state, "--input", text(&input)];
    let commands: [(&str, &[&str], i32); 7] = [
        ("examples/word_count", &["--help"], 0),
        ("examples/word_count", &["plan"], 0),
        ("examples/word_count", &[&["check"], &of_state[..]].concat(), 0),
        ("examples/word_count", &["state", "list", "--state", state], 0),
        ("examples/word_count", &["state", "scan", "counts", "--state", state], 0),
        ("examples/word_count", &["state", "get", "counts", "w0", "--state", state], 0),
        ("examples/word_count", &["state", "get", "counts", "not there", "--state", state], 1),
    ];
    for (program, arguments, code) in commands {
        let (ended, said) = unread(program, arguments, false);
        assert_eq!(ended, Some(code), "{arguments:?}: {said}");
        assert!(!said.contains("panicked") && !said.contains("pipe"), "{arguments:?}: {said}");
        assert_eq!(
            unread(program, arguments, true).0,
            Some(code),
            "{arguments:?}, and nobody reads its errors"
        );
    }
    assert_eq!(
        unread("examples/word_count", &["--wrong"], true).0,
        Some(64),
        "an error that nobody reads has its code"
    );
    // What a run prints and logs may be unread: it goes on to its end.
    let edits = ["run", "--state", &format!("{state}-edits"), "--listen", "none", "--exit-at-end"];
    let (ended, said) = unread("examples/wiki_edits", &edits, false);
    assert_eq!(ended, Some(0), "{said}");
    assert!(said.contains("stopped after batch") && !said.contains("panicked"), "{said}");
    let again = ["run", "--state", &format!("{state}-unread"), "--listen", "none", "--exit-at-end"];
    assert_eq!(
        unread("examples/wiki_edits", &again, true).0,
        Some(0),
        "nobody reads its log either"
    );
}

#[test]
fn wrong_arguments_are_64_for_every_command() {
    for (program, arguments) in [
        ("examples/word_count", &["run", "--wrong"][..]),
        ("examples/word_count", &["wrong"]),
        ("examples/word_count", &[]),
        ("tidemill", &["wrong"]),
        ("tidemill", &["query"]),
        ("tidemill", &[]),
    ] {
        let outcome = Running::of(Command::new(checkout::program(program)).args(arguments)).wait();
        outcome.is(&format!("{program} {arguments:?}"), 64, &["Usage"]);
    }
}

/// Answers one request with this after a pause; returns its address.
fn stub(status: &'static str, body: &'static str, after: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound").to_string();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("it is asked");
        read_request(&mut stream);
        std::thread::sleep(after);
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: \
             {length}\r\n\r\n{body}"
        );
        stream.write_all(answer.as_bytes()).expect("it is read");
    });
    address
}

/// Reads a request with its body: of these, all have one.
fn read_request(stream: &mut TcpStream) {
    let mut request = Vec::new();
    let is_whole = |request: &[u8]| {
        let text = String::from_utf8_lossy(request).to_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .expect("it has a body");
        body.len() >= length.parse().expect("a number")
    };
    while !is_whole(&request) {
        let mut bytes = [0; 1024];
        let read = stream.read(&mut bytes).expect("it is sent");
        assert!(read > 0, "a request is cut off");
        request.extend_from_slice(&bytes[..read]);
    }
}

#[test]
fn a_command_that_asks_a_topology_has_the_code_of_what_it_is_answered() {
    let asked = |at: &str| run("word_count", &["query", "words", "tide", "--at", at]);
    for (status, body, code) in [
        ("200 OK", r#"{"txid": 1, "lineage": "l", "result": 7}"#, 0),
        (
            "500 Internal",
            r#"{"error": {"kind": "user_code", "what": "it panicked", "where": "here", "do": "mend it"}}"#,
            69,
        ),
        (
            "500 Internal",
            r#"{"error": {"kind": "bug", "what": "a fault", "where": "here", "do": "report it"}}"#,
            70,
        ),
        (
            "429 Too Many",
            r#"{"error": {"kind": "try_again", "what": "too many", "where": "here", "do": "later"}}"#,
            75,
        ),
        (
            "504 Time",
            r#"{"error": {"kind": "try_again", "what": "too long", "where": "here", "do": "ask for less"}}"#,
            75,
        ),
        (
            "404 None",
            r#"{"error": {"kind": "config", "what": "no such query", "where": "here", "do": "ask another"}}"#,
            64,
        ),
    ] {
        let outcome = asked(&stub(status, body, Duration::ZERO));
        assert_eq!(outcome.code, Some(code), "{status} {body}: {outcome:#?}");
    }
    // Longer than a connection may take.
    let slow =
        stub("200 OK", r#"{"txid": 1, "lineage": "l", "result": 7}"#, Duration::from_secs(12));
    let outcome = asked(&slow);
    outcome.is("a slow answer", 0, &["7"]);
    let free = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port")
        .to_string();
    asked(&free).is("nobody there", 75, &["no topology answers"]);
}
