//! Queries in-process: what each operator answers, that no request's weight is lost or made, and
//! that an answer is of one committed batch (I4, I7).

use std::collections::BTreeMap;
use tidemill::aggregates::{Count, Max, Sum};
use tidemill::testing::{Io, Kit};
use tidemill::{QueryError, Requests, Scan, State, Topology};
use tidemill_harness::alone::alone;

fn split(text: &str) -> Vec<String> {
    text.split_whitespace().map(String::from).collect()
}

/// Word counts over sentences, as a state.
fn counts<'s>(topology: &Topology<'s>, io: &Io) -> State<'s, String, u64> {
    topology
        .source("sentences", io.source::<String>("sentences"))
        .flat_map(|text: String, words| words.extend(split(&text)))
        .group_by(|word| word.clone())
        .persistent_aggregate("counts", Count)
}

/// Every query of these tests.
#[expect(clippy::too_many_lines, reason = "one list of queries")]
fn topology(topology: &Topology<'_>, io: &Io) {
    let counts = counts(topology, io);
    let lengths = counts
        .changes()
        .map(|change| change.key.len() as u64)
        .group_by(|length| *length)
        .persistent_aggregate("lengths", Count);
    topology.query("words", |text: Requests<String>| {
        text.flat_map(|text, words| words.extend(split(&text))).lookup(&counts).aggregate(Sum)
    });
    topology.query("all", |any: Requests<()>| any.scan(&counts, |()| Scan::all()));
    topology.query("total", |any: Requests<()>| {
        any.scan_with(&counts, |()| Scan::all(), |_, count| Some(*count)).aggregate(Sum)
    });
    topology.query("first", |few: Requests<(String, usize)>| {
        few.scan(&counts, |(prefix, few)| Scan::prefix(prefix).limit(*few))
    });
    topology.query("between", |ends: Requests<(String, String)>| {
        ends.scan(&counts, |(from, to)| Scan::range(from.clone()..to.clone())).map(|(word, _)| word)
    });
    topology.query("each", |text: Requests<String>| {
        text.flat_map(|text, words| words.extend(split(&text)))
            .scan(&counts, |word| Scan::prefix(word).limit(1))
            .map(|(word, _)| word)
    });
    topology.query("count", |text: Requests<String>| {
        text.flat_map(|text, words| words.extend(split(&text))).aggregate(Count)
    });
    topology.query("either", |text: Requests<String>| {
        let words = text.clone().flat_map(|text, words| words.extend(split(&text)));
        words.merge(text.map(|text| text.len().to_string()))
    });
    topology.query("twice", |text: Requests<String>| {
        let words = text.flat_map(|text, words| words.extend(split(&text)));
        let (one, other) =
            (words.clone().group_by(|word| word.clone()), words.group_by(|word| word.clone()));
        one.aggregate(Count).merge(other.aggregate(Count))
    });
    topology.query("arms", |text: Requests<String>| {
        let words = text.flat_map(|text, words| words.extend(split(&text)));
        let (all, long) = (
            words.clone().shuffle().aggregate(Count),
            words.filter(|word| word.len() > 1).aggregate(Count),
        );
        all.merge(long).aggregate(Sum)
    });
    topology.query("shuffled", |text: Requests<String>| {
        text.flat_map(|text, words| words.extend(split(&text))).shuffle().shuffle().aggregate(Count)
    });
    topology.query("square", |n: Requests<u64>| {
        let rows = n.flat_map(|n, rows| rows.extend((0..n).map(|_| n))).shuffle();
        rows.flat_map(|n, cells| cells.extend(0..n)).shuffle().aggregate(Count)
    });
    topology.query("of its length", |word: Requests<String>| {
        // The result of the first look-up is the key of the second, in another state.
        word.lookup_with(
            &counts,
            |word| word.clone(),
            |word, count| count.map(|_| word.len() as u64),
        )
        .filter_map(|length| length)
        .lookup(&lengths)
        .aggregate(Sum)
    });
    topology.query("missing", |text: Requests<String>| {
        text.flat_map(|text, words| words.extend(split(&text))).lookup_with(
            &counts,
            |word| word.clone(),
            |word, count| (word, count.copied()),
        )
    });
    topology.query("longest", |text: Requests<String>| {
        text.flat_map(|text, words| words.extend(split(&text)))
            .map(|word| word.len() as u64)
            .aggregate(Max)
    });
    topology.query("everywhere", |n: Requests<u64>| n.broadcast().aggregate(Count));
    topology.query("fails", |text: Requests<String>| {
        text.flat_map(|text, words| words.extend(split(&text)))
            .try_map(|word| if word == "bad" { Err("no such word") } else { Ok(word) })
            .map(|word| if word == "worse" { panic!("on purpose") } else { word })
    });
    topology.query("fails in a scan", |any: Requests<()>| {
        let words = any.scan_with(
            &counts,
            |()| Scan::all().limit(100),
            |word, _| {
                assert!(word != "man", "on purpose");
                Some(word.clone())
            },
        );
        words.aggregate(Count)
    });
    topology.query("overflow", |n: Requests<u8>| {
        n.flat_map(|n, numbers| numbers.extend([n, n])).aggregate(Sum)
    });
}

