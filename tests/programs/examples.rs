//! The examples as their users run them: what they count is what is in their input, also when they
//! are killed or stopped in the middle; and every command and route that shows it.

use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use tidemill_harness::binary::{Running, counts_are, folder, newest_in, recount, run, scan, texts};

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// What is known of the bundled edits, from their description.
const EDITS: [(&str, &str, u64); 8] = [
    ("robots", "robot", 15_420),
    ("robots", "human", 23_824),
    ("anonymous", "anonymous", 3_799),
    ("anonymous", "logged-in", 35_445),
    ("actions", "new", 2_278),
    ("actions", "edit", 39_244 - 2_278),
    ("edits_by_namespace", "Main", 31_548),
    ("channels", "#en.wikipedia", 11_549),
];

/// How many keys each state has, and the sum of its values.
const STATES: [(&str, usize, u64); 6] = [
    ("actions", 2, 39_244),
    ("robots", 2, 39_244),
    ("anonymous", 2, 39_244),
    ("channels", 51, 39_244),
    ("edits_by_namespace", 265, 39_244),
    ("namespaces", 265, 9_385_573),
];

fn edits_are_counted(case: &str, state: &Path) {
    for (name, keys, sum) in STATES {
        let rows = scan("wiki_edits", name, state);
        assert!(
            rows.is_sorted_by(|a, b| a.0 < b.0),
            "{case}: {name} is not in the order of its keys"
        );
        assert_eq!(
            (rows.len(), rows.iter().map(|(_, value)| value).sum::<u64>()),
            (keys, sum),
            "{case}: {name}"
        );
        let rows: BTreeMap<_, _> = rows.into_iter().collect();
        for (_, key, value) in EDITS.iter().filter(|(of, _, _)| *of == name) {
            assert_eq!(rows.get(*key), Some(value), "{case}: {key} of {name}");
        }
    }
}

fn committed(state: &Path) -> u64 {
    let list = run("word_count", &["state", "list", "--json", "--state", text(state)]);
    let list: Json = serde_json::from_str(&list.is("state list", 0, &[]).out).expect("JSON");
    list["txid"].as_u64().expect("a number")
}

/// Runs until this batch is committed, if it does not end before, and gives the run.
fn until_batch(mut running: Running, batch: u64) -> Running {
    running.get_until("/v1/status", |status| {
        status["committed"].as_u64() >= Some(batch) || status["sources_at_end"] == true
    });
    running
}

#[test]
fn words_are_counted_as_a_plain_map_counts_them() {
    let folder = folder();
    let (state, out) = (folder.path().join("state"), folder.path().join("out.jsonl"));
    let arguments =
        ["run", "--state", text(&state), "--listen", "none", "--exit-at-end", "--out", text(&out)];
    run("word_count", &arguments).is(
        "run",
        0,
        &["new topology", "first commit: batch 1", "7,726 records", "ending"],
    );
    let words = recount([texts().as_str()]);
    assert_eq!(
        words.values().sum::<u64>(),
        26_457 + 22_960,
        "the recount is that of the description"
    );
    counts_are("run", &state, &words);
    assert_eq!(newest_in(&out), words);
    run("word_count", &arguments).is("again", 0, &["go on after batch", "0 records in 0 batches"]);
    counts_are("again", &state, &words);
}

#[test]
fn edits_are_counted_as_they_are_described() {
    let folder = folder();
    let state = folder.path().join("state");
    let table =
        run("wiki_edits", &["run", "--state", text(&state), "--listen", "none", "--exit-at-end"]);
    table.is("run", 0, &["39,244 records", "by robots", "15420", "in namespace Main", "31548"]);
    edits_are_counted("run", &state);
}

#[test]
fn edits_are_counted_once_when_the_process_is_killed_in_the_middle() {
    let folder = folder();
    let state = folder.path().join("state");
    let small =
        ["--max-batch-records", "200", "--max-batches-in-flight", "1", "--fold-bytes", "10KB"];
    let arguments =
        [&["run", "--state", text(&state), "--listen", "127.0.0.1:0"], &small[..]].concat();
    let mut killed_at = Vec::new();
    for (batch, workers) in [(10, "2"), (60, "1"), (110, "4")] {
        let running =
            Running::start("wiki_edits", &[&arguments[..], &["--workers", workers]].concat());
        until_batch(running, batch).kill();
        killed_at.push(committed(&state));
    }
    println!("killed after batches {killed_at:?} of 197");
    assert!(killed_at[0] < 197, "it was killed in the middle");
    assert!(killed_at.is_sorted(), "what is committed stays: {killed_at:?}");
    run("wiki_edits", &[&arguments[..], &["--exit-at-end"]].concat()).is(
        "the last run",
        0,
        &["recovered in", "go on after"],
    );
    edits_are_counted("killed", &state);
}

