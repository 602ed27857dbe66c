//! The examples with code of their own below the topology, as their users run them:
//! `custom_source`, `custom_sink`, `external_state`, `join`, `migration`. The unit tests of the
//! first two run here too: the examples are modules of this binary, so that they need none of their
//! own.

#[allow(dead_code, reason = "its main function runs as a process")]
#[path = "../../examples/custom_sink.rs"]
mod custom_sink;
#[allow(dead_code, reason = "its main function runs as a process")]
#[path = "../../examples/custom_source.rs"]
mod custom_source;

use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::path::Path;
use tidemill_harness::binary::{Running, folder, newest_in, recount, run, scan, texts};
use tidemill_harness::{checkout, edits};

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Kills an example twice on its way through its input, which has about 1,900 batches, and then
/// runs it to its end. Its commits are not synced: a killed process loses none of them, and the
/// disk of a slow machine is left alone.
fn kill_twice_and_finish(program: &str, arguments: &[&str]) {
    let arguments = &[arguments, &["--durability", "process"]].concat();
    for batches in [20, 300] {
        let mut running =
            Running::start(program, &[arguments, &["--listen", "127.0.0.1:0"][..]].concat());
        let reached = |status: &Json| {
            status["committed"].as_u64() >= Some(batches) || status["sources_at_end"] == true
        };
        let status = running.get_until("/v1/status", reached);
        running.kill();
        println!("{program}: killed after batch {}", status["committed"]);
    }
    let rest = run(program, &[arguments, &["--listen", "none", "--exit-at-end"][..]].concat());
    rest.is("the rest", 0, &["go on after batch"]);
    let again = run(program, &[arguments, &["--listen", "none", "--exit-at-end"][..]].concat());
    again.is("again", 0, &["0 records in 0 batches"]);
}

fn counts_of<K: Ord>(keys: impl Iterator<Item = K>) -> BTreeMap<K, u64> {
    let mut counts = BTreeMap::new();
    for key in keys {
        *counts.entry(key).or_default() += 1;
    }
    counts
}

#[test]
fn custom_source_gives_each_paragraph_once_also_when_it_is_killed() {
    let folder = folder();
    let state = folder.path().join("state");
    kill_twice_and_finish(
        "custom_source",
        &["run", "--state", text(&state), "--max-batch-records", "1"],
    );

    // An independent recount: the numbers of words between two empty lines.
    let mut lengths = vec![0];
    for line in texts().lines() {
        match line.split_whitespace().count() {
            0 => lengths.push(0),
            words => *lengths.last_mut().expect("there is one") += words,
        }
    }
    let expected = counts_of(
        lengths.into_iter().filter(|words| *words > 0).map(|words| (words / 10 * 10).to_string()),
    );
    assert_eq!(
        scan("custom_source", "lengths", &state).into_iter().collect::<BTreeMap<_, _>>(),
        expected
    );
    assert_eq!(scan("custom_source", "words", &state), [("null".to_owned(), 26_457 + 22_960)]);
}

#[test]
fn custom_source_refuses_a_file_that_has_changed() {
    let folder = folder();
    let (state, input) = (folder.path().join("state"), folder.path().join("texts"));
    std::fs::create_dir(&input).expect("it can be made");
    std::fs::write(input.join("a.txt"), "one\n\ntwo\n").expect("it can be written");
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
    run("custom_source", &arguments).is("run", 0, &["2 records"]);
    std::fs::write(input.join("a.txt"), "ten\n\ntwo\n").expect("it can be written");
    run("custom_source", &arguments).is(
        "changed",
        67,
        &["a.txt: its content has changed; put the file back"],
    );
}

#[test]
fn custom_sink_holds_each_row_once_also_when_it_is_killed() {
    let folder = folder();
    let (state, out) = (folder.path().join("state"), folder.path().join("words.db"));
    let arguments =
        ["run", "--state", text(&state), "--out", text(&out), "--max-batch-records", "4"];
    kill_twice_and_finish("custom_sink", &arguments);

    let database = rusqlite::Connection::open(&out).expect("it opens");
    let mut rows =
        database.prepare("SELECT record FROM counts ORDER BY rowid").expect("it is a query");
    let rows = rows.query_map([], |row| row.get::<_, String>(0)).expect("it can be read");
    let lines: String = rows.map(|record| record.expect("a text") + "\n").collect();
    // A row that comes twice is found there: its count is not above the one before.
    let copy = folder.path().join("rows.jsonl");
    std::fs::write(&copy, lines).expect("it can be written");
    assert_eq!(newest_in(&copy), recount([texts().as_str()]));
    let columns =
        database.query_row("SELECT word, max(count) FROM counts WHERE word = 'Alice'", [], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, u32>(1)?))
        });
    let (word, count) = columns.expect("a row");
    assert_eq!((word.as_str(), u64::from(count)), ("Alice", recount([texts().as_str()])["Alice"]));
}

