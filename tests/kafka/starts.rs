//! What a start makes of a topic: lost, re-created and expired records, holes in the offsets,
//! zombies, brokers that are away.

use rdkafka::producer::Producer;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tidemill_harness::binary::{Outcome, Running, folder, run, scan};
use tidemill_harness::broker::Broker;
use tidemill_harness::topics::{
    begin_transaction, create_topic, delete_records, delete_topic, produce, produce_in_transaction,
    read_committed, watermarks,
};

/// A word count of a topic with one partition.
struct Place {
    brokers: String,
    topic: String,
    folder: tempfile::TempDir,
}

impl Place {
    fn new(brokers: &str, topic: &str) -> Place {
        create_topic(brokers, topic, 1, &[]);
        Place { brokers: brokers.to_string(), topic: topic.to_string(), folder: folder() }
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn arguments(&self, more: &[&str]) -> Vec<String> {
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
        let anywhere: &[&str] =
            if more.contains(&"--listen") { &[] } else { &["--listen", "127.0.0.1:0"] };
        let own = own.iter().chain(anywhere).chain(more);
        own.map(ToString::to_string).collect()
    }

    fn start(&self, more: &[&str]) -> Running {
        let arguments = self.arguments(more);
        Running::start("word_count", &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Sends words, one a message.
    fn send(&self, words: impl IntoIterator<Item = impl Into<String>>) {
        let words: Vec<String> = words.into_iter().map(Into::into).collect();
        produce(
            &self.brokers,
            &self.topic,
            &words.iter().map(|word| (0, None, Some(word.as_str()))).collect::<Vec<_>>(),
        );
    }

    /// Runs until the position is there and stored, and gives what was said at the start.
    fn read_up_to(&self, offset: i64, more: &[&str]) -> String {
        let mut running = self.start(more);
        running.get_until("/v1/status", |status| {
            status["partitions"][0]["offset"].as_i64().is_some_and(|at| at >= offset)
                && status["partitions"][0]["lag"] == 0
        });
        // A position without a record is stored with the next write, within a second and a half.
        std::thread::sleep(Duration::from_millis(1600));
        let said = running.err();
        running.signal("TERM");
        running.wait().is("stopped", 0, &[]);
        said
    }

    #[track_caller]
    fn refused(&self, case: &str, code: i32, parts: &[&str]) {
        let arguments = self.arguments(&[]);
        let outcome: Outcome =
            run("word_count", &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        outcome.is(case, code, parts);
    }

    fn words(&self) -> u64 {
        scan("word_count", "counts", &self.state()).iter().map(|(_, count)| count).sum()
    }
}

/// An address that nobody listens on.
fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

/// What a port answers, also if it refuses.
fn ask(url: &str) -> String {
    let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
    let mut answer =
        config.build().new_agent().get(url).call().unwrap_or_else(|why| panic!("{url}: {why}"));
    answer.body_mut().read_to_string().expect("a text")
}

fn numbered(range: std::ops::Range<usize>) -> impl Iterator<Item = String> {
    range.map(|number| format!("w{number}"))
}

#[test]
fn from_the_earliest_from_the_latest_and_never_back_to_either() {
    let brokers = Broker::shared().address();
    let place = Place::new(&brokers, "first");
    place.send(numbered(0..100));
    place.read_up_to(100, &["--from", "earliest"]);
    assert_eq!(place.words(), 100);
    place.send(numbered(100..110));
    place.read_up_to(110, &["--from", "latest"]);
    assert_eq!(place.words(), 110, "a restart goes on from the store");
    let late = Place { folder: folder(), topic: "first".into(), brokers };
    late.refused(
        "another state under this name",
        66,
        &["consumer group \"first\" has read first[0] up to 110", "--start-over"],
    );
    let mut running = late.start(&["--from", "latest", "--start-over"]);
    running.says("listening on");
    running.get_until("/v1/status", |status| status["partitions"][0]["lag"] == 0);
    late.send(numbered(0..7));
    running.get_until("/v1/status", |status| status["records"] == 7);
    running.signal("TERM");
    running.wait().is("latest", 0, &[]);
    assert_eq!(late.words(), 7);
    late.read_up_to(117, &["--from", "earliest", "--start-over"]);
    assert_eq!(late.words(), 117, "everything again, into a new state");
}

#[test]
fn lost_records_are_counted_and_refused_or_skipped_when_told() {
    let brokers = Broker::shared().address();
    let place = Place::new(&brokers, "lost");
    place.send(numbered(0..10));
    place.read_up_to(10, &[]);
    place.send(numbered(10..60));
    delete_records(&brokers, "lost", 0, 40);
    place.refused(
        "retention",
        67,
        &["lost[0]: need 10, the log starts at 40: 30 records lost", "--on-loss"],
    );
    let said = place.read_up_to(60, &["--on-loss", "earliest"]);
    assert!(said.contains("30 records lost; told to go on: at 40"), "{said}");
    assert_eq!(place.words(), 30);
}

#[test]
fn a_topic_that_was_made_again_is_found() {
    let brokers = Broker::shared().address();
    let place = Place::new(&brokers, "again");
    place.send(numbered(0..10));
    place.read_up_to(10, &[]);
    delete_topic(&brokers, "again");
    place.refused("deleted", 67, &["again[0] was read up to 10, and is gone"]);
    create_topic(&brokers, "again", 1, &[]);
    place.refused(
        "made again, shorter",
        67,
        &["again[0]: the topic was deleted and made again", "now has the id"],
    );
    place.send(numbered(100..130));
    place.refused(
        "made again, longer",
        67,
        &["again[0]: the topic was deleted and made again", "now has the id"],
    );
}

#[test]
fn aborted_transactions_are_holes_and_an_expired_end_is_no_loss() {
    let brokers = Broker::shared().address();
    let place = Place::new(&brokers, "holes");
    let message = |word: &'static str| [(0, None, Some(word))];
    produce_in_transaction(&brokers, "holes-1", "holes", &message("one"), true);
    produce_in_transaction(&brokers, "holes-2", "holes", &message("aborted"), false);
    produce_in_transaction(&brokers, "holes-3", "holes", &message("two"), true);
    produce_in_transaction(&brokers, "holes-4", "holes", &message("aborted"), false);
    let (_, end) = watermarks(&brokers, "holes", 0);
    place.read_up_to(end, &[]);
    assert_eq!(place.words(), 2);
    delete_records(&brokers, "holes", 0, end);
    let said = place.read_up_to(end, &[]);
    assert!(!said.contains("lost"), "{said}");
    assert_eq!(place.words(), 2);
}

#[test]
fn what_can_never_work_is_said_in_seconds_and_what_is_away_is_waited_for() {
    let broker = Broker::with().sasl("tide", "right").start();
    let place = Place::new(&broker.address(), "there");
    let began = Instant::now();
    let missing = Place { topic: "not-there".into(), folder: folder(), brokers: broker.address() };
    missing.refused("no topic", 64, &["there is no topic not-there", "make the topic first"]);
    let out = ["--out", "not-there-either"];
    let arguments = place.arguments(&out);
    let outcome = run("word_count", &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    outcome.is("no output topic", 64, &["there is no topic not-there-either"]);
    assert!(began.elapsed() < Duration::from_secs(15), "it took {:?}", began.elapsed());
    let nowhere = Place { topic: "there".into(), folder: folder(), brokers: "127.0.0.1:1".into() };
    let address = free_address();
    let mut waiting = nowhere.start(&["--listen", &address]);
    let said = waiting.says("it goes on by itself");
    let url = format!("http://{address}/");
    let status = ask(&format!("{url}v1/status"));
    assert!(
        status.contains("\"phase\":\"starting\"")
            && status.contains("127.0.0.1:1")
            && status.contains("waiting_since_ms"),
        "{status}"
    );
    assert!(ask(&format!("{url}v1/queries")).contains("is not ready, it is starting, and waits"));
    assert!(
        ask(&format!("{url}drpc/words/the")).contains("\"error\":\"SERVER_SHUTDOWN\""),
        "to a client of Storm's in its own way"
    );
    let metrics = ask(&format!("{url}metrics"));
    assert!(
        metrics.contains("tidemill_ready 0") && metrics.contains("process_resident_memory_bytes"),
        "{metrics}"
    );
    let ready = ask(&format!("{url}readyz"));
    assert!(
        ready.contains("is not ready, it is starting") && !ready.contains("127.0.0.1:1"),
        "nobody needs a token there: {ready}"
    );
    assert!(said.contains("127.0.0.1:1"), "{said}");
    waiting.signal("TERM");
    waiting.wait().is("given up", 0, &["stopped while it waited at the start"]);
}

#[test]
fn a_broker_that_goes_away_and_comes_back_loses_and_doubles_nothing() {
    let mut broker = Broker::start();
    let place = Place::new(&broker.address(), "away");
    create_topic(&broker.address(), "away-out", 1, &[]);
    place.send(numbered(0..300));
    let mut running = place.start(&["--out", "away-out", "--max-batch-records", "20"]);
    running.get_until("/v1/status", |status| status["records"].as_u64() > Some(100));
    broker.kill();
    running.get_until("/v1/status", |status| status["partitions"][0]["trouble_since_ms"].is_u64());
    broker.restart();
    place.send(numbered(0..300));
    let done = |status: &serde_json::Value| {
        status["partitions"][0]["offset"] == 600
            && status["records"] == 600
            && status["sinks"][0]["published"] == status["committed"]
    };
    running.get_until("/v1/status", done);
    // Troubles are reported ten times a second, what is committed at once: all may have come within
    // one report.
    let began = Instant::now();
    running.get_until("/v1/status", |status| status["partitions"][0]["trouble"].is_null());
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "a partition whose records come is not in trouble"
    );
    running.signal("TERM");
    running.wait().is("stopped", 0, &[]);
    assert_eq!(place.words(), 600);
    let out = read_committed(&broker.address(), "away-out");
    assert_eq!(out.len(), 600, "each word changed twice, in batches of their own");
}

#[test]
fn a_run_whose_copy_has_taken_over_ends_without_publishing() {
    let brokers = Broker::shared().address();
    let place = Place::new(&brokers, "zombie");
    create_topic(&brokers, "zombie-out", 1, &[]);
    place.send(numbered(0..50));
    let out = ["--out", "zombie-out"];
    let mut old = place.start(&out);
    old.get_until("/v1/status", |status| {
        status["records"] == 50 && status["sinks"][0]["published"] == status["committed"]
    });
    old.signal("STOP");
    place.refused("the same folder", 75, &["in use", &format!("pid {}", old.pid())]);
    let copy = folder();
    let copied =
        std::process::Command::new("cp").arg("-r").arg(place.state()).arg(copy.path()).status();
    assert!(copied.is_ok_and(|copied| copied.success()), "the folder is copied");
    let successor = Place { folder: copy, topic: "zombie".into(), brokers: brokers.clone() };
    let mut new = successor.start(&out);
    // It has claimed the sink, and published nothing.
    new.says("listening on");
    old.signal("CONT");
    place.send(numbered(0..50));
    old.wait().is("the old one", 66, &["has taken over"]);
    new.get_until("/v1/status", |status| {
        status["records"] == 50 && status["sinks"][0]["published"] == status["committed"]
    });
    new.signal("TERM");
    new.wait().is("the new one", 0, &[]);
    assert_eq!(successor.words(), 100);
    let values = read_committed(&brokers, "zombie-out")
        .into_iter()
        .map(|message| message.value.expect("a count"));
    let (ones, twos): (Vec<String>, Vec<String>) = values.partition(|value| value == "1");
    assert_eq!((ones.len(), twos.len()), (50, 50), "each count once");
}

/// A broker acknowledges a commit before it has got everywhere. If it is killed in between, what
/// was committed cannot be seen until some time after it is back.
#[test]
fn a_marker_that_cannot_be_seen_yet_is_waited_for_and_does_not_mean_that_a_sink_was_rolled_back() {
    let brokers = Broker::shared().address();
    let place = Place::new(&brokers, "hidden");
    create_topic(&brokers, "hidden-out", 1, &[]);
    let out = ["--out", "hidden-out"];
    let mut running = place.start(&out);
    running.says("listening on");
    // A transaction that stays open hides what is committed after it.
    let (progress, claim) = (
        "hidden.out.progress",
        read_committed(&brokers, "hidden.out.progress").pop().expect("the claim"),
    );
    let open = begin_transaction(
        &brokers,
        "hidden",
        progress,
        &[(0, claim.key.as_deref(), claim.value.as_deref())],
    );
    let mut confirmed = true;
    for records in 1..5 {
        place.send(["tide"]);
        let status = running.get_until("/v1/status", |status| {
            let published = status["records"] == records
                && status["sinks"][0]["published"] == status["committed"];
            published || status["sinks"][0]["error"].is_string()
        });
        // On a machine so slow that a commit is not trusted, it looks for its marker by itself, and
        // waits for what it cannot see.
        confirmed &= status["sinks"][0]["error"].is_null();
    }
    running.kill();
    let mut again = place.start(&out);
    if confirmed {
        again.says("has not ended, and may hold what is missed");
    }
    open.abort_transaction(Duration::from_secs(30)).expect("it ends");
    again.get_until("/v1/status", |status| {
        status["partitions"][0]["offset"] == 4
            && status["sinks"][0]["published"] == status["committed"]
    });
    again.signal("TERM");
    again.wait().is("it went on", 0, &[]);
    let counts: Vec<_> =
        read_committed(&brokers, "hidden-out").into_iter().map(|message| message.value).collect();
    assert_eq!(
        counts,
        ["1", "2", "3", "4"].map(|count| Some(count.to_string())),
        "each count once"
    );
}
