//! What queries over word counts answer, as a table: the same through every way in which they can
//! be asked.

use tidemill::aggregates::{Count, Max, Sum};
use tidemill::testing::{Io, Kit};
use tidemill::{Requests, Scan, State, Topology};

/// What a query answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// One number.
    Number(u64),
    /// Words, in any order.
    Words(Vec<String>),
    /// Words with their counts, in any order.
    Counts(Vec<(String, u64)>),
    /// The query's own code fails, and says this.
    Fails(String),
}

/// A question after so many of [`BATCHES`].
pub struct Row {
    /// The number of lines that are read before the question.
    pub after: usize,
    /// The query's name.
    pub query: &'static str,
    /// The argument: a text, or a number for those that count.
    pub argument: &'static str,
    /// The expected answer.
    pub answer: Answer,
}

/// What is fed, a batch each; an empty one is a time in which nothing comes.
pub const BATCHES: &[&[&str]] = &[
    &["hello the man said", "the"],
    &["the man on the moon", "where are you"],
    &[],
    &[],
    &[],
    &["the the"],
    &[],
    &["the"],
    &["the foo"],
];

/// The table.
pub fn rows() -> Vec<Row> {
    use Answer::Number;
    let words = |words: &[&str]| Answer::Words(words.iter().map(ToString::to_string).collect());
    let counts = |counts: &[(&str, u64)]| {
        Answer::Counts(counts.iter().map(|(word, count)| (word.to_string(), *count)).collect())
    };
    let row = |after, query, argument, answer| Row { after, query, argument, answer };
    let first = counts(&[("hello", 1), ("said", 1), ("the", 2), ("man", 1)]);
    let mut rows = vec![
        row(1, "words", "the", Number(2)),
        row(1, "words", "hello", Number(1)),
        row(1, "words", "none of these", Number(0)),
        row(1, "words", "", Number(0)),
        row(1, "all", "", first),
        row(2, "words", "the", Number(4)),
        row(2, "words", "man", Number(2)),
        row(2, "words", "the man", Number(6)),
        row(2, "words", "man where you the", Number(8)),
        row(5, "words", "the", Number(4)),
        row(6, "words", "the", Number(6)),
        row(8, "words", "the", Number(7)),
        row(9, "words", "the foo", Number(9)),
        row(9, "either", "the man", words(&["7", "the", "man"])),
        row(9, "either", "hello", words(&["5", "hello"])),
        row(9, "twice", "the", counts(&[("the", 1), ("the", 1)])),
        row(9, "shuffled", "the man", Number(2)),
        row(9, "square", "2", Number(4)),
        row(9, "square", "10", Number(100)),
        row(9, "square", "1", Number(1)),
        row(9, "square", "0", Number(0)),
        row(9, "fails", "good bad", Answer::Fails("no such word".into())),
    ];
    rows.extend((0..100).map(|_| row(9, "count", "the", Number(1))));
    rows.push(row(9, "count", "", Number(0)));
    rows.push(row(9, "count", "1 2 3 4 5 6 7 8", Number(8)));
    rows
}

fn split(text: &str) -> Vec<String> {
    text.split_whitespace().map(String::from).collect()
}

/// The queries of the table, and those of its neighbours.
pub fn topology(topology: &Topology<'_>, io: &Io) {
    let counts: State<'_, String, u64> = topology
        .source("sentences", io.source::<String>("sentences"))
        .flat_map(|text: String, words| words.extend(split(&text)))
        .group_by(|word| word.clone())
        .persistent_aggregate("counts", Count);
    topology.query("words", |text: Requests<String>| {
        text.flat_map(|text, words| words.extend(split(&text))).lookup(&counts).aggregate(Sum)
    });
    topology.query("all", |any: Requests<String>| any.scan(&counts, |_| Scan::all()));
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
    topology.query("shuffled", |text: Requests<String>| {
        text.flat_map(|text, words| words.extend(split(&text))).shuffle().shuffle().aggregate(Count)
    });
    topology.query("square", |n: Requests<String>| {
        let rows = n
            .map(|n| n.parse::<u64>().unwrap_or(0))
            .flat_map(|n, rows| rows.extend((0..n).map(|_| n)))
            .shuffle();
        rows.flat_map(|n, cells| cells.extend(0..n)).shuffle().aggregate(Count)
    });
    topology.query("fails", |text: Requests<String>| {
        text.flat_map(|text, words| words.extend(split(&text)))
            .try_map(|word| if word == "bad" { Err("no such word") } else { Ok(word) })
    });
    topology.query("longest", |text: Requests<String>| {
        text.flat_map(|text, words| words.extend(split(&text)))
            .map(|word| word.len() as u64)
            .filter(|n| *n > 0)
            .aggregate(Max)
    });
    topology.query("repeat", |n: Requests<u64>| {
        n.flat_map(|n, texts| texts.extend((0..n).map(|_| "tide".to_string())))
    });
    topology.query("sleep", |ms: Requests<u64>| {
        ms.map(|ms| {
            std::thread::sleep(std::time::Duration::from_millis(ms));
            ms
        })
    });
}

/// Feeds batch after batch, and after each of them asks what the table has.
pub fn check(workers: usize, start: impl FnOnce(&Kit) -> Box<dyn Fn(&Row) -> Answer>) {
    let mut kit = Kit::with(move |settings| settings.workers = workers, topology);
    let ask = start(&kit);
    let rows = rows();
    for (after, batch) in BATCHES.iter().enumerate() {
        kit.feed("sentences", batch.iter().map(ToString::to_string));
        kit.step();
        for row in rows.iter().filter(|row| row.after == after + 1) {
            let (answer, expected) = (sorted(ask(row)), sorted(row.answer.clone()));
            let Row { query, argument, .. } = row;
            assert_eq!(
                answer, expected,
                "{workers} workers, after batch {}: {query} of {argument:?}",
                row.after
            );
        }
    }
}

fn sorted(answer: Answer) -> Answer {
    match answer {
        Answer::Words(mut words) => {
            words.sort_unstable();
            Answer::Words(words)
        }
        Answer::Counts(mut counts) => {
            counts.sort_unstable();
            Answer::Counts(counts)
        }
        other => other,
    }
}
