//! What Storm's own tests of Trident expect, row by row: word counts over sentences, asked as Storm
//! asks.

use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use tidemill::prelude::*;
use tidemill::testing::{Io, Kit};
use tidemill::{Format, QueryError, QueryRequest, outline};

fn split(text: &str) -> Vec<String> {
    text.split_whitespace().map(String::from).collect()
}

fn words<'q>(text: Requests<'q, String>) -> Requests<'q, String> {
    text.flat_map(|text, words| words.extend(split(&text)))
}

fn topology(topology: &Topology<'_>, io: &Io) {
    let counts = topology
        .source("sentences", io.source::<String>("sentences"))
        .shuffle()
        .flat_map(|text: String, words| words.extend(split(&text)))
        .group_by(|word| word.clone())
        .persistent_aggregate("counts", Count);
    topology.query("words", |text| words(text).lookup(&counts).aggregate(Sum));
    topology.query("all", |text: Requests<String>| {
        text.broadcast().aggregate(Count).scan(&counts, |_| Scan::all())
    });
    topology.query("count", |text| words(text).aggregate(Count));
    topology.query("words_and_length", |text: Requests<String>| {
        words(text.clone()).merge(text.map(|text| text.len().to_string()))
    });
    topology.query("twice", |text| {
        let words = words(text);
        let grouped = || words.clone().group_by(|word| word.clone()).aggregate(Count);
        grouped().merge(grouped())
    });
    topology.query("shuffled", |text| words(text.shuffle()).shuffle().aggregate(Count));
    topology.query("square", |n: Requests<u64>| {
        let rows = n.flat_map(|n, rows| rows.extend((0..n).map(|_| n))).shuffle();
        rows.flat_map(|n, cells| cells.extend(0..n)).shuffle().aggregate(Count)
    });
    topology.query("fails", |text: Requests<String>| {
        text.map(|text| -> String { panic!("no answer for {text}") })
    });
}

/// A kit with these sentences, in batches.
fn fed(workers: usize, batches: &[&[&str]]) -> Kit {
    let mut kit = Kit::with(move |settings| settings.workers = workers, topology);
    batches.iter().for_each(|batch| feed(&mut kit, batch));
    kit
}

fn feed(kit: &mut Kit, batch: &[&str]) {
    kit.feed("sentences", batch.iter().map(|sentence| (*sentence).to_string()));
    kit.step();
}

