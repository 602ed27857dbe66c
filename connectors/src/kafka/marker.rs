//! The marker of a sink: a record in a compacted topic of its own, written in the same transaction
//! as the output that it covers.

use super::admin::Admin;
use super::partition::name_of;
use super::settings::{ANSWER_WITHIN, Isolation, Kafka, PROGRESS};
use super::topics::Probe;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Message as _, Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use tidemill_engine::sink::{Marker, Owner};
use tidemill_state::{Error, Incarnation, Result, Txid};
use xxhash_rust::xxh3::xxh3_64;

/// The time an abandoned transaction may stay open, and so hide what comes after it: the
/// transactions' time-out.
const TRANSACTION_ENDS_WITHIN: Duration = Duration::from_secs(65);

/// The size of a segment of the topic, in bytes.
const SEGMENT_BYTES: &str = "16777216";

/// The number of offsets before the end are read first to find the last marker.
const FIRST_LOOK: i64 = 64;

/// A marker as it is written. JSON, so that a person can read the topic.
#[derive(Serialize, Deserialize)]
struct Written {
    topology: String,
    sink: String,
    txid: u64,
    run: u64,
    nonce: String,
    checksum: String,
}

impl Written {
    fn new(owner: &Owner, txid: Txid) -> Written {
        let Incarnation { counter, nonce } = owner.incarnation;
        let mut written = Written {
            topology: owner.topology.clone(),
            sink: owner.sink.clone(),
            txid: txid.0,
            run: counter,
            nonce: format!("{nonce:016x}"),
            checksum: String::new(),
        };
        written.checksum = written.sum();
        written
    }

    fn sum(&self) -> String {
        let Written { topology, sink, txid, run, nonce, .. } = self;
        format!(
            "{:016x}",
            xxh3_64(format!("{topology}\n{sink}\n{txid}\n{run}\n{nonce}").as_bytes())
        )
    }

    fn marker(&self) -> Option<Marker> {
        let nonce = u64::from_str_radix(&self.nonce, 16).ok()?;
        let incarnation = Incarnation { counter: self.run, nonce };
        Some(Marker { topology: self.topology.clone(), txid: Txid(self.txid), incarnation })
    }
}

/// The value of a marker's record.
pub(super) fn encode(owner: &Owner, txid: Txid) -> Result<Vec<u8>> {
    serde_json::to_vec(&Written::new(owner, txid))
        .map_err(|why| Error::bug(format!("a marker cannot be written: {why}")))
}

/// A sink's progress topic: one partition, compacted, written by this sink alone.
pub(super) struct Progress {
    pub(super) topic: String,
    sink: String,
    kafka: Kafka,
    committed: Probe,
    uncommitted: Probe,
}

