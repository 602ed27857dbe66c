//! Requests of a sink that come late, twice or not at all: a proxy between the sink and a real
//! broker holds, loses, delays and doubles them.
//!
//! Kafka's protocol does not say of which transaction an EndTxn is. One that librdkafka took for
//! lost, and sent again, can still arrive: in the middle of the next transaction of the same
//! producer, which it then commits, half of it. `TIDEMILL_LONG=1` walks all cases.

use std::collections::BTreeMap;
use tidemill_harness::binary;
use tidemill_harness::proxy::{Api, Fate, Which};
use tidemill_harness::relay::{Asked, Behind, Relay, Wrong, sink_of};
use tidemill_harness::topics::{create_topic, produce, read_committed};

/// How a broker answers a producer whose successor it knows: INVALID_PRODUCER_EPOCH, or
/// PRODUCER_FENCED to newer clients.
const FENCED: [i16; 2] = [47, 90];

/// What is done to one request of a sink, and what must come of it.
struct Case {
    name: &'static str,
    /// Whether it is the first such request of the run: the one of the sink's claim. Else it is one
    /// of the second batch.
    at_start: bool,
    asked: Asked,
    fate: Fate,
    /// Before which request of a later transaction, of which all other output has arrived, the one
    /// that was lost arrives.
    late_before: Option<Asked>,
    /// Whether the rule must have thrown the producer away, before anything could come late.
    rebuilt: bool,
    /// What a consumer sees without the rule.
    unguarded: Seen,
}

/// What a read_committed consumer sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Exact,
    Lost,
    Doubled,
}

impl Seen {
    fn of(wrong: &Wrong) -> Seen {
        match (wrong.lost.is_empty(), wrong.doubled.is_empty()) {
            (true, true) => Seen::Exact,
            (false, true) => Seen::Lost,
            (true, false) => Seen::Doubled,
            (false, false) => panic!("both lost and doubled: {wrong:?}"),
        }
    }
}

const fn case(name: &'static str, asked: Asked, fate: Fate) -> Case {
    Case {
        name,
        at_start: false,
        asked,
        fate,
        late_before: None,
        rebuilt: false,
        unguarded: Seen::Exact,
    }
}

/// An EndTxn that comes late, and what it does without the rule.
const fn late_commit(name: &'static str, fate: Fate, before: Asked, unguarded: Seen) -> Case {
    Case { late_before: Some(before), rebuilt: true, unguarded, ..case(name, Asked::Commit, fate) }
}

/// The marker is the last to arrive: without the rule, the output before it is committed, and sent
/// again because there is no marker.
const COMMIT_LATE_BEFORE_THE_MARKER: Case =
    late_commit("commit-marker", Fate::Lose, Asked::Marker, Seen::Doubled);
/// Some of the output is the last to arrive: without the rule, the marker is committed, and what it
/// covers never arrives.
const COMMIT_LATE_BEFORE_OUTPUT: Case =
    late_commit("commit-output", Fate::Lose, Asked::SecondOutput, Seen::Lost);
/// Nothing is cut here: librdkafka waits for an answer, and gives up.
const COMMIT_HELD_UNTIL_THE_CLIENT_GIVES_UP: Case =
    late_commit("commit-held", Fate::Hold, Asked::Marker, Seen::Doubled);
/// The transaction of the claim has a marker only; the one that is hit is a batch's.
const CLAIM_LATE: Case =
    Case { at_start: true, ..late_commit("claim", Fate::Lose, Asked::Marker, Seen::Doubled) };

/// What else may happen to an EndTxn.
const COMMITS: [Case; 3] = [
    Case { rebuilt: true, ..case("commit-unanswered", Asked::Commit, Fate::LoseAnswer) },
    Case { rebuilt: true, ..case("commit-delayed", Asked::Commit, Fate::Delay(150)) },
    case("commit-twice", Asked::Commit, Fate::Twice),
];

