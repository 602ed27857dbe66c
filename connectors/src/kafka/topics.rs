//! A client that asks a cluster about topics: which there are, their ids and partitions, where
//! those begin and end.

use super::begin::Answer;
use super::client;
use super::events::{Consumer, Events};
use super::identity::TopicId;
use super::partition::name_of;
use super::settings::{ANSWER_WITHIN, Isolation, Kafka};
use super::topic_list::Entry;
use crate::threads;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tidemill_state::{Error, Kind, Result};

/// After so long without an answer a client is replaced: librdkafka may have dropped every broker
/// that it knew.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(30);

/// The interval at which the brokers are asked again whether something is really lost.
pub(super) const ASK_EVERY: Duration = Duration::from_millis(500);

/// A client that asks and does not read. Threads may share it: where order matters, one asks at a
/// time.
pub(super) struct Probe {
    kafka: Kafka,
    /// `None` only while it is dropped.
    consumer: Option<Arc<Consumer>>,
    events: Events,
    /// Held by the thread that polls the client.
    alone: Mutex<()>,
    /// Since when no call was answered.
    silent_since: Mutex<Option<Instant>>,
    /// By topic: the leader of each partition, as it was listed last.
    leaders: Mutex<HashMap<String, HashMap<i32, i32>>>,
}

impl Drop for Probe {
    fn drop(&mut self) {
        threads::let_go(self.consumer.take());
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
    /// Returns the objection to this topic as the one of id `was`, of which this partition was
    /// read; `None` if there is none.
    pub(super) fn speaks_against(&self, was: Option<TopicId>, partition: i32) -> Option<Answer> {
        match (was, self.id) {
            (Some(was), Some(now)) if was != now => Some(Answer::OtherTopic { was, now }),
            _ => (partition >= self.partitions)
                .then_some(Answer::NoPartition { partitions: self.partitions }),
        }
    }
}

impl Probe {
    /// A client that sees the ends of partitions so.
    pub(super) fn new(kafka: &Kafka, isolation: Isolation) -> Result<Probe> {
        let mut config = kafka.asking(isolation)?;
        // The brokers hold back the answer at the end of a partition for so long, and a probe waits
        // for nothing else.
        config.set("fetch.wait.max.ms", "5");
        // It looks at single records: nothing is fetched ahead.
        config.set("queued.min.messages", "1").set("queued.max.messages.kbytes", "1024");
        let (consumer, events) = client::create::<BaseConsumer<Events>>(kafka, &config)?;
        // A token, if the brokers want one, is given by a look at the reports.
        client::look_at_events(&consumer);
        let (alone, silent_since, leaders) = (Mutex::default(), Mutex::default(), Mutex::default());
        Ok(Probe {
            kafka: kafka.clone(),
            consumer: Some(Arc::new(consumer)),
            events,
            alone,
            silent_since,
            leaders,
        })
    }

    /// Returns whether no call was answered for so long that another client should ask.
    pub(super) fn is_stuck(&self) -> bool {
        let since = *self.silent_since.lock().expect("no holder of this lock panics");
        since.is_some_and(|since| since.elapsed() >= STUCK_AFTER)
    }

    /// Notes that a call was answered.
    pub(super) fn is_well(&self) {
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
        if error.kind() == Kind::Unreachable {
            self.silent_since
                .lock()
                .expect("no holder of this lock panics")
                .get_or_insert_with(Instant::now);
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
    pub(super) fn consumer(&self) -> &Arc<Consumer> {
        self.consumer.as_ref().expect("a probe has its client until it is dropped")
    }

    pub(super) fn kafka(&self) -> &Kafka {
        &self.kafka
    }

    /// Waits until no other thread polls the client. None does, as long as the guard is held.
    pub(super) fn poll_alone(&self) -> MutexGuard<'_, ()> {
        self.alone.lock().expect("no holder of this lock panics")
    }

    /// Returns a topic as a broker lists it now, any of them; `None` if that does not know it.
    pub(super) fn topic(&self, topic: &str) -> Result<Option<Listed>> {
        let metadata = self.consumer().fetch_metadata(Some(topic), ANSWER_WITHIN);
        let id = {
            // The topic's id is among the reports, before the answer. Whoever else has taken it has
            // noted it by then.
            let _alone = self.poll_alone();
            client::look_at_events(self.consumer());
            self.events.id_of(topic)
        };
        let metadata = metadata.map_err(|why| self.failed(&format!("topic {topic}"), &why))?;
        self.is_well();
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Ok(None);
        };
        match found.error().map(RDKafkaErrorCode::from) {
            None => {
                self.note_leaders(found);
                let partitions = i32::try_from(found.partitions().len()).unwrap_or(i32::MAX);
                Ok(Some(Listed { id, partitions }))
            }
            Some(code) if client::is_unknown_topic(code) => Ok(None),
            Some(RDKafkaErrorCode::InvalidTopic) => {
                Err(Error::config(format!("no topic can be named \"{topic}\"")))
            }
            Some(code) => {
                Err(self.failed(&format!("topic {topic}"), &KafkaError::MetadataFetch(code)))
            }
        }
    }

