//! Topics as a source.

use super::begin::{Resume, Seen, resume};
use super::decode::{self, Decoder, Incoming, NoRecord, Undecodable};
use super::discovery::{self, Discovery};
use super::doubts::Doubts;
use super::group::Group;
use super::identity::Witness;
use super::reader::{KafkaReader, Opened};
use super::reading::Reading;
use super::settings::{Isolation, Kafka};
use super::topics::{self, Partitions, Probe};
use crate::Str;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidemill_engine::sink::Sink;
use tidemill_engine::source::{Begun, Data, DeadLetter, DeadLetterSink, First, OnLoss, Reader, Source, Start};
use tidemill_state::{Error, Position, Result};

/// Topics to read; say next what their records are.
#[derive(Clone, Debug)]
pub struct Topics {
    kafka: Kafka,
    names: Vec<String>,
    first: First,
    offsets: BTreeMap<String, i64>,
    discover_every: Duration,
}

impl Topics {
    pub(super) fn new(kafka: Kafka, names: Vec<String>) -> Topics {
        Topics { kafka, names, first: First::Earliest, offsets: BTreeMap::new(), discover_every: Duration::from_secs(10) }
    }

    /// Where to begin when the topology has never read this source, if `--from` does not say it: from the oldest record, if this is left out. A
    /// restart always goes on from the store, and a partition or topic that joins later is read from its beginning.
    #[must_use]
    pub fn first(mut self, first: First) -> Topics {
        self.first = first;
        self
    }

    /// Begins this partition at this offset when the topology has never read this source.
    #[must_use]
    pub fn first_offset(mut self, topic: &str, partition: i32, offset: i64) -> Topics {
        self.offsets.insert(name_of(topic, partition), offset);
        self
    }

    /// How often new partitions, and new topics of a pattern, are looked for; every 10 s, if this is left out. They join at a batch boundary.
    #[must_use]
    pub fn discover_every(mut self, every: Duration) -> Topics {
        self.discover_every = every;
        self
    }

    /// Whether a topic of this name is among those to read.
    fn include(&self, topic: &str) -> bool {
        let is_meant = |name: &String| name == topic || glob::Pattern::new(name).is_ok_and(|pattern| pattern.matches(topic));
        self.names.iter().any(is_meant)
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

    /// Records made by a decoder of your own, from key, value, headers, time, partition and offset. `kind` names the decoder; it is recorded, and a restart
    /// with another one is refused. An `Err` says why the message cannot be decoded.
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
        let reading = Arc::new(Reading::new(self.kafka.clone()));
        KafkaSource {
            doubts: Arc::new(Doubts::new(self.kafka.clone(), Arc::clone(&reading))),
            topics: self,
            kind: kind.to_string(),
            decoder: Arc::new(decoder),
            undecodable: Undecodable::Stop,
            letters: None,
            probe: Mutex::default(),
            discovery: Discovery::default(),
            reading,
            group: Group::default(),
        }
    }
}

/// Topics as a source: each partition of a topic is a partition of the source, `orders[3]`, and positions are offsets. Made by [`Kafka::source`].
///
/// **Each record once.** The partitions are assigned by the topology, and where to go on is in its store. The consumer group that has the topology's name is told after each commit how
/// far it is, for tools that show lag; nothing is ever read from it. Only records of committed transactions are read; aborted ones, and what compaction has removed, are holes in the offsets.
/// A position passes them as soon as the end of the partition is reached, so that they may expire.
///
/// **What is refused at a start** (exit code 67): a position that retention has passed, with the number of records lost; a topic that was truncated, deleted and
/// made again, or has fewer partitions. `--on-loss` goes on all the same, and reports it; a partition that is gone is forgotten. A topic that is missing, a wrong password: 64. **A broker that is away** is waited
/// for, at a start and later; memory stays within librdkafka's queues (16 MiB a partition).
///
/// **A message that cannot be decoded** stops the topology (69), naming topic, partition, offset and the head of its bytes, unless it is told to skip
/// it ([`KafkaSource::skip_undecodable`]) or to set it aside ([`KafkaSource::dead_letters`]).
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
}

/// How often the topics that are read are compared with those that have their names.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long a broker may take to answer about topics and offsets.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(5);

impl<T: Data> KafkaSource<T> {
    /// Leaves out messages that cannot be decoded, and counts them.
    #[must_use]
    pub fn skip_undecodable(mut self) -> KafkaSource<T> {
        (self.undecodable, self.letters) = (Undecodable::Skip, None);
        self
    }

    /// Gives messages that cannot be decoded to this sink, with the batch that they were read in: exactly once, if the sink is.
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

    /// Where a partition begins that belongs to a source that was never read.
    fn first_of(&self, partitions: &Partitions<'_>, name: &str, first: Option<First>) -> Result<i64> {
        let (low, high) = partitions.range(name)?;
        if let (None, Some(offset)) = (first, self.topics.offsets.get(name)) {
            if !(low..=high).contains(offset) {
                return Err(Error::config(format!(
                    "{name}: told to begin at {offset}, but its offsets go from {low} to {high}: give one of those to first_offset"
                )));
            }
            return Ok(*offset);
        }
        match first.unwrap_or(self.topics.first) {
            First::Earliest => Ok(low),
            First::Latest => partitions.stable_end(name),
            First::Time(ms) => partitions.at_time(name, ms),
        }
    }