/// What may happen to other requests.
const OTHERS: [Case; 15] = [
    Case { late_before: Some(Asked::Marker), ..case("output-late", Asked::Output, Fate::Lose) },
    case("output-unanswered", Asked::Output, Fate::LoseAnswer),
    case("output-delayed", Asked::Output, Fate::Delay(300)),
    case("output-twice", Asked::Output, Fate::Twice),
    Case {
        late_before: Some(Asked::SecondOutput),
        ..case("marker-late", Asked::Marker, Fate::Lose)
    },
    case("marker-unanswered", Asked::Marker, Fate::LoseAnswer),
    case("marker-twice", Asked::Marker, Fate::Twice),
    Case {
        late_before: Some(Asked::Marker),
        ..case("partitions-late", Asked::Partitions, Fate::Lose)
    },
    case("partitions-unanswered", Asked::Partitions, Fate::LoseAnswer),
    case("partitions-delayed", Asked::Partitions, Fate::Delay(300)),
    case("partitions-twice", Asked::Partitions, Fate::Twice),
    Case {
        at_start: true,
        late_before: Some(Asked::Marker),
        ..case("session-late", Asked::Session, Fate::Lose)
    },
    Case { at_start: true, ..case("session-unanswered", Asked::Session, Fate::LoseAnswer) },
    Case { at_start: true, ..case("session-delayed", Asked::Session, Fate::Delay(300)) },
    Case { at_start: true, ..case("session-twice", Asked::Session, Fate::Twice) },
];

/// Runs a topology through a case, and counts again.
fn check(case: &Case, guarded: bool) {
    let title = format!("{}-{}", case.name, if guarded { "guarded" } else { "unguarded" });
    let proxy = &Behind::shared().proxy;
    let mut relay = Relay::new(&title, &["out"]);
    relay.guarded = guarded;
    if case.fate == Fate::Hold {
        relay.settings.push(("socket.timeout.ms", "1000"));
    }
    let sessions = relay.which("out", Asked::Session);
    if !case.at_start {
        relay.start();
        relay.feed();
        relay.wait_for("out");
    }
    let before = proxy.now();
    let caught = proxy.trap(relay.which("out", case.asked), case.fate);
    if case.at_start {
        relay.start();
    }
    relay.feed();
    caught.wait();
    let status = relay.wait_for("out");
    if case.rebuilt {
        // A start has one session before anything can be thrown away.
        let rebuilt = proxy.count(before, &sessions) - usize::from(case.at_start);
        assert_eq!(rebuilt > 0, guarded, "{title}: the producer was made anew {rebuilt} times");
        assert!(!guarded || case.at_start || status.rebuilds > 0, "{title}: {status:?}");
    }
    if let Some(last) = case.late_before {
        let first = if last == Asked::Marker { Asked::Output } else { Asked::Marker };
        let held = proxy.trap(relay.which("out", last), Fate::Hold);
        relay.feed();
        held.wait();
        proxy.wait_for_answer(&relay.which("out", first));
        let error = caught.deliver();
        if case.asked == Asked::Commit {
            let as_due = if guarded { FENCED.contains(&error) } else { error == 0 };
            assert!(as_due, "{title}: the late commit was answered with error {error}");
        }
        held.release();
    }
    relay.feed();
    relay.finish();
    let wrong = relay.recount();
    assert_eq!(
        Seen::of(&wrong),
        if guarded { Seen::Exact } else { case.unguarded },
        "{title}: {wrong:?}"
    );
}

/// Whether more is asked for than a run of all tests has time for.
fn long() -> bool {
    std::env::var("TIDEMILL_LONG").is_ok_and(|long| long == "1")
}

#[test]
fn without_the_rule_a_late_commit_doubles_output() {
    check(&COMMIT_LATE_BEFORE_THE_MARKER, false);
    if long() {
        check(&CLAIM_LATE, false);
        check(&COMMIT_HELD_UNTIL_THE_CLIENT_GIVES_UP, false);
    }
}

#[test]
fn without_the_rule_a_late_commit_loses_output() {
    check(&COMMIT_LATE_BEFORE_OUTPUT, false);
}

#[test]
fn i6_a_commit_that_comes_late_twice_or_unanswered_changes_nothing() {
    for case in [
        COMMIT_LATE_BEFORE_THE_MARKER,
        COMMIT_LATE_BEFORE_OUTPUT,
        COMMIT_HELD_UNTIL_THE_CLIENT_GIVES_UP,
        CLAIM_LATE,
    ] {
        check(&case, true);
    }
    COMMITS.iter().for_each(|case| check(case, true));
}

