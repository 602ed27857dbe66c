//! How a cluster is reached: the brokers, and librdkafka's settings under its own names.

use super::events::Standing;
use super::message::Message;
use super::sink::KafkaSink;
use super::source::Topics;
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use tidemill_engine::source::Data;
use tidemill_state::{Error, Result};

/// A Kafka cluster, as sources and sinks reach it.
///
/// ```
/// use tidemill_connectors::kafka::Kafka;
/// let kafka = Kafka::new("broker-1:9093,broker-2:9093")
///     .set("security.protocol", "SASL_SSL")
///     .set("sasl.mechanism", "SCRAM-SHA-512")
///     .set("sasl.username", "tide")
///     .set("sasl.password", std::env::var("KAFKA_PASSWORD").unwrap_or_default());
/// assert!(!format!("{kafka:?}").contains("password\": \""), "no value is shown");
/// ```
#[derive(Clone)]
pub struct Kafka {
    brokers: String,
    settings: BTreeMap<String, String>,
    standing: Arc<Standing>,
}

/// Settings that the guarantee rests on, with the reason why they are not the user's.
const OURS: &[(&str, &str)] = &[
    ("bootstrap.servers", "it is what Kafka::new was given"),
    ("metadata.broker.list", "it is what Kafka::new was given"),
    ("enable.auto.commit", "positions lie in the store; the group's offsets follow each commit, for lag tools only"),
    ("enable.auto.offset.store", "positions lie in the store"),
    (
        "auto.offset.reset",
        "lost records must be an error, never skipped; say where a new source begins with Topics::first, or --from",
    ),
    ("isolation.level", "records of aborted transactions must not be counted"),
    ("check.crcs", "damaged records must be found"),
    ("allow.auto.create.topics", "a misspelt topic must be an error"),
    ("enable.partition.eof", "the end of a partition is how a position passes aborted transactions"),
    ("transactional.id", "it is made of the topology's and the sink's name, so that a restart finds its transactions again"),
    ("enable.idempotence", "transactions need it"),
    ("acks", "transactions need acknowledgement by all replicas in sync"),
    ("request.required.acks", "transactions need acknowledgement by all replicas in sync"),
    ("max.in.flight", "transactions keep the order only with what librdkafka sets"),
    ("max.in.flight.requests.per.connection", "transactions keep the order only with what librdkafka sets"),
    ("retries", "transactions need what librdkafka sets"),
    ("message.send.max.retries", "transactions need what librdkafka sets"),
    ("transaction.timeout.ms", "the marker is read on the assumption that an abandoned transaction ends within 60 s"),
    ("message.timeout.ms", "it must not be longer than a transaction may take"),
    ("delivery.timeout.ms", "it must not be longer than a transaction may take"),
    ("retry.backoff.ms", "a commit that took about as long may have been sent twice, and is not trusted"),
    ("retry.backoff.max.ms", "it bounds retry.backoff.ms: a commit could be sent twice sooner than it is distrusted"),
    ("partitioner", "murmur2_random spreads keys as the Java clients do; give a message its partition to spread them otherwise"),
    ("statistics.interval.ms", "lag and retries are read from the statistics"),
];

impl Kafka {
    /// The cluster that these brokers belong to: `host:port`, with commas between.
    pub fn new(brokers: impl Into<String>) -> Kafka {
        Kafka { brokers: brokers.into(), settings: BTreeMap::new(), standing: Arc::default() }
    }

    /// Sets one of librdkafka's settings under its own name. One that the guarantee rests on, or that librdkafka does not know, is refused at the start, with the reason.
    #[must_use]
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Kafka {
        self.settings.insert(name.into(), value.into());
        self
    }

    /// These topics as a source; say next what its records are, as in `kafka.source(["words"]).utf8()`. A name with `*`, `?` or `[…]` is a pattern:
    /// topics that match it later join.
    pub fn source<T: Into<String>>(&self, topics: impl IntoIterator<Item = T>) -> Topics {
        Topics::new(self.clone(), topics.into_iter().map(Into::into).collect())
    }

    /// This topic as a sink. `encode` makes a record's message.
    pub fn sink<T: Data>(
        &self,
        topic: impl Into<String>,
        encode: impl Fn(&T) -> Message + Send + Sync + 'static,
    ) -> KafkaSink<T> {
        KafkaSink::new(self.clone(), topic.into(), encode)
    }

    /// The brokers, as they were given.
    pub(super) fn brokers(&self) -> &str {
        &self.brokers
    }

    /// The standing of this user with the brokers.
    pub(super) fn standing(&self) -> &Arc<Standing> {
        &self.standing
    }

