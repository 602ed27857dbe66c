//! The command line as it is typed: variables, arguments, names from outside, and what is asked of
//! a topology that runs.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::mpsc;
use tidemill_harness::binary::{Running, folder, run, tidemill};

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A file of words in a folder.
fn input(folder: &Path, name: &str, words: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, words).expect("it can be written");
    text(&path).to_string()
}

#[test]
fn variables_that_nobody_reads_are_refused() {
    let folder = folder();
    let state = folder.path().join("state");
    let input = input(folder.path(), "in.txt", "a\n");
    let counting =
        ["run", "--state", text(&state), "--input", &input, "--listen", "none", "--exit-at-end"];
    let check = |arguments: &[&str], name: &str, value: &str, parts: &[&str]| {
        let case = format!("{name}={value} {}", arguments.join(" "));
        Running::start_with("word_count", arguments, &[(name, value)]).wait().is(&case, 64, parts);
        assert!(!state.exists(), "{case}: a refused start makes nothing");
    };
    check(&counting, "TIDEMILL_WORKRES", "3", &["TIDEMILL_WORKRES is unknown", "TIDEMILL_WORKERS"]);
    check(&["plan"], "TIDEMILL_STAET", "x", &["TIDEMILL_STAET is unknown", "TIDEMILL_STATE"]);
    check(
        &counting,
        "TIDEMILL_ON_LOSS",
        "latest",
        &["TIDEMILL_ON_LOSS", "one start", "give --on-loss as an argument"],
    );
    check(
        &counting,
        "TIDEMILL_SINK_ASSUME",
        "lost",
        &["TIDEMILL_SINK_ASSUME", "give --sink-assume as an argument"],
    );
    check(
        &counting,
        "TIDEMILL_WORKERS",
        "abc",
        &["'abc' for '--workers <N>'", "note: the value is that of", "TIDEMILL_WORKERS"],
    );
    let wrong = ["status", "--at", "127.0.0.1:1"];
    tidemill(&wrong, folder.path(), &[("TIDEMILL_WORKRES", "3")]).is(
        "status",
        64,
        &["TIDEMILL_WORKERS"],
    );
    // What others read, and what a topology reads, hinders no other command.
    let fine = [
        ("TIDEMILL_TEST_SEED", "1"),
        ("TIDEMILL_LONG", "0"),
        ("TIDEMILL_WORKERS", "2"),
        ("TIDEMILL_RETRIES", "1"),
    ];
    tidemill(&wrong, folder.path(), &fine).is("status", 75, &["127.0.0.1:1"]);
    Running::start_with("word_count", &counting, &fine).wait().is(
        "run",
        0,
        &["stopped after batch 1"],
    );
    Running::start_with("word_count", &["--help"], &[("TIDEMILL_WORKRES", "3")]).wait().is(
        "help",
        0,
        &["Usage"],
    );
}

#[test]
fn decisions_about_one_start_and_settings_that_cannot_work_are_refused() {
    let folder = folder();
    let state = folder.path().join("state");
    let input = input(folder.path(), "in.txt", "a\n");
    let file = folder.path().join("settings.toml");
    let check = |case: &str, more: &[&str], parts: &[&str]| {
        let arguments = [
            &[
                "run",
                "--state",
                text(&state),
                "--input",
                &input,
                "--listen",
                "none",
                "--exit-at-end",
            ],
            more,
        ]
        .concat();
        run("word_count", &arguments).is(case, 64, parts);
        assert!(!state.exists(), "{case}: a refused start makes nothing");
    };
    for (line, name) in
        [("on_loss = \"latest\"", "on_loss"), ("sink_assume = \"lost\"", "sink_assume")]
    {
        fs::write(&file, line).expect("it can be written");
        check(
            line,
            &["--config", text(&file)],
            &[name, "one start", "as an argument", "settings.toml"],
        );
    }
    for (argument, value) in [
        ("--query-time-out", "0s"),
        ("--queries-running", "0"),
        ("--request-bytes", "0"),
        ("--max-batch-delay", "5000000000000000h"),
        ("--drain", "5000000000000000h"),
        ("--query-time-out", "5000000000000000h"),
        ("--max-batches-in-flight", "18446744073709551615"),
    ] {
        check(&format!("{argument} {value}"), &[argument, value], &[argument]);
    }
    check("--name", &["--name", "a\nb"], &["name has control characters"]);
}

