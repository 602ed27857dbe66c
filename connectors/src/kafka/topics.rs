//! A client that asks a cluster about topics: which there are, their ids and partitions, where those begin and end.

use super::begin::{Answer, BELIEVED_AFTER};
use super::client;
use super::events::{Consumer, Events};
use super::identity::{Record, TopicId};
use super::settings::{Isolation, Kafka};
use super::source::{ANSWER_WITHIN, name_of, parse};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tidemill_state::{Error, Kind, Result};

/// After so long without an answer a client is replaced: librdkafka may have dropped every broker that it knew.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(30);

/// How often the brokers are asked again whether something is really lost.
pub(super) const ASK_EVERY: Duration = Duration::from_millis(500);

/// A client that asks and does not read. Threads may share it: where order matters, one asks at a time.
pub(super) struct Probe {
    kafka: Kafka,
    /// `None` only while it is dropped.
    consumer: Option<Consumer>,
    events: Events,
    /// Held by the thread that polls the client.
    alone: Mutex<()>,
    /// Since when no call was answered.
    silent_since: Mutex<Option<Instant>>,
}

impl Drop for Probe {
    fn drop(&mut self) {
        let consumer = self.consumer.take();
        // It takes its leave of the brokers, which nobody has to wait for.
        std::thread::spawn(move || drop(consumer));
    }
}

/// A topic, as the brokers list it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// Its id; `None` where the brokers have none (before Kafka 2.8).
    pub(super) id: Option<TopicId>,
    pub(super) partitions: i32,
}

impl Listed {
    /// What speaks against this topic as the one of this id, of which this partition was read; `None` if nothing does.
    pub(super) fn speaks_against(&self, was: Option<TopicId>, partition: i32) -> Option<Answer> {
        match (was, self.id) {
            (Some(was), Some(now)) if was != now => Some(Answer::OtherTopic { was, now }),
            _ => (partition >= self.partitions).then_some(Answer::NoPartition { partitions: self.partitions }),
        }
    }
}

impl Probe {
    /// A client that sees the ends of partitions so.
    pub(super) fn new(kafka: &Kafka, isolation: Isolation) -> Result<Probe> {
        let mut config = kafka.asking(isolation)?;
        // The brokers hold back the answer at the end of a partition for so long, and a probe waits for nothing else.
        config.set("fetch.wait.max.ms", "5");
        let (consumer, events) = client::create::<BaseConsumer<Events>>(kafka, &config)?;
        // A token, if the brokers want one, is given by a look at the reports.
        client::look_at_events(&consumer);
        let (alone, silent_since) = (Mutex::default(), Mutex::default());
        Ok(Probe { kafka: kafka.clone(), consumer: Some(consumer), events, alone, silent_since })
    }

    /// Whether no call was answered for so long that another client should ask.
    pub(super) fn is_stuck(&self) -> bool {
        let since = *self.silent_since.lock().expect("no holder of this lock panics");
        since.is_some_and(|since| since.elapsed() >= STUCK_AFTER)
    }

    /// Notes that a call was answered.
    fn is_well(&self) {
        *self.silent_since.lock().expect("no holder of this lock panics") = None;
        self.events.is_well();
    }

    /// Returns the error of a call that failed, with what the client was told meanwhile.
    pub(super) fn failed(&self, doing: &str, why: &KafkaError) -> Error {
        // Whoever else polls takes the reports as well.
        if let Ok(_alone) = self.alone.try_lock() {
            client::look_at_events(self.consumer());
        }
        let error = client::error(&self.kafka, &self.events, doing, why);
        if error.kind() == Kind::Away {
            self.silent_since.lock().expect("no holder of this lock panics").get_or_insert_with(Instant::now);
        }
        error
    }

    /// Takes the client's reports, unless somebody else is at it.
    pub(super) fn tend(&self) {
        if let Ok(_alone) = self.alone.try_lock() {
            client::look_at_events(self.consumer());
        }
    }

