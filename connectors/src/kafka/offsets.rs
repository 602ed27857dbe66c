//! Offsets of many partitions together. Each leader receives one request for all of its partitions,
//! so that a start with thousands of them takes as long as one with a few.

use super::identity::Record;
use super::partition::{name_of, parse};
use super::settings::ANSWER_WITHIN;
use super::topics::{Probe, is_without_leader};
use crate::threads;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tidemill_state::{Error, Result};

/// The offset that is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// The first that is there.
    Beginning,
    /// The one after the last; for a client that reads committed records, the first of a
    /// transaction that is still open.
    End,
    /// The first of this time or later, in milliseconds since 1970.
    Time(i64),
}

/// An offset of each partition. `None` for a time after all of its records.
pub(super) type Offsets = BTreeMap<String, Result<Option<i64>>>;

/// The number of partitions that are read together to look at one record of each: each may fetch up
/// to a mebibyte.
const READ_AT_ONCE: usize = 64;

impl Probe {
    /// Looks an offset of each of these partitions up.
    ///
    /// # Errors
    /// Nothing was answered. Errors of single partitions are among the offsets.
    pub(super) fn offsets<'n>(
        &self,
        names: impl IntoIterator<Item = &'n str>,
        at: At,
    ) -> Result<Offsets> {
        let mut asked = TopicPartitionList::new();
        let offset = match at {
            // They stand for the times -2 and -1, which mean this.
            At::Beginning => Offset::Beginning,
            At::End => Offset::End,
            // No record has an earlier time, and negative numbers stand for the above.
            At::Time(ms) => Offset::Offset(ms.max(0)),
        };
        for name in names {
            let (topic, partition) = parse(name)?;
            asked
                .add_partition_offset(topic, partition, offset)
                .map_err(|why| self.failed(name, &why))?;
        }
        if asked.count() == 0 {
            return Ok(Offsets::new());
        }
        let topics: BTreeSet<String> =
            asked.elements().iter().map(|asked| asked.topic().to_string()).collect();
        let found = match self.consumer().offsets_for_times(asked, ANSWER_WITHIN) {
            Ok(found) => found,
            Err(why) => {
                if why.rdkafka_error_code().is_some_and(is_without_leader) {
                    self.refresh(topics.iter().map(String::as_str))?;
                    return Err(Error::unreachable(format!(
                        "some partitions of {} have no leader now ({why})",
                        list(&topics)
                    )));
                }
                return Err(self.failed(&format!("the offsets of {}", list(&topics)), &why));
            }
        };
        self.is_well();
        let mut without = BTreeSet::new();
        let mut offsets = Offsets::new();
        for found in found.elements() {
            let name = name_of(found.topic(), found.partition());
            let offset = match (found.error(), found.offset(), at) {
                (Err(why), ..) => {
                    if why.rdkafka_error_code().is_some_and(is_without_leader) {
                        without.insert(found.topic().to_string());
                    }
                    Err(self.failed_at(found.topic(), found.partition(), &why))
                }
                (Ok(()), Offset::Offset(offset), _) => Ok(Some(offset)),
                (Ok(()), Offset::End, At::Time(_)) => Ok(None),
                (Ok(()), other, _) => Err(Error::unreachable(format!(
                    "{name}: its leader answered {other:?} for an offset"
                ))),
            };
            offsets.insert(name, offset);
        }
        self.refresh(without.iter().map(String::as_str))?;
        Ok(offsets)
    }

    /// Looks the end of each of these partitions up, with a call for each leader, all at the same
    /// time: a leader that does not answer holds up its own partitions alone. `note` receives each
    /// end, or why there is none, as it comes.
    pub(super) fn ends_by_leader<'n>(
        &self,
        names: impl IntoIterator<Item = &'n str>,
        note: impl Fn(&str, Result<i64>) + Sync,
    ) {
        let look = |names: &[&str]| match self.offsets(names.iter().copied(), At::End) {
            Ok(mut offsets) => {
                for name in names {
                    let missing = || Error::unreachable(format!("{name}: its end is not known"));
                    let end = offsets.remove(*name).unwrap_or_else(|| Err(missing()));
                    note(name, end.and_then(|end| end.ok_or_else(missing)));
                }
            }
            Err(why) => names.iter().for_each(|name| note(name, Err(why.clone()))),
        };
        let groups = by_leader(names, |topic, partition| self.leader_of(topic, partition));
        let groups: Vec<Vec<&str>> = groups.into_values().collect();
        if let Some(panicked) = threads::at_once(&groups, |names| look(names))
            .into_iter()
            .find_map(std::result::Result::err)
        {
            std::panic::resume_unwind(panicked);
        }
    }

    /// As [`Probe::offsets`], where every partition has to have the offset.
    pub(super) fn all_offsets<'n>(
        &self,
        names: impl IntoIterator<Item = &'n str>,
        at: At,
    ) -> Result<BTreeMap<String, i64>> {
        let offsets = self.offsets(names, at)?.into_iter();
        let known = |(name, offset): (String, Result<Option<i64>>)| match offset? {
            Some(offset) => Ok((name, offset)),
            None => Err(Error::bug(format!("{name} has no offset at {at:?}"))),
        };
        offsets.map(known).collect()
    }

    /// Has the topics listed anew: librdkafka remembers for a quarter of an hour that a partition
    /// had no leader.
    fn refresh<'t>(&self, topics: impl Iterator<Item = &'t str>) -> Result<()> {
        self.each_topic(topics).map(drop)
    }

    /// Returns for each of these records whether the one at its offset is another now; `None` if it
    /// is gone. The result has the same order.
    pub(super) fn are_replaced(&self, records: &[(&str, Record)]) -> Result<Vec<Option<bool>>> {
        let mut replaced = Vec::with_capacity(records.len());
        for some in records.chunks(READ_AT_ONCE) {
            replaced.extend(self.some_replaced(some)?);
        }
        Ok(replaced)
    }

    fn some_replaced(&self, records: &[(&str, Record)]) -> Result<Vec<Option<bool>>> {
        let _alone = self.poll_alone();
        let consumer = self.consumer();
        let mut assigned = TopicPartitionList::with_capacity(records.len());
        // Each with a queue of its own: the event of an end does not name its topic.
        let mut open = Vec::with_capacity(records.len());
        for (place, (name, record)) in records.iter().enumerate() {
            let (topic, partition) = parse(name)?;
            let added =
                assigned.add_partition_offset(topic, partition, Offset::Offset(record.offset));
            added.map_err(|why| self.failed(name, &why))?;
            let queue = consumer.split_partition_queue(topic, partition);
            open.push((
                place,
                queue
                    .ok_or_else(|| Error::config(format!("{name}: no topic can have this name")))?,
            ));
        }
        consumer.assign(&assigned).map_err(|why| self.failed("reading the last records", &why))?;
        let mut replaced = vec![None; records.len()];
        let mut until = Instant::now() + ANSWER_WITHIN;
        let mut last_error = None;
        while !open.is_empty() && Instant::now() < until {
            let before = open.len();
            open.retain(|(place, queue)| match queue.poll(Duration::ZERO) {
                None => true,
                Some(Ok(message)) => {
                    let (was, now) = (records[*place].1, Record::of(&message));
                    replaced[*place] = (now.offset == was.offset).then_some(now != was);
                    false
                }
                // Nothing is there any more.
                Some(Err(KafkaError::PartitionEOF(_))) => false,
                Some(Err(error))
                    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) =>
                {
                    false
                }
                Some(Err(error)) => {
                    last_error = Some((*place, error));
                    true
                }
            });
            if open.len() < before {
                until = Instant::now() + ANSWER_WITHIN;
            } else {
                // Reports of the client come here; it is also what is waited with.
                drop(consumer.poll(Duration::from_millis(5)));
            }
        }
        let unanswered = open.first().map(|(place, _)| *place);
        drop(open);
        let _ = consumer.unassign();
        let Some(place) = unanswered else { return Ok(replaced) };
        let timed_out = KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut);
        let (place, why) = last_error.unwrap_or((place, timed_out));
        let (topic, partition) = parse(records[place].0)?;
        Err(self.failed_at(topic, partition, &why))
    }
}

