//! Topics as a source.

mod start;

use super::bounds::{Until, check_named, not_joining, unmatched};
use super::decode::{self, Decoder, Incoming, NoRecord, Undecodable};
use super::discovery::{self, Discovery, NewOnes};
use super::doubts::Doubts;
use super::group::Group;
use super::identity::Witness;
use super::opened::Opened;
use super::partition::{name_of, parse};
use super::partitions::Partitions;
use super::reader::KafkaReader;
use super::reading::Reading;
use super::run_facts::RunFacts;
use super::settings::{Isolation, Kafka};
use super::topic_list::TopicList;
use super::topics::{self, Listed, Probe};
use crate::Str;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use tidemill_engine::sink::Sink;
use tidemill_engine::source::{
    Begun, Data, DeadLetter, DeadLetterSink, Reader, Source, Start, StartAt, StartFacts,
};
use tidemill_state::{Error, Position, Result};

impl Kafka {
    /// These topics as a source; say next what its records are, as in
    /// `kafka.source(["words"]).utf8()`. A name with `*`, `?` or `[…]` is a pattern: topics that
    /// match it later join.
    pub fn source<T: Into<String>>(&self, topics: impl IntoIterator<Item = T>) -> Topics {
        Topics::new(self.clone(), topics.into_iter().map(Into::into).collect())
    }
}

/// Topics to read; say next what their records are.
#[derive(Clone, Debug)]
pub struct Topics {
    kafka: Kafka,
    list: TopicList,
    first: StartAt,
    offsets: BTreeMap<String, i64>,
    until: Until,
    discover_every: Duration,
    buffer_bytes: usize,
}

impl Topics {
    pub(super) fn new(kafka: Kafka, names: Vec<String>) -> Topics {
        Topics {
            kafka: kafka.apart(),
            list: TopicList::new(&names),
            first: StartAt::Earliest,
            offsets: BTreeMap::new(),
            until: Until::default(),
            discover_every: Duration::from_secs(10),
            buffer_bytes: BUFFER_BYTES,
        }
    }

    /// Sets the position at which to begin when the topology has never read this source, unless
    /// `--from` gives one. Without this setting, reading begins at the oldest record. A restart
    /// always resumes from the store, and a partition or topic that joins later is read from its
    /// beginning.
    #[must_use]
    pub fn first(mut self, first: StartAt) -> Topics {
        self.first = first;
        self
    }

    /// Begins this partition at this offset when the topology has never read this source. A
    /// partition that can never be there then is refused at the start (64).
    #[must_use]
    pub fn first_offset(mut self, topic: &str, partition: i32, offset: i64) -> Topics {
        self.offsets.insert(name_of(topic, partition), offset);
        self
    }

    /// Ends each partition before its first record of this time or a later one, in milliseconds
    /// since 1970: a bounded backfill. The time is in the past, and not negative. Where all records
    /// are older, a partition ends where it ends at the start. The source ends with its partitions,
    /// and with `--exit-at-end` the run does. Partitions and topics that come later are not read.
    ///
    /// ```
    /// use tidemill_connectors::kafka::Kafka;
    /// let november = Kafka::new("localhost:9092").source(["orders"]).until_time(1_764_547_200_000).utf8();
    /// # let _ = november;
    /// ```
    #[must_use]
    pub fn until_time(mut self, ms: i64) -> Topics {
        self.until.time = Some(ms);
        self
    }

    /// Ends this partition before this offset, also if its records are still to come. Reading of
    /// other partitions continues, and new ones join.
    ///
    /// If the topics are named without patterns, and each of their partitions has an end when the
    /// source is begun, the source ends with them: partitions that come later are not read, and
    /// named in the status. A start that finds one of them has no end for it, and reads it. A
    /// partition that is given an end and is not there yet is waited for.
    #[must_use]
    pub fn until_offset(mut self, topic: &str, partition: i32, offset: i64) -> Topics {
        self.until.offsets.insert(name_of(topic, partition), offset);
        self
    }

    /// The memory for messages that were fetched and wait to be read, over all partitions and
    /// workers, in bytes; 512 MiB if not set. Each partition has an equal share, of 64 KiB to 32
    /// MiB; one fetch of up to a quarter of it, and one message of any size, may come on top.
    /// Partitions that join later have the share that was made at the start.
    #[must_use]
    pub fn buffer_bytes(mut self, bytes: usize) -> Topics {
        self.buffer_bytes = bytes;
        self
    }

