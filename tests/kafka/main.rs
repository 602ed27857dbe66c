//! Tests against a real Kafka broker.

#![allow(clippy::disallowed_methods)]

#[path = "../support"]
mod support {
    pub(crate) mod acls;
    pub(crate) mod alone;
    pub(crate) mod asked;
    pub(crate) mod binary;
    pub(crate) mod broker;
    pub(crate) mod checkout;
    pub(crate) mod child;
    pub(crate) mod edits;
    pub(crate) mod hooked;
    pub(crate) mod kafka;
    pub(crate) mod link;
    #[path = "proxy.rs"]
    pub(crate) mod proxy;
    pub(crate) mod random;
    pub(crate) mod registry;
    pub(crate) mod relay;
    pub(crate) mod run;
    pub(crate) mod store;
    pub(crate) mod topics;
    pub(crate) mod waiting;
    pub(crate) mod wire;
}

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
    if let Ok(job) = std::env::var(support::child::SUBJECT) {
        registry::run(&job);
        support::kafka::subject::main(&job);
    }
}
