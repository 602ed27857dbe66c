//! A topic that is deleted and made again, or is trimmed, while it is read and while it is not: the
//! run ends with 67 and names both topics, what was read before is committed, and nothing of the
//! other is taken for the rest of the one.

use serde_json::Value as Json;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tidemill_harness::binary::{self, Outcome, Running, folder, scan};
use tidemill_harness::broker::Broker;
use tidemill_harness::topics::{
    create_topic, delete_records, delete_topic, produce, produce_in_transaction, watermarks,
};

/// Within this a topic that is another is found while it is read: 15 s, and as much for a machine
/// that has much else to do.
const FOUND_WITHIN: Duration = Duration::from_secs(15 + 15);

/// The texts that name both topics.
const BOTH: [&str; 2] = [
    "the topic was deleted and made again: the one that was read has the id ",
    ", the one of its name now has the id ",
];

/// A word count of a topic.
struct Place {
    brokers: String,
    topic: String,
    partitions: i32,
    folder: tempfile::TempDir,
}

/// What a topic is filled with.
#[derive(Clone, Copy)]
enum Fill {
    Plain(usize),
    /// A committed transaction of so many, and so many plain ones after it.
    Transaction(usize, usize),
}

impl Fill {
    fn words(self) -> usize {
        match self {
            Fill::Plain(words) => words,
            Fill::Transaction(words, more) => words + more,
        }
    }
}

/// What the run does while the topic is made again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum While {
    Reading,
    Stopped,
    /// The process is suspended, until the new topic is full.
    Suspended,
    /// The sources are paused.
    Held,
}

impl Place {
    fn new(brokers: &str, topic: &str, partitions: i32) -> Place {
        create_topic(brokers, topic, partitions, &[]);
        Place {
            brokers: brokers.to_string(),
            topic: topic.to_string(),
            partitions,
            folder: folder(),
        }
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn start(&self, more: &[&str]) -> Running {
        let state = self.state();
        let state = state.to_str().expect("UTF-8");
        let own = [
            "run",
            "--name",
            &self.topic,
            "--state",
            state,
            "--kafka",
            &self.brokers,
            "--topic",
            &self.topic,
        ];
        let workers: &[&str] = if more.contains(&"--workers") { &[] } else { &["--workers", "1"] };
        Running::start(
            "word_count",
            &[&own[..], workers, &["--listen", "127.0.0.1:0"], more].concat(),
        )
    }

    /// Fills partition 0 with words that begin so.
    fn fill(&self, word: &str, fill: Fill) {
        self.fill_with(
            &(0..fill.words()).map(|number| format!("{word}{number}")).collect::<Vec<_>>(),
            fill,
        );
    }

    fn fill_with(&self, words: &[String], fill: Fill) {
        let messages: Vec<_> = words.iter().map(|word| (0, None, Some(word.as_str()))).collect();
        let in_transaction = match fill {
            Fill::Plain(_) => 0,
            Fill::Transaction(words, _) => words,
        };
        let (first, more) = messages.split_at(in_transaction);
        if !first.is_empty() {
            produce_in_transaction(
                &self.brokers,
                &format!("{}-{}", self.topic, words[0]),
                &self.topic,
                first,
                true,
            );
        }
        produce(&self.brokers, &self.topic, more);
    }

    fn end(&self) -> u64 {
        u64::try_from(watermarks(&self.brokers, &self.topic, 0).1).expect("it is not negative")
    }

    /// Waits until everything is read and committed.
    fn wait_until_read(&self, running: &mut Running) {
        let end = self.end();
        running.get_until("/v1/status", |status| {
            let partitions = status["partitions"].as_array().map_or(&[][..], Vec::as_slice);
            partitions.len() == usize::try_from(self.partitions).expect("few")
                && partitions[0]["offset"] == end
        });
    }

    /// Runs until everything is read, and ends it.
    fn read(&self, more: &[&str]) -> String {
        let mut running = self.start(more);
        self.wait_until_read(&mut running);
        // A position without a record is stored with the next write, within a second and a half.
        std::thread::sleep(Duration::from_millis(1600));
        let said = running.err();
        running.signal("TERM");
        running.wait().is(&self.topic, 0, &[]);
        said
    }

    /// How many of the words that were counted begin with `old`, and how many do not.
    fn counted(&self) -> (u64, u64) {
        let (old, new): (Vec<_>, Vec<_>) = scan("word_count", "counts", &self.state())
            .into_iter()
            .partition(|(word, _)| word.starts_with("old"));
        let sum = |rows: Vec<(String, u64)>| rows.into_iter().map(|(_, count)| count).sum();
        (sum(old), sum(new))
    }
}

/// One case: the topic as it is read, and as it is made again.
struct Case {
    name: &'static str,
    partitions: (i32, i32),
    from: &'static str,
    old: Fill,
    happens: While,
    /// `None`: it is not made again.
    new: Option<Fill>,
    parts: &'static [&'static str],
}