    /// The client itself.
    pub(super) fn consumer(&self) -> &Consumer {
        self.consumer.as_ref().expect("a probe has its client until it is dropped")
    }

    /// Returns a topic as a broker lists it now, any of them; `None` if that does not know it.
    pub(super) fn topic(&self, topic: &str) -> Result<Option<Listed>> {
        let (metadata, id) = {
            let _alone = self.alone.lock().expect("no holder of this lock panics");
            let metadata = self.consumer().fetch_metadata(Some(topic), ANSWER_WITHIN);
            // The topic's id is among the reports, before the answer.
            client::look_at_events(self.consumer());
            (metadata, self.events.id_of(topic))
        };
        let metadata = metadata.map_err(|why| self.failed(&format!("topic {topic}"), &why))?;
        self.is_well();
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
        match found.error().map(RDKafkaErrorCode::from) {
            None => {
                let partitions = i32::try_from(found.partitions().len()).unwrap_or(i32::MAX);
                Ok(Some(Listed { id, partitions }))
            }
            Some(code) if client::is_unknown_topic(code) => Ok(None),
            Some(RDKafkaErrorCode::InvalidTopic) => Err(Error::config(format!("no topic can be named \"{topic}\""))),
            Some(code) => Err(self.failed(&format!("topic {topic}"), &KafkaError::MetadataFetch(code))),
        }
    }

    /// Returns how many partitions a topic has; `None` if there is no such topic.
    pub(super) fn partitions_of(&self, topic: &str) -> Result<Option<i32>> {
        Ok(self.topic(topic)?.map(|listed| listed.partitions))
    }

    /// Returns all topics as a broker lists them now. Each has its id only if this client has asked about it before.
    pub(super) fn all_topics(&self) -> Result<BTreeMap<String, Listed>> {
        let metadata = {
            let _alone = self.alone.lock().expect("no holder of this lock panics");
            let metadata = self.consumer().fetch_metadata(None, ANSWER_WITHIN);
            client::look_at_events(self.consumer());
            metadata
        };
        let metadata = metadata.map_err(|why| self.failed("listing the topics", &why))?;
        self.is_well();
        let listed = |found: &MetadataTopic| {
            let partitions = i32::try_from(found.partitions().len()).unwrap_or(i32::MAX);
            (found.name().to_string(), Listed { id: self.events.id_of(found.name()), partitions })
        };
        Ok(metadata.topics().iter().filter(|found| found.error().is_none()).map(listed).collect())
    }

    /// Returns the first offset of a partition and the one after the last, as its leader has them.
    pub(super) fn range(&self, topic: &str, partition: i32) -> Result<(i64, i64)> {
        self.of_leader(topic, partition, |consumer| consumer.fetch_watermarks(topic, partition, ANSWER_WITHIN))
    }

    /// Returns the answer of a partition's leader.
    ///
    /// librdkafka remembers that a partition had no leader, as it is while its broker starts, and does not look for one
    /// again before its metadata expires, in a quarter of an hour. The next call after such an error therefore finds
    /// fresh metadata.
    fn of_leader<A>(&self, topic: &str, partition: i32, ask: impl FnOnce(&Consumer) -> KafkaResult<A>) -> Result<A> {
        match ask(self.consumer()) {
            Ok(answer) => {
                self.is_well();
                Ok(answer)
            }
            Err(why) => {
                if why.rdkafka_error_code().is_some_and(is_without_leader) {
                    self.topic(topic)?;
                }
                Err(self.failed_at(topic, partition, &why))
            }
        }
    }

    /// Returns the error of a call about a partition. While it has no leader - its broker was paused, say, and has just resumed - librdkafka may
    /// not know it. It was listed before, so that a broker that does not know it now is behind, or its next list will not have it.
    pub(super) fn failed_at(&self, topic: &str, partition: i32, why: &KafkaError) -> Error {
        let name = name_of(topic, partition);
        match why.rdkafka_error_code() {
            Some(code) if is_without_leader(code) => {
                let brokers = self.kafka.brokers();
                Error::away(format!("{name}: the brokers at {brokers} have no leader for it now ({why})"))
            }
            _ => self.failed(&name, why),
        }
    }

