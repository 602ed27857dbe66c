//! One producer of a sink: how it begins, and how its reports are taken.

use super::client::{self, EVENTS_AT_ONCE};
use super::error_class;
use super::events::Events;
use super::message::Encoded;
use super::settings::{ANSWER_WITHIN, Kafka, Takes};
use crate::threads;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use std::time::Duration;
use tidemill_state::{Error, Result};

/// The time the brokers may take to fence older producers.
const INIT_WITHIN: Duration = Duration::from_secs(10);

/// The interval at which deliveries are looked at: at first, and when they take long.
pub(super) const LOOK: (Duration, Duration) =
    (Duration::from_micros(300), Duration::from_millis(10));

/// One producer.
pub(super) struct Session {
    /// `None` only while it is dropped.
    producer: Option<BaseProducer<Events>>,
    pub(super) events: Events,
    trusted_within: Duration,
}

impl Session {
    /// Makes a producer of this transactional id, for this topic. When it is there, no older one of
    /// the id can commit anything more.
    ///
    /// # Errors
    /// Kind Config if the brokers or librdkafka refuse it, Unreachable if the brokers do not
    /// answer.
    pub(super) fn begin(kafka: &Kafka, id: &str, topic: &str, takes: Takes) -> Result<Session> {
        let (producer, events) =
            client::create::<BaseProducer<Events>>(kafka, &kafka.publishing(id, takes)?)?;
        let session = Session {
            producer: Some(producer),
            events,
            trusted_within: kafka.backoff()?.trusted_within(),
        };
        // A token, if the brokers want one, is given by a look at the reports.
        session.look_at_events();
        // Connected first: an init that finds no connection looks again after half a second only.
        let connected = session.producer().client().fetch_metadata(Some(topic), ANSWER_WITHIN);
        connected.map_err(|why| {
            session.failed(kafka, &format!("beginning to publish to topic {topic}"), &why)
        })?;
        let begun = session.producer().init_transactions(INIT_WITHIN);
        begun.map_err(|why| {
            session.failed(kafka, &format!("beginning transactions of id \"{id}\""), &why)
        })?;
        Ok(session)
    }

    pub(super) fn producer(&self) -> &BaseProducer<Events> {
        self.producer.as_ref().expect("a session has its producer until it is dropped")
    }

    /// A commit that took this long may have been sent twice: see [`super::backoff`].
    pub(super) fn trusted_within(&self) -> Duration {
        self.trusted_within
    }

    /// Takes the events that are there: deliveries, errors, statistics. Does not wait: `poll` would
    /// spin through the last millisecond of its time.
    pub(super) fn look_at_events(&self) {
        (0..EVENTS_AT_ONCE).for_each(|_| self.producer().poll(Duration::ZERO));
    }

    /// Gives a message to librdkafka; while its queue is full, waits.
    pub(super) fn send(
        &self,
        mut record: BaseRecord<'_, [u8], [u8], usize>,
    ) -> std::result::Result<(), KafkaError> {
        loop {
            match self.producer().send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    self.look_at_events();
                    std::thread::sleep(LOOK.0);
                }
                Err((why, _)) => return Err(why),
            }
        }
    }

    /// Returns the error of a call that failed, with what the client was told meanwhile.
    pub(super) fn failed(&self, kafka: &Kafka, doing: &str, why: &KafkaError) -> Error {
        self.look_at_events();
        // What a producer fails with for good is not in the error of every call after it.
        match (error_class::code_of(why), self.producer().client().fatal_error()) {
            (Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::State), Some((code, reason))) => {
                tracing::debug!(%code, reason, "the producer has failed");
                client::error(kafka, &self.events, doing, &KafkaError::Global(code))
            }
            _ => client::error(kafka, &self.events, doing, why),
        }
    }

    /// Returns why the transaction in hand cannot go on, when its messages are not sent any more
    /// for that. Changes nothing: no transaction can begin in one that has failed.
    pub(super) fn why_it_failed(&self) -> Option<KafkaError> {
        self.producer().begin_transaction().err()
    }

    /// Returns whether a newer producer of this sink has been seen.
    pub(super) fn is_fenced(&self, why: &KafkaError) -> bool {
        let fenced = |code: RDKafkaErrorCode| {
            matches!(
                code,
                RDKafkaErrorCode::Fenced
                    | RDKafkaErrorCode::ProducerFenced
                    | RDKafkaErrorCode::InvalidProducerEpoch
            )
        };
        why.rdkafka_error_code().is_some_and(fenced)
            || self.producer().client().fatal_error().is_some_and(|(code, _)| fenced(code))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(producer) = self.producer.take() {
            threads::let_go(producer);
        }
    }
}

/// Returns whether a message was not sent because its transaction had failed for something else.
pub(super) fn is_purged(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight)
}

/// Returns a message as it is sent.
pub(super) fn to_topic<'a>(
    topic: &'a str,
    message: &Encoded<'a>,
    number: usize,
) -> BaseRecord<'a, [u8], [u8], usize> {
    let mut record = BaseRecord::with_opaque_to(topic, number);
    (record.key, record.payload, record.partition, record.timestamp) =
        (message.key, message.value, message.partition, message.timestamp);
    if !message.headers.is_empty() {
        let headers = OwnedHeaders::new_with_capacity(message.headers.len());
        let add = |headers: OwnedHeaders, (key, value): &(&str, Option<&[u8]>)| {
            headers.insert(Header { key, value: *value })
        };
        record.headers = Some(message.headers.iter().fold(headers, add));
    }
    record
}