impl Case {
    const USUAL: Case = Case {
        name: "",
        partitions: (1, 1),
        from: "earliest",
        old: Fill::Plain(1000),
        happens: While::Reading,
        new: Some(Fill::Plain(1000)),
        parts: &BOTH,
    };

    #[track_caller]
    fn check(&self, brokers: &str) {
        let place = Place::new(brokers, self.name, self.partitions.0);
        let token = place.folder.path().join("token");
        std::fs::write(&token, format!("{TOKEN}\n")).expect("written");
        place.fill("old", self.old);
        let held = ["--token-file", token.to_str().expect("UTF-8")];
        let mut arguments = vec!["--from", self.from];
        if self.happens == While::Held {
            arguments.extend(held);
        }
        let mut running = place.start(&arguments);
        match self.happens {
            While::Held => hold(&mut running, place.end()),
            _ => place.wait_until_read(&mut running),
        }
        let mut running = match self.happens {
            While::Stopped => {
                std::thread::sleep(Duration::from_millis(1600));
                running.signal("TERM");
                running.wait().is(self.name, 0, &[]);
                None
            }
            While::Suspended => {
                running.signal("STOP");
                Some(running)
            }
            While::Reading | While::Held => Some(running),
        };
        delete_topic(brokers, self.name);
        let began = Instant::now();
        if let Some(new) = self.new {
            create_topic(brokers, self.name, self.partitions.1, &[]);
            place.fill("new", new);
        }
        if let (While::Suspended, Some(running)) = (self.happens, &running) {
            running.signal("CONT");
        }
        let running = running.take().unwrap_or_else(|| place.start(&["--from", self.from]));
        let outcome = running.wait();
        let took = began.elapsed();
        outcome.is(self.name, 67, self.parts);
        let old = if self.from == "latest" { 0 } else { self.old.words() as u64 };
        assert_eq!(
            place.counted(),
            (old, 0),
            "{}: what was read is there, and nothing of the other topic",
            self.name
        );
        assert!(took < FOUND_WITHIN, "{}: it took {took:?}", self.name);
        eprintln!("{}: found after {took:?}", self.name);
        if let Some(new) = self.new {
            // A start refuses it too, for as long as nobody allows the loss; then the new topic is
            // read as a whole, and is the topic.
            place.start(&[]).wait().is(self.name, 67, self.parts);
            let place = Place { partitions: self.partitions.1, ..place };
            let said = place.read(&["--on-loss", "earliest"]);
            assert!(
                said.contains("told to go on: at 0") || said.contains("is gone"),
                "{}: {said}",
                self.name
            );
            assert_eq!(
                place.counted(),
                (old, new.words() as u64),
                "{}: all of the new topic, once",
                self.name
            );
            place.read(&[]);
        }
    }
}

const TOKEN: &str = "0123456789abcdef";

fn ask(running: &mut Running, path: &str, post: bool) -> Json {
    let url = format!("{}{path}", running.url());
    let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
    let agent = config.build().new_agent();
    let token = format!("Bearer {TOKEN}");
    let answer = match post {
        true => agent.post(&url).header("authorization", &token).send_empty(),
        false => agent.get(&url).header("authorization", &token).call(),
    };
    let body = answer.expect("it answers").body_mut().read_to_string().expect("a text");
    serde_json::from_str(&body).expect("JSON")
}

