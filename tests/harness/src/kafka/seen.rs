//! What a subject has left in its store and in its topics, and what is wrong with it: the checker
//! of the crash tests with a broker.
//!
//! What is expected is counted again from the input that a read_committed reader sees, with plain
//! maps and without any of the engine.

use super::super::store::{compare, copy_folder, positions, scan};
use super::super::topics::{Seen as Message, read_committed};
use super::input::Content;
use super::subject::{self, SINKS, SOURCES};
use std::collections::BTreeMap;
use std::path::Path;
use tidemill::{Change, Points, Store};

/// What a subject has left.
#[derive(Clone)]
pub struct Seen {
    /// By partition.
    pub positions: BTreeMap<String, u64>,
    /// The count of each word.
    pub counts: BTreeMap<String, u64>,
    /// The number of bytes of all lines; none before the first.
    pub bytes: Option<u64>,
    /// What a read_committed reader sees of the outputs.
    pub changes: Vec<Message>,
    /// The messages of the second output.
    pub lines: Vec<Message>,
}

/// What must have come of the input.
#[derive(Default)]
struct Recount {
    counts: BTreeMap<String, u64>,
    bytes: Option<u64>,
    /// The lines of each partition, by the name that they begin with.
    lines: BTreeMap<String, Vec<String>>,
}

impl Recount {
    /// Of each partition the lines before its position.
    fn of(content: &Content, positions: &BTreeMap<String, u64>) -> Recount {
        let mut recount = Recount::default();
        for (partition, lines) in &content.lines {
            let position = positions.get(partition).copied().unwrap_or(0);
            for (_, line) in lines.iter().filter(|(offset, _)| *offset < position) {
                *recount.bytes.get_or_insert(0) += line.len() as u64;
                for word in line.split(' ').skip(1) {
                    *recount.counts.entry(word.to_string()).or_default() += 1;
                }
                recount.lines.entry(begin_of(line)).or_default().push(line.clone());
            }
        }
        recount
    }
}

fn begin_of(line: &str) -> String {
    line.split('-').next().unwrap_or_default().to_string()
}

impl Seen {
    /// What a crash has left in the store; none if there is no store yet. Looks at a copy, so that
    /// the next start finds what the crash has left.
    pub fn after_crash(folder: &Path) -> Option<Seen> {
        if !Store::exists(&subject::state(folder)).expect("it can be looked into") {
            return None;
        }
        let copy = tempfile::tempdir_in(folder).expect("the folder can be written");
        copy_folder(&subject::state(folder), copy.path());
        Some(Seen::stored(copy.path()))
    }

    /// What a run to the end has left, in the store and in the topics.
    pub fn at_end(folder: &Path, brokers: &str, name: &str) -> Seen {
        let [changes, lines] =
            SINKS.map(|sink| read_committed(brokers, &subject::output(name, sink)));
        Seen { changes, lines, ..Seen::stored(&subject::state(folder)) }
    }

    fn stored(state: &Path) -> Seen {
        let store = Store::inspect(state).expect("the store can be read");
        let seen = Seen {
            positions: positions(&store, &SOURCES),
            counts: scan(&store, "counts"),
            bytes: scan::<(), u64>(&store, "bytes").remove(&()),
            changes: Vec::new(),
            lines: Vec::new(),
        };
        store.close(&Points::none()).expect("the store can be closed");
        seen
    }

    /// What is wrong in the store, given its positions: the rest of the input may not have been
    /// read yet.
    pub fn complaints(&self, content: &Content) -> Vec<String> {
        let mut wrong = Vec::new();
        self.check_states(&Recount::of(content, &self.positions), &mut wrong);
        wrong
    }

    /// Everything that is wrong after a run to the end of the input.
    pub fn complaints_at_end(&self, content: &Content) -> Vec<String> {
        let mut wrong = Vec::new();
        compare("positions", &content.ends, &self.positions, &mut wrong);
        let expected = Recount::of(content, &content.ends);
        self.check_states(&expected, &mut wrong);
        self.check_lines(&expected, &mut wrong);
        self.check_changes(&expected, &mut wrong);
        wrong
    }

    fn check_states(&self, expected: &Recount, wrong: &mut Vec<String>) {
        compare("state counts", &expected.counts, &self.counts, wrong);
        if self.bytes != expected.bytes {
            wrong.push(format!("state bytes: {:?} instead of {:?}", self.bytes, expected.bytes));
        }
    }

    /// Each line of the input is there, once, and those of a partition are in order.
    fn check_lines(&self, expected: &Recount, wrong: &mut Vec<String>) {
        let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for Message { key, value, partition, offset } in &self.lines {
            let line = value.clone().unwrap_or_default();
            if key.as_deref() != Some(begin_of(&line).as_str()) {
                wrong.push(format!(
                    "sink lines: [{partition}] {offset} has the key {key:?} and the value {value:?}"
                ));
            }
            seen.entry(begin_of(&line)).or_default().push(line);
        }
        if seen == expected.lines {
            return;
        }
        let times = |lines: &BTreeMap<String, Vec<String>>| {
            let mut times: BTreeMap<String, u64> = BTreeMap::new();
            lines.values().flatten().for_each(|line| *times.entry(line.clone()).or_default() += 1);
            times
        };
        let before = wrong.len();
        compare("sink lines", &times(&expected.lines), &times(&seen), wrong);
        if wrong.len() == before {
            wrong.push("sink lines: the lines of a partition are out of order".to_string());
        }
    }

    /// Each change begins where the one before it of its word ended, and the last ends at what is
    /// counted.
    fn check_changes(&self, expected: &Recount, wrong: &mut Vec<String>) {
        let mut last: BTreeMap<String, u64> = BTreeMap::new();
        for message in &self.changes {
            let read = message.value.as_deref().map(serde_json::from_str::<Change<String, u64>>);
            let Some(Ok(change)) = read.filter(|read| {
                read.as_ref().is_ok_and(|change| message.key.as_ref() == Some(&change.key))
            }) else {
                wrong.push(format!("sink changes: what is {message:?}?"));
                continue;
            };
            let Change { key, old, new } = change;
            if last.get(&key).copied() != old {
                wrong.push(format!(
                    "sink changes: {key:?} goes from {old:?} to {new:?} after {:?}",
                    last.get(&key)
                ));
            }
            match new {
                Some(new) => last.insert(key, new),
                None => last.remove(&key),
            };
        }
        compare("sink changes, the last of each word", &expected.counts, &last, wrong);
    }
}
