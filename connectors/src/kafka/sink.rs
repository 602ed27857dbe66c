//! A topic as a sink.

use super::backoff::SlowCommits;
use super::findings::Findings;
use super::message::Message;
use super::publisher::{KafkaPublisher, Shared};
use super::settings::Kafka;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use tidemill_engine::sink::{Delivery, Owner, Publisher, Sink};
use tidemill_engine::source::Data;
use tidemill_state::{Error, Result};

impl Kafka {
    /// This topic as a sink. `encode` makes a record's message.
    pub fn sink<T: Data>(
        &self,
        topic: impl Into<String>,
        encode: impl Fn(&T) -> Message + Send + Sync + 'static,
    ) -> KafkaSink<T> {
        KafkaSink::new(self, topic.into(), encode)
    }
}

/// A topic as a sink. Made by [`Kafka::sink`].
///
/// **Exactly once.** The output of a batch, or of several while the sink is behind, is sent in one
/// transaction, with a marker in the topic `<topology>.<sink>.progress`: a consumer with
/// `isolation.level=read_committed` sees the output of each batch once, whatever was killed. The
/// output of a batch is atomic per sink: all of its messages become visible together. The progress
/// topic is made by the sink, compacted, with one partition; one that is otherwise, or has somebody
/// else's records, is refused. After each commit that may have been sent twice (it failed, or took
/// four fifths of `retry.backoff.ms` or longer: 80 ms, if that is not set) the producer is thrown
/// away, and a new one reads the marker: a commit that arrives late would hit a later transaction.
/// With brokers whose commits always take that long, set `retry.backoff.ms` ([`Kafka::set`]).
///
/// **What is refused.** A message larger than the topic takes stops the topology before its batch
/// is committed, naming key and size. What the brokers refuse for good afterwards stops it too
/// (68), unless there is a topic for it ([`KafkaSink::dead_letters`]). The topic must exist, unless
/// it may be made ([`KafkaSink::create`]).
///
/// **While the brokers are away** committed output waits in the outbox; when that is full, the
/// sources wait.
pub struct KafkaSink<T> {
    shared: Arc<Shared>,
    encode: Box<Encoder<T>>,
    /// Called by each start before the first record is encoded. It may wait for a network.
    ready: Box<Ready>,
}

type Encoder<T> = dyn Fn(&T) -> Result<Message> + Send + Sync;
type Ready = dyn Fn() -> Result<()> + Send + Sync;

impl<T: Data> KafkaSink<T> {
    pub(super) fn new(
        kafka: &Kafka,
        topic: String,
        encode: impl Fn(&T) -> Message + Send + Sync + 'static,
    ) -> KafkaSink<T> {
        let shared = Shared {
            kafka: kafka.apart(),
            topic,
            create: None,
            dead_letters: None,
            trusts_every_commit: false,
            progress: Mutex::default(),
            max_message_bytes: AtomicUsize::new(0),
            max_letter_bytes: AtomicUsize::new(0),
            presence: Mutex::default(),
            findings: Findings::default(),
            slow_commits: SlowCommits::default(),
            refused: Mutex::default(),
        };
        KafkaSink {
            shared: Arc::new(shared),
            encode: Box::new(move |item| Ok(encode(item))),
            ready: Box::new(|| Ok(())),
        }
    }

    /// Makes the value of each message by `value`, after `ready` was called and has not failed.
    #[cfg(feature = "schema-registry")]
    pub(super) fn with_values(
        self,
        ready: impl Fn() -> Result<()> + Send + Sync + 'static,
        value: impl Fn(&T) -> Result<Vec<u8>> + Send + Sync + 'static,
    ) -> KafkaSink<T> {
        let encode = self.encode;
        let encode = Box::new(move |item: &T| Ok(encode(item)?.value(value(item)?)));
        KafkaSink { encode, ready: Box::new(ready), ..self }
    }

    /// The topic.
    #[cfg(feature = "schema-registry")]
    pub(super) fn topic(&self) -> &str {
        &self.shared.topic
    }

    fn change(mut self, change: impl FnOnce(&mut Shared)) -> KafkaSink<T> {
        change(
            Arc::get_mut(&mut self.shared)
                .expect("a sink that is being described has no publisher yet"),
        );
        self
    }

    /// Makes the topic if it is missing, with so many partitions and the brokers' defaults.
    #[must_use]
    pub fn create(self, partitions: i32) -> KafkaSink<T> {
        self.change(|shared| shared.create = Some(partitions))
    }

    /// Keeps a producer whose commit may have been sent twice. Output can then be lost or doubled:
    /// this is here for the test that shows it.
    #[doc(hidden)]
    #[must_use]
    pub fn trusting_every_commit(self) -> KafkaSink<T> {
        self.change(|shared| shared.trusts_every_commit = true)
    }

    /// Sends what the brokers refuse for good to this topic instead, in the same transaction: its
    /// key, and as its value a JSON object with the reason, the batch, and the message's value (as
    /// `value`; as `value_base64` if it is no text), headers, partition and timestamp. Of a message
    /// that this topic does not take either, the letter has the heads of value and key.
    #[must_use]
    pub fn dead_letters(self, topic: impl Into<String>) -> KafkaSink<T> {
        self.change(|shared| shared.dead_letters = Some(topic.into()))
    }
}

impl<T: Data> Sink for KafkaSink<T> {
    type Item = T;

    fn kind(&self) -> String {
        "kafka".into()
    }

    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    fn encode(&self, item: &T, into: &mut Vec<u8>) -> Result<()> {
        let message = (self.encode)(item)?;
        let wrong = |what: String| {
            let key =
                message.key.as_deref().map(|key| format!("with key \"{}\"", key.escape_ascii()));
            Err(Error::user_code(format!(
                "a message {} {what}",
                key.unwrap_or_else(|| "without a key".to_string())
            )))
        };
        if let Some(why) = message.cannot_be_sent() {
            return wrong(why);
        }
        let (bytes, takes) = (message.bytes(), self.shared.max_message_bytes.load(SeqCst));
        if takes > 0 && bytes > takes {
            let topic = &self.shared.topic;
            return wrong(format!(
                "has {bytes} bytes, and topic {topic} takes {takes} (max.message.bytes): send \
                 less, or let the topic take more"
            ));
        }
        message.encode(into);
        Ok(())
    }

    fn open(&self, owner: &Owner) -> Result<Box<dyn Publisher>> {
        if !owner.only_looks() {
            (self.ready)()?;
        }
        Ok(Box::new(KafkaPublisher::open(Arc::clone(&self.shared), owner.clone())?))
    }
}