#[test]
fn a_stop_in_the_middle_finishes_the_batch_and_a_restart_goes_on() {
    for signal in ["TERM", "INT"] {
        let folder = folder();
        let (state, out) = (folder.path().join("state"), folder.path().join("out.jsonl"));
        let small = [
            "--max-batch-records",
            "20",
            "--max-batches-in-flight",
            "1",
            "--out",
            text(&out),
            "--drain",
            "30s",
        ];
        let arguments =
            [&["run", "--state", text(&state), "--listen", "127.0.0.1:0"], &small[..]].concat();
        let running = until_batch(Running::start("word_count", &arguments), 20);
        let began = Instant::now();
        running.signal(signal);
        running.wait().is(
            signal,
            0,
            &["stopping: the batch in hand is finished", "stopped after batch"],
        );
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{signal}: the stop took {:?}",
            began.elapsed()
        );
        let stopped = committed(&state);
        println!("{signal}: stopped after batch {stopped} of about 387 in {:?}", began.elapsed());
        assert!(stopped < 387, "{signal}: it was stopped in the middle");
        // All that is committed is published, and it is all consistent: what is counted is what was
        // read.
        let so_far: BTreeMap<_, _> = scan("word_count", "counts", &state).into_iter().collect();
        assert_eq!(newest_in(&out), so_far, "{signal}: the output is that of the last batch");
        run("word_count", &[&arguments[..], &["--exit-at-end"]].concat()).is(
            "restart",
            0,
            &["go on after batch"],
        );
        let words = recount([texts().as_str()]);
        counts_are(signal, &state, &words);
        assert_eq!(newest_in(&out), words, "{signal}");
    }
}

#[test]
fn a_stopped_state_is_shown_by_the_commands() {
    let folder = folder();
    let state = folder.path().join("state");
    let input = folder.path().join("words.txt");
    std::fs::write(&input, "b a b\nä \"q\"\n").expect("it can be written");
    let run_it = [
        "run",
        "--state",
        text(&state),
        "--listen",
        "none",
        "--exit-at-end",
        "--input",
        text(&input),
    ];
    run("word_count", &run_it).is("run", 0, &[]);
    let ask =
        |arguments: &[&str]| run("word_count", &[arguments, &["--state", text(&state)]].concat());
    let lines = "{\"key\":\"\\\"q\\\"\",\"value\":1}\n{\"key\":\"a\",\"value\":1}\n{\"key\":\"b\",\"value\":2}\n{\"key\":\"ä\",\"value\":1}\n";
    assert_eq!(ask(&["state", "scan", "counts"]).is("state scan", 0, &[]).out, lines);
    assert_eq!(
        ask(&["state", "scan", "counts", "--limit", "1"]).out,
        lines.lines().next().expect("a line").to_string() + "\n"
    );
    assert_eq!(ask(&["state", "scan", "counts", "--limit", "0"]).is("--limit 0", 0, &[]).out, "");
    assert_eq!(ask(&["state", "get", "counts", "b"]).is("state get", 0, &[]).out, "2\n");
    assert_eq!(ask(&["state", "get", "counts", "ä"]).is("state get", 0, &[]).out, "1\n");
    let none = ask(&["state", "get", "counts", "none"]);
    assert_eq!(none.is("no value", 1, &["no value for key \"none\""]).out, "");
    ask(&["state", "get", "count", "b"]).is(
        "no state",
        64,
        &["no state \"count\"", "there are: counts"],
    );
    let listed = ask(&["state", "list"]);
    listed.is(
        "state list",
        0,
        &["word_count: batch 1 committed", "words.txt", "at 13", "counts", "4 keys"],
    );
    let listed: Json = serde_json::from_str(&ask(&["state", "list", "--json"]).out).expect("JSON");
    assert_eq!((&listed["txid"], &listed["states"][0]["keys"]), (&Json::from(1), &Json::from(4)));
    ask(&["check", "--input", text(&input)]).is("check", 0, &["go on after batch 1"]);
    // Looking changes nothing: it goes on as if nobody had looked.
    run("word_count", &run_it).is("again", 0, &["go on after batch 1", "0 records"]);
}

#[test]
fn the_plan_is_shown_without_a_run() {
    for (format, parts) in [
        ("text", &["sentences", "counts"][..]),
        ("dot", &["digraph", "counts", "->"][..]),
        ("json", &["\"nodes\"", "\"word_count\"", "counts"][..]),
    ] {
        run("word_count", &["plan", "--format", format]).is(format, 0, parts);
    }
    let plan = run("wiki_edits", &["plan", "--format", "json"]);
    let plan: Json = serde_json::from_str(&plan.out).expect("JSON");
    let told = plan.to_string();
    assert!(STATES.iter().all(|(name, _, _)| told.contains(&format!("\"{name}\""))), "{told}");
}

