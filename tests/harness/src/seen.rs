//! What a subject has left on disk, and what is wrong with it: the checker of the crash tests.

use super::input::Input;
use super::recount::Recount;
use super::store::{compare, copy_folder, positions, scan, schema};
use super::subject;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use tidemill::sink::Entry;
use tidemill::{Change, Points, Store, Txid};

/// What a subject has left.
pub struct Seen {
    /// The last committed batch.
    pub committed: Txid,
    /// The last folded batch.
    pub folded: Txid,
    /// By partition.
    pub positions: BTreeMap<String, u64>,
    /// The count of each word.
    pub counts: BTreeMap<String, u64>,
    /// The number of bytes of all lines; none before the first.
    pub bytes: Option<u64>,
    /// The output of the first sink.
    pub lines: Output,
    /// The output of the second sink.
    pub changes: Output,
}

/// What a sink has, and what it is still owed.
pub struct Output {
    /// The batch that its marker names.
    pub marker: Txid,
    /// What its file holds: as far as the marker covers it, or all of it.
    pub file: Vec<u8>,
    /// How much of the file the marker covers.
    pub covered: u64,
    /// Records that are committed and not in the file.
    pub owed: Vec<String>,
}

impl Seen {
    /// What a crash has left; none if there is no store yet. Looks at a copy, so that the next
    /// start finds what the crash has left.
    pub fn after_crash(folder: &Path) -> Option<Seen> {
        if !Store::exists(&subject::state(folder)).expect("it can be looked into") {
            return None;
        }
        let copy = tempfile::tempdir_in(folder).expect("the folder can be written");
        copy_folder(&subject::state(folder), copy.path());
        let mut seen = Seen::read(copy.path(), folder);
        for output in [&mut seen.lines, &mut seen.changes] {
            // What is behind it is cut off by the next start.
            output.file.truncate(usize::try_from(output.covered).expect("a test is small"));
        }
        Some(seen)
    }

    /// What a run to the end has left.
    pub fn at_end(folder: &Path) -> Seen {
        Seen::read(&subject::state(folder), folder)
    }

    fn read(state: &Path, folder: &Path) -> Seen {
        let store = Store::inspect(state).expect("the store can be read");
        let seen = Seen {
            committed: store.committed().txid(),
            folded: store.folded(),
            positions: positions(&store, &["plain", "packed"]),
            counts: scan(&store, "counts"),
            bytes: scan::<(), u64>(&store, "bytes").remove(&()),
            lines: Output::read(&store, folder, "lines"),
            changes: Output::read(&store, folder, "changes"),
        };
        store.close(&Points::none()).expect("the store can be closed");
        seen
    }

    /// Everything that is wrong, given the positions: the rest of the input may not have been read
    /// yet, and sinks may be owed output.
    pub fn complaints(&self, input: &Input) -> Vec<String> {
        let expected = Recount::of(input, &self.positions);
        let mut wrong = Vec::new();
        if self.folded > self.committed {
            wrong.push(format!(
                "folded up to {}, beyond the last committed batch {}",
                self.folded, self.committed
            ));
        }
        // A start records what a file is, before anything is read of it.
        let read = self.positions.values().filter(|offset| **offset > 0).count();
        if (self.committed == Txid::NONE) != (read == 0) {
            wrong.push(format!(
                "batch {} is committed, and {read} partitions are read",
                self.committed
            ));
        }
        wrong.extend(
            expected
                .misplaced
                .iter()
                .map(|file| format!("positions: that of {file:?} is not between two lines")),
        );
        compare("state counts", &expected.counts, &self.counts, &mut wrong);
        if self.bytes != expected.bytes {
            wrong.push(format!("state bytes: {:?} instead of {:?}", self.bytes, expected.bytes));
        }
        for (name, output) in [("lines", &self.lines), ("changes", &self.changes)] {
            if output.marker > self.committed {
                wrong.push(format!(
                    "sink {name} holds batch {}, and {} is committed",
                    output.marker, self.committed
                ));
            }
        }
        self.check_lines(&expected, &mut wrong);
        self.check_changes(&mut wrong);
        wrong
    }

    /// Everything that is wrong after a run to the end of the input.
    pub fn complaints_at_end(&self, input: &Input) -> Vec<String> {
        let mut wrong = self.complaints(input);
        let lengths = input
            .files
            .iter()
            .map(|file| (file.path.display().to_string(), file.text.len() as u64))
            .collect();
        compare("positions", &lengths, &self.positions, &mut wrong);
        for (name, output) in [("lines", &self.lines), ("changes", &self.changes)] {
            if output.file.len() as u64 != output.covered {
                wrong.push(format!(
                    "sink {name}: its file has {} bytes, its marker says {}",
                    output.file.len(),
                    output.covered
                ));
            }
            if !output.owed.is_empty() {
                wrong.push(format!("sink {name}: {} records are not published", output.owed.len()));
            }
        }
        wrong
    }

    /// Each file's lines are there, each once, in order.
    fn check_lines(&self, expected: &Recount, wrong: &mut Vec<String>) {
        let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in self.lines.records::<String>("lines", wrong) {
            let file = line.split('-').next().unwrap_or_default().to_lowercase();
            seen.entry(file).or_default().push(line);
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
            wrong.push("sink lines: the lines of a file are out of order".to_string());
        }
    }

    /// Each change begins where the one before it ended, and the last ends at the state's value.
    fn check_changes(&self, wrong: &mut Vec<String>) {
        let mut last: BTreeMap<String, u64> = BTreeMap::new();
        for Change { key, old, new } in
            self.changes.records::<Change<String, u64>>("changes", wrong)
        {
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
        compare("sink changes, the last of each word", &self.counts, &last, wrong);
    }
}

impl Output {
    fn read(store: &Store, folder: &Path, sink: &str) -> Output {
        let path = subject::output(folder, sink);
        let marker = fs::read(path.with_extension("jsonl.marker"));
        let marker = marker.map_or(serde_json::Value::Null, |json| {
            serde_json::from_slice(&json).expect("a marker is JSON")
        });
        let mut output = Output {
            marker: Txid(marker["txid"].as_u64().unwrap_or(0)),
            file: fs::read(&path).unwrap_or_default(),
            covered: marker["length"].as_u64().unwrap_or(0),
            owed: Vec::new(),
        };
        if let Some(id) = schema(store).sink(sink) {
            let owed = store.read_outbox(id, output.marker, |txid, _, payload| {
                let entry = Entry { txid, payload: Arc::from(payload) };
                output.owed.extend(
                    entry.records().map(|record| String::from_utf8_lossy(record).into_owned()),
                );
                Ok(true)
            });
            owed.expect("the store can be read");
        }
        output
    }

    /// The records in the file and, after them, those that are owed.
    fn records<T: DeserializeOwned>(&self, sink: &str, wrong: &mut Vec<String>) -> Vec<T> {
        let file = String::from_utf8_lossy(&self.file);
        if !file.is_empty() && !file.ends_with('\n') {
            wrong.push(format!("sink {sink}: its file is torn: the last line has no end"));
        }
        let lines = file.lines().chain(self.owed.iter().map(String::as_str));
        let mut records = Vec::new();
        for line in lines {
            match serde_json::from_str(line) {
                Ok(record) => records.push(record),
                Err(why) => wrong.push(format!("sink {sink}: its file is torn: {why}: {line}")),
            }
        }
        records
    }
}
