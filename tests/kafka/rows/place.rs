//! The harness: a word count from topic to topic, and what a start on it comes to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use tidemill_harness::binary::{Outcome, Running, counts_are, folder, recount, run};
use tidemill_harness::broker::Broker;
use tidemill_harness::topics::{
    Seen, create_topic, delete_topic, partitions_of, produce, read_committed, watermarks,
};

/// A word count of one topic with one partition, whose changes go to another.
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) folder: tempfile::TempDir,
    /// Everything that was sent, in its order.
    pub(crate) sent: Vec<String>,
    /// How many records the topic lost before they were read.
    pub(crate) lost: usize,
}

pub(crate) fn brokers() -> String {
    Broker::shared().address()
}

impl Place {
    pub(crate) fn new(name: &str) -> Place {
        let place = Place { name: name.to_string(), folder: folder(), sent: Vec::new(), lost: 0 };
        create_topic(&brokers(), &place.input(), 1, &[]);
        create_topic(&brokers(), &place.output(), 1, &[]);
        place
    }

    pub(crate) fn input(&self) -> String {
        format!("{}-in", self.name)
    }

    pub(crate) fn output(&self) -> String {
        format!("{}-out", self.name)
    }

    pub(crate) fn progress(&self) -> String {
        format!("{}.out.progress", self.name)
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub(crate) fn command(&self, command: &str, more: &[&str]) -> Vec<String> {
        let state = self.state();
        let state = state.to_str().expect("UTF-8");
        let own = [command, "--name", &self.name, "--state", state, "--max-batch-records", "10"];
        let listens: &[&str] = if command == "run" { &["--listen", "127.0.0.1:0"] } else { &[] };
        own.iter().chain(listens).chain(more).map(ToString::to_string).collect()
    }

    /// The arguments of the source, and those of the sink too.
    pub(crate) fn kafka(&self, out: bool) -> Vec<String> {
        let (brokers, input, output) = (brokers(), self.input(), self.output());
        let (source, sink) = (["--kafka", &brokers, "--topic", &input], ["--out", &output]);
        let arguments = source.iter().chain(if out { &sink[..] } else { &[] });
        arguments.map(ToString::to_string).collect()
    }

    pub(crate) fn end(&self, command: &str, arguments: &[&str]) -> Outcome {
        let arguments = self.command(command, arguments);
        run("word_count", &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    pub(crate) fn start(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Running {
        let arguments = self.command("run", arguments);
        Running::start_with(
            "word_count",
            &arguments.iter().map(String::as_str).collect::<Vec<_>>(),
            environment,
        )
    }

    /// Sends so many words more.
    pub(crate) fn send(&mut self, count: usize) {
        let from = self.sent.len();
        self.sent.extend((from..from + count).map(|number| format!("w{}", number % 7)));
        let messages: Vec<_> =
            self.sent[from..].iter().map(|word| (0, None, Some(word.as_str()))).collect();
        produce(&brokers(), &self.input(), &messages);
    }

    /// Runs until everything is read and published, and stops. Gives what was said.
    #[track_caller]
    pub(crate) fn run_to_end(&self, case: &str, arguments: &[&str]) -> String {
        let (_, end) = watermarks(&brokers(), &self.input(), 0);
        let mut running = self.start(arguments, &[]);
        running.get_until("/v1/status", |status| {
            let published = status["sinks"].as_array().is_some_and(|sinks| {
                sinks.iter().all(|sink| {
                    sink["backlog_bytes"] == 0
                        && sink["error"].is_null()
                        && sink["published"].is_u64()
                })
            });
            status["partitions"][0]["offset"] == end && published
        });
        running.signal("TERM");
        running.wait().is(case, 0, &["stopped after batch"]).err.clone()
    }

    /// Counts some words, with the sink or without it.
    pub(crate) fn count(&mut self, words: usize, out: bool) {
        self.send(words);
        let kafka = self.kafka(out);
        self.run_to_end(&self.name, &kafka.iter().map(String::as_str).collect::<Vec<_>>());
    }

    /// Counts some words more, and is killed at a point of its start or of its publisher.
    pub(crate) fn crash_at(&mut self, words: usize, point: &str) {
        self.send(words);
        let kafka = self.kafka(true);
        let armed = format!("{point}:wait");
        let mut running = self.start(
            &kafka.iter().map(String::as_str).collect::<Vec<_>>(),
            &[("TIDEMILL_CRASH_AT", &armed)],
        );
        running.says(&format!("crash point {point}"));
        if point != "sinks-claimed" {
            // Its publisher is stopped, and everything is committed behind it.
            running.get_until("/v1/status", |status| status["records"] == words);
        }
        running.kill();
    }

    /// The folder as it is now, elsewhere.
    pub(crate) fn copy(&self) -> tempfile::TempDir {
        let copy = folder();
        let copied =
            std::process::Command::new("cp").arg("-r").arg(self.state()).arg(copy.path()).status();
        assert!(copied.is_ok_and(|copied| copied.success()), "the folder is copied");
        copy
    }

    /// Every marker that was ever written.
    pub(crate) fn markers(&self) -> Vec<Seen> {
        if partitions_of(&brokers(), &self.progress()) == 0 {
            Vec::new()
        } else {
            read_committed(&brokers(), &self.progress())
        }
    }

    /// Makes the progress topic again, with this one record.
    pub(crate) fn set_progress(&self, key: &str, value: &str) {
        if partitions_of(&brokers(), &self.progress()) > 0 {
            delete_topic(&brokers(), &self.progress());
        }
        create_topic(&brokers(), &self.progress(), 1, &[("cleanup.policy", "compact")]);
        produce(&brokers(), &self.progress(), &[(0, Some(key), Some(value))]);
    }

    pub(crate) fn set_marker(&self, marker: &Seen) {
        self.set_progress(
            marker.key.as_deref().expect("a key"),
            marker.value.as_deref().expect("a marker"),
        );
    }

    /// The changes that were published: each word's counts rise. Gives how many there are, and the
    /// newest of each word.
    #[track_caller]
    pub(crate) fn published(&self, case: &str) -> (usize, BTreeMap<String, u64>) {
        let mut newest: BTreeMap<String, u64> = BTreeMap::new();
        let messages = read_committed(&brokers(), &self.output());
        for message in &messages {
            let (word, count) =
                (message.key.clone().expect("a word"), message.value.as_deref().expect("a count"));
            let count = count.parse().unwrap_or_else(|why| panic!("{case}: {count}: {why}"));
            let before = newest.insert(word, count);
            assert!(
                before.is_none_or(|before| before < count),
                "{case}: a count goes back, or comes twice: {message:?}"
            );
        }
        (messages.len(), newest)
    }

    pub(crate) fn counted(&self) -> BTreeMap<String, u64> {
        recount(self.sent[self.lost..].iter().map(String::as_str))
    }
}

/// What a start comes to.
pub(crate) enum Comes {
    /// It goes on and says this; what it publishes is then exact, or only some of it.
    Goes(&'static [&'static str], Output),
    /// It is refused with this code and says this, and so is a check.
    Refused(i32, &'static [&'static str]),
}

pub(crate) use Comes::{Goes, Refused};

/// What is known of the output afterwards.
pub(crate) enum Output {
    /// The last count of each word is the recount.
    Exact,
    /// What was told to be there is not.
    Partial,
    /// Everything is there twice: it was begun anew.
    Twice,
}

/// Makes what is to be seen, starts on it with these arguments beside those of source and sink, and
/// compares.
pub(crate) fn check(case: &str, make: impl FnOnce(&mut Place), arguments: &[&str], comes: &Comes) {
    let mut place = Place::new(&case.replace([' ', ','], "-"));
    make(&mut place);
    let kafka = place.kafka(true);
    let arguments: Vec<&str> =
        kafka.iter().map(String::as_str).chain(arguments.iter().copied()).collect();
    match comes {
        Refused(code, parts) => {
            let before = place.markers();
            place.end("check", &arguments).is(&format!("{case}, check"), *code, parts);
            place.end("run", &arguments).is(case, *code, parts);
            assert_eq!(place.markers(), before, "{case}: nothing is changed");
        }
        Goes(parts, output) => {
            let said = place.run_to_end(case, &arguments);
            for part in *parts {
                assert!(said.contains(part), "{case}: {part:?} is not in\n{said}");
            }
            counts_are(case, &place.state(), &place.counted());
            match output {
                Output::Exact => {
                    assert_eq!(place.published(case).1, place.counted(), "{case}: the output")
                }
                Output::Partial => {
                    assert_ne!(place.published(case).1, place.counted(), "{case}: the output")
                }
                Output::Twice => {
                    let messages = read_committed(&brokers(), &place.output());
                    let last = |word: &String, count: &u64| {
                        let (word, count) = (Some(word.clone()), Some(count.to_string()));
                        messages
                            .iter()
                            .filter(|message| message.key == word && message.value == count)
                            .count()
                    };
                    assert!(
                        place.counted().iter().all(|(word, count)| last(word, count) == 2),
                        "{case}: {messages:?}"
                    );
                }
            }
            // Whatever was seen, the next start finds everything in order.
            let again = place.end(
                "check",
                &arguments
                    .iter()
                    .copied()
                    .filter(|argument| *argument != "--start-over")
                    .collect::<Vec<_>>(),
            );
            again.is(&format!("{case}, afterwards"), 0, &["sink \"out\" holds batch"]);
        }
    }
}

pub(crate) type Row<'a> = (&'a str, fn(&mut Place), &'a [&'a str], Comes);

/// Runs rows some at a time: each waits most of its time.
pub(crate) fn check_all(rows: &[Row<'_>]) {
    for some in rows.chunks(5) {
        std::thread::scope(|scope| {
            for (case, make, arguments, comes) in some {
                scope.spawn(move || check(case, make, arguments, comes));
            }
        });
    }
}
