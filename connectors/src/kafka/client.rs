//! What librdkafka tells of a client beside its results: why nothing comes, how far partitions are, what was sent twice.

use super::settings::Kafka;
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;
use rdkafka::{ClientConfig, Message};
use serde::Deserialize;
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidemill_state::{Error, Kind};

/// A client that reads.
pub(super) type Consumer = BaseConsumer<Events>;

/// What one client was told: shared by librdkafka's callbacks and those who use the client.
#[derive(Clone, Default)]
pub(super) struct Events(Arc<Told>);

#[derive(Default)]
struct Told {
    /// Why no broker can be reached, if so.
    trouble: Mutex<Option<String>>,
    /// Why the brokers will never take this client.
    refused: Mutex<Option<String>>,
    ends: Mutex<HashMap<(String, i32), i64>>,
    retries: AtomicU64,
    delivered: AtomicUsize,
    failed: Mutex<Vec<Failed>>,
}

/// A message that was not delivered.
#[derive(Clone, Debug)]
pub(super) struct Failed {
    /// Its number in the transaction.
    pub(super) number: usize,
    /// Why.
    pub(super) code: RDKafkaErrorCode,
}

thread_local! {
    /// The offset of the last end of a partition that was polled on this thread: librdkafka's event has it only in its text.
    static END: Cell<Option<i64>> = const { Cell::new(None) };
}

impl Events {
    /// Why no broker can be reached now, if so.
    pub(super) fn trouble(&self) -> Option<String> {
        let refused = self.refused();
        refused.or_else(|| self.0.trouble.lock().expect("no holder of this lock panics").clone())
    }

    /// Why the brokers will never take this client: a wrong password, say.
    pub(super) fn refused(&self) -> Option<String> {
        self.0.refused.lock().expect("no holder of this lock panics").clone()
    }

    /// Something came from a broker.
    pub(super) fn is_well(&self) {
        *self.0.trouble.lock().expect("no holder of this lock panics") = None;
    }

    /// The end of a partition, as of about a second ago.
    pub(super) fn end_of(&self, topic: &str, partition: i32) -> Option<i64> {
        let ends = self.0.ends.lock().expect("no holder of this lock panics");
        ends.get(&(topic.to_string(), partition)).copied()
    }

    /// How often requests were sent again or timed out, as of about a second ago.
    pub(super) fn retries(&self) -> u64 {
        self.0.retries.load(SeqCst)
    }

    /// How many messages were delivered, or have failed, since the last call of [`Events::forget_deliveries`].
    pub(super) fn reported(&self) -> usize {
        self.0.delivered.load(SeqCst) + self.0.failed.lock().expect("no holder of this lock panics").len()
    }

    /// Those that have failed.
    pub(super) fn failed(&self) -> Vec<Failed> {
        self.0.failed.lock().expect("no holder of this lock panics").clone()
    }

    /// Begins to count deliveries anew.
    pub(super) fn forget_deliveries(&self) {
        self.0.delivered.store(0, SeqCst);
        self.0.failed.lock().expect("no holder of this lock panics").clear();
    }
}

/// The offset of the end of partition that this thread has just polled.
pub(super) fn take_end() -> Option<i64> {
    END.take()
}

impl ClientContext for Events {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // What matters is told by those who use the client, in words of their own.
        tracing::debug!(target: "librdkafka", ?level, facility, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::PartitionEOF) => END.set(end_in(reason)),
            Some(code) if is_refusal(code) => {
                self.0.refused.lock().expect("no holder of this lock panics").get_or_insert_with(|| reason.to_string());
            }
            // Says what is wrong with a certificate, say; beside it the brokers only seem to be down.
            Some(RDKafkaErrorCode::SSL) => {
                *self.0.trouble.lock().expect("no holder of this lock panics") = Some(reason.to_string());
            }
            Some(
                RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::Resolve
                | RDKafkaErrorCode::OperationTimedOut,
            ) => {
                tracing::debug!(%error, reason, "a broker cannot be reached");
                let mut trouble = self.0.trouble.lock().expect("no holder of this lock panics");
                // The first says more than "all brokers are down".
                trouble.get_or_insert_with(|| reason.to_string());
            }
            _ => tracing::debug!(%error, reason, "librdkafka reports an error"),
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        let Ok(statistics) = serde_json::from_slice::<Statistics>(statistics) else { return };
        if statistics.brokers.values().any(|broker| broker.state == "UP") {
            self.is_well();
        }
        let retries = statistics.brokers.values().map(|broker| broker.txretries + broker.req_timeouts).sum();
        self.0.retries.fetch_max(retries, SeqCst);
        let mut ends = self.0.ends.lock().expect("no holder of this lock panics");
        for (topic, partitions) in &statistics.topics {
            for partition in partitions.partitions.values().filter(|partition| partition.partition >= 0) {
                ends.insert((topic.clone(), partition.partition), partition.ls_offset.max(partition.hi_offset));
            }
        }
    }
}