    /// Returns whether the record at this one's offset is another now; `None` if it is gone.
    pub(super) fn is_replaced(&self, topic: &str, partition: i32, record: &Record) -> Result<Option<bool>> {
        let failed = |why: KafkaError| self.failed_at(topic, partition, &why);
        let alone = self.alone.lock().expect("no holder of this lock panics");
        let consumer = self.consumer();
        let mut assigned = TopicPartitionList::with_capacity(1);
        assigned.add_partition_offset(topic, partition, Offset::Offset(record.offset)).map_err(failed)?;
        consumer.assign(&assigned).map_err(failed)?;
        let until = Instant::now() + ANSWER_WITHIN;
        let found = loop {
            match consumer.poll(Duration::from_millis(20)) {
                Some(Ok(message)) => {
                    let now = Record::of(&message);
                    break Ok((now.offset == record.offset).then_some(now != *record));
                }
                Some(Err(KafkaError::PartitionEOF(_))) => break Ok(None),
                Some(Err(error)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) => break Ok(None),
                Some(Err(_)) | None if Instant::now() < until => {}
                Some(Err(error)) => break Err(error),
                None => break Err(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut)),
            }
        };
        let _ = consumer.unassign();
        drop(alone);
        found.map_err(failed)
    }

    /// Returns the topics that these names and patterns mean.
    pub(super) fn topics(&self, names: &[String]) -> Result<BTreeMap<String, Listed>> {
        let mut topics = BTreeMap::new();
        for name in names {
            if !name.contains(['*', '?', '[']) {
                let missing = || {
                    let brokers = self.kafka.brokers();
                    Error::config(format!("there is no topic {name} at {brokers}: correct the name, or make the topic first"))
                };
                topics.insert(name.clone(), self.topic(name)?.ok_or_else(missing)?);
                continue;
            }
            let pattern =
                glob::Pattern::new(name).map_err(|why| Error::config(format!("\"{name}\" is no pattern of topics: {why}")))?;
            for (topic, listed) in self.all_topics()? {
                // Kafka's own topics are no one's input, and a progress topic is the sinks' own.
                let own = topic.starts_with("__") || topic.ends_with(super::marker::PROGRESS);
                if !pattern.matches(&topic) || own {
                    continue;
                }
                // It may be gone since it was listed.
                let listed = if listed.id.is_some() { Some(listed) } else { self.topic(&topic)? };
                topics.extend(listed.map(|listed| (topic, listed)));
            }
        }
        Ok(topics)
    }
}

/// Whether an error of a partition that was listed means that no leader of it is known.
fn is_without_leader(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::UnknownPartition | RDKafkaErrorCode::LeaderNotAvailable) || client::is_unknown_topic(code)
}

/// Returns the names of these topics' partitions.
pub(super) fn names_in(topics: &BTreeMap<String, Listed>) -> Vec<String> {
    let of_topic = |(topic, listed): (&String, &Listed)| -> Vec<String> {
        (0..listed.partitions).map(|partition| name_of(topic, partition)).collect()
    };
    topics.iter().flat_map(of_topic).collect()
}

/// The partitions of a source, as a start sees them.
pub(super) struct Partitions<'a> {
    probe: &'a Probe,
    topics: BTreeMap<String, Listed>,
    names: Vec<String>,
}