impl Progress {
    pub(super) fn of(kafka: &Kafka, owner: &Owner) -> Result<Progress> {
        let topic = topic_of(owner);
        let odd = |c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c));
        if topic.len() > 249 || topic.contains(odd) {
            return Err(Error::config(format!(
                "the sink keeps its marker in a topic that would be named \"{topic}\", which no \
                 topic can be: use letters, digits, '.', '_' and '-' in the names of topology and \
                 sink, at most 249 in all"
            )));
        }
        Ok(Progress {
            topic,
            sink: owner.sink.clone(),
            kafka: kafka.clone(),
            committed: Probe::new(kafka, Isolation::Committed)?,
            uncommitted: Probe::new(kafka, Isolation::Uncommitted)?,
        })
    }

    /// Returns whether it is this owner's.
    pub(super) fn is_of(&self, owner: &Owner) -> bool {
        self.topic == topic_of(owner)
    }

    /// Returns whether one of its clients has not been answered for so long that others should ask.
    pub(super) fn is_stuck(&self) -> bool {
        self.committed.is_stuck() || self.uncommitted.is_stuck()
    }

    /// Makes the topic if it is missing, with as many replicas as the output topic, and refuses one
    /// that is not as it must be.
    pub(super) fn ensure(&self, admin: &Admin, replicas: Option<i32>) -> Result<()> {
        let topic = &self.topic;
        if self.committed.partitions_of(topic)?.is_none() {
            // A marker is some hundred bytes, and only what is in a full segment is compacted: by
            // default that is a GiB.
            admin.create(
                topic,
                1,
                replicas,
                &[("cleanup.policy", "compact"), ("segment.bytes", SEGMENT_BYTES)],
            )?;
        }
        let partitions = await_topic(&self.committed, topic)?;
        let [policy] = admin.settings(topic, ["cleanup.policy"])?;
        if policy == "compact" {
            self.has_one(partitions)
        } else {
            Err(self.is_unfit(partitions, &format!(" and cleanup.policy={policy}")))
        }
    }

    /// The same for a user who can neither make nor describe it: whether it is there, and has one
    /// partition.
    pub(super) fn look(&self) -> Result<()> {
        let topic = &self.topic;
        match self.committed.partitions_of(topic)? {
            Some(partitions) => self.has_one(partitions),
            None => Err(Error::config(format!(
                "there is no topic {topic}, in which the sink keeps its marker, and it cannot be \
                 made with tokens (Kafka::oauth): make it first, with one partition and \
                 cleanup.policy=compact"
            ))),
        }
    }

    fn has_one(&self, partitions: i32) -> Result<()> {
        if partitions == 1 { Ok(()) } else { Err(self.is_unfit(partitions, "")) }
    }

    fn is_unfit(&self, partitions: i32, more: &str) -> Error {
        Error::config(format!(
            "topic {} must be compacted and have one partition, for the sink's marker alone; it \
             has {partitions}{more}. Give the topology or the sink another name, or set the topic \
             right",
            self.topic
        ))
    }

    /// Tends the clients between requests: tokens, if needed, are supplied when the clients'
    /// reports are looked at.
    pub(super) fn tend(&self) {
        if self.kafka.tokens().is_some() {
            self.committed.tend();
            self.uncommitted.tend();
        }
    }

    /// The last marker whose transaction is committed, as of now. `None` if there is none, or no
    /// topic.
    pub(super) fn peek(&self) -> Result<Option<Marker>> {
        self.tend();
        match self.committed.partitions_of(&self.topic)? {
            None => Ok(None),
            Some(_) => self.last_before(self.committed.range(&self.topic, 0)?),
        }
    }

    /// Returns whether no transaction is open on the topic, so that [`Progress::peek`] sees
    /// whatever was committed before this was asked.
    pub(super) fn is_settled(&self) -> Result<bool> {
        self.tend();
        if self.committed.partitions_of(&self.topic)?.is_none() {
            return Ok(true);
        }
        let (_, end) = self.uncommitted.range(&self.topic, 0)?;
        Ok(self.committed.range(&self.topic, 0)?.1 >= end)
    }

    /// The last marker, after every transaction on the topic has ended: to be called when no older
    /// producer can begin or commit one.
    pub(super) fn read(&self) -> Result<Option<Marker>> {
        self.tend();
        let (_, end) = self.uncommitted.range(&self.topic, 0)?;
        let until = Instant::now() + TRANSACTION_ENDS_WITHIN;
        loop {
            // On a client that reads committed records only, this is the last stable offset: no
            // open transaction lies before it.
            let stable = self.committed.range(&self.topic, 0)?;
            if stable.1 >= end {
                return self.last_before(stable);
            }
            if Instant::now() >= until {
                return Err(Error::unreachable(format!(
                    "{}: a transaction is open at offset {}, and does not end: which output is \
                     there cannot be known before it does",
                    name_of(&self.topic, 0),
                    stable.1
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The last marker in `[low, end)`, looked for from the end.
    fn last_before(&self, (low, end): (i64, i64)) -> Result<Option<Marker>> {
        if end <= low {
            // There is nothing to find. Whoever may not read the topic learns it now, and not when
            // it matters.
            return self.last_in(low, end);
        }
        let (mut from, mut step) = (end, FIRST_LOOK);
        while from > low {
            from = (end - step).max(low);
            if let Some(marker) = self.last_in(from, end)? {
                return Ok(Some(marker));
            }
            step = step.saturating_mul(16);
        }
        Ok(None)
    }

    /// Reads from `from` until the end, which is `end` or later.
    fn last_in(&self, from: i64, end: i64) -> Result<Option<Marker>> {
        let consumer = self.committed.consumer();
        let name = name_of(&self.topic, 0);
        let failed = |why: KafkaError| self.committed.failed_at(&self.topic, 0, &why);
        let mut assigned = TopicPartitionList::with_capacity(1);
        assigned.add_partition_offset(&self.topic, 0, Offset::Offset(from)).map_err(failed)?;
        consumer.assign(&assigned).map_err(failed)?;
        let (mut last, mut refused) = (None, None);
        let until = Instant::now() + ANSWER_WITHIN;
        let outcome = loop {
            match consumer.poll(Duration::from_millis(5)) {
                Some(Ok(message)) => {
                    match marker_in(&self.topic, &self.sink, message.key(), message.payload()) {
                        Ok(marker) => last = Some(marker),
                        Err(error) => break Err(error),
                    }
                    if message.offset() + 1 >= end {
                        break Ok(last);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => break Ok(last),
                Some(Err(error)) if Instant::now() >= until => break Err(failed(error)),
                // Reported once; one broker may be behind.
                Some(Err(error))
                    if error.rdkafka_error_code()
                        == Some(RDKafkaErrorCode::TopicAuthorizationFailed) =>
                {
                    refused = Some(error);
                }
                None if Instant::now() >= until => {
                    let brokers = self.kafka.brokers();
                    let silent = || {
                        Error::unreachable(format!(
                            "{name}: the brokers at {brokers} do not send the sink's marker"
                        ))
                    };
                    break Err(refused.map_or_else(silent, failed));
                }
                Some(Err(_)) | None => {}
            }
        };
        let _ = consumer.unassign();
        outcome
    }
}

/// The marker in a record of a sink's progress topic.
pub(super) fn marker_in(
    topic: &str,
    sink: &str,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Result<Marker> {
    let written: Option<Written> = value.and_then(|value| serde_json::from_slice(value).ok());
    let ours = key == Some(sink.as_bytes());
    match written {
        Some(written) if ours && written.sum() == written.checksum => written
            .marker()
            .ok_or_else(|| Error::sink(format!("topic {topic}: the marker is damaged"))),
        Some(_) if ours => Err(Error::sink(format!(
            "topic {topic}: the marker is damaged (its checksum is wrong): whether the last output \
             is there is unknown. Restore the topic"
        ))),
        _ => Err(Error::config(format!(
            "topic {topic} has records that are not this sink's markers: somebody else writes to \
             it. Give the topology or the sink another name"
        ))),
    }
}

fn topic_of(owner: &Owner) -> String {
    format!("{}.{}{PROGRESS}", owner.topology, owner.sink)
}

/// Waits until a topic that was just made is known, and gives its number of partitions.
pub(super) fn await_topic(probe: &Probe, topic: &str) -> Result<i32> {
    let until = Instant::now() + ANSWER_WITHIN;
    loop {
        match probe.partitions_of(topic)? {
            Some(partitions) if partitions > 0 => return Ok(partitions),
            _ if Instant::now() >= until => {
                return Err(Error::unreachable(format!(
                    "topic {topic} was made, and the brokers do not know it yet"
                )));
            }
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Returns how many replicas a topic has; `None` if no broker lists them.
pub(super) fn replication_of(probe: &Probe, topic: &str) -> Result<Option<i32>> {
    let metadata = probe.consumer().fetch_metadata(Some(topic), ANSWER_WITHIN);
    let metadata = metadata.map_err(|why| probe.failed(&format!("topic {topic}"), &why))?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let replicas = found
        .and_then(|found| found.partitions().first())
        .map(|partition| partition.replicas().len());
    Ok(replicas.and_then(|replicas| i32::try_from(replicas).ok()).filter(|replicas| *replicas > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_marker_comes_back_and_damage_is_found() {
        let incarnation = Incarnation { counter: 3, nonce: u64::MAX };
        let owner =
            Owner { topology: "t".into(), sink: "s".into(), incarnation, points: Arc::default() };
        let bytes = encode(&owner, Txid(9)).expect("it is plain data");
        let read: Written = serde_json::from_slice(&bytes).expect("it was written so");
        assert_eq!(read.sum(), read.checksum);
        assert_eq!(
            read.marker(),
            Some(Marker { topology: "t".into(), txid: Txid(9), incarnation })
        );
        let other: Written = serde_json::from_str(
            &String::from_utf8_lossy(&bytes).replace("\"txid\":9", "\"txid\":8"),
        )
        .expect("it is JSON");
        assert_ne!(other.sum(), other.checksum);
    }
}
