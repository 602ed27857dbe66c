//! The names of librdkafka's settings: those that are refused, with the reason, and those of which
//! there are two for one thing.

use tidemill_state::{Error, Result};

/// Settings that the guarantee rests on, with the reason why they are not the user's.
pub(super) const OURS: &[(&str, &str)] = &[
    ("bootstrap.servers", "it is what Kafka::new was given"),
    ("metadata.broker.list", "it is what Kafka::new was given"),
    (
        "enable.auto.commit",
        "positions lie in the store; the group's offsets follow each commit, for lag tools only",
    ),
    (
        "auto.commit.enable",
        "positions lie in the store; the group's offsets follow each commit, for lag tools only",
    ),
    ("enable.auto.offset.store", "positions lie in the store"),
    (
        "auto.offset.reset",
        "lost records must be an error, never skipped; say where a new source begins with \
         Topics::first, or --from",
    ),
    ("isolation.level", "records of aborted transactions must not be counted"),
    ("check.crcs", "damaged records must be found"),
    ("allow.auto.create.topics", "a misspelt topic must be an error"),
    (
        "enable.partition.eof",
        "the end of a partition is how a position passes aborted transactions",
    ),
    (
        "transactional.id",
        "it is made of the topology's and the sink's name, so that a restart finds its \
         transactions again",
    ),
    ("enable.idempotence", "transactions need it"),
    ("acks", "transactions need acknowledgement by all replicas in sync"),
    ("request.required.acks", "transactions need acknowledgement by all replicas in sync"),
    ("max.in.flight", "transactions keep the order only with what librdkafka sets"),
    (
        "max.in.flight.requests.per.connection",
        "transactions keep the order only with what librdkafka sets",
    ),
    ("retries", "transactions need what librdkafka sets"),
    ("message.send.max.retries", "transactions need what librdkafka sets"),
    (
        "transaction.timeout.ms",
        "the marker is read on the assumption that an abandoned transaction ends within 60 s",
    ),
    ("message.timeout.ms", "it must not be longer than a transaction may take"),
    ("delivery.timeout.ms", "it must not be longer than a transaction may take"),
    (
        "retry.backoff.max.ms",
        "it follows retry.backoff.ms: a commit could be sent twice sooner than it is distrusted",
    ),
    (
        "partitioner",
        "murmur2_random spreads keys as the Java clients do; give a message its partition to \
         spread them otherwise",
    ),
    ("statistics.interval.ms", "lag and retries are read from the statistics"),
];

/// Second names, and the first ones that librdkafka itself takes them for. Two values for one thing
/// would win by chance.
const ALIASES: &[(&str, &str)] = &[
    ("sasl.mechanism", "sasl.mechanisms"),
    ("sasl.oauthbearer.client.credentials.client.id", "sasl.oauthbearer.client.id"),
    ("sasl.oauthbearer.client.credentials.client.secret", "sasl.oauthbearer.client.secret"),
    ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
    ("linger.ms", "queue.buffering.max.ms"),
    ("compression.type", "compression.codec"),
];

/// Returns the one name of a setting that has two, and any other as it is.
pub(super) fn first_name(name: &str) -> &str {
    ALIASES.iter().find(|(second, _)| *second == name).map_or(name, |(_, first)| first)
}

/// Refuses a setting that the guarantee rests on.
///
/// # Errors
/// Kind Config, with the reason.
pub(super) fn check(name: &str) -> Result<()> {
    match OURS.iter().find(|(ours, _)| *ours == name) {
        Some((_, reason)) => Err(Error::config(format!(
            "Kafka's setting {name} cannot be changed: {reason}. Leave it out"
        ))),
        None => Ok(()),
    }
}