/// A sink whose brokers are so far that each commit takes longer than its producer is trusted for:
/// a new one is made, and nothing is asked again that is known of the topics.
#[test]
fn a_slow_commit_costs_a_producer_and_no_look_at_the_topics() {
    let proxy = &Behind::shared().proxy;
    let mut relay = Relay::new("far", &["out"]);
    relay.start();
    let looks = |topic: &str| Which {
        transaction: String::new(),
        api: Api::DescribeConfigs,
        topic: Some(topic.into()),
        partition: None,
    };
    let (of_output, of_progress) = (looks("far-out"), looks("far.out.progress"));
    assert!(proxy.count(0, &of_output) > 0 && proxy.count(0, &of_progress) > 0, "the start looks");
    let before = proxy.now();
    let mut rebuilds = relay.wait_for("out").rebuilds;
    for _ in 0..3 {
        let slow = proxy.trap(relay.which("out", Asked::Commit), Fate::Delay(150));
        relay.feed();
        slow.wait();
        let status = relay.wait_for("out");
        assert!(status.rebuilds > rebuilds, "{status:?}");
        rebuilds = status.rebuilds;
    }
    assert_eq!(
        (proxy.count(before, &of_output), proxy.count(before, &of_progress)),
        (0, 0),
        "it looks again"
    );
    relay.finish();
    assert_eq!(relay.recount(), Wrong::default());
}

/// With a longer pause before requests are sent again, a slow commit is trusted; one that was sent
/// again is not, and fenced.
#[test]
fn i6_with_a_longer_back_off_slow_commits_are_trusted_and_late_ones_fenced() {
    let proxy = &Behind::shared().proxy;
    let mut relay = Relay::new("backed-off", &["out"]);
    relay.settings.push(("retry.backoff.ms", "8000"));
    relay.start();
    relay.feed();
    let begun = relay.wait_for("out").rebuilds;
    let sessions = proxy.now();
    for _ in 0..3 {
        let slow = proxy.trap(relay.which("out", Asked::Commit), Fate::Delay(150));
        relay.feed();
        slow.wait();
        assert_eq!(
            relay.wait_for("out").rebuilds,
            begun,
            "a commit of 150 ms is trusted for 6.4 s"
        );
    }
    assert_eq!(
        proxy.count(sessions, &relay.which("out", Asked::Session)),
        0,
        "the producer is kept"
    );
    // One that is lost is sent again, 6.4 s later at the soonest.
    let lost = proxy.trap(relay.which("out", Asked::Commit), Fate::Lose);
    relay.feed();
    lost.wait();
    assert!(relay.wait_for("out").rebuilds > begun, "its producer is thrown away");
    let marker = proxy.trap(relay.which("out", Asked::Marker), Fate::Hold);
    relay.feed();
    marker.wait();
    proxy.wait_for_answer(&relay.which("out", Asked::Output));
    let error = lost.deliver();
    assert!(FENCED.contains(&error), "the late commit was answered with error {error}");
    marker.release();
    relay.feed();
    relay.finish();
    assert_eq!(relay.recount(), Wrong::default());
}

#[test]
fn i6_any_other_request_that_comes_late_twice_or_unanswered_changes_nothing() {
    OTHERS.iter().step_by(if long() { 1 } else { 4 }).for_each(|case| check(case, true));
}

#[test]
fn without_the_rule_only_late_commits_do_harm() {
    COMMITS
        .iter()
        .chain(&OTHERS)
        .step_by(if long() { 1 } else { 9 })
        .for_each(|case| check(case, false));
}

/// One sink is made anew again and again while the other is in the middle of a transaction, before
/// this request of it; both write to the same partitions.
fn check_two_sinks(rebuilt: &'static str, waits: &'static str, before: Asked) {
    let title = format!("two-sinks-{rebuilt}-{before:?}");
    let proxy = &Behind::shared().proxy;
    let mut relay = Relay::new(&title, &["a", "b"]);
    relay.start();
    relay.feed();
    relay.wait_for(waits);
    let held = proxy.trap(relay.which(waits, before), Fate::Hold);
    relay.feed();
    held.wait();
    if before == Asked::Marker {
        proxy.wait_for_answer(&relay.which(waits, Asked::Output));
    }
    let waiting = relay.wait(|_| true);
    let begun = sink_of(&waiting, waits);
    let mut rebuilds = relay.wait_for(rebuilt).rebuilds;
    let mut late = Vec::new();
    for fate in [Fate::Lose, Fate::LoseAnswer, Fate::Delay(150), Fate::Lose] {
        let caught = proxy.trap(relay.which(rebuilt, Asked::Commit), fate);
        relay.feed();
        caught.wait();
        let status = relay.wait_for(rebuilt);
        assert!(status.rebuilds > rebuilds, "{title}: after {fate:?}: {status:?}");
        rebuilds = status.rebuilds;
        if fate == Fate::Lose {
            late.push(caught);
        }
    }
    for caught in late {
        let last = proxy.trap(relay.which(rebuilt, Asked::Marker), Fate::Hold);
        relay.feed();
        last.wait();
        let error = caught.deliver();
        assert!(
            FENCED.contains(&error),
            "{title}: a late commit of a producer that was thrown away was answered with error \
             {error}"
        );
        last.release();
        relay.wait_for(rebuilt);
    }
    let waited = relay.wait(|_| true);
    let after = sink_of(&waited, waits);
    assert_eq!(
        (after.published, after.rebuilds),
        (begun.published, begun.rebuilds),
        "{title}: the other sink was still in its transaction"
    );
    assert!(after.backlog_bytes > 0, "{title}: {after:?}");
    held.release();
    relay.finish();
    assert_eq!(relay.recount(), Wrong::default(), "{title}");
}

