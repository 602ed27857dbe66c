//! Tests against a real Kafka broker.

#![allow(clippy::disallowed_methods)]

mod conformance;
mod demo;
mod faults;
mod identity;
mod late;
mod memory;
mod messages;
mod oauth;
mod outage;
mod refusals;
mod registry;
mod rights;
mod rows;
mod settings;
mod soak;
mod source;
mod starts;

/// Not a test: the subject in the child processes of `faults` and `registry`. Without their
/// variable it does nothing.
#[test]
fn subject() {
    if let Ok(job) = std::env::var(tidemill_harness::child::SUBJECT) {
        registry::run(&job);
        tidemill_harness::kafka::subject::main(&job);
    }
}