    /// Where a partition goes on that was read before.
    fn resume(
        &self,
        partitions: &Partitions<'_>,
        name: &str,
        from: &Position,
        on_loss: OnLoss,
    ) -> Result<(Position, Option<String>)> {
        let recorded = i64::try_from(from.offset).map_err(|_| Error::damaged(format!("{name}: {} is no offset", from.offset)))?;
        if !partitions.has(name) {
            return Err(Error::source_lost(format!(
                "{name} was read up to {recorded}, and is gone: the topic was deleted, made again with fewer partitions, or is no longer among those \
                 to read ({}). Restore it; or go on without it (--on-loss earliest or latest), or begin anew with --start-over",
                self.topics.names.join(", ")
            )));
        }
        let witness = Witness::of(from);
        let (was, now) = (witness.topic, partitions.id_of(name));
        let is_other = was.is_some() && now.is_some() && was != now;
        let (low, high) = if is_other { partitions.range(name)? } else { partitions.range_with(name, recorded)? };
        let replaced = match &witness.record {
            Some(record) if !is_other && recorded <= high && record.offset >= low => partitions.is_replaced(name, record)?,
            _ => None,
        };
        match resume(name, Seen { was, now, recorded, low, high, replaced }, on_loss) {
            Resume::At => Ok((Witness { topic: now.or(was), ..witness }.at(recorded), None)),
            Resume::Skip { to, report } => Ok((Witness { topic: now, record: None }.at(to), Some(report))),
            Resume::Refuse(why) => Err(Error::source_lost(why)),
        }
    }

    /// Refuses a new state under a name whose consumer group has read these topics already.
    fn refuse_a_group_that_has_read(&self, topology: &str) -> Result<()> {
        let names = self.partitions()?;
        self.group.has_read(self.kafka(), &names)?.map_or(Ok(()), |(name, offset)| {
            Err(Error::foreign(format!(
                "there is no state in this folder, but consumer group \"{topology}\" has read {name} up to {offset}: the state is lost, the folder is the wrong \
                 one, or another program has this name. Give the right --state folder or another --name, or begin anew with --start-over"
            )))
        })
    }
}

impl<T: Data> Source for KafkaSource<T> {
    type Item = T;

    fn kind(&self) -> String {
        format!("kafka/{}", self.kind)
    }

    fn partitions(&self) -> Result<Vec<String>> {
        Ok(topics::names_in(&self.probe()?.topics(&self.topics.names)?))
    }

    fn discover_every(&self) -> Option<Duration> {
        // New partitions have a period of the user's own. That a topic is another must be found soon in any case.
        Some(self.topics.discover_every.min(LOOK_EVERY))
    }

    fn discover(&self, known: &BTreeMap<String, Option<Position>>) -> Result<Vec<(String, Option<Position>)>> {
        let probe = self.probe()?;
        self.discovery.compare(&probe, known)?;
        self.discovery.new_ones(&probe, &self.topics.names, self.topics.discover_every, known)
    }

    fn begin(&self, start: &Start<'_>) -> Result<Begun> {
        self.group.begin(self.kafka(), start.topology)?;
        let probe = self.probe()?;
        if start.is_new {
            self.refuse_a_group_that_has_read(start.topology)?;
        }
        // Before anything follows from it: one broker that is behind does not make a loss.
        let lost = discovery::lost_topics(&probe, start.recorded)?;
        let partitions = Partitions::look(&probe, &self.topics.names, start.recorded.keys())?;
        let mut begun = Begun::default();
        for (name, from) in start.recorded {
            let (topic, _) = parse(name)?;
            if self.topics.include(topic) && !lost.contains(topic) && !partitions.may_be(name, Witness::of(from).topic) {
                return Err(Error::away(format!(
                    "{name}: the brokers at {} contradict each other about its topic",
                    self.kafka().brokers()
                )));
            }
            if !partitions.has(name) && start.on_loss != OnLoss::Refuse {
                let what = format!("{name} was read up to {}, and is gone", from.offset);
                begun.warnings.push(format!("{what}: it is forgotten. Should it come again, it is read from its beginning"));
                begun.retired.push(name.clone());
                continue;
            }
            let (position, report) = self.resume(&partitions, name, from, start.on_loss)?;
            begun.partitions.push((name.clone(), Some(position)));
            begun.warnings.extend(report);
        }
        for name in partitions.names().filter(|name| !start.recorded.contains_key(*name)) {
            // A topic that a pattern meets later is one that joins, also if it is the first.
            let from = if start.begun { partitions.range(name)?.0 } else { self.first_of(&partitions, name, start.first)? };
            let witness = Witness { topic: partitions.id_of(name), record: None };
            begun.partitions.push((name.to_string(), Some(witness.at(from))));
        }
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
            kafka: self.kafka().clone(),
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

/// How a partition is named: `orders[3]`.
pub(super) fn name_of(topic: &str, partition: i32) -> String {
    format!("{topic}[{partition}]")
}

/// The topic and partition of a name.
pub(super) fn parse(name: &str) -> Result<(&str, i32)> {
    let parsed = name
        .strip_suffix(']')
        .and_then(|name| name.rsplit_once('['))
        .and_then(|(topic, number)| Some((topic, number.parse().ok()?)));
    parsed.ok_or_else(|| Error::damaged(format!("\"{name}\" is no partition of a topic, such as orders[3]")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_found_again_by_its_name() {
        assert_eq!(parse(&name_of("a.b_c-d", 12)).expect("it is one"), ("a.b_c-d", 12));
        assert!(parse("orders").is_err() && parse("orders[x]").is_err());
    }
}
