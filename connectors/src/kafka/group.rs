//! Tells a consumer group how far the topology is, for tools that show lag. Nothing is ever read
//! from it, but that it is there.

use super::client;
use super::events::{Consumer, Events};
use super::partition::{name_of, parse};
use super::settings::{ANSWER_WITHIN, Isolation, Kafka};
use super::topics::STUCK_AFTER;
use crate::threads;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tidemill_state::{Position, Result};

/// The interval at which offsets are committed to the group.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// The group of one source. Empty until the source is begun.
#[derive(Default)]
pub(super) struct Group(Mutex<Option<Member>>);

/// The client that commits offsets to the group.
struct Member {
    kafka: Kafka,
    consumer: Consumer,
    events: Events,
    pending: BTreeMap<String, i64>,
    /// All that the group was ever told.
    all: BTreeMap<String, i64>,
    told: Instant,
    /// True if it was logged that the group may not be used.
    warned: bool,
}

impl Group {
    /// Makes the client, if there is none.
    pub(super) fn begin(&self, kafka: &Kafka) -> Result<()> {
        let mut member = self.0.lock().expect("no holder of this lock panics");
        if member.is_none() {
            let (consumer, events) =
                client::create::<Consumer>(kafka, &kafka.asking(Isolation::Committed)?)?;
            client::look_at_events(&consumer);
            let (pending, all) = (BTreeMap::new(), BTreeMap::new());
            let (kafka, told) = (kafka.clone(), Instant::now());
            *member = Some(Member { kafka, consumer, events, pending, all, told, warned: false });
        }
        Ok(())
    }

    /// Returns the first of these partitions that the group has read, with the group's offset
    /// there.
    pub(super) fn has_read(
        &self,
        kafka: &Kafka,
        partitions: &[String],
    ) -> Result<Option<(String, i64)>> {
        let mut asked = TopicPartitionList::with_capacity(partitions.len());
        for (topic, partition) in partitions.iter().filter_map(|name| parse(name).ok()) {
            asked.add_partition(topic, partition);
        }
        let member = self.0.lock().expect("no holder of this lock panics");
        let Some(Member { consumer, events, .. }) = &*member else { return Ok(None) };
        let found = consumer.committed_offsets(asked, ANSWER_WITHIN);
        let found = found.map_err(|why| {
            client::look_at_events(consumer);
            // The call itself may only have run out of time: whoever may not use a group is not
            // told where it is.
            let refused = KafkaError::OffsetFetch(RDKafkaErrorCode::GroupAuthorizationFailed);
            let why = if events.is_group_refused() { refused } else { why };
            let doing = format!(
                "looking whether consumer group \"{}\" has read these topics",
                kafka.group()
            );
            client::error(kafka, events, &doing, &why)
        })?;
        let read = found.elements().into_iter().find_map(|found| match found.offset() {
            Offset::Offset(offset) => Some((name_of(found.topic(), found.partition()), offset)),
            _ => None,
        });
        Ok(read)
    }

    /// Takes positions before which everything is committed. The group receives them now or at a
    /// later call, which may bring none.
    pub(super) fn committed(&self, positions: &[(String, Position)]) {
        if let Some(member) = &mut *self.0.lock().expect("no holder of this lock panics") {
            let offsets = positions.iter().map(|(name, position)| {
                (name.clone(), i64::try_from(position.offset).unwrap_or(i64::MAX))
            });
            member.pending.extend(offsets);
            if !member.pending.is_empty() && member.told.elapsed() >= TELL_EVERY {
                member.tell();
            }
        }
    }
}

impl Member {
    /// Replaces a client that has reached no broker for long, if another can be created. librdkafka
    /// may have dropped all that the old client knew: all offsets that were ever sent to the group
    /// are sent again.
    fn replace_client(&mut self) {
        let made = self.kafka.asking(Isolation::Committed);
        if let Ok((consumer, events)) =
            made.and_then(|config| client::create_at_once::<Consumer>(&self.kafka, &config))
        {
            client::look_at_events(&consumer);
            threads::let_go(std::mem::replace(&mut self.consumer, consumer));
            self.events = events;
            self.pending = std::mem::take(&mut self.all)
                .into_iter()
                .chain(std::mem::take(&mut self.pending))
                .collect();
        }
    }

    /// Sends what is pending. What comes of it only tools would see.
    fn tell(&mut self) {
        client::look_at_events(&self.consumer);
        if self.events.is_group_refused() && !std::mem::replace(&mut self.warned, true) {
            let group = self.kafka.group();
            tracing::warn!(
                group,
                "the brokers refuse this consumer group: tools that show lag see nothing of this \
                 topology. Grant Read on the group, or name another with the setting group.id"
            );
        }
        if self.events.trouble_since().is_some_and(|since| since.elapsed() >= STUCK_AFTER) {
            self.replace_client();
        }
        self.all.extend(self.pending.clone());
        let mut list = TopicPartitionList::new();
        for (name, offset) in std::mem::take(&mut self.pending) {
            if let Ok((topic, partition)) = parse(&name) {
                let _ = list.add_partition_offset(topic, partition, Offset::Offset(offset));
            }
        }
        if let Err(error) = self.consumer.commit(&list, CommitMode::Async) {
            tracing::debug!(%error, "the consumer group was not told how far the topology is");
        }
        self.told = Instant::now();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if !self.pending.is_empty() {
            self.tell();
            self.consumer.poll(Duration::from_millis(200));
        }
    }
}