fn try_ask(kit: &Kit, name: &str, arguments: &str) -> Result<Json, QueryError> {
    let request = QueryRequest {
        name,
        arguments: arguments.as_bytes(),
        format: Format::Storm,
        time_out: None,
        at_least: &[],
        types: None,
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let answer = runtime.block_on(kit.engine().runtime().ask(request))?;
    let mut answer: Json = serde_json::from_slice(&answer.bytes).expect("JSON");
    // The outputs of a query come in any order.
    answer.as_array_mut().expect("an array of outputs").sort_by_key(ToString::to_string);
    Ok(answer)
}

fn check(kit: &Kit, name: &str, rows: &[(&str, Json)]) {
    for (arguments, expected) in rows {
        assert_eq!(try_ask(kit, name, arguments).as_ref(), Ok(expected), "{name} of {arguments:?}");
    }
}

type Result<T, E> = std::result::Result<T, E>;

#[test]
fn word_counts_are_asked_while_batches_come() {
    for workers in [1, 2, 4] {
        let mut kit = fed(workers, &[&["hello the man said", "the"]]);
        check(&kit, "words", &[("the", json!([[2]])), ("hello", json!([[1]]))]);
        feed(&mut kit, &["the man on the moon", "where are you"]);
        check(
            &kit,
            "words",
            &[("the", json!([[4]])), ("man", json!([[2]])), ("man where you the", json!([[8]]))],
        );
        // Nothing comes for a while: no batch is made of it, and nothing freezes.
        for _ in 0..50 {
            kit.step();
        }
        feed(&mut kit, &["the the"]);
        check(&kit, "words", &[("the", json!([[6]]))]);
        feed(&mut kit, &["the"]);
        check(&kit, "words", &[("the", json!([[7]]))]);
    }
}

#[test]
fn everything_is_asked_by_broadcast_and_scan() {
    let mut kit = fed(1, &[&["hello the man said", "the"]]);
    check(&kit, "all", &[("", json!([["hello", 1], ["man", 1], ["said", 1], ["the", 2]]))]);
    feed(&mut kit, &["the foo"]);
    check(
        &kit,
        "all",
        &[("", json!([["foo", 1], ["hello", 1], ["man", 1], ["said", 1], ["the", 3]]))],
    );
}

#[test]
fn queries_without_a_state() {
    for workers in [1, 3] {
        let kit = fed(workers, &[]);
        for _ in 0..100 {
            check(&kit, "count", &[("the", json!([[1]]))]);
        }
        check(&kit, "count", &[("", json!([[0]])), ("1 2 3 4 5 6 7 8", json!([[8]]))]);
        let both = |length: &str, words: &[&str]| {
            let mut rows: Vec<Json> =
                words.iter().chain([&length]).map(|row| json!([row])).collect();
            rows.sort_by_key(ToString::to_string);
            Json::Array(rows)
        };
        check(
            &kit,
            "words_and_length",
            &[("the man", both("7", &["the", "man"])), ("hello", both("5", &["hello"]))],
        );
        check(&kit, "twice", &[("the", json!([["the", 1], ["the", 1]]))]);
        check(&kit, "shuffled", &[("the man", json!([[2]]))]);
        check(
            &kit,
            "square",
            &[
                ("2", json!([[4]])),
                ("10", json!([[100]])),
                ("1", json!([[1]])),
                ("0", json!([[0]])),
            ],
        );
    }
}

#[test]
fn a_query_that_fails_says_why_and_harms_nothing() {
    let kit = fed(2, &[&["the"]]);
    let error = try_ask(&kit, "fails", "it").expect_err("it fails on purpose");
    assert!(
        matches!(&error, QueryError::Failed { .. })
            && error.to_string().contains("no answer for it"),
        "{error}"
    );
    check(&kit, "words", &[("the", json!([[1]]))]);
}

/// Rows that go to a file; `fails_at` is the row at which the topology fails, if it has not yet.
fn to_file(path: &str, fails_at: &Arc<AtomicU64>) -> Kit {
    let (path, fails_at) = (path.to_string(), Arc::clone(fails_at));
    Kit::new(move |topology, io| {
        let fails_at = Arc::clone(&fails_at);
        let rows = topology.source("rows", io.source::<u64>("rows")).inspect(move |row| {
            assert!(
                fails_at.compare_exchange(*row, u64::MAX, SeqCst, SeqCst).is_err(),
                "row {row} fails"
            );
        });
        rows.sink("file", Files::to(&path));
    })
}

#[test]
fn a_batch_that_fails_half_way_and_comes_again_larger_is_in_the_file_once() {
    // Batches, the row that fails, and how many rows there are with those that come before it is
    // tried again.
    for (ends, fails_at, then) in [(&[25][..], 12, 50), (&[10, 30, 60], 45, 70)] {
        let starts = std::iter::once(&0).chain(ends);
        let batches: Vec<_> = starts.zip(ends).map(|(start, end)| *start..*end).collect();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rows.txt").display().to_string();
        let mut kit = to_file(&path, &Arc::new(AtomicU64::new(fails_at)));
        let (last, before) = batches.split_last().expect("one at least");
        for batch in before {
            kit.feed("rows", batch.clone());
            kit.step();
        }
        kit.feed("rows", last.clone());
        assert!(kit.try_step().is_err(), "it fails half way");
        let fed = last.end;
        kit.feed("rows", fed..then);
        kit.restart();
        kit.step();
        kit.kill();
        let text = std::fs::read_to_string(&path).expect("the file");
        let rows: Vec<u64> = text.lines().map(|row| row.parse().expect("a number")).collect();
        assert_eq!(rows, (0..then).collect::<Vec<_>>());
    }
}

#[test]
fn a_topology_has_the_same_names_and_numbers_each_time() {
    let built = || {
        let io = Io::default();
        let outline =
            outline(&move |built: &Topology<'_>| topology(built, &io)).expect("it can be built");
        (outline.program, outline.plan.to_text())
    };
    let first = built();
    (0..100).for_each(|_| assert_eq!(built(), first));
    let names: BTreeMap<&str, &str> =
        first.0.states.iter().map(|state| (&*state.name, &*state.value)).collect();
    assert_eq!(names, BTreeMap::from([("counts", "u64")]));
}