    /// The settings of every client.
    fn common(&self) -> Result<ClientConfig> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("client.id", "tidemill");
        for (name, value) in &self.settings {
            if let Some((_, reason)) = OURS.iter().find(|(ours, _)| ours == name) {
                return Err(Error::config(format!("Kafka's setting {name} cannot be changed: {reason}. Leave it out")));
            }
            config.set(name, value);
        }
        config.set("allow.auto.create.topics", "false");
        Ok(config)
    }

    /// The settings of a client that reads. `given` wins over the defaults chosen here, except for what the guarantee rests on.
    pub(super) fn reading(&self, group: &str, isolation: Isolation) -> Result<ClientConfig> {
        let mut config = self.common()?;
        let defaults = [
            ("group.id", group),
            // Per partition, so that memory is bounded while the sources wait.
            ("queued.max.messages.kbytes", "16384"),
            ("fetch.max.bytes", "16777216"),
            // A full queue is looked at again at once: the default, a second, halves the throughput.
            ("fetch.queue.backoff.ms", "5"),
            ("socket.timeout.ms", "10000"),
        ];
        for (name, value) in defaults {
            if !self.settings.contains_key(name) {
                config.set(name, value);
            }
        }
        // Topics' ids stand in the lines of this context alone.
        let debug = self.settings.get("debug").map_or("metadata".to_string(), |debug| format!("{debug},metadata"));
        config.set_log_level(RDKafkaLogLevel::Debug);
        config
            .set("debug", debug)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("check.crcs", "true")
            .set("enable.partition.eof", "true")
            .set("statistics.interval.ms", "1000")
            .set("isolation.level", if isolation == Isolation::Committed { "read_committed" } else { "read_uncommitted" });
        Ok(config)
    }

    /// The settings of a client that only asks, or tells a group how far the topology is. It is polled now and then: statistics would pile up in its queue.
    pub(super) fn asking(&self, group: &str, isolation: Isolation) -> Result<ClientConfig> {
        let mut config = self.reading(group, isolation)?;
        config.set("statistics.interval.ms", "0");
        Ok(config)
    }

    /// The settings of a client that publishes in transactions of this id.
    pub(super) fn publishing(&self, transactional_id: &str, takes: Takes) -> Result<ClientConfig> {
        let mut config = self.common()?;
        let given = self.settings.get("batch.size").and_then(|given| given.parse().ok()).unwrap_or(BATCH_BYTES);
        let batch = takes.every.clamp(1, given.max(1));
        for (name, value) in
            [("linger.ms", "1"), ("queue.buffering.max.messages", "1000000"), ("queue.buffering.max.kbytes", "262144")]
        {
            if !self.settings.contains_key(name) {
                config.set(name, value);
            }
        }
        config
            .set("transactional.id", transactional_id)
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .set("transaction.timeout.ms", "60000")
            .set("message.timeout.ms", "60000")
            .set("retry.backoff.ms", "100")
            .set("message.max.bytes", takes.some.clamp(MESSAGE_BYTES.0, MESSAGE_BYTES.1).to_string())
            .set("batch.size", batch.to_string())
            .set("statistics.interval.ms", "1000");
        Ok(config)
    }

    /// The settings of a client that makes and describes topics.
    pub(super) fn administering(&self) -> Result<ClientConfig> {
        self.common()
    }
}

/// How large messages may be, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Takes {
    /// What some topic takes: single messages are as large.
    pub(super) some: usize,
    /// What every topic takes: no batch of messages is larger, since it would be refused for its size.
    pub(super) every: usize,
}

/// librdkafka's default for `batch.size`, and its bounds for `message.max.bytes`.
const BATCH_BYTES: usize = 1_000_000;
const MESSAGE_BYTES: (usize, usize) = (1_000, 1_000_000_000);

/// Which records a client sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Isolation {
    /// Those of committed transactions, and those sent without one.
    Committed,
    /// All.
    Uncommitted,
}

impl fmt::Debug for Kafka {
    /// Names the settings without their values: there are secrets among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kafka").field("brokers", &self.brokers).field("settings", &self.settings.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_guarantee_rests_on_is_refused_with_the_reason() {
        for (name, reason) in OURS {
            let kafka = Kafka::new("localhost:9092").set(*name, "1");
            for config in [
                kafka.asking("g", Isolation::Committed),
                kafka.publishing("t", Takes { some: 1000, every: 1000 }),
                kafka.administering(),
            ] {
                let error = config.expect_err("it is refused").to_string();
                assert!(error.contains(name) && error.contains(reason), "{error}");
            }
        }
    }

    #[test]
    fn messages_are_as_large_as_some_topic_takes_and_batches_as_every_one() {
        let kafka = Kafka::new("localhost:9092");
        let sizes = |kafka: &Kafka, some, every| {
            let config = kafka.publishing("t", Takes { some, every }).expect("they are allowed");
            ["message.max.bytes", "batch.size"].map(|name| config.get(name).expect("it is set").to_string())
        };
        assert_eq!(sizes(&kafka, 5_000_000, 2_000), ["5000000", "2000"]);
        assert_eq!(sizes(&kafka, 5_000_000, 3_000_000), ["5000000", "1000000"]);
        assert_eq!(sizes(&kafka, 2_147_483_647, 10), ["1000000000", "10"], "within what librdkafka takes");
        assert_eq!(sizes(&kafka.set("batch.size", "500"), 100, 100_000), ["1000", "500"]);
    }

    #[test]
    fn other_settings_pass_through_and_win_over_defaults() {
        let kafka = Kafka::new("localhost:9092").set("socket.timeout.ms", "7000").set("ssl.ca.location", "ca.pem");
        let config = kafka.reading("g", Isolation::Committed).expect("they are allowed");
        assert_eq!((config.get("socket.timeout.ms"), config.get("ssl.ca.location")), (Some("7000"), Some("ca.pem")));
        assert_eq!(config.get("isolation.level"), Some("read_committed"));
    }
}
