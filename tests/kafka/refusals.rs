//! What brokers refuse for good: it ends a run, with the way out, instead of being waited for.

use std::time::{Duration, Instant};
use tidemill::kafka::Message;
use tidemill::prelude::*;
use tidemill::{Engine, Kind, Settings};
use tidemill_harness::broker::Broker;
use tidemill_harness::topics::create_topic;

const PATIENCE: Duration = Duration::from_secs(60);

/// Returns what ended a run that publishes to topic `out` of these brokers, at its start or after
/// it.
fn ended_by(kafka: Kafka, topic: &'static str) -> Error {
    let folder = tempfile::tempdir_in(tidemill_harness::checkout::scratch())
        .expect("the target folder can be written");
    let settings = Settings {
        workers: 1,
        disk_reserve: 0,
        ..Settings::new(topic, folder.path().join("state"))
    };
    let starting = std::sync::Arc::clone(&settings.starting);
    let build = move |topology: &Topology<'_>| {
        let numbers = topology.source("numbers", Generator::new(1, |_, number| number).records(10));
        numbers.sink(
            "out",
            kafka.sink(topic, |number: &u64| Message::new().value(number.to_string())),
        );
    };
    let ended = std::thread::spawn(move || Engine::start(settings, build).and_then(Engine::wait));
    let began = Instant::now();
    while !ended.is_finished() {
        assert!(began.elapsed() < PATIENCE, "it is waited for: {:?}", starting.waiting());
        std::thread::sleep(Duration::from_millis(20));
    }
    ended.join().expect("it does not panic").expect_err("it is refused")
}

#[test]
fn brokers_that_allow_transactions_less_time_are_named_with_their_setting() {
    let broker = Broker::with().set("transaction.max.timeout.ms", "30000").start();
    create_topic(&broker.address(), "short", 1, &[]);
    let error = ended_by(Kafka::new(broker.address()), "short");
    assert_eq!(error.kind(), Kind::Config, "{error}");
    for part in ["transaction.max.timeout.ms", "60000", &broker.address()] {
        assert!(error.to_string().contains(part), "{part:?} is not in: {error}");
    }
}