#[test]
fn custom_sink_creates_nothing_when_it_is_only_looked_at() {
    let folder = folder();
    let (state, out) = (folder.path().join("state"), folder.path().join("words.db"));
    let checked = run("custom_sink", &["check", "--state", text(&state), "--out", text(&out)]);
    checked.is("check", 0, &["new topology"]);
    assert!(!out.exists());
}

#[test]
fn external_state_waits_for_its_database_and_counts_by_language() {
    let folder = folder();
    let (state, languages) = (folder.path().join("state"), folder.path().join("languages.db"));
    let arguments = [
        "run",
        "--state",
        text(&state),
        "--languages",
        text(&languages),
        "--listen",
        "none",
        "--exit-at-end",
    ];
    let mut running = Running::start("external_state", &arguments);
    running.says("an external state cannot be asked; it is asked again");
    run("external_state", &["fill", text(&languages)]).is("fill", 0, &[]);
    running.wait().is("run", 0, &["39,244 records"]);

    let edits = std::fs::File::open(edits::file()).expect("the edits");
    let lines =
        std::io::BufRead::lines(std::io::BufReader::new(flate2::read::GzDecoder::new(edits)));
    let language = |line: std::io::Result<String>| {
        let edit: Json = serde_json::from_str(&line.expect("a line")).expect("JSON");
        let name = match edit["channel"].as_str().expect("a channel") {
            "#de.wikipedia" => "German",
            "#en.wikipedia" => "English",
            "#fr.wikipedia" => "French",
            "#it.wikipedia" => "Italian",
            _ => "another",
        };
        name.to_owned()
    };
    let counts: BTreeMap<String, u64> =
        scan("external_state", "languages", &state).into_iter().collect();
    assert_eq!(counts, counts_of(lines.map(language)));
}

#[test]
fn join_finds_each_pair_once_whatever_the_batches_are() {
    let folder = folder();
    for (batch, workers) in [("20000", "1"), ("700", "2")] {
        let state = folder.path().join(batch);
        let arguments = ["run", "--state", text(&state), "--listen", "none", "--exit-at-end"];
        let settings = ["--max-batch-records", batch, "--workers", workers];
        run("join", &[&arguments[..], &settings].concat()).is("run", 0, &["40,000 records"]);
        let expected = [("in full".to_owned(), 18_000), ("too little".to_owned(), 2_000)];
        assert_eq!(scan("join", "paid", &state), expected, "batches of {batch}");
        let together: u64 =
            scan("join", "together", &state).into_iter().map(|(_, count)| count).sum();
        assert!(
            (1..20_000).contains(&together),
            "batches of {batch}: {together} pairs lie in one batch"
        );
    }
}

#[test]
fn migration_keeps_the_counts_of_the_version_before() {
    let folder = folder();
    let state = folder.path().join("state");
    let do_it = |command: &str, arguments: &[&str]| {
        let run_it = ["--listen", "none", "--exit-at-end"];
        let rest: &[&str] = if command == "run" { &run_it } else { &[] };
        run("migration", &[&[command, "--state", text(&state)], rest, arguments].concat())
    };
    do_it("run", &["--version", "1", "--input", "examples/data/text/al*.txt"]).is(
        "version 1",
        0,
        &["3,604 records"],
    );
    do_it("run", &["--no-migration"]).is("no migration", 64, &["counts"]);
    do_it("check", &[]).is("check", 0, &["go on after batch"]);
    do_it("run", &[]).is("version 2", 0, &["4,122 records"]);
    do_it("run", &["--version", "1"]).is("back", 64, &[]);
    do_it("run", &[]).is("again", 0, &["0 records in 0 batches"]);

    let scanned = run("migration", &["state", "scan", "words", "--state", text(&state)])
        .is("scan", 0, &[])
        .out
        .clone();
    let rows: Vec<Json> =
        scanned.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let count = |row: &Json| row["value"]["count"].as_u64().expect("a number");
    let counts =
        rows.iter().map(|row| (row["key"].as_str().expect("a text").to_owned(), count(row)));
    assert_eq!(counts.collect::<BTreeMap<_, _>>(), recount([texts().as_str()]));

    let folder = checkout::root().join("examples/data/text");
    let [first, second] = ["alice-in-wonderland.txt", "as-you-like-it.txt"]
        .map(|name| std::fs::read_to_string(folder.join(name)).expect("a text"));
    let mut longest = BTreeMap::new();
    for line in second.lines() {
        for word in line.split_whitespace() {
            let longest = longest.entry(word).or_insert(0);
            *longest = line.len().max(*longest);
        }
    }
    for row in &rows {
        let word = row["key"].as_str().expect("a text");
        assert_eq!(row["value"]["longest_line"], json!(longest.get(word)), "{word}");
    }
    assert!(
        recount([first.as_str()]).keys().any(|word| !longest.contains_key(word.as_str())),
        "some words are of version 1 alone"
    );
}
