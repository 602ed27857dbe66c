//! Makes topics, and reads their settings.

use super::client;
use super::events::Events;
use super::settings::{ANSWER_WITHIN, Kafka};
use super::topics::ASK_EVERY;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::time::{Duration, Instant};
use tidemill_state::{Error, Result};

/// A client that makes topics, and reads their settings.
pub(super) struct Admin {
    kafka: Kafka,
    client: AdminClient<Events>,
    events: Events,
    tokio: tokio::runtime::Runtime,
}

impl Admin {
    pub(super) fn new(kafka: &Kafka) -> Result<Admin> {
        let (client, events) =
            client::create::<AdminClient<Events>>(kafka, &kafka.administering()?)?;
        let tokio =
            tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(|why| {
                Error::try_again(format!(
                    "the operating system gives no resources for a client of Kafka: {why}"
                ))
            })?;
        Ok(Admin { kafka: kafka.clone(), client, events, tokio })
    }

    fn options() -> AdminOptions {
        AdminOptions::new()
            .request_timeout(Some(ANSWER_WITHIN))
            .operation_timeout(Some(ANSWER_WITHIN))
    }

    /// Makes a topic, unless there is one of this name: with so many replicas, or the brokers'
    /// default.
    pub(super) fn create(
        &self,
        topic: &str,
        partitions: i32,
        replicas: Option<i32>,
        settings: &[(&str, &str)],
    ) -> Result<()> {
        let mut new =
            NewTopic::new(topic, partitions, TopicReplication::Fixed(replicas.unwrap_or(-1)));
        for (name, value) in settings {
            new = new.set(name, value);
        }
        let doing = format!("making topic {topic}");
        let failed = |why: &KafkaError| client::error(&self.kafka, &self.events, &doing, why);
        let made = self
            .tokio
            .block_on(self.client.create_topics([&new], &Admin::options()))
            .map_err(|why| failed(&why))?;
        match made.into_iter().next() {
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) | Some(Ok(_)) | None => Ok(()),
            // Another topic has as many: some brokers are down.
            Some(Err((_, code @ RDKafkaErrorCode::InvalidReplicationFactor)))
                if replicas.is_some() =>
            {
                Err(Error::unreachable(format!(
                    "{doing} with {} replicas: {code}",
                    replicas.unwrap_or_default()
                )))
            }
            Some(Err((_, RDKafkaErrorCode::InvalidTopic))) => {
                Err(Error::config(format!("no topic can be named \"{topic}\"")))
            }
            Some(Err((_, code))) => Err(failed(&KafkaError::AdminOp(code))),
        }
    }

    /// The settings of a topic, those that are asked for.
    ///
    /// The crate has no error of a single topic: one that is refused, or that the broker which was
    /// asked does not know yet, comes back without settings. It was listed just before, so that the
    /// latter passes.
    pub(super) fn settings<const N: usize>(
        &self,
        topic: &str,
        names: [&str; N],
    ) -> Result<[String; N]> {
        let doing = format!("reading the settings of topic {topic}");
        let failed = |why: &KafkaError| client::error(&self.kafka, &self.events, &doing, why);
        let until = Instant::now() + DESCRIBED_WITHIN;
        loop {
            let of_topic = ResourceSpecifier::Topic(topic);
            let described = self.client.describe_configs([&of_topic], &Admin::options());
            let described = self.tokio.block_on(described).map_err(|why| failed(&why))?;
            let found = match described.into_iter().next() {
                Some(Ok(found)) => found,
                Some(Err(code)) => return Err(failed(&KafkaError::AdminOp(code))),
                None => return Err(failed(&KafkaError::NoMessageReceived)),
            };
            if !found.entries.is_empty() {
                return Ok(names.map(|name| {
                    found.get(name).and_then(|entry| entry.value.clone()).unwrap_or_default()
                }));
            }
            if Instant::now() >= until {
                return Err(failed(&KafkaError::AdminOp(
                    RDKafkaErrorCode::TopicAuthorizationFailed,
                )));
            }
            std::thread::sleep(ASK_EVERY);
        }
    }
}

/// The time a topic that is listed may be without settings before that is taken for a refusal.
const DESCRIBED_WITHIN: Duration = Duration::from_secs(10);