/// Groups partitions by their leaders. Those without a known leader are a group.
fn by_leader<'n>(
    names: impl IntoIterator<Item = &'n str>,
    leader_of: impl Fn(&str, i32) -> Option<i32>,
) -> BTreeMap<Option<i32>, Vec<&'n str>> {
    let mut groups: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    for name in names {
        let leader = parse(name).ok().and_then(|(topic, partition)| leader_of(topic, partition));
        groups.entry(leader).or_default().push(name);
    }
    groups
}

/// Names topics in a message: the first few of many.
fn list(topics: &BTreeSet<String>) -> String {
    const NAMED: usize = 3;
    let named: Vec<&str> = topics.iter().take(NAMED).map(String::as_str).collect();
    let more = topics.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::settings::{Isolation, Kafka};
    use super::*;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::DefaultProducerContext;
    use std::sync::Mutex;
    use tidemill_state::Kind;

    #[test]
    fn partitions_are_grouped_by_their_leaders() {
        let leader_of = |topic: &str, partition| match (topic, partition) {
            ("a", 2) | ("gone", _) => None,
            ("a", partition) => Some(partition % 2),
            _ => Some(1),
        };
        let groups = by_leader(["a[0]", "a[1]", "a[2]", "a[3]", "b[0]", "gone[0]"], leader_of);
        let expected = [
            (None, vec!["a[2]", "gone[0]"]),
            (Some(0), vec!["a[0]"]),
            (Some(1), vec!["a[1]", "a[3]", "b[0]"]),
        ];
        assert_eq!(groups, expected.into());
    }

    #[test]
    fn a_leader_that_is_down_hides_the_ends_of_its_own_partitions_alone() {
        let cluster = MockCluster::<DefaultProducerContext>::new(2).expect("ports are free");
        cluster.create_topic("words", 2, 1).expect("a new topic");
        for (partition, leader) in [(0, 1), (1, 2)] {
            cluster.partition_leader("words", partition, Some(leader)).expect("both are known");
        }
        let probe = Probe::new(&Kafka::new(cluster.bootstrap_servers()), Isolation::Uncommitted)
            .expect("good settings");
        probe.topic("words").expect("both brokers answer");
        let look = || {
            let ends = Mutex::new(BTreeMap::new());
            probe.ends_by_leader(["words[0]", "words[1]"], |name, end| {
                let end = end.map_err(|why| why.kind());
                ends.lock().expect("a test").insert(name.to_string(), end);
            });
            ends.into_inner().expect("a test")
        };
        let ends =
            |second| [("words[0]".to_string(), Ok(0)), ("words[1]".to_string(), second)].into();
        assert_eq!(look(), ends(Ok(0)));
        cluster.broker_down(2).expect("it is known");
        assert_eq!(look(), ends(Err(Kind::Unreachable)));
    }
}