    /// Sets the interval at which new partitions, and new topics of a pattern, are looked for;
    /// every 10 s, if this is left out. They join at a batch boundary.
    #[must_use]
    pub fn discover_every(mut self, every: Duration) -> Topics {
        self.discover_every = every;
        self
    }

    /// Values as bytes.
    #[must_use]
    pub fn bytes(self) -> KafkaSource<Vec<u8>> {
        self.decode("bytes", decode::bytes)
    }

    /// Values as text.
    #[must_use]
    pub fn utf8(self) -> KafkaSource<Str> {
        self.decode("utf-8", decode::utf8)
    }

    /// Values as JSON.
    #[must_use]
    pub fn json<T: Data + DeserializeOwned>(self) -> KafkaSource<T> {
        self.decode("json", decode::json)
    }

    /// Records made by a decoder of your own, from key, value, headers, time, partition and offset.
    /// `kind` names the decoder; it is recorded, and a restart with another one is refused. An
    /// `Err` says why the message cannot be decoded.
    #[must_use]
    pub fn decode<T: Data>(
        self,
        kind: &str,
        decoder: impl Fn(&Incoming<'_>) -> Result<T, String> + Send + Sync + 'static,
    ) -> KafkaSource<T> {
        self.with_decoder(kind, move |message| decoder(message).map_err(NoRecord::Undecodable))
    }

    /// As [`Topics::decode`], by a decoder that may have to wait.
    pub(super) fn with_decoder<T: Data>(
        self,
        kind: &str,
        decoder: impl Fn(&Incoming<'_>) -> Result<T, NoRecord> + Send + Sync + 'static,
    ) -> KafkaSource<T> {
        let reading = Arc::new(Reading::new(self.kafka.clone(), self.buffer_bytes));
        KafkaSource {
            doubts: Arc::new(Doubts::new(Arc::clone(&reading))),
            topics: self,
            kind: kind.to_string(),
            decoder: Arc::new(decoder),
            undecodable: Undecodable::Stop,
            letters: None,
            probe: Mutex::default(),
            discovery: Discovery::default(),
            reading,
            group: Group::default(),
            is_bounded: AtomicBool::new(false),
        }
    }
}

/// Topics as a source: each partition of a topic is a partition of the source, `orders[3]`, and
/// positions are offsets. Made by [`Kafka::source`].
///
/// **Each record once.** The topology assigns the partitions, and its store holds the positions at
/// which they resume. After commits, the consumer group with the topology's name receives these
/// positions, for tools that show lag. No position is ever taken from the group. Only records of
/// committed transactions are read. Aborted records, and those that compaction has removed, are
/// holes in the offsets. A position passes the holes as soon as the end of the partition is
/// reached, so that they may expire.
///
/// **Refused at a start** (exit code 67): a position that retention has passed, with the number of
/// records lost, unless the partition was read to its end ([`Topics::until_offset`]); a topic that
/// was truncated, deleted and made again, or has fewer partitions. With `--on-loss` the start
/// continues all the same, and reports the loss; a partition that is gone is forgotten. A missing
/// topic, or a wrong password: 64.
///
/// **An unreachable broker** is waited for, at a start and later; memory stays within
/// [`Topics::buffer_bytes`].
///
/// **Rights**, where brokers have ACLs: Read and Describe on each topic, and Read on the consumer
/// group of the topology's name. A first start looks there whether another state has read the
/// topics (64 without the right). Later, only the lag that tools see is missing without the right.
///
/// **A message that cannot be decoded** stops the topology (69), with an error that names topic,
/// partition, offset and the head of the message's bytes, unless the source is set to skip such a
/// message ([`KafkaSource::skip_undecodable`]) or to set it aside ([`KafkaSource::dead_letters`]).
pub struct KafkaSource<T> {
    topics: Topics,
    kind: String,
    decoder: Arc<Decoder<T>>,
    undecodable: Undecodable,
    letters: Option<DeadLetterSink>,
    /// The client that asks for topics and offsets, once it was needed.
    probe: Mutex<Option<Arc<Probe>>>,
    discovery: Discovery,
    /// The client that reads, once a partition was opened.
    reading: Arc<Reading>,
    doubts: Arc<Doubts>,
    /// Tells how far it is, once the source was begun.
    group: Group,
    /// True if every partition has an end, and none joins: since it was begun.
    is_bounded: AtomicBool,
}

/// The memory for messages that wait, if nothing else is set.
const BUFFER_BYTES: usize = 512 << 20;

/// The interval at which the topics that are read are compared with those that have their names.
const LOOK_EVERY: Duration = Duration::from_secs(5);

impl<T: Data> KafkaSource<T> {
    /// Leaves out messages that cannot be decoded, and counts them.
    #[must_use]
    pub fn skip_undecodable(mut self) -> KafkaSource<T> {
        (self.undecodable, self.letters) = (Undecodable::Skip, None);
        self
    }

    /// Gives messages that cannot be decoded to this sink, with the batch that they were read in:
    /// exactly once, if the sink is.
    #[must_use]
    pub fn dead_letters(mut self, sink: impl Sink<Item = DeadLetter>) -> KafkaSource<T> {
        self.undecodable = Undecodable::SetAside;
        self.letters = Some(Arc::new(sink));
        self
    }

    fn kafka(&self) -> &Kafka {
        &self.topics.kafka
    }

    fn probe(&self) -> Result<Arc<Probe>> {
        let mut probe = self.probe.lock().expect("no holder of this lock panics");
        match &*probe {
            Some(probe) if !probe.is_stuck() => Ok(Arc::clone(probe)),
            _ => {
                let made = Arc::new(Probe::new(self.kafka(), Isolation::Uncommitted)?);
                Ok(Arc::clone(probe.insert(made)))
            }
        }
    }

    /// Notes what should be known of the topics that are there.
    fn note(&self, topics: &BTreeMap<String, Listed>, is_first: bool) -> Result<()> {
        let Topics { list, offsets, until, .. } = &self.topics;
        let mut notices = unmatched(list, topics);
        notices.extend(check_named("until_offset", &until.offsets, list, topics, false)?);
        if is_first {
            notices.extend(check_named("first_offset", offsets, list, topics, true)?);
        }
        self.reading.facts().set_notices(notices);
        Ok(())
    }

    /// Bounds partitions that have no bound yet.
    fn bound(&self, partitions: &Partitions<'_>, to_end: bool) -> Result<()> {
        let facts = self.reading.facts();
        let unbounded = facts.unbounded(partitions.names());
        facts.bound(self.topics.until.ends(partitions, &unbounded, to_end, now_ms())?);
        Ok(())
    }

    /// Looks the ends of the logs up: for lag, which what is fetched does not show while nothing
    /// can be fetched.
    fn look_at_ends(&self, probe: &Probe, known: &BTreeMap<String, Option<Position>>) {
        let facts = self.reading.facts();
        if facts.is_due(Instant::now()) {
            probe.ends_by_leader(known.keys().map(String::as_str), |name, end| {
                facts.note_end(name, end, Instant::now())
            });
        }
    }
}

impl<T: Data> Source for KafkaSource<T> {
    type Item = T;

    fn kind(&self) -> String {
        format!("kafka/{}", self.kind)
    }

    fn partitions(&self) -> Result<Vec<String>> {
        Ok(topics::names_in(&self.probe()?.topics(self.topics.list.entries()?, |_| false)?))
    }

    fn discover_every(&self) -> Option<Duration> {
        // New partitions have a period of the user's own. That a topic is another must be found
        // soon in any case.
        Some(self.topics.discover_every.min(LOOK_EVERY))
    }

    fn discover(
        &self,
        known: &BTreeMap<String, Option<Position>>,
    ) -> Result<Vec<(String, Option<Position>)>> {
        let probe = self.probe()?;
        // First, since it waits for no broker but the partitions' leaders: a comparison may wait
        // for any of them.
        self.look_at_ends(&probe, known);
        self.discovery.compare(&probe, known)?;
        let facts = self.reading.facts();
        let (entries, every) = (self.topics.list.entries()?, self.topics.discover_every);
        let Some(NewOnes { topics, partitions: new }) =
            self.discovery.new_ones(&probe, entries, every, known)?
        else {
            return Ok(Vec::new());
        };
        self.note(&topics, false)?;
        if self.is_bounded() || new.is_empty() {
            facts.add_notices(not_joining(new.iter().map(|(name, _)| name)));
            return Ok(Vec::new());
        }
        let partitions = Partitions::of(&probe, topics)?;
        self.bound(&partitions, false)?;
        facts.set_partitions(facts.partitions().max(known.len() + new.len()));
        Ok(new)
    }

    fn is_bounded(&self) -> bool {
        self.is_bounded.load(SeqCst)
    }

    fn adopt(&self, facts: &StartFacts) {
        if let Ok(facts) = Arc::clone(facts).downcast::<RunFacts>() {
            self.reading.adopt(facts);
        }
    }

    fn notices(&self) -> Vec<String> {
        self.reading.facts().notices()
    }

    fn begin(&self, start: &Start<'_>) -> Result<Begun> {
        let (entries, facts) = (self.topics.list.entries()?, self.reading.facts());
        self.kafka().belongs_to(start.topology);
        facts.set_kafka(self.kafka());
        self.group.begin(self.kafka())?;
        let probe = self.probe()?;
        // Before anything follows from it: one broker that is behind does not make a loss.
        let lost = discovery::lost_topics(&probe, start.recorded)?;
        let partitions = Partitions::look(&probe, entries, start.recorded.keys())?;
        if start.is_new {
            self.refuse_a_group_that_has_read(&partitions)?;
        }
        self.note(partitions.topics(), !start.begun)?;
        for (name, from) in start.recorded {
            let (topic, _) = parse(name)?;
            if self.topics.list.includes(topic)
                && !lost.contains(topic)
                && !partitions.may_be(name, Witness::of(from).topic)
            {
                return Err(Error::unreachable(format!(
                    "{name}: the brokers at {} contradict each other about its topic",
                    self.kafka().brokers()
                )));
            }
        }
        let mut begun = Begun::default();
        self.resume(&partitions, start, &mut begun)?;
        let new: Vec<&str> =
            partitions.names().filter(|name| !start.recorded.contains_key(*name)).collect();
        // A topic that a pattern meets later is one that joins, also if it is the first.
        let begins = if start.begun {
            partitions.first(&new, StartAt::Earliest)?
        } else {
            self.first_of(&partitions, &new, start.first)?
        };
        for (name, from) in begins {
            let witness = Witness { topic: partitions.id_of(&name), record: None };
            begun.partitions.push((name, Some(witness.at(from))));
        }
        self.bound(&partitions, start.to_end)?;
        let unbounded = facts.unbounded(partitions.names());
        self.is_bounded.store(
            self.topics.until.bounds_all(start.to_end, entries, partitions.topics(), &unbounded),
            SeqCst,
        );
        facts.set_partitions(begun.partitions.len());
        facts.note_ends(partitions.ends(), Instant::now());
        begun.facts = Some(facts);
        Ok(begun)
    }

    fn committed(&self, positions: &[(String, Position)]) {
        self.group.committed(positions);
    }

    fn dead_letters(&self) -> Option<DeadLetterSink> {
        self.letters.clone()
    }

    fn open(&self, partition: &str, from: Option<&Position>) -> Result<Box<dyn Reader<T>>> {
        let (topic, number) = parse(partition)?;
        let reader = KafkaReader::new(Opened {
            kafka: self.reading.kafka(),
            topic: topic.to_string(),
            partition: number,
            reading: Arc::clone(&self.reading),
            doubts: Arc::clone(&self.doubts),
            decoder: Arc::clone(&self.decoder),
            undecodable: self.undecodable,
            next: from.map(|from| i64::try_from(from.offset).unwrap_or(i64::MAX)),
            witness: from.map(Witness::of).unwrap_or_default(),
        })?;
        Ok(Box::new(reader))
    }
}

fn now_ms() -> i64 {
    let since = crate::clock::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::DefaultProducerContext;

    #[test]
    fn one_broker_that_is_down_leaves_the_lag_of_what_others_lead() {
        let cluster = MockCluster::<DefaultProducerContext>::new(2).expect("ports are free");
        cluster.create_topic("words", 2, 1).expect("a new topic");
        for (partition, leader) in [(0, 1), (1, 2)] {
            cluster.partition_leader("words", partition, Some(leader)).expect("both are known");
        }
        let source = Kafka::new(cluster.bootstrap_servers()).source(["words"]).utf8();
        let known: BTreeMap<_, _> =
            ["words[0]", "words[1]"].map(|name| (name.to_string(), None)).into();
        source.discover(&known).expect("both brokers answer");
        cluster.broker_down(2).expect("it is known");
        // The next look at the ends is due some seconds later. What else it finds is not compared
        // here.
        let (facts, began) = (source.reading.facts(), Instant::now());
        while facts.silence("words[1]", began, began + Duration::from_secs(600)).is_none() {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "the broker that is down is not noticed"
            );
            let _ = source.discover(&known);
            std::thread::sleep(Duration::from_millis(500));
        }
        assert_eq!(facts.silence("words[0]", began, began + Duration::from_secs(600)), None);
        assert_eq!(facts.end_of("words[0]", None, began, Instant::now()), Some(0));
    }

    #[test]
    fn a_partition_is_found_again_by_its_name() {
        assert_eq!(parse(&name_of("a.b_c-d", 12)).expect("it is one"), ("a.b_c-d", 12));
        assert!(parse("orders").is_err() && parse("orders[x]").is_err());
    }
}
