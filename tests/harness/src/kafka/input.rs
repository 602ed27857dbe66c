//! Input in topics, made from a seed; and what a read_committed reader sees of it, which is what
//! must be counted.

use super::super::random::{Random, line};
use super::super::topics::{
    Sent, create_topic, delete_topic, produce, produce_in_transaction, read_committed, watermarks,
};
use super::subject::SOURCES;
use std::collections::BTreeMap;

/// How many partitions each topic has.
pub const PARTITIONS: i32 = 4;

/// The two topics of an input. One is written plainly, one in transactions, of which some are
/// aborted.
pub struct Input {
    brokers: String,
    /// The names of the topics.
    pub topics: [String; 2],
    /// What is sent and to be read, by partition.
    sent: BTreeMap<String, Vec<String>>,
    transactions: usize,
}

/// What is in the topics.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// The lines of each partition, with their offsets.
    pub lines: BTreeMap<String, Vec<(u64, String)>>,
    /// The end of each partition, behind what ends its transactions.
    pub ends: BTreeMap<String, u64>,
}

impl Input {
    /// Makes the topics.
    pub fn new(brokers: &str, name: &str) -> Input {
        let topics = SOURCES.map(|source| format!("{name}-{source}"));
        topics.iter().for_each(|topic| create_topic(brokers, topic, PARTITIONS, &[]));
        Input { brokers: brokers.to_string(), topics, sent: BTreeMap::new(), transactions: 0 }
    }

    /// Sends more: about so many lines to each partition.
    pub fn send(&mut self, random: &mut Random, lines: u64) {
        let plain = self.make(0, random, lines);
        produce(&self.brokers, &self.topics[0], &as_sent(&plain));
        self.keep(0, plain);
        for half in [lines / 2, lines - lines / 2] {
            let aborted =
                vec![(0, "aborted-0 tide".to_string()), (3, "aborted-3 tide".to_string())];
            let kept = self.make(1, random, half);
            for (messages, commit) in [(&aborted, false), (&kept, true)] {
                self.transactions += 1;
                let id = format!("{}.{}", self.topics[1], self.transactions);
                produce_in_transaction(
                    &self.brokers,
                    &id,
                    &self.topics[1],
                    &as_sent(messages),
                    commit,
                );
            }
            self.keep(1, kept);
        }
    }

    /// Lines for each partition of a topic, no two equally many.
    fn make(&self, topic: usize, random: &mut Random, lines: u64) -> Vec<(i32, String)> {
        let mut made = Vec::new();
        for partition in 0..PARTITIONS {
            let before =
                self.sent.get(&self.partition(topic, partition)).map_or(0, Vec::len) as u64;
            let name = format!("{}{partition}", SOURCES[topic]);
            let lines = lines * random.within(70..131) / 100;
            made.extend(
                (before..before + lines)
                    .map(|number| (partition, line(&name, number, random).trim_end().to_string())),
            );
        }
        made
    }

    fn keep(&mut self, topic: usize, made: Vec<(i32, String)>) {
        for (partition, line) in made {
            let partition = self.partition(topic, partition);
            self.sent.entry(partition).or_default().push(line);
        }
    }

    fn partition(&self, topic: usize, partition: i32) -> String {
        format!("{}[{partition}]", self.topics[topic])
    }

    /// Reads it all back: exactly what was sent and not aborted.
    pub fn read(&self) -> Content {
        let mut content = Content::default();
        for (index, topic) in self.topics.iter().enumerate() {
            for message in read_committed(&self.brokers, topic) {
                let offset = u64::try_from(message.offset).expect("offsets begin at 0");
                let lines =
                    content.lines.entry(self.partition(index, message.partition)).or_default();
                lines.push((offset, message.value.expect("a line")));
            }
            // Every transaction has ended by now, so this is the end for every reader.
            for partition in 0..PARTITIONS {
                let (_, end) = watermarks(&self.brokers, topic, partition);
                content.ends.insert(
                    self.partition(index, partition),
                    u64::try_from(end).expect("offsets begin at 0"),
                );
            }
        }
        let read: BTreeMap<&String, Vec<&String>> = content
            .lines
            .iter()
            .map(|(partition, lines)| (partition, lines.iter().map(|(_, line)| line).collect()))
            .collect();
        let sent: BTreeMap<&String, Vec<&String>> =
            self.sent.iter().map(|(name, lines)| (name, lines.iter().collect())).collect();
        assert!(read == sent, "the topics {:?} do not hold what was sent to them", self.topics);
        content
    }
}

impl Input {
    /// Removes the topics, so that a broker can serve many.
    pub fn remove_topics(&self) {
        self.topics.iter().for_each(|topic| delete_topic(&self.brokers, topic));
    }
}

fn as_sent(messages: &[(i32, String)]) -> Vec<Sent<'_>> {
    messages.iter().map(|(partition, line)| (*partition, None, Some(line.as_str()))).collect()
}