fn kit(workers: usize) -> Kit {
    Kit::with(move |settings| settings.workers = workers, topology)
}

/// Asks with 1, 2 and 3 workers, after these batches.
fn check(batches: &[&[&str]], asks: impl Fn(&Kit)) {
    for workers in 1..=3 {
        let mut kit = kit(workers);
        for batch in batches {
            kit.feed("sentences", batch.iter().map(ToString::to_string));
            kit.step();
        }
        asks(&kit);
    }
}

fn sorted<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort();
    values
}

const FIRST: &[&str] = &["hello the man said", "the"];
const SECOND: &[&str] = &["the man on the moon", "where are you"];

#[test]
fn counts_of_words_are_looked_up_and_added() {
    check(&[FIRST], |kit| {
        for (ask, expected) in [("the", 2), ("hello", 1), ("none of these", 0), ("", 0)] {
            assert_eq!(kit.ask::<u64>("words", &ask).1, expected, "{ask}");
        }
    });
    check(&[FIRST, SECOND], |kit| {
        for (ask, expected) in [("the", 4), ("man", 2), ("man where you the", 8), ("the man", 6)] {
            assert_eq!(kit.ask::<u64>("words", &ask).1, expected, "{ask}");
        }
    });
}

#[test]
fn i7_an_answer_names_the_last_committed_batch_and_is_of_it() {
    for workers in 1..=2 {
        let mut kit = kit(workers);
        for batch in 1..=20u64 {
            kit.feed("sentences", ["tide".to_string()]);
            let committed = kit.step();
            assert_eq!(kit.ask::<u64>("words", &"tide"), (committed, batch));
        }
        kit.restart();
        assert_eq!(kit.ask::<u64>("words", &"tide").1, 20);
    }
}

#[test]
fn scans_give_each_key_once() {
    check(&[FIRST, &["the foo"]], |kit| {
        let all: BTreeMap<String, u64> =
            kit.ask::<Vec<(String, u64)>>("all", &()).1.into_iter().collect();
        let expected = [("foo", 1), ("hello", 1), ("man", 1), ("said", 1), ("the", 3)];
        assert_eq!(all, expected.map(|(word, count)| (word.to_string(), count)).into());
        assert_eq!(kit.ask::<Vec<(String, u64)>>("all", &()).1.len(), expected.len());
        assert_eq!(kit.ask::<u64>("total", &()).1, 7);
    });
}

#[test]
fn scans_with_prefix_range_and_limit_are_in_order() {
    let words = ["delta dam", "dune", "dike tide", "ebb dike"];
    check(&[&words], |kit| {
        let first =
            |prefix: &str, few: usize| kit.ask::<Vec<(String, u64)>>("first", &(prefix, few)).1;
        let named = |words: &[(&str, u64)]| {
            words.iter().map(|(word, count)| (word.to_string(), *count)).collect::<Vec<_>>()
        };
        assert_eq!(first("d", 3), named(&[("dam", 1), ("delta", 1), ("dike", 2)]));
        assert_eq!(first("d", 100), named(&[("dam", 1), ("delta", 1), ("dike", 2), ("dune", 1)]));
        assert_eq!(first("", 2), named(&[("dam", 1), ("delta", 1)]));
        assert_eq!(first("x", 2), []);
        // The encoding of "dam" is filled up with zeros.
        assert_eq!(first("dam\0", 2), []);
        assert_eq!(first("d", 0), []);
        assert_eq!(
            sorted(kit.ask::<Vec<String>>("between", &("delta", "ebb")).1),
            ["delta", "dike", "dune"]
        );
        // Each record of a request has a scan, and a limit, of its own.
        assert_eq!(sorted(kit.ask::<Vec<String>>("each", &"d e x de").1), ["dam", "delta", "ebb"]);
    });
}