#[test]
fn a_word_that_is_a_number_is_asked_for_as_a_text() {
    let folder = folder();
    let state = folder.path().join("state");
    let input = input(folder.path(), "in.txt", "1984 1984 true null [1] {} the tide\n");
    let mut running = Running::start(
        "word_count",
        &[
            "run",
            "--state",
            text(&state),
            "--input",
            &input,
            "--listen",
            "127.0.0.1:0",
            "--workers",
            "1",
        ],
    );
    running.says("all sources are at their end");
    let url = running.url();
    for (words, count) in [
        ("1984", "2"),
        ("true", "1"),
        ("null", "1"),
        ("[1]", "1"),
        ("{}", "1"),
        ("the tide", "2"),
        ("\"1984\"", "2"),
    ] {
        let asked = tidemill(&["query", "words", words, "--at", &url], folder.path(), &[]);
        assert_eq!((asked.code, asked.out.trim()), (Some(0), count), "{words}: {asked:#?}");
        let asked = run("word_count", &["query", "words", words, "--at", &url]);
        assert_eq!((asked.code, asked.out.trim()), (Some(0), count), "{words}: {asked:#?}");
    }
    tidemill(&["query", "wrods", "1984", "--at", &url], folder.path(), &[]).is(
        "no such query",
        64,
        &["there are: words"],
    );
    // Types are shown by their public names, in all places.
    for arguments in [&["status"][..], &["state", "list"]] {
        let shown = tidemill(&[arguments, &["--at", &url]].concat(), folder.path(), &[]);
        shown.is(&arguments.join(" "), 0, &["Str -> u64"]);
    }
    let (_, queries) = running.get("/v1/queries");
    assert_eq!(queries["queries"][0]["arguments"], "Str", "{queries}");
    let (_, status) = running.get("/v1/status");
    assert_eq!(status["states"][0]["key"], "Str", "{status}");
    // The port of a running topology may be a variable for `state` too.
    let at = |environment: &[(&str, &str)]| {
        Running::start_with("word_count", &["state", "get", "counts", "1984"], environment).wait()
    };
    assert_eq!(at(&[("TIDEMILL_AT", &url)]).is("TIDEMILL_AT", 0, &[]).out.trim(), "2");
    at(&[]).is("nothing", 64, &["TIDEMILL_STATE", "TIDEMILL_AT"]);
    at(&[("TIDEMILL_AT", &url), ("TIDEMILL_STATE", text(&state))]).is(
        "both",
        64,
        &["Both", "--state DIR", "--at URL"],
    );
    running.signal("TERM");
    running.wait().is("the stop", 0, &[]);
    assert_eq!(
        at(&[("TIDEMILL_STATE", text(&state))]).is("TIDEMILL_STATE", 0, &[]).out.trim(),
        "2"
    );
    let listed = run("word_count", &["state", "list", "--state", text(&state)]);
    assert!(
        listed.out.contains("Str -> u64") && !listed.out.contains("CompactString"),
        "{listed:#?}"
    );
}

#[test]
fn a_renamed_program_is_told_its_name() {
    let folder = folder();
    let state = folder.path().join("state");
    let input = input(folder.path(), "in.txt", "a\n");
    let counting =
        ["run", "--state", text(&state), "--input", &input, "--listen", "none", "--exit-at-end"];
    run("word_count", &[&counting[..], &["--name", "k3"]].concat()).is("first", 0, &[]);
    let other = run("word_count", &counting);
    other.is(
        "another name",
        64,
        &["belongs to topology \"k3\", this is \"word_count\"", "--name k3"],
    );
    assert!(!other.err.contains("migration"), "{other:#?}");
    run("word_count", &[&counting[..], &["--name", "k3"]].concat()).is("its own", 0, &[]);
}