/// Waits until everything is read, and holds the sources.
fn hold(running: &mut Running, end: u64) {
    let began = Instant::now();
    while ask(running, "/v1/status", false)["partitions"][0]["offset"] != end {
        assert!(began.elapsed() < binary::PATIENCE, "it is not read: {}", running.err());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(ask(running, "/v1/sources/drain", true)["phase"], "paused");
}

#[test]
fn a_topic_that_was_made_again_is_found_and_not_a_record_of_it_is_taken_for_the_old_ones() {
    let brokers = Broker::shared().address();
    let usual = || Case::USUAL;
    let cases = [
        Case { name: "remade-shorter", new: Some(Fill::Plain(500)), ..usual() },
        Case { name: "remade-as-long", ..usual() },
        Case { name: "remade-longer", new: Some(Fill::Plain(2000)), ..usual() },
        Case { name: "remade-empty", new: Some(Fill::Plain(0)), ..usual() },
        Case { name: "remade-fewer", partitions: (2, 1), ..usual() },
        Case {
            name: "remade-gone",
            new: None,
            parts: &["remade-gone[0]: the topic was deleted", "--start-over"],
            ..usual()
        },
        // The witness's offset holds no record in the new topic: the end of a transaction is there.
        Case {
            name: "remade-control",
            happens: While::Stopped,
            new: Some(Fill::Transaction(999, 501)),
            ..usual()
        },
        Case {
            name: "remade-transactions",
            old: Fill::Transaction(900, 0),
            new: Some(Fill::Transaction(1500, 300)),
            ..usual()
        },
        // Nothing was read of it: there is no witness.
        Case { name: "remade-never-read", from: "latest", new: Some(Fill::Plain(1500)), ..usual() },
        Case {
            name: "remade-never-read-stopped",
            from: "latest",
            happens: While::Stopped,
            new: Some(Fill::Plain(1500)),
            ..usual()
        },
        Case {
            name: "remade-suspended",
            happens: While::Suspended,
            new: Some(Fill::Plain(2000)),
            ..usual()
        },
        Case { name: "remade-held", happens: While::Held, new: Some(Fill::Plain(2000)), ..usual() },
    ];
    std::thread::scope(|scope| {
        for case in &cases {
            let brokers = &brokers;
            scope.spawn(move || case.check(brokers));
        }
    });
}

/// What a reader had of a partition before retention overtook it is committed; only what nobody has
/// any more is lost.
#[test]
fn what_was_read_before_a_gap_is_committed() {
    let brokers = Broker::shared().address();
    let place = Place::new(&brokers, "remade-gap", 1);
    let token = place.folder.path().join("token");
    std::fs::write(&token, format!("{TOKEN}\n")).expect("written");
    place.fill("old", Fill::Plain(500));
    let mut running = place.start(&["--token-file", token.to_str().expect("UTF-8")]);
    hold(&mut running, 500);
    // Far more than a client fetches ahead.
    let large = "x".repeat(1000);
    let words: Vec<String> = (0..39_500).map(|number| format!("old{number}{large}")).collect();
    place.fill_with(&words, Fill::Plain(words.len()));
    // It fetches ahead meanwhile: as much as its queue holds.
    std::thread::sleep(Duration::from_secs(2));
    delete_records(&brokers, "remade-gap", 0, 35_000);
    ask(&mut running, "/v1/sources/resume", true);
    let outcome: Outcome = running.wait();
    outcome.is("a gap", 67, &["remade-gap[0]: need ", ", the log starts at 35000: "]);
    let (read, _) = place.counted();
    assert!(read > 5_000, "what was fetched before is committed: {read}");
    let need = format!(
        "remade-gap[0]: need {read}, the log starts at 35000: {} records lost",
        35_000 - read
    );
    outcome.is("a gap", 67, &[&need]);
    place.start(&[]).wait().is("a start", 67, &[&need]);
    place.read(&["--on-loss", "earliest"]);
    assert_eq!(place.counted(), (read + 5_000, 0));
}

/// A client that has dropped every broker that it knew reads nothing any more, whatever it is told.
/// It was seen after pauses of a broker, about once in seven with 300 partitions.
#[test]
fn a_client_that_reads_nothing_though_the_brokers_answer_is_replaced() {
    let long = std::env::var_os("TIDEMILL_LONG").is_some();
    let (partitions, pauses) = if long { (300, 12) } else { (60, 1) };
    let mut broker = Broker::start();
    let brokers = broker.address();
    let place = Place::new(&brokers, "remade-paused", partitions);
    let mut running = place.start(&["--workers", "4"]);
    running.says("listening on");
    for pause in 1..=pauses {
        broker.pause();
        std::thread::sleep(Duration::from_secs(if long { 5 } else { 2 }));
        broker.resume();
        let words: Vec<_> =
            (0..partitions).map(|partition| (partition, None, Some("old"))).collect();
        produce(&brokers, "remade-paused", &words);
        let read = u64::try_from(partitions * pause).expect("few");
        let began = Instant::now();
        while running.get("/v1/status").1["records"] != read {
            assert!(
                began.elapsed() < Duration::from_secs(90),
                "pause {pause}: {}\n{}",
                running.get("/v1/status").1,
                running.err()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    let said = running.err();
    running.signal("TERM");
    running.wait().is("stopped", 0, &[]);
    assert_eq!(place.counted().0, u64::try_from(partitions * pauses).expect("few"));
    if said.contains("another takes its place") {
        eprintln!("a client was replaced");
    }
}