impl<'a> Partitions<'a> {
    /// Lists the partitions of these topics. A topic that is recorded and gone is not missing here: its partitions are.
    pub(super) fn look(probe: &'a Probe, names: &[String], recorded: impl Iterator<Item = &'a String>) -> Result<Partitions<'a>> {
        let recorded: BTreeSet<&str> = recorded.filter_map(|name| parse(name).ok()).map(|(topic, _)| topic).collect();
        let mut topics = BTreeMap::new();
        for name in names {
            if recorded.contains(name.as_str()) && probe.topic(name)?.is_none() {
                continue;
            }
            topics.extend(probe.topics(std::slice::from_ref(name))?);
        }
        let names = names_in(&topics);
        Ok(Partitions { probe, topics, names })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        parse(name).is_ok_and(|(topic, number)| self.topics.get(topic).is_some_and(|listed| number < listed.partitions))
    }

    /// The id of the topic that a partition belongs to.
    pub(super) fn id_of(&self, name: &str) -> Option<TopicId> {
        let (topic, _) = parse(name).ok()?;
        self.topics.get(topic)?.id
    }

    /// Whether a partition is there, and its topic may be the one of this id.
    pub(super) fn may_be(&self, name: &str, was: Option<TopicId>) -> bool {
        let listed = parse(name).ok().and_then(|(topic, number)| Some((self.topics.get(topic)?, number)));
        listed.is_some_and(|(listed, number)| listed.speaks_against(was, number).is_none())
    }

    /// As [`Partitions::range`], of a partition that was read up to an offset. An end before that is asked for again for some seconds: with a new
    /// leader it may be behind.
    pub(super) fn range_with(&self, name: &str, read: i64) -> Result<(i64, i64)> {
        let began = Instant::now();
        loop {
            let (low, high) = self.range(name)?;
            if read <= high || began.elapsed() >= BELIEVED_AFTER {
                return Ok((low, high));
            }
            std::thread::sleep(ASK_EVERY);
        }
    }

    /// The first offset of a partition and the one after the last.
    pub(super) fn range(&self, name: &str) -> Result<(i64, i64)> {
        let (topic, partition) = parse(name)?;
        self.probe.range(topic, partition)
    }

    /// Whether the record at this one's offset is another now; `None` if it is gone.
    pub(super) fn is_replaced(&self, name: &str, record: &Record) -> Result<Option<bool>> {
        let (topic, partition) = parse(name)?;
        self.probe.is_replaced(topic, partition, record)
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
        asked.add_partition_offset(topic, partition, Offset::Offset(ms)).map_err(|why| self.probe.failed(name, &why))?;
        let ask = |consumer: &Consumer| consumer.offsets_for_times(asked, ANSWER_WITHIN);
        let found = self.probe.of_leader(topic, partition, ask)?;
        let found = found.elements();
        let Some(found) = found.first() else { return self.stable_end(name) };
        // With an error, the offset is still the time.
        found.error().map_err(|why| self.probe.failed_at(topic, partition, &why))?;
        match found.offset() {
            Offset::Offset(offset) => Ok(offset),
            _ => self.stable_end(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::DefaultProducerContext;

    /// A real broker has no leader for an instant of its start; librdkafka's own stand-in can be told so.
    #[test]
    fn a_partition_that_had_no_leader_is_found_when_it_has_one() {
        let cluster = MockCluster::<DefaultProducerContext>::new(1).expect("a port is free");
        cluster.create_topic("words", 1, 1).expect("a new topic");
        cluster.partition_leader("words", 0, None).expect("a known partition");
        let probe = Probe::new(&Kafka::new(cluster.bootstrap_servers()), Isolation::Uncommitted).expect("good settings");
        let without = probe.range("words", 0).expect_err("it has no leader");
        assert_eq!(without.kind(), Kind::Away, "{without}");
        cluster.partition_leader("words", 0, Some(1)).expect("a known broker");
        let began = Instant::now();
        while let Err(why) = probe.range("words", 0) {
            assert_eq!(why.kind(), Kind::Away, "{why}");
            assert!(began.elapsed() < Duration::from_secs(30), "it is not found again: {why}");
            std::thread::sleep(ASK_EVERY);
        }
    }
}