#[test]
fn weight_is_neither_lost_nor_made() {
    let many = vec!["the"; 100].join(" ");
    check(&[FIRST, SECOND], |kit| {
        let count = |query: &str, text: &str| kit.ask::<u64>(query, &text).1;
        for (text, expected) in [(many.as_str(), 100), ("", 0), ("1 2 3 4 5 6 7 8", 8)] {
            assert_eq!(count("count", text), expected);
            assert_eq!(count("shuffled", text), expected);
        }
        assert_eq!(count("shuffled", "the man"), 2);
        for words in [0, 3, 5, 7] {
            // Half of what is behind the branch is a word with more than one letter.
            let text = (0..words)
                .map(|n| if n % 2 == 0 { "a" } else { "ab" })
                .collect::<Vec<_>>()
                .join(" ");
            assert_eq!(count("arms", &text), words + words / 2, "{words} words");
        }
        for (n, expected) in [(2, 4), (10, 100), (1, 1), (0, 0), (150, 22_500)] {
            assert_eq!(kit.ask::<u64>("square", &(n as u64)).1, expected);
        }
        assert_eq!(sorted(kit.ask::<Vec<String>>("either", &"the man").1), ["7", "man", "the"]);
        assert_eq!(sorted(kit.ask::<Vec<String>>("either", &"hello").1), ["5", "hello"]);
        let pair = ("the".to_string(), 1u64);
        assert_eq!(kit.ask::<Vec<(String, u64)>>("twice", &"the").1, [pair.clone(), pair]);
        assert_eq!(
            kit.ask::<u64>("everywhere", &7u64).1,
            kit.engine().runtime().status().workers as u64
        );
        assert_eq!(kit.ask::<u64>("longest", &"a abc ab").1, 3);
    });
}

#[test]
fn one_look_up_is_the_key_of_the_next() {
    // Of three letters: the, man, are, you; "the" and "man" changed in two batches.
    check(&[FIRST, SECOND], |kit| {
        assert_eq!(kit.ask::<u64>("of its length", &"the").1, 6);
        assert_eq!(kit.ask::<u64>("of its length", &"unknown").1, 0);
        let missing = kit.ask::<Vec<(String, Option<u64>)>>("missing", &"the none").1;
        assert_eq!(sorted(missing), [("none".to_string(), None), ("the".to_string(), Some(4))]);
    });
}

#[test]
fn a_failure_is_its_requests_alone() {
    check(&[FIRST], |kit| {
        let failure = |query: &str, text: &str| match kit.try_ask::<Vec<String>>(query, &text) {
            Err(QueryError::Failed(why)) => why,
            other => panic!("{other:?}"),
        };
        assert!(failure("fails", "good bad").contains("no such word"));
        let why = failure("fails", "good worse good");
        assert!(
            why.contains("on purpose") && why.contains("map#") && why.contains("queries.rs"),
            "{why}"
        );
        assert_eq!(sorted(kit.ask::<Vec<String>>("fails", &"good better").1), ["better", "good"]);
        assert_eq!(kit.ask::<u8>("overflow", &3u8).1, 6);
        match kit.try_ask::<u8>("overflow", &200u8) {
            Err(QueryError::Failed(why)) => assert!(why.contains("does not fit"), "{why}"),
            other => panic!("{other:?}"),
        }
        // Found on one worker, while the others' rows wait for it: told at once all the same.
        let began = std::time::Instant::now();
        match kit.try_ask::<u64>("fails in a scan", &()) {
            Err(QueryError::Failed(why)) => assert!(why.contains("on purpose"), "{why}"),
            other => panic!("{other:?}"),
        }
        assert!(began.elapsed() < std::time::Duration::from_secs(4), "it was not told at once");
        let status = kit.engine().runtime().status();
        assert_eq!((status.queries.requests, status.queries.held_up_by), (0, None));
        let status = kit.engine().runtime().status();
        assert_eq!(
            (status.generations, status.last_error),
            (1, None),
            "no batch and no generation is touched"
        );
        assert_eq!(kit.ask::<u64>("words", &"the").1, 2);
    });
}

