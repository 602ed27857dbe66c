//! What a cluster says of topics: which there are, their partitions, where those begin and end; and the topics that are made.

use super::client::{self, Consumer, Events};
use super::settings::{Isolation, Kafka};
use super::source::{ANSWER_WITHIN, Witness, name_of, parse};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tidemill_state::{Error, Result};

/// A client that asks and does not read.
pub(super) struct Probe {
    kafka: Kafka,
    /// `None` only while it is dropped.
    consumer: Option<Consumer>,
    events: Events,
}

impl Drop for Probe {
    fn drop(&mut self) {
        let consumer = self.consumer.take();
        // It takes its leave of the brokers, which nobody has to wait for.
        std::thread::spawn(move || drop(consumer));
    }
}

impl Probe {
    /// A client that sees the ends of partitions so.
    pub(super) fn new(kafka: &Kafka, isolation: Isolation) -> Result<Probe> {
        let mut config = kafka.asking("tidemill", isolation)?;
        // The brokers hold back the answer at the end of a partition for so long, and a probe waits for nothing else.
        config.set("fetch.wait.max.ms", "5");
        let (consumer, events) = client::create::<BaseConsumer<Events>>(&config)?;
        Ok(Probe { kafka: kafka.clone(), consumer: Some(consumer), events })
    }

    /// The error of a call that failed, with what the client was told meanwhile.
    pub(super) fn failed(&self, doing: &str, why: &KafkaError) -> Error {
        client::look_at_events(self.consumer());
        client::error(&self.kafka, &self.events, doing, why)
    }

    /// The client itself.
    pub(super) fn consumer(&self) -> &Consumer {
        self.consumer.as_ref().expect("a probe has its client until it is dropped")
    }

    fn metadata(&self, topic: Option<&str>) -> Result<Metadata> {
        let doing = || topic.map_or("listing the topics".to_string(), |topic| format!("topic {topic}"));
        let metadata = self.consumer().fetch_metadata(topic, ANSWER_WITHIN).map_err(|why| self.failed(&doing(), &why))?;
        self.events.is_well();
        Ok(metadata)
    }

    /// How many partitions a topic has; `None` if there is no such topic.
    pub(super) fn partitions_of(&self, topic: &str) -> Result<Option<i32>> {
        let metadata = self.metadata(Some(topic))?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
        match found.error().map(RDKafkaErrorCode::from) {
            None => Ok(Some(i32::try_from(found.partitions().len()).unwrap_or(i32::MAX))),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(None),
            Some(RDKafkaErrorCode::InvalidTopic) => Err(Error::config(format!("no topic can be named \"{topic}\""))),
            Some(code) => Err(self.failed(&format!("topic {topic}"), &KafkaError::MetadataFetch(code))),
        }
    }

    /// The first offset of a partition and the one after the last.
    pub(super) fn range(&self, topic: &str, partition: i32) -> Result<(i64, i64)> {
        let range = self.consumer().fetch_watermarks(topic, partition, ANSWER_WITHIN);
        let range = range.map_err(|why| self.failed_at(topic, partition, &why))?;
        self.events.is_well();
        Ok(range)
    }

    /// The error of a call about a partition. While it has no leader - its broker was paused, say, and has just gone on - librdkafka may not know it.
    pub(super) fn failed_at(&self, topic: &str, partition: i32, why: &KafkaError) -> Error {
        let name = name_of(topic, partition);
        if why.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownPartition) {
            match self.partitions_of(topic) {
                Ok(Some(partitions)) if partition < partitions => {
                    return Error::away(format!(
                        "{name}: the brokers at {} have no leader for it now ({why})",
                        self.kafka.brokers()
                    ));
                }
                Ok(_) => {}
                Err(error) => return error,
            }
        }
        self.failed(&name, why)
    }

    /// The topics that these names and patterns mean, with their numbers of partitions.
    fn topics(&self, names: &[String]) -> Result<BTreeMap<String, i32>> {
        let mut topics = BTreeMap::new();
        for name in names {
            if !name.contains(['*', '?', '[']) {
                let partitions = self.partitions_of(name)?;
                let missing = || {
                    let brokers = self.kafka.brokers();
                    Error::config(format!("there is no topic {name} at {brokers}: correct the name, or make the topic first"))
                };
                topics.insert(name.clone(), partitions.ok_or_else(missing)?);
                continue;
            }
            let pattern =
                glob::Pattern::new(name).map_err(|why| Error::config(format!("\"{name}\" is no pattern of topics: {why}")))?;
            for topic in self.metadata(None)?.topics() {
                // Kafka's own topics are no one's input, and a progress topic is the sinks' own.
                let own = topic.name().starts_with("__") || topic.name().ends_with(super::marker::PROGRESS);
                if pattern.matches(topic.name()) && !own {
                    topics.insert(topic.name().to_string(), i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX));
                }
            }
        }
        Ok(topics)
    }
}

/// The partitions of these topics and patterns, by name.
pub(super) fn list(probe: &Probe, names: &[String]) -> Result<Vec<String>> {
    let topics = probe.topics(names)?;
    Ok(topics.iter().flat_map(|(topic, partitions)| (0..*partitions).map(move |partition| name_of(topic, partition))).collect())
}

/// The partitions of a source, as a start sees them.
pub(super) struct Partitions<'a> {
    probe: &'a Probe,
    names: BTreeSet<String>,
}