#[test]
fn i6_a_sink_that_is_made_anew_disturbs_no_other_in_a_transaction() {
    // All of it is written, the marker too: whoever waited for this transaction to end would wait
    // until it is released.
    check_two_sinks("a", "b", Asked::Commit);
    if long() {
        check_two_sinks("a", "b", Asked::Marker);
        check_two_sinks("b", "a", Asked::Commit);
        check_two_sinks("b", "a", Asked::Marker);
    }
}

/// Waits until the program has read its only partition up to `offset`, and published all of it.
/// Also after a restart: the offset is the position in the topic, which has no transactions.
fn wait_for(running: &mut binary::Running, offset: u64) {
    running.get_until("/v1/status", |status| {
        let read = status["partitions"][0]["offset"].as_u64() >= Some(offset);
        read && status["committed"] == status["sinks"][0]["published"]
            && status["sinks"][0]["backlog_bytes"] == 0
    });
}

#[test]
fn i6_a_commit_that_was_under_way_when_its_process_was_killed_is_fenced_by_the_next() {
    let Behind { broker, proxy } = Behind::shared();
    let (place, brokers) = (binary::folder(), broker.address());
    let state = place.path().join("state");
    create_topic(&brokers, "killed-in", 1, &[]);
    create_topic(&brokers, "killed-out", 1, &[]);
    let start = || {
        let to = [
            "--kafka",
            &proxy.address(),
            "--topic",
            "killed-in",
            "--out",
            "killed-out",
            "--listen",
            "127.0.0.1:0",
        ];
        let own = ["run", "--name", "killed", "--state", state.to_str().expect("UTF-8")];
        binary::Running::start("word_count", &[&own[..], &to[..]].concat())
    };
    let words =
        |from: usize| (from..from + 20).map(|number| format!("w{number}")).collect::<Vec<_>>();
    let feed = |from: usize| {
        let words = words(from);
        produce(
            &brokers,
            "killed-in",
            &words.iter().map(|word| (0, None, Some(word.as_str()))).collect::<Vec<_>>(),
        );
    };
    let which = |api: Api, topic: Option<&str>| Which {
        transaction: "killed.out".into(),
        api,
        topic: topic.map(String::from),
        partition: None,
    };
    let mut old = start();
    feed(0);
    wait_for(&mut old, 20);
    let under_way = proxy.trap(which(Api::EndTxn, None), Fate::Hold);
    feed(20);
    under_way.wait();
    old.kill();
    let mut new = start();
    wait_for(&mut new, 40);
    let marker = proxy.trap(which(Api::Produce, Some("killed.out.progress")), Fate::Hold);
    feed(40);
    marker.wait();
    proxy.wait_for_answer(&which(Api::Produce, Some("killed-out")));
    let error = under_way.deliver();
    assert!(
        FENCED.contains(&error),
        "the commit of the killed process was answered with error {error}"
    );
    marker.release();
    feed(60);
    wait_for(&mut new, 80);
    new.signal("TERM");
    new.wait().is("the successor", 0, &[]);
    let expected: BTreeMap<String, u64> = words(0)
        .into_iter()
        .chain(words(20))
        .chain(words(40))
        .chain(words(60))
        .map(|word| (word, 1))
        .collect();
    binary::counts_are("the successor", &state, &expected);
    let said = counts_in(&brokers, "killed-out");
    assert_eq!(said, expected.into_iter().collect::<Vec<_>>(), "each word once");
}

/// The words and counts in a topic, sorted.
fn counts_in(brokers: &str, topic: &str) -> Vec<(String, u64)> {
    let mut counts: Vec<(String, u64)> = Vec::new();
    for message in read_committed(brokers, topic) {
        counts.push((
            message.key.expect("a word"),
            message.value.expect("a count").parse().expect("a number"),
        ));
    }
    counts.sort();
    counts
}