#[test]
fn a_running_one_answers_on_its_port() {
    let folder = folder();
    let state = folder.path().join("state");
    let mut running = Running::start(
        "wiki_edits",
        &["run", "--state", text(&state), "--listen", "127.0.0.1:0", "--workers", "2"],
    );
    running.says("all sources are at their end: 39,244 records");
    assert_eq!(running.get("/healthz"), (200, Json::from("ok\n")));
    let (code, ready) = running.get("/readyz");
    assert_eq!((code, &ready["ready"]), (200, &Json::from(true)));
    let (code, status) = running.get("/v1/status");
    assert_eq!(code, 200);
    let seen = (
        &status["topology"],
        &status["records"],
        &status["sources_at_end"],
        &status["phase"],
        &status["workers"],
    );
    assert_eq!(
        seen,
        (&"wiki_edits".into(), &39_244.into(), &true.into(), &"running".into(), &2.into())
    );
    let txid = &status["committed"];
    for (name, key, value) in EDITS {
        let (code, answer) = running.get(&format!("/v1/state/{name}/{}", key.replace('#', "%23")));
        assert_eq!(
            (code, &answer["key"], &answer["value"]),
            (200, &key.into(), &value.into()),
            "{name}"
        );
        assert_eq!(
            (&answer["txid"], &answer["lineage"]),
            (txid, &status["lineage"]),
            "{name}: {answer}"
        );
    }
    assert_eq!(running.get("/v1/state/robots/cyborg").0, 404);
    let (_, topology) = running.get("/v1/topology");
    let nodes = topology["nodes"].as_array().expect("a list");
    assert_eq!(
        nodes.iter().filter(|node| node["kind"]["state"].is_string()).count(),
        STATES.len(),
        "{topology}"
    );
    let (_, batches) = running.get("/v1/batches?limit=1000");
    let batches = batches["batches"].as_array().expect("a list").clone();
    assert_eq!(batches.iter().filter_map(|batch| batch["records"].as_u64()).sum::<u64>(), 39_244);
    assert_eq!(&batches[0]["txid"], txid, "the newest comes first");
    its_commands_answer(&running.url());
    running.signal("TERM");
    running.wait().is("a clean stop", 0, &["stopped after batch"]);
}

/// The subcommands that look at a running `wiki_edits`, at this address.
fn its_commands_answer(url: &str) {
    run("wiki_edits", &["status", "--at", url]).is(
        "status",
        0,
        &["wiki_edits: running", "39,244 committed", "all at their end", "channels"],
    );
    let json = run("wiki_edits", &["status", "--json", "--at", url]);
    assert_eq!(serde_json::from_str::<Json>(&json.out).expect("JSON")["records"], 39_244);
    assert_eq!(
        run("wiki_edits", &["state", "get", "robots", "robot", "--at", url])
            .is("state get", 0, &[])
            .out,
        "15420\n"
    );
    run("wiki_edits", &["state", "get", "robots", "cyborg", "--at", url]).is(
        "no value",
        1,
        &["no value"],
    );
    run("wiki_edits", &["state", "list", "--at", url]).is("state list", 0, &["edits_by_namespace"]);
    let scanned = run("wiki_edits", &["state", "scan", "robots", "--at", url]);
    scanned.is(
        "state scan",
        0,
        &["{\"key\":\"human\",\"value\":23824}", "{\"key\":\"robot\",\"value\":15420}"],
    );
}

#[test]
fn a_running_word_count_is_asked_and_scanned() {
    let folder = folder();
    let state = folder.path().join("state");
    let input = folder.path().join("words.txt");
    std::fs::write(&input, "the tide turns the mill\nthe mill\n").expect("it can be written");
    let arguments =
        ["run", "--state", text(&state), "--listen", "127.0.0.1:0", "--input", text(&input)];
    let mut running = Running::start("word_count", &arguments);
    running.says("all sources are at their end");
    let url = running.url();
    let ask = |arguments: &[&str], expected: &str| {
        let outcome = run("word_count", &[arguments, &["--at", &url]].concat());
        assert_eq!(outcome.is("ask", 0, &[]).out.trim_end(), expected, "{arguments:?}");
    };
    ask(&["query", "words", "the mill"], "5");
    ask(&["query", "words", "\"the tide\""], "4");
    ask(&["query", "words", ""], "0");
    ask(
        &["state", "scan", "counts", "--limit", "2"],
        "{\"key\":\"mill\",\"value\":2}\n{\"key\":\"the\",\"value\":3}",
    );
    let refused = run("word_count", &["query", "word", "the", "--at", &url]);
    refused.is("no such query", 64, &["\"word\"", "there are: words", "/v1/queries"]);
    let json = run("word_count", &["query", "words", "the", "--json", "--at", &url]).out;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json["txid"], &json["result"]), (&serde_json::json!(1), &serde_json::json!(3)));
}