#[test]
fn names_from_outside_command_no_terminal() {
    let folder = folder();
    let state = folder.path().join("state");
    let evil = "a\u{1b}[2J\nerror: all is lost\u{9b}31m.txt";
    input(folder.path(), evil, "a \u{9b}2J\n");
    let glob = format!("{}/*.txt", text(folder.path()));
    let mut running = Running::start(
        "word_count",
        &["run", "--state", text(&state), "--input", &glob, "--listen", "127.0.0.1:0"],
    );
    running.says("all sources are at their end");
    let url = running.url();
    let check = |what: &str, printed: &str| {
        let harmful = |line: &str| {
            line.starts_with("error: all is lost")
                || line.contains(|c: char| c.is_control() && c != '\t')
        };
        assert!(!printed.lines().any(harmful), "{what}: {printed:?}");
    };
    for arguments in [
        &["status"][..],
        &["state", "list"],
        &["state", "scan", "counts"],
        &["query", "words", "\u{9b}2J"],
    ] {
        let shown = tidemill(&[arguments, &["--at", &url]].concat(), folder.path(), &[]);
        shown.is(&arguments.join(" "), 0, &[]);
        check(&arguments.join(" "), &shown.out);
        check(&arguments.join(" "), &shown.err);
    }
    running.signal("TERM");
    let ended = running.wait();
    check("run", &ended.err);
    let listed = run("word_count", &["state", "list", "--state", text(&state), "--input", &glob]);
    listed.is("state list", 0, &["error: all is lost"]);
    check("state list", &listed.out);
    let scanned =
        run("word_count", &["state", "scan", "counts", "--state", text(&state), "--input", &glob]);
    scanned.is("state scan", 0, &["\\u009b2J"]);
    check("state scan", &scanned.out);
    // An error that names the file: its content is another.
    fs::write(folder.path().join(evil), "bc\n").expect("it can be written");
    let refused = run(
        "word_count",
        &["run", "--state", text(&state), "--input", &glob, "--listen", "none", "--exit-at-end"],
    );
    refused.is("another file", 67, &["all is lost"]);
    check("another file", &refused.err);
}

/// Answers requests in turn with these bodies, and gives the address and the requests.
fn answers(bodies: Vec<String>) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let (sender, requests) = mpsc::channel();
    std::thread::spawn(move || {
        for body in bodies {
            let Ok((mut connection, _)) = listener.accept() else { return };
            let mut request = Vec::new();
            let mut part = [0; 1024];
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                match connection.read(&mut part) {
                    Ok(read) if read > 0 => request.extend_from_slice(&part[..read]),
                    _ => return,
                }
            }
            let _ = sender.send(String::from_utf8_lossy(&request).into_owned());
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
            let _ = write!(connection, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        }
    });
    (url, requests)
}

#[test]
fn a_scan_over_batches_that_moved_on_does_not_end_well() {
    let page = |txid: u64, moved: bool, key: &str, next: &str| {
        format!(
            "{{\"txid\":{txid},\"lineage\":\"0a\",\"moved_on\":{moved}{next},\"rows\":[{{\"key\":\"{key}\",\"value\":1}}]}}"
        )
    };
    let folder = folder();
    let scan = |second: bool| {
        let (url, requests) = answers(vec![
            page(7, false, "a", ",\"next\":\"a\""),
            page(if second { 9 } else { 7 }, second, "b", ""),
        ]);
        let scanned = tidemill(&["state", "scan", "counts", "--at", &url], folder.path(), &[]);
        let next = requests.iter().nth(1).expect("a second request");
        assert!(next.contains("&at=7&lineage=0a&after=a"), "a batch of one lineage: {next}");
        scanned
    };
    let rows = "{\"key\":\"a\",\"value\":1}\n{\"key\":\"b\",\"value\":1}\n";
    let moved = scan(true);
    moved.is("moved on", 75, &["what follows is of batch 9", "not of one batch", "Scan again"]);
    assert_eq!(moved.out, rows, "what was read is printed");
    assert_eq!(scan(false).is("at one batch", 0, &[]).out, rows);
}