    fn note_leaders(&self, topic: &MetadataTopic) {
        let partitions = topic.partitions().iter().filter(|partition| partition.leader() >= 0);
        let leaders = partitions.map(|partition| (partition.id(), partition.leader())).collect();
        self.leaders
            .lock()
            .expect("no holder of this lock panics")
            .insert(topic.name().to_string(), leaders);
    }

    /// The leader of a partition when its topic was listed last, if it had one.
    pub(super) fn leader_of(&self, topic: &str, partition: i32) -> Option<i32> {
        self.leaders
            .lock()
            .expect("no holder of this lock panics")
            .get(topic)?
            .get(&partition)
            .copied()
    }

    /// Returns how many partitions a topic has; `None` if there is no such topic.
    pub(super) fn partitions_of(&self, topic: &str) -> Result<Option<i32>> {
        Ok(self.topic(topic)?.map(|listed| listed.partitions))
    }

    /// Returns all topics as a broker lists them now. Each has its id only if this client has asked
    /// about it before.
    pub(super) fn all_topics(&self) -> Result<BTreeMap<String, Listed>> {
        let metadata = {
            let _alone = self.poll_alone();
            let metadata = self.consumer().fetch_metadata(None, ANSWER_WITHIN);
            client::look_at_events(self.consumer());
            metadata
        };
        let metadata = metadata.map_err(|why| self.failed("listing the topics", &why))?;
        self.is_well();
        let listed = |found: &MetadataTopic| {
            self.note_leaders(found);
            let partitions = i32::try_from(found.partitions().len()).unwrap_or(i32::MAX);
            (found.name().to_string(), Listed { id: self.events.id_of(found.name()), partitions })
        };
        Ok(metadata.topics().iter().filter(|found| found.error().is_none()).map(listed).collect())
    }

    /// Returns the first offset of a partition and the one after the last, as its leader has them.
    pub(super) fn range(&self, topic: &str, partition: i32) -> Result<(i64, i64)> {
        self.of_leader(topic, partition, |consumer| {
            consumer.fetch_watermarks(topic, partition, ANSWER_WITHIN)
        })
    }

