//! Reads one partition of a topic, on the worker that owns it.

use super::client::{self, Consumer, EVENTS_AT_ONCE, Events, take_end};
use super::decode::{Decoder, Incoming, Undecodable, head_of};
use super::settings::Kafka;
use super::source::{Witness, name_of};
use rdkafka::consumer::Consumer as _;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message as _, TopicPartitionList};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::Thread;
use std::time::{Duration, Instant};
use tidemill_engine::source::{DeadLetter, ReadStatus, Reader, Records};
use tidemill_state::{Error, Position, Result};

/// How long a reader sleeps that nothing wakes.
const IDLE: Duration = Duration::from_millis(500);

/// How often events beside the records are looked at: errors, statistics.
const EVENTS_EVERY: Duration = Duration::from_millis(200);

/// How many messages are skipped in one go: what is skipped fills no batch, and the worker has more to do.
const SKIPPED_AT_ONCE: u64 = 256;

/// Wakes the worker that reads a partition when records have come.
#[derive(Default)]
struct Waker {
    woken: AtomicBool,
    thread: Mutex<Option<Thread>>,
}

impl Waker {
    fn wake(&self) {
        self.woken.store(true, SeqCst);
        if let Some(thread) = &*self.thread.lock().expect("no holder of this lock panics") {
            thread.unpark();
        }
    }
}

/// See the module's documentation.
pub(super) struct KafkaReader<T> {
    kafka: Kafka,
    topic: String,
    partition: i32,
    queue: PartitionQueue<Events>,
    consumer: Arc<Consumer>,
    events: Events,
    waker: Arc<Waker>,
    decoder: Arc<Decoder<T>>,
    undecodable: Undecodable,
    /// The offset after the last record, or after what a restart need not look at again.
    next: i64,
    witness: Witness,
    skipped: u64,
    looked: Cell<Instant>,
}

/// What a reader is made of.
pub(super) struct Opened<T> {
    pub(super) kafka: Kafka,
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) consumer: Arc<Consumer>,
    pub(super) events: Events,
    pub(super) decoder: Arc<Decoder<T>>,
    pub(super) undecodable: Undecodable,
    pub(super) next: i64,
    pub(super) witness: Witness,
}

impl<T> KafkaReader<T> {
    /// Takes the partition's records out of the consumer's common queue. To be called before the partition is assigned.
    pub(super) fn new(opened: Opened<T>) -> Result<KafkaReader<T>> {
        let Opened { kafka, topic, partition, consumer, events, decoder, undecodable, next, witness } = opened;
        let mut queue = consumer
            .split_partition_queue(&topic, partition)
            .ok_or_else(|| Error::config(format!("{}: no topic can have this name", name_of(&topic, partition))))?;
        let waker = Arc::new(Waker::default());
        let woken = Arc::clone(&waker);
        queue.set_nonempty_callback(move || woken.wake());
        let looked = Cell::new(Instant::now());
        Ok(KafkaReader {
            kafka,
            topic,
            partition,
            queue,
            consumer,
            events,
            waker,
            decoder,
            undecodable,
            next,
            witness,
            skipped: 0,
            looked,
        })
    }

    fn name(&self) -> String {
        name_of(&self.topic, self.partition)
    }

    /// Looks at what is not a record: errors of the client as a whole, statistics.
    fn look_at_events(&self) -> Result<()> {
        self.looked.set(Instant::now());
        // The records are all in partition queues: what comes here are errors, of which the client's context is told too.
        for _ in 0..EVENTS_AT_ONCE {
            if let Some(Err(KafkaError::MessageConsumptionFatal(code))) = self.consumer.poll(Duration::ZERO) {
                let error = KafkaError::MessageConsumptionFatal(code);
                return Err(client::error(&self.kafka, &self.events, &self.name(), &error));
            }
        }
        match self.events.refused() {
            Some(_) => {
                Err(client::error(&self.kafka, &self.events, &self.name(), &KafkaError::Global(RDKafkaErrorCode::Authentication)))
            }
            None => Ok(()),
        }
    }

    /// An error in place of a record. `Ok` for one that passes by itself.
    fn failed(&self, error: &KafkaError) -> Result<()> {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => Err(Error::source_lost(format!(
                "{}: the broker no longer has offset {}: retention has passed it, or the topic was truncated or made again. Start again to see how much is \
                 lost, and what can be done",
                self.name(),
                self.next
            ))),
            Some(
                RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownPartition,
            ) => Err(Error::source_lost(format!(
                "{}: the broker no longer has it: the topic was deleted, or made again with fewer partitions. Restore it, or begin anew with \
                     --start-over",
                self.name()
            ))),
            Some(RDKafkaErrorCode::BadMessage | RDKafkaErrorCode::InvalidMessage | RDKafkaErrorCode::InvalidMessageSize) => {
                Err(Error::source_lost(format!(
                    "{}: the record at or after offset {} is damaged ({error}): restore the topic",
                    self.name(),
                    self.next
                )))
            }
            _ => {
                tracing::debug!(partition = self.name(), %error, "reading failed; librdkafka tries again");
                Ok(())
            }
        }
    }
}

