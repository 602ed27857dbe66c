//! The parts of a reader that its source gives it: the partition, its position, and its assignment
//! to a client.

use super::client;
use super::decode::{Decoder, Undecodable};
use super::doubts::Doubts;
use super::events::Events;
use super::identity::Witness;
use super::partition::name_of;
use super::reading::{Client, Reading, Waker};
use super::settings::Kafka;
use rdkafka::consumer::Consumer as _;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::{Offset, TopicPartitionList};
use std::sync::Arc;
use tidemill_state::{Error, Result};

/// See the module's documentation.
pub(super) struct Opened<T> {
    pub(super) kafka: Kafka,
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) reading: Arc<Reading>,
    pub(super) doubts: Arc<Doubts>,
    pub(super) decoder: Arc<Decoder<T>>,
    pub(super) undecodable: Undecodable,
    /// The offset after the last record, or after what a restart need not look at again; `None` for
    /// the beginning.
    pub(super) next: Option<i64>,
    pub(super) witness: Witness,
}

impl<T> Opened<T> {
    pub(super) fn name(&self) -> String {
        name_of(&self.topic, self.partition)
    }

    /// Takes the partition's records out of the client's common queue, and has it read from here.
    pub(super) fn assign(
        &self,
        client: &Client,
        waker: &Arc<Waker>,
    ) -> Result<PartitionQueue<Events>> {
        let mut queue =
            client.consumer.split_partition_queue(&self.topic, self.partition).ok_or_else(
                || Error::config(format!("{}: no topic can have this name", self.name())),
            )?;
        let woken = Arc::clone(waker);
        queue.set_nonempty_callback(move || woken.wake());
        let mut assigned = TopicPartitionList::with_capacity(1);
        let offset = self.next.map_or(Offset::Beginning, Offset::Offset);
        assigned
            .add_partition_offset(&self.topic, self.partition, offset)
            .and_then(|()| client.consumer.incremental_assign(&assigned))
            .map_err(|why| client::error(&self.kafka, &client.events, &self.name(), &why))?;
        Ok(queue)
    }

    /// Has a client stop to read the partition. It fails if the client has ended, which is as well.
    pub(super) fn give_up(&self, client: &Client) {
        let mut given_up = TopicPartitionList::with_capacity(1);
        given_up.add_partition(&self.topic, self.partition);
        let _ = client.consumer.incremental_unassign(&given_up);
    }
}