    /// Returns the answer of a partition's leader.
    ///
    /// librdkafka remembers that a partition had no leader, as it is while its broker starts, and
    /// does not look for one again before its metadata expires, in a quarter of an hour. The next
    /// call after such an error therefore finds fresh metadata.
    fn of_leader<A>(
        &self,
        topic: &str,
        partition: i32,
        ask: impl FnOnce(&Consumer) -> KafkaResult<A>,
    ) -> Result<A> {
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

    /// Returns the error of a call about a partition. While it has no leader - its broker was
    /// paused, say, and has just resumed - librdkafka may not know it. It was listed before, so
    /// that a broker that does not know it now is behind, or its next list will not have it.
    pub(super) fn failed_at(&self, topic: &str, partition: i32, why: &KafkaError) -> Error {
        let name = name_of(topic, partition);
        match why.rdkafka_error_code() {
            Some(code) if is_without_leader(code) => {
                let brokers = self.kafka.brokers();
                Error::unreachable(format!(
                    "{name}: the brokers at {brokers} have no leader for it now ({why})"
                ))
            }
            _ => self.failed(&name, why),
        }
    }

    /// Returns the topics that these entries mean. One that is named and missing is left out if
    /// `may_lack` allows it.
    ///
    /// # Errors
    /// Kind Config: a topic that is named is not there.
    pub(super) fn topics(
        &self,
        entries: &[Entry],
        may_lack: impl Fn(&str) -> bool,
    ) -> Result<BTreeMap<String, Listed>> {
        let (mut topics, mut wanted) = (BTreeMap::new(), BTreeSet::new());
        if entries.iter().any(Entry::is_pattern) {
            let patterns: Vec<&Entry> = entries.iter().filter(|entry| entry.is_pattern()).collect();
            for (topic, listed) in self.all_topics()? {
                if patterns.iter().any(|pattern| pattern.matches(&topic)) {
                    // Its id is known once it was asked about.
                    match listed.id {
                        Some(_) => drop(topics.insert(topic, listed)),
                        None => drop(wanted.insert(topic)),
                    }
                }
            }
        }
        let named = entries.iter().filter(|entry| !entry.is_pattern()).map(Entry::text);
        wanted.extend(named.map(str::to_string));
        for (topic, listed) in self.each_topic(wanted.iter().map(String::as_str))? {
            let is_named =
                || entries.iter().any(|entry| !entry.is_pattern() && entry.matches(&topic));
            match listed {
                Some(listed) => drop(topics.insert(topic, listed)),
                // One that a pattern meets may be gone since it was listed.
                None if may_lack(&topic) || !is_named() => {}
                None => {
                    let brokers = self.kafka.brokers();
                    return Err(Error::config(format!(
                        "there is no topic {topic} at {brokers}: correct the name, or make the \
                         topic first"
                    )));
                }
            }
        }
        Ok(topics)
    }

    /// As [`Probe::topic`], for each of these, several at a time.
    pub(super) fn each_topic<'t>(
        &self,
        topics: impl Iterator<Item = &'t str>,
    ) -> Result<BTreeMap<String, Option<Listed>>> {
        let topics: Vec<&str> = topics.collect();
        let each = |some: &[&str]| -> Result<Vec<(String, Option<Listed>)>> {
            some.iter().map(|topic| Ok(((*topic).to_string(), self.topic(topic)?))).collect()
        };
        let share = topics.len().div_ceil(TOPICS_AT_ONCE).max(1);
        if topics.len() <= FEW_TOPICS {
            return Ok(each(&topics)?.into_iter().collect());
        }
        let shares: Vec<&[&str]> = topics.chunks(share).collect();
        let mut all = BTreeMap::new();
        for some in threads::at_once(&shares, |some| each(some)) {
            all.extend(some.unwrap_or_else(|_| Err(Error::bug("a look at a topic panicked")))?);
        }
        Ok(all)
    }
}

/// The number of topics that are asked about at the same time, and up to how many it is done one
/// after the other.
const TOPICS_AT_ONCE: usize = 16;
const FEW_TOPICS: usize = 2;

/// Returns whether an error of a partition that was listed means that no leader of it is known.
pub(super) fn is_without_leader(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::UnknownPartition | RDKafkaErrorCode::LeaderNotAvailable)
        || client::is_unknown_topic(code)
}

/// Returns the names of these topics' partitions.
pub(super) fn names_in(topics: &BTreeMap<String, Listed>) -> Vec<String> {
    let of_topic = |(topic, listed): (&String, &Listed)| -> Vec<String> {
        (0..listed.partitions).map(|partition| name_of(topic, partition)).collect()
    };
    topics.iter().flat_map(of_topic).collect()
}

#[cfg(test)]
mod tests {
    use super::super::offsets::At;
    use super::*;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::DefaultProducerContext;

    /// A real broker has no leader for an instant of its start; librdkafka's own stand-in can be
    /// told so.
    #[test]
    fn a_partition_that_had_no_leader_is_found_when_it_has_one() {
        let cluster = MockCluster::<DefaultProducerContext>::new(1).expect("a port is free");
        cluster.create_topic("words", 1, 1).expect("a new topic");
        cluster.partition_leader("words", 0, None).expect("a known partition");
        let probe = Probe::new(&Kafka::new(cluster.bootstrap_servers()), Isolation::Uncommitted)
            .expect("good settings");
        let without = probe.range("words", 0).expect_err("it has no leader");
        assert_eq!(without.kind(), Kind::Unreachable, "{without}");
        // Together with others it is the same.
        let together = || probe.all_offsets(["words[0]", "others[0]"], At::End);
        cluster.create_topic("others", 1, 1).expect("a new topic");
        let without = together().expect_err("one has no leader");
        assert_eq!(without.kind(), Kind::Unreachable, "{without}");
        cluster.partition_leader("words", 0, Some(1)).expect("a known broker");
        let began = Instant::now();
        while let Err(why) = probe.range("words", 0).and_then(|_| together()) {
            assert_eq!(why.kind(), Kind::Unreachable, "{why}");
            assert!(began.elapsed() < Duration::from_secs(30), "it is not found again: {why}");
            std::thread::sleep(ASK_EVERY);
        }
    }
}