/// A request with much to do takes turns with others of the same query: small ones that come after
/// it are answered before it. In the order in which items come, it would be first.
#[test]
fn a_large_request_keeps_no_small_one_of_its_query_waiting() {
    for (workers, query) in [(1, "words"), (2, "words"), (2, "each"), (2, "shuffled")] {
        let mut kit = Kit::with(|settings| settings.workers = workers, topology);
        kit.feed("sentences", FIRST.iter().map(ToString::to_string));
        kit.step();
        let mut pipeline = kit.engine().runtime().pipeline(query).expect("it is there");
        let large = pipeline.ask("the ".repeat(200_000)).expect("it is let in");
        for _ in 0..20 {
            pipeline.ask("the man".to_string()).expect("it is let in");
        }
        let mut order = Vec::new();
        for _ in 0..21 {
            let (number, answer) = pipeline.next_answer().expect("an answer in time");
            answer.expect("it succeeds");
            order.push(number);
        }
        assert_eq!(order.last(), Some(&large), "{query}, {workers} workers: {order:?}");
    }
}

#[test]
fn what_one_request_gathers_has_a_bound() {
    let mut kit = Kit::with(
        |settings| settings.workers = 2,
        |topology, io| {
            let counts = counts(topology, io);
            topology.query("groups", |n: Requests<u64>| {
                n.flat_map(|n, numbers| numbers.extend(0..n))
                    .group_by(|number| [*number; 32])
                    .aggregate(Count)
                    .aggregate(Count)
            });
            topology.query("words", |text: Requests<String>| text.lookup(&counts).aggregate(Sum));
        },
    );
    kit.feed("sentences", ["the".to_string()]);
    kit.step();
    assert_eq!(kit.ask::<u64>("groups", &10_000u64).1, 10_000);
    match kit.try_ask::<u64>("groups", &300_000u64) {
        Err(QueryError::Failed(why)) => {
            assert!(why.contains("gathers more than 64 MiB") && why.contains("aggregate#"), "{why}")
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        (kit.ask::<u64>("words", &"the").1, kit.ask::<u64>("groups", &10u64).1),
        (1, 10),
        "nothing else is touched"
    );
}

/// Bytes of memory that this process has.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("it is this process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux says so");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") << 10
}

#[test]
fn an_answer_of_a_gigabyte_is_never_in_memory_and_harms_nothing() {
    let name = "queries::an_answer_of_a_gigabyte_is_never_in_memory_and_harms_nothing";
    alone(name, a_gigabyte_is_refused_ten_times);
}

fn a_gigabyte_is_refused_ten_times() {
    let mut kit = Kit::with(
        |settings| settings.workers = 2,
        |topology, io| {
            let counts = counts(topology, io);
            topology.query("gigabyte", |any: Requests<()>| {
                let many = any.flat_map(|(), numbers| numbers.extend(0..1000u64)).shuffle();
                many.flat_map(|_, texts| texts.extend((0..1000).map(|_| "tide".repeat(256))))
                    .shuffle()
            });
            topology.query("words", |text: Requests<String>| text.lookup(&counts).aggregate(Sum));
        },
    );
    kit.feed("sentences", ["the".to_string()]);
    kit.step();
    let before = memory();
    for round in 1..=10 {
        let outcome = kit.try_ask::<Vec<String>>("gigabyte", &());
        assert!(matches!(outcome, Err(QueryError::TooLarge { .. })), "{outcome:?}");
        let (batch, count) = kit.ask::<u64>("words", &"the");
        assert_eq!((batch.0, count), (round, round), "batches and other requests go on");
        kit.feed("sentences", ["the".to_string()]);
        kit.step();
    }
    let after = memory();
    // Less than half of one was ever there, of ten that were asked for.
    assert!(after < before + (500 << 20), "it had {before} bytes, and has {after}");
}

#[test]
fn wrong_requests_are_refused_with_what_is_there() {
    let kit = kit(1);
    match kit.try_ask::<u64>("word", &"the") {
        Err(error @ QueryError::NoSuchQuery { .. }) => {
            let text = error.to_string();
            assert!(
                text.contains("\"word\"")
                    && text.contains("words")
                    && text.contains("of its length"),
                "{text}"
            );
        }
        other => panic!("{other:?}"),
    }
    match kit.try_ask::<u64>("square", &"the") {
        Err(QueryError::BadArguments(why)) => {
            assert!(why.contains("square") && why.contains("u64"), "{why}")
        }
        other => panic!("{other:?}"),
    }
    assert!(
        matches!(kit.try_ask::<u64>("longest", &""), Err(QueryError::Failed(why)) if why.contains("no value"))
    );
}

#[test]
fn two_queries_of_one_name_are_refused() {
    let mut kit = kit(1);
    kit.change_program(|topology, io| {
        counts(topology, io);
        for _ in 0..2 {
            topology.query("same", |n: Requests<u64>| n.map(|n| n));
        }
    });
    let why = kit.try_restart().expect_err("refused").to_string();
    assert!(why.contains("two queries are named \"same\""), "{why}");
}