impl<'a> Partitions<'a> {
    /// Lists the partitions of these topics. A topic that is recorded and gone is not missing here: its partitions are.
    pub(super) fn look(probe: &'a Probe, names: &[String], recorded: impl Iterator<Item = &'a String>) -> Result<Partitions<'a>> {
        let recorded: BTreeSet<&str> = recorded.filter_map(|name| parse(name).ok()).map(|(topic, _)| topic).collect();
        let mut there = BTreeSet::new();
        for name in names {
            if recorded.contains(name.as_str()) && probe.partitions_of(name)?.is_none() {
                continue;
            }
            there.extend(list(probe, std::slice::from_ref(name))?);
        }
        Ok(Partitions { probe, names: there })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// The first offset of a partition and the one after the last.
    pub(super) fn range(&self, name: &str) -> Result<(i64, i64)> {
        let (topic, partition) = parse(name)?;
        self.probe.range(topic, partition)
    }

    /// The first offset that a reader of committed transactions does not reach yet: records of a transaction that is still open come after it.
    pub(super) fn stable_end(&self, name: &str) -> Result<i64> {
        let (topic, partition) = parse(name)?;
        Ok(Probe::new(&self.probe.kafka, Isolation::Committed)?.range(topic, partition)?.1)
    }

    /// The first offset of this time or later; the end if there is none.
    pub(super) fn at_time(&self, name: &str, ms: i64) -> Result<i64> {
        let (topic, partition) = parse(name)?;
        let mut asked = TopicPartitionList::with_capacity(1);
        let failed = |why: KafkaError| self.probe.failed(name, &why);
        asked.add_partition_offset(topic, partition, Offset::Offset(ms)).map_err(failed)?;
        let found = self.probe.consumer().offsets_for_times(asked, ANSWER_WITHIN).map_err(failed)?;
        match found.elements().first().map(|found| found.offset()) {
            Some(Offset::Offset(offset)) => Ok(offset),
            _ => self.stable_end(name),
        }
    }

    /// Whether the record that `witness` remembers is another one now; `None` if it is gone.
    pub(super) fn is_replaced(&self, name: &str, witness: &Witness) -> Result<Option<bool>> {
        let (topic, partition) = parse(name)?;
        let consumer = self.probe.consumer();
        let failed = |why: KafkaError| self.probe.failed(name, &why);
        let mut assigned = TopicPartitionList::with_capacity(1);
        assigned.add_partition_offset(topic, partition, Offset::Offset(witness.offset)).map_err(failed)?;
        consumer.assign(&assigned).map_err(failed)?;
        let until = Instant::now() + ANSWER_WITHIN;
        let found = loop {
            match consumer.poll(Duration::from_millis(20)) {
                Some(Ok(message)) => {
                    let now = Witness::of(&message);
                    break Ok((now.offset == witness.offset).then_some(now != *witness));
                }
                Some(Err(KafkaError::PartitionEOF(_))) => break Ok(None),
                Some(Err(error)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) => break Ok(None),
                Some(Err(_)) | None if Instant::now() < until => {}
                Some(Err(error)) => break Err(failed(error)),
                None => break Err(failed(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut))),
            }
        };
        let _ = consumer.unassign();
        found
    }
}

/// Makes topics, and reads their settings.
pub(super) struct Admin {
    kafka: Kafka,
    client: AdminClient<Events>,
    events: Events,
    tokio: tokio::runtime::Runtime,
}

impl Admin {
    pub(super) fn new(kafka: &Kafka) -> Result<Admin> {
        let (client, events) = client::create::<AdminClient<Events>>(&kafka.administering()?)?;
        let tokio = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|why| Error::try_again(format!("the operating system gives no resources for a client of Kafka: {why}")))?;
        Ok(Admin { kafka: kafka.clone(), client, events, tokio })
    }

    fn options() -> AdminOptions {
        AdminOptions::new().request_timeout(Some(ANSWER_WITHIN)).operation_timeout(Some(ANSWER_WITHIN))
    }

    /// Makes a topic, unless there is one of this name.
    pub(super) fn create(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<()> {
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
        for (name, value) in settings {
            new = new.set(name, value);
        }
        let doing = format!("making topic {topic}");
        let failed = |why: &KafkaError| client::error(&self.kafka, &self.events, &doing, why);
        let made = self.tokio.block_on(self.client.create_topics([&new], &Admin::options())).map_err(|why| failed(&why))?;
        match made.into_iter().next() {
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) | Some(Ok(_)) | None => Ok(()),
            Some(Err((_, RDKafkaErrorCode::InvalidTopic))) => Err(Error::config(format!("no topic can be named \"{topic}\""))),
            Some(Err((_, code))) => Err(failed(&KafkaError::AdminOp(code))),
        }
    }

    /// The settings of a topic, those that are asked for.
    pub(super) fn settings<const N: usize>(&self, topic: &str, names: [&str; N]) -> Result<[String; N]> {
        let doing = format!("reading the settings of topic {topic}");
        let failed = |why: &KafkaError| client::error(&self.kafka, &self.events, &doing, why);
        let of_topic = ResourceSpecifier::Topic(topic);
        let described = self.client.describe_configs([&of_topic], &Admin::options());
        let described = self.tokio.block_on(described).map_err(|why| failed(&why))?;
        match described.into_iter().next() {
            Some(Ok(found)) => Ok(names.map(|name| found.get(name).and_then(|entry| entry.value.clone()).unwrap_or_default())),
            Some(Err(code)) => Err(failed(&KafkaError::AdminOp(code))),
            None => Err(failed(&KafkaError::NoMessageReceived)),
        }
    }
}