impl<T> Drop for KafkaReader<T> {
    fn drop(&mut self) {
        let mut given_up = TopicPartitionList::with_capacity(1);
        given_up.add_partition(&self.topic, self.partition);
        // It fails if the client has ended, which is as well.
        let _ = self.consumer.incremental_unassign(&given_up);
    }
}

impl<T: Send> Reader<T> for KafkaReader<T> {
    fn read(&mut self, into: &mut Records<T>) -> Result<ReadStatus> {
        if self.waker.thread.lock().expect("no holder of this lock panics").is_none() {
            *self.waker.thread.lock().expect("no holder of this lock panics") = Some(std::thread::current());
        }
        if self.looked.get().elapsed() >= EVENTS_EVERY {
            self.look_at_events()?;
        }
        // Before the queue is looked at: what comes after it was found empty wakes again.
        self.waker.woken.store(false, SeqCst);
        let skipped_before = self.skipped;
        while !into.is_full() && self.skipped - skipped_before < SKIPPED_AT_ONCE {
            match self.queue.poll(Duration::ZERO) {
                None => return Ok(ReadStatus::Idle(IDLE)),
                Some(Ok(message)) => {
                    let taken = Taken::of(&message);
                    let decoded = decode(&*self.decoder, self.undecodable, &message, into)
                        .map_err(|why| Error::user_code(format!("{}, {why}", name_of(&self.topic, self.partition))));
                    drop(message);
                    self.skipped += u64::from(!decoded?);
                    (self.next, self.witness) = (taken.offset + 1, taken.witness);
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    self.events.is_well();
                    // Control records and aborted ones lie between the last record and the end: a restart need not look at them again.
                    if let Some(end) = take_end() {
                        self.next = self.next.max(end);
                    }
                }
                Some(Err(error)) => self.failed(&error)?,
            }
        }
        Ok(ReadStatus::More)
    }

    fn position(&self) -> Position {
        Position { offset: u64::try_from(self.next.max(0)).unwrap_or_default(), witness: self.witness.to_bytes() }
    }

    fn lag(&self) -> Option<u64> {
        let end = self.events.end_of(&self.topic, self.partition)?;
        Some(u64::try_from(end - self.next).unwrap_or(0))
    }

    fn woken(&self) -> bool {
        self.waker.woken.load(SeqCst)
    }

    fn trouble(&self) -> Option<String> {
        // Asked also while the sources wait and nothing is read: statistics would pile up, and a broker that is away would not be seen.
        if self.looked.get().elapsed() >= EVENTS_EVERY {
            self.looked.set(Instant::now());
            client::look_at_events(&self.consumer);
        }
        self.events.trouble().map(|why| format!("the brokers at {} cannot be reached: {why}", self.kafka.brokers()))
    }

    fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }
}

/// What is kept of a message that was read.
struct Taken {
    offset: i64,
    witness: Witness,
}

impl Taken {
    fn of(message: &BorrowedMessage<'_>) -> Taken {
        Taken { offset: message.offset(), witness: Witness::of(message) }
    }
}

/// Decodes a message into `into`. Gives whether it is a record or a dead letter there, or was skipped.
fn decode<T>(
    decoder: &Decoder<T>,
    undecodable: Undecodable,
    message: &BorrowedMessage<'_>,
    into: &mut Records<T>,
) -> std::result::Result<bool, String> {
    let offset = u64::try_from(message.offset()).unwrap_or_default();
    let bytes = message.key_len() + message.payload_len();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| decoder(&Incoming::new(message))));
    let outcome = outcome.unwrap_or_else(|_| Err("the decoder panicked (its message is in the log)".to_string()));
    match (outcome, undecodable) {
        (Ok(record), _) => into.push(offset, bytes, record),
        (Err(_), Undecodable::Skip) => return Ok(false),
        (Err(error), Undecodable::SetAside) => into.set_aside(
            bytes,
            DeadLetter {
                operator: None,
                source: None,
                partition: Some(name_of(message.topic(), message.partition())),
                offset: Some(offset),
                error,
                key: message.key().map(<[u8]>::to_vec),
                bytes: message.payload().map(<[u8]>::to_vec),
            },
        ),
        (Err(error), Undecodable::Stop) => {
            let head = message.payload().map_or("no value".to_string(), head_of);
            return Err(format!(
                "offset {offset}: {error}; the value begins {head}. Nothing is lost: mend the decoder or say what is to be done with such records \
                 (skip_undecodable, dead_letters), and start again"
            ));
        }
    }
    Ok(true)
}
