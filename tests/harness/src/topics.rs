//! Topics of a broker, as tests fill and read them: with clients of their own, beside those under
//! test.

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::time::{Duration, Instant};

/// How long anything may take: generous, for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A message as a test sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its key, as text.
    pub key: Option<String>,
    /// Its value, as text.
    pub value: Option<String>,
}

fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    config
}

fn admin(brokers: &str) -> (AdminClient<DefaultClientContext>, tokio::runtime::Runtime) {
    let tokio =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    (config(brokers).create().expect("a client"), tokio)
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE))
}

/// Makes a topic, and waits until it is known.
pub fn create_topic(brokers: &str, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
    let (admin, tokio) = admin(brokers);
    let new = settings.iter().fold(
        NewTopic::new(topic, partitions, TopicReplication::Fixed(1)),
        |new, (name, value)| new.set(name, value),
    );
    let made = tokio.block_on(admin.create_topics([&new], &options())).expect("the broker answers");
    made.into_iter().for_each(|made| drop(made.expect("the topic is made")));
    let until = Instant::now() + PATIENCE;
    while partitions_of(brokers, topic) < partitions {
        assert!(Instant::now() < until, "topic {topic} does not appear");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Deletes a topic, and waits until it is gone.
pub fn delete_topic(brokers: &str, topic: &str) {
    let (admin, tokio) = admin(brokers);
    let gone =
        tokio.block_on(admin.delete_topics(&[topic], &options())).expect("the broker answers");
    gone.into_iter().for_each(|gone| drop(gone.expect("the topic is deleted")));
    let until = Instant::now() + PATIENCE;
    while partitions_of(brokers, topic) > 0 {
        assert!(Instant::now() < until, "topic {topic} does not go away");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Deletes the records of a partition before an offset, as retention does.
pub fn delete_records(brokers: &str, topic: &str, partition: i32, before: i64) {
    let (admin, tokio) = admin(brokers);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(before)).expect("a partition");
    drop(tokio.block_on(admin.delete_records(&list, &options())).expect("the records are deleted"));
}

/// Sets what a topic is to do, in place of what it was told before.
pub fn set_topic(brokers: &str, topic: &str, settings: &[(&str, &str)]) {
    let (admin, tokio) = admin(brokers);
    let of_topic = AlterConfig::new(ResourceSpecifier::Topic(topic));
    let new = settings.iter().fold(of_topic, |new, (name, value)| new.set(name, value));
    let set = tokio.block_on(admin.alter_configs([&new], &options())).expect("the broker answers");
    set.into_iter().for_each(|set| drop(set.expect("it is set")));
}

/// What a topic is told to do.
pub fn topic_settings<const N: usize>(brokers: &str, topic: &str, names: [&str; N]) -> [String; N] {
    let (admin, tokio) = admin(brokers);
    let described =
        tokio.block_on(admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options()));
    let described = described
        .expect("the broker answers")
        .pop()
        .expect("it was asked for")
        .expect("it is there");
    names.map(|name| {
        described.get(name).and_then(|entry| entry.value.clone()).expect("it has this setting")
    })
}

/// Gives a topic more partitions, and waits until they are known.
pub fn add_partitions(brokers: &str, topic: &str, partitions: i32) {
    let (admin, tokio) = admin(brokers);
    let more = NewPartitions::new(topic, usize::try_from(partitions).expect("some"));
    let made =
        tokio.block_on(admin.create_partitions([&more], &options())).expect("the broker answers");
    made.into_iter().for_each(|made| drop(made.expect("the partitions are made")));
    let until = Instant::now() + PATIENCE;
    while partitions_of(brokers, topic) < partitions {
        assert!(Instant::now() < until, "topic {topic} does not grow");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How far a consumer group is in a partition, as tools that show lag see it.
pub fn committed_by(brokers: &str, group: &str, topic: &str, partition: i32) -> Option<i64> {
    let consumer: BaseConsumer = config(brokers).set("group.id", group).create().expect("a client");
    let mut asked = TopicPartitionList::new();
    asked.add_partition(topic, partition);
    let found = consumer.committed_offsets(asked, PATIENCE).expect("the broker answers");
    match found.elements().first().expect("it was asked for").offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }
}

/// How many partitions a topic has; 0 if there is none.
pub fn partitions_of(brokers: &str, topic: &str) -> i32 {
    let consumer: BaseConsumer = config(brokers).create().expect("a client");
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).expect("the broker answers");
    metadata
        .topics()
        .iter()
        .find(|found| found.name() == topic && found.error().is_none())
        .map_or(0, |found| i32::try_from(found.partitions().len()).expect("few"))
}

/// The first offset of a partition and the one after the last.
pub fn watermarks(brokers: &str, topic: &str, partition: i32) -> (i64, i64) {
    let consumer: BaseConsumer = config(brokers).create().expect("a client");
    consumer.fetch_watermarks(topic, partition, PATIENCE).expect("the broker answers")
}

/// A message that a test sends: partition, key, value.
pub type Sent<'a> = (i32, Option<&'a str>, Option<&'a str>);

fn send_all(producer: &BaseProducer, topic: &str, messages: &[Sent<'_>]) {
    for (partition, key, value) in messages {
        let mut record = BaseRecord::<str, str>::to(topic).partition(*partition);
        (record.key, record.payload) = (*key, *value);
        while let Err((error, back)) = producer.send(record) {
            assert!(error.to_string().contains("QueueFull"), "{error}");
            record = back;
            producer.poll(Duration::from_millis(1));
        }
    }
}

/// Sends these messages, without a transaction.
pub fn produce(brokers: &str, topic: &str, messages: &[Sent<'_>]) {
    let producer: BaseProducer = config(brokers)
        .set("enable.idempotence", "true")
        .set("linger.ms", "2")
        .create()
        .expect("a producer");
    send_all(&producer, topic, messages);
    producer.flush(PATIENCE).expect("they are sent");
}

/// Sends these values, each to its partition.
pub fn produce_bytes(brokers: &str, topic: &str, values: impl Iterator<Item = (i32, Vec<u8>)>) {
    let producer: BaseProducer =
        config(brokers).set("enable.idempotence", "true").create().expect("a producer");
    for (partition, value) in values {
        let record = BaseRecord::<str, [u8]>::to(topic).partition(partition).payload(&value);
        producer.send(record).expect("there is room for it");
    }
    producer.flush(PATIENCE).expect("they are sent");
}

/// Sends these values to partition 0, each with its time in milliseconds since 1970.
pub fn produce_timed(brokers: &str, topic: &str, messages: impl Iterator<Item = (i64, String)>) {
    let producer: BaseProducer =
        config(brokers).set("enable.idempotence", "true").create().expect("a producer");
    for (time, value) in messages {
        let record = BaseRecord::<str, str>::to(topic).partition(0).timestamp(time).payload(&value);
        producer.send(record).expect("there is room for it");
    }
    producer.flush(PATIENCE).expect("they are sent");
}

/// A transaction that is open: these messages are in it. Whoever began it ends it.
pub fn begin_transaction(
    brokers: &str,
    id: &str,
    topic: &str,
    messages: &[Sent<'_>],
) -> BaseProducer {
    let producer: BaseProducer =
        config(brokers).set("transactional.id", id).create().expect("a producer");
    producer.init_transactions(PATIENCE).expect("a session");
    producer.begin_transaction().expect("a transaction");
    send_all(&producer, topic, messages);
    producer.flush(PATIENCE).expect("they are sent");
    producer
}

/// Sends these messages in a transaction that is committed or aborted.
pub fn produce_in_transaction(
    brokers: &str,
    id: &str,
    topic: &str,
    messages: &[Sent<'_>],
    commit: bool,
) {
    let producer = begin_transaction(brokers, id, topic, messages);
    if commit {
        producer.commit_transaction(PATIENCE)
    } else {
        producer.abort_transaction(PATIENCE)
    }
    .expect("it ends");
}

/// A transaction that stays open until it is aborted: what comes after it on its partition is not
/// visible.
pub struct Open(BaseProducer);

impl Open {
    /// Begins a transaction with one message in it.
    pub fn begin(brokers: &str, id: &str, topic: &str, message: Sent<'_>) -> Open {
        let producer: BaseProducer =
            config(brokers).set("transactional.id", id).create().expect("a producer");
        producer.init_transactions(PATIENCE).expect("a session");
        producer.begin_transaction().expect("a transaction");
        send_all(&producer, topic, &[message]);
        producer.flush(PATIENCE).expect("it is sent");
        Open(producer)
    }

    /// Aborts it.
    pub fn abort(self) {
        self.0.abort_transaction(PATIENCE).expect("it ends");
    }
}

/// Waits until no transaction is open on a topic: one is committed a moment before its records can
/// be read. Whether there is none.
pub fn settle(brokers: &str, topic: &str, within: Duration) -> bool {
    let client = |isolation: &str| -> BaseConsumer {
        config(brokers).set("isolation.level", isolation).create().expect("a client")
    };
    let (stable, all) = (client("read_committed"), client("read_uncommitted"));
    let end = |of: &BaseConsumer, partition: i32| {
        of.fetch_watermarks(topic, partition, PATIENCE).expect("the broker answers").1
    };
    let (partitions, until) = (partitions_of(brokers, topic), Instant::now() + within);
    while (0..partitions).any(|partition| end(&stable, partition) < end(&all, partition)) {
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// Everything of a topic that a reader of committed transactions sees, partition by partition, up
/// to its end.
pub fn read_committed(brokers: &str, topic: &str) -> Vec<Seen> {
    let mut config = config(brokers);
    config
        .set("group.id", "test")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed");
    config.set("enable.partition.eof", "true").set("fetch.wait.max.ms", "5");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let partitions = partitions_of(brokers, topic);
    assert!(settle(brokers, topic, PATIENCE), "a transaction of topic {topic} does not end");
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning).expect("a partition");
    }
    consumer.assign(&list).expect("assigned");
    let (mut seen, mut ended) = (Vec::new(), 0);
    let until = Instant::now() + PATIENCE;
    while ended < partitions {
        assert!(Instant::now() < until, "topic {topic} does not come to its end");
        let text =
            |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        match consumer.poll(Duration::from_millis(1)) {
            Some(Ok(message)) => seen.push(Seen {
                partition: message.partition(),
                offset: message.offset(),
                key: text(message.key()),
                value: text(message.payload()),
            }),
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(error)) => panic!("topic {topic} cannot be read: {error}"),
            None => {}
        }
    }
    seen.sort_by_key(|message| (message.partition, message.offset));
    seen
}
