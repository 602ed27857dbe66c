//! Settings of Kafka that an operator gives to a program: in its file, its environment and its
//! arguments, over those of its code.

use std::path::Path;
use tidemill_harness::binary::{Running, folder};
use tidemill_harness::broker::Broker;
use tidemill_harness::topics::{create_topic, produce, topic_settings};

/// Starts a word count of topic `operated`, whose code knows nothing of users.
fn start(brokers: &str, place: &Path, more: &[&str], environment: &[(&str, &str)]) -> Running {
    let state = place.join("state");
    let state = state.to_str().expect("UTF-8");
    let own = [
        "run",
        "--state",
        state,
        "--kafka",
        brokers,
        "--topic",
        "operated",
        "--listen",
        "127.0.0.1:0",
    ];
    Running::start_with("word_count", &[&own[..], more].concat(), environment)
}

#[test]
fn security_comes_from_the_file_the_environment_and_flags_the_later_over_the_earlier() {
    let broker = Broker::with().sasl("tide", "right").start();
    create_topic(&broker.address(), "operated", 1, &[]);
    produce(&broker.address(), "operated", &[(0, None, Some("tide mill"))]);
    let place = folder();
    let config = place.path().join("settings.toml");
    let text = "[kafka]\nsecurity.protocol = \"SASL_PLAINTEXT\"\nsasl.mechanism = \
        \"SCRAM-SHA-512\"\nsasl.username = \"tide\"\nsasl.password = \"filed\"\n";
    std::fs::write(&config, text).expect("it can be written");
    let config = config.to_str().expect("UTF-8");
    let environment = [("TIDEMILL_KAFKA_SASL_PASSWORD", "right")];
    let flags =
        ["--config", config, "--kafka-set", "sasl.mechanisms=PLAIN", "--kafka-set", "linger.ms=2"];
    let mut running = start(&broker.sasl_address(), place.path(), &flags, &environment);
    running.get_until("/v1/status", |status| {
        status["partitions"][0]["offset"] == 1 && status["committed"] == 1
    });
    running.signal("TERM");
    running.wait().is("right", 0, &[]);
    // Without the environment the file's password counts, which is wrong, and is not shown.
    let outcome = start(&broker.sasl_address(), place.path(), &flags, &[]).wait();
    outcome.is("the file's password", 64, &["refuse this client"]);
    assert!(!outcome.err.contains("filed") && !outcome.out.contains("filed"), "{outcome:?}");
}

#[test]
fn what_is_unknown_or_refused_ends_a_start_with_64_before_anything_is_looked_at() {
    let check = |more: &[&str], environment: &[(&str, &str)], parts: &[&str]| {
        let place = folder();
        let outcome = start("127.0.0.1:1", place.path(), more, environment).wait();
        outcome.is(&format!("{more:?} {parts:?}"), 64, parts);
        assert!(!outcome.err.contains("hunter2"), "{outcome:?}");
        assert!(!place.path().join("state").exists(), "nothing was made");
    };
    check(&["--kafka-set", "sasl.pasword=hunter2"], &[], &["--kafka-set", "sasl.pasword"]);
    check(&["--kafka-set", "sasl.password"], &[], &["--kafka-set NAME=VALUE"]);
    check(&["--kafka-set", "acks=1"], &[], &["acks cannot be changed", "acknowledgement"]);
    check(
        &[],
        &[("TIDEMILL_KAFKA_BOOTSTRAP_SERVERS", "hunter2")],
        &["TIDEMILL_KAFKA_BOOTSTRAP_SERVERS", "Kafka::new"],
    );
    check(&[], &[("TIDEMILL_KAFKA_SASL_PASWORD", "hunter2")], &["TIDEMILL_KAFKA_SASL_PASWORD"]);
    check(&["--kafka-set", "retry.backoff.ms=5"], &[], &["retry.backoff.ms", "100"]);
}

#[test]
fn a_progress_topic_is_made_small_and_with_as_many_replicas_as_the_output() {
    // What the brokers do by default cannot be done by one of them.
    let broker = Broker::with().set("default.replication.factor", "3").start();
    let brokers = broker.address();
    create_topic(&brokers, "operated", 1, &[]);
    create_topic(&brokers, "operated-out", 1, &[]);
    produce(&brokers, "operated", &[(0, None, Some("tide"))]);
    let place = folder();
    let mut running =
        start(&brokers, place.path(), &["--name", "operated", "--out", "operated-out"], &[]);
    running.get_until("/v1/status", |status| {
        status["committed"] == 1 && status["sinks"][0]["published"] == 1
    });
    running.signal("TERM");
    running.wait().is("right", 0, &[]);
    let made =
        topic_settings(&brokers, "operated.out.progress", ["cleanup.policy", "segment.bytes"]);
    assert_eq!(made, ["compact", "16777216"]);
}
