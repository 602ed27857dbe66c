//! The look at a sink's topics before a session: they are there, or made, and take messages of a
//! size.

use super::{KafkaPublisher, Shared};
use crate::kafka::admin::Admin;
use crate::kafka::marker::{await_topic, replication_of};
use crate::kafka::settings::{Isolation, Takes};
use crate::kafka::topics::Probe;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Instant;
use tidemill_state::{Error, Result};

impl KafkaPublisher {
    /// Makes the topics that may be made, and learns how large messages may be; or takes what was
    /// found before, if nothing has failed since.
    pub(super) fn look_at_topics(&self) -> Result<Takes> {
        if let Some(takes) = self.shared.findings.at(Instant::now()) {
            return Ok(takes);
        }
        let takes = if self.kafka().tokens().is_some() {
            self.look_without_admin()?
        } else {
            self.look_with_admin()?
        };
        self.shared.findings.keep(takes, Instant::now());
        Ok(takes)
    }

    fn look_with_admin(&self) -> Result<Takes> {
        let admin = Admin::new(self.kafka())?;
        let probe = Probe::new(self.kafka(), Isolation::Committed)?;
        let Shared { topic, dead_letters, .. } = &*self.shared;
        for topic in std::iter::once(topic).chain(dead_letters) {
            if probe.partitions_of(topic)?.is_some() {
                continue;
            }
            let Some(partitions) = self.shared.create else { return Err(self.missing(topic)) };
            admin.create(topic, partitions, None, &[])?;
            await_topic(&probe, topic)?;
        }
        self.shared.presence.lock().expect("no holder of this lock panics").are_there();
        self.progress.ensure(&admin, replication_of(&probe, topic)?)?;
        let takes = |topic: &str| {
            admin
                .settings(topic, ["max.message.bytes"])
                .map(|[takes]| takes.parse().unwrap_or(1_000_000))
        };
        let messages = takes(topic)?;
        let letters = dead_letters.as_ref().map_or(Ok(messages), |topic| takes(topic))?;
        Ok(self.takes(messages, letters))
    }

    /// The same where topics can be neither made nor described: see [`Kafka::oauth`].
    fn look_without_admin(&self) -> Result<Takes> {
        let probe = Probe::new(self.kafka(), Isolation::Committed)?;
        let Shared { topic, dead_letters, .. } = &*self.shared;
        for topic in std::iter::once(topic).chain(dead_letters) {
            if probe.partitions_of(topic)?.is_none() {
                return Err(self.missing(topic));
            }
        }
        self.shared.presence.lock().expect("no holder of this lock panics").are_there();
        self.progress.look()?;
        let bytes = self.kafka().message_bytes()?;
        Ok(self.takes(bytes, bytes))
    }

    /// Notes how large messages and letters may be.
    fn takes(&self, messages: usize, letters: usize) -> Takes {
        self.shared.max_message_bytes.store(messages, SeqCst);
        self.shared.max_letter_bytes.store(letters, SeqCst);
        Takes { some: messages.max(letters), every: messages.min(letters) }
    }

    /// The error for a topic that is not there, or that the broker at hand does not know for a
    /// moment.
    fn missing(&self, topic: &str) -> Error {
        let brokers = self.kafka().brokers();
        let mut presence = self.shared.presence.lock().expect("no holder of this lock panics");
        if presence.one_is_missing(Instant::now()) {
            return Error::config(no_topic(topic, brokers, self.kafka().tokens().is_some()));
        }
        Error::unreachable(format!(
            "topic {topic} was there, and a broker at {brokers} does not know it now: it is \
             looked for again"
        ))
    }
}

/// The text for a topic that is missing for good.
fn no_topic(topic: &str, brokers: &str, with_tokens: bool) -> String {
    let remedy = match with_tokens {
        true => "make the topic first: a sink cannot make one with tokens (Kafka::oauth)",
        false => "make the topic first, or let the sink make it (KafkaSink::create)",
    };
    format!("there is no topic {topic} at {brokers}: correct the name, or {remedy}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_for_a_missing_topic_is_one_that_works() {
        assert!(no_topic("out", "b:9092", false).contains("KafkaSink::create"));
        let with_tokens = no_topic("out", "b:9092", true);
        assert!(
            with_tokens.contains("cannot make one with tokens")
                && !with_tokens.contains("KafkaSink::create")
        );
    }
}