impl ConsumerContext for Events {}

impl ProducerContext for Events {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        match result {
            Ok(_) => {
                self.0.delivered.fetch_add(1, SeqCst);
            }
            Err((error, message)) => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
                tracing::debug!(%error, topic = message.topic(), number, "a message was not delivered");
                self.0.failed.lock().expect("no holder of this lock panics").push(Failed { number, code });
            }
        }
    }
}

/// The parts of librdkafka's statistics that are looked at.
#[derive(Deserialize)]
struct Statistics {
    #[serde(default)]
    brokers: HashMap<String, BrokerStatistics>,
    #[serde(default)]
    topics: HashMap<String, TopicStatistics>,
}

#[derive(Deserialize)]
struct BrokerStatistics {
    state: String,
    #[serde(default)]
    txretries: u64,
    #[serde(default)]
    req_timeouts: u64,
}

#[derive(Deserialize)]
struct TopicStatistics {
    partitions: HashMap<String, PartitionStatistics>,
}

#[derive(Deserialize)]
struct PartitionStatistics {
    partition: i32,
    #[serde(default)]
    ls_offset: i64,
    #[serde(default)]
    hi_offset: i64,
}

/// The offset in "… reached end of partition at offset 12 (HighwaterMark 12)".
fn end_in(reason: &str) -> Option<i64> {
    let (_, rest) = reason.split_once("at offset ")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Whether a broker that says so will say so again.
fn is_refusal(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::Authentication
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::UnsupportedSASLMechanism
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::TransactionalIdAuthorizationFailed
    )
}

/// Makes a client.
///
/// # Errors
/// Kind Config: librdkafka does not take the settings.
pub(super) fn create<C>(config: &ClientConfig) -> Result<(C, Events), Error>
where
    C: FromClientConfigAndContext<Events>,
{
    let events = Events::default();
    let client = config.create_with_context(events.clone()).map_err(|why| {
        // The value is left out: it may be a secret.
        let what = match &why {
            KafkaError::ClientConfig(_, what, name, _) => format!("{name}: {what}"),
            why => why.to_string(),
        };
        Error::config(format!("librdkafka does not take the settings for Kafka: {what}. Correct them"))
    })?;
    Ok((client, events))
}

/// Lets the client's context see what has happened, for a client from which no records are read.
pub(super) fn look_at_events(consumer: &Consumer) {
    for _ in 0..EVENTS_AT_ONCE {
        // An event that is no error, such as statistics, comes back as nothing: that does not mean that it was the last.
        let _ = consumer.poll(Duration::ZERO);
    }
}

/// How many events are looked at together: more than a client has between two looks.
pub(super) const EVENTS_AT_ONCE: usize = 32;

/// What an error of librdkafka's asks of whoever runs the topology. `doing` leads the message.
pub(super) fn error(kafka: &Kafka, events: &Events, doing: &str, error: &KafkaError) -> Error {
    let brokers = kafka.brokers();
    if let Some(reason) = events.refused() {
        return Error::config(format!(
            "{doing}: the brokers at {brokers} refuse this client: {reason}. Correct the security settings, or ask for the right"
        ));
    }
    let code = match error {
        // The crate gives no code for these.
        KafkaError::AdminOp(code) => Some(*code),
        error => error.rdkafka_error_code(),
    };
    let kind = match code {
        Some(code) if is_refusal(code) => Kind::Config,
        Some(
            RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::InvalidPartitions
            | RDKafkaErrorCode::InvalidReplicationFactor
            | RDKafkaErrorCode::InvalidConfig
            | RDKafkaErrorCode::PolicyViolation,
        ) => Kind::Config,
        Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => Kind::SourceLost,
        _ => Kind::Away,
    };
    let why = events.trouble().filter(|_| kind == Kind::Away).map_or(String::new(), |why| format!(" ({why})"));
    let what = match kind {
        Kind::Away => format!("the brokers at {brokers} do not answer as they should: {error}{why}"),
        _ => error.to_string(),
    };
    Error::new(kind, format!("{doing}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_of_an_end_is_found_in_its_text() {
        let reason = "Fetch from broker 1 reached end of partition at offset 1234 (HighwaterMark 1240)";
        assert_eq!(end_in(reason), Some(1234));
        assert_eq!(end_in("Fetch from broker 1 reached end of partition"), None);
    }

    #[test]
    fn statistics_tell_of_retries_and_ends() {
        let events = Events::default();
        events.error(KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        assert!(events.trouble().is_some());
        events.stats_raw(
            br#"{"brokers": {"b": {"state": "UP", "txretries": 2, "req_timeouts": 1, "rtt": {}}},
                 "topics": {"t": {"partitions": {"0": {"partition": 0, "ls_offset": 7, "hi_offset": 9}}}}}"#,
        );
        assert_eq!((events.trouble(), events.retries(), events.end_of("t", 0)), (None, 3, Some(9)));
    }
}
