//! The suites of sources and sinks, run on Kafka's against a real broker.

use std::collections::BTreeMap;
use std::time::Duration;
use tidemill::kafka::{KafkaSink, KafkaSource, Message};
use tidemill::prelude::*;
use tidemill::sink::{Delivery, Entry, Marker, Owner, Prepared, Publisher, Sink};
use tidemill::source::{OnLoss, ReadStatus, Source, Start};
use tidemill::{Kind, Position, Txid, conformance};
use tidemill_harness::broker::Broker;
use tidemill_harness::hooked::{Hooked, Read};
use tidemill_harness::topics::{
    create_topic, delete_records, delete_topic, produce, produce_in_transaction, read_committed,
    settle, watermarks,
};

fn send(topic: &str, partition: i32, values: &[&str]) {
    let messages: Vec<_> = values.iter().map(|value| (partition, None, Some(*value))).collect();
    produce(&Broker::shared().address(), topic, &messages);
}

fn topic(topic: &str) -> KafkaSource<Str> {
    // The end of a partition is told at once, not half a second after it is reached.
    Kafka::new(Broker::shared().address()).set("fetch.wait.max.ms", "20").source([topic]).utf8()
}

/// A topic whose partitions end where they end now. Records come over the network, so that a reader
/// that is idle has not seen what is there: with an end to reach, the suite waits for it, and sees
/// a record too many.
fn ending(name: &str, partitions: i32) -> impl Fn() -> Hooked<KafkaSource<Str>> {
    let ends: BTreeMap<String, u64> = (0..partitions)
        .map(|partition| {
            let (_, end) = watermarks(&Broker::shared().address(), name, partition);
            (format!("{name}[{partition}]"), u64::try_from(end).expect("it is not negative"))
        })
        .collect();
    let name = name.to_string();
    move || {
        let ends = ends.clone();
        Hooked::new(topic(&name), move |read: &Read<'_>| {
            let end = ends[read.partition];
            assert!(
                read.position.offset <= end,
                "{} is at {}, and ends at {end}",
                read.partition,
                read.position.offset
            );
            match read.status {
                ReadStatus::Idle(_) if read.position.offset == end => ReadStatus::End,
                ReadStatus::Idle(_) => {
                    std::thread::sleep(Duration::from_millis(1));
                    ReadStatus::More
                }
                status => status,
            }
        })
    }
}

fn texts(values: &[&str]) -> Vec<Str> {
    values.iter().map(|value| Str::from(*value)).collect()
}

#[test]
fn the_source_keeps_its_contract_with_holes_and_control_records() {
    let brokers = Broker::shared().address();
    create_topic(&brokers, "kept", 3, &[]);
    let plain = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    send("kept", 0, &plain);
    // Partition 1 has holes at its beginning, in its middle and at its end; partition 2 is empty.
    let transactions: [(&[&str], bool); 6] = [
        (&["no"], false),
        (&["k", "l"], true),
        (&["no", "no", "no"], false),
        (&["m"], true),
        (&["n", "o"], true),
        (&["no"], false),
    ];
    for (number, (values, commit)) in transactions.iter().enumerate() {
        let messages: Vec<_> = values.iter().map(|value| (1, None, Some(*value))).collect();
        produce_in_transaction(&brokers, &format!("kept-{number}"), "kept", &messages, *commit);
    }
    let expected = [
        ("kept[0]", texts(&plain)),
        ("kept[1]", texts(&["k", "l", "m", "n", "o"])),
        ("kept[2]", texts(&[])),
    ];
    conformance::source(ending("kept", 3), &expected);
}

#[test]
fn a_position_that_the_topic_no_longer_matches_is_an_error() {
    let brokers = Broker::shared().address();
    let many = ["a"; 20];
    let made = |name: &str| {
        create_topic(&brokers, name, 1, &[]);
        send(name, 0, &many);
    };
    made("expired");
    conformance::damaged_source(
        || topic("expired"),
        "expired[0]",
        5,
        || delete_records(&brokers, "expired", 0, 10),
    );
    made("shorter");
    conformance::damaged_source(
        || topic("shorter"),
        "shorter[0]",
        15,
        || {
            delete_topic(&brokers, "shorter");
            create_topic(&brokers, "shorter", 1, &[]);
            send("shorter", 0, &many[..10]);
        },
    );
}

/// Such a topic has the offset, and only a look at the record before tells that it is another: a
/// start takes it, before a partition is opened.
#[test]
fn a_topic_that_was_made_again_and_is_as_long_is_found_at_the_start() {
    let brokers = Broker::shared().address();
    create_topic(&brokers, "longer", 1, &[]);
    send("longer", 0, &["a"; 10]);
    let source = ending("longer", 1)();
    let mut reader = source.open("longer[0]", None).expect("it opens");
    while reader.position().offset < 10 {
        reader
            .read(&mut tidemill::source::Records::with_limits(100, usize::MAX))
            .expect("it reads");
    }
    // As this version writes it, with the topic's id; and as an earlier one did, with nothing but
    // the record.
    let position = reader.position();
    let earlier =
        Position { witness: [&[1], &position.witness[17..]].concat(), ..position.clone() };
    let begin_at = |position: &Position, on_loss| {
        let recorded: BTreeMap<String, Position> =
            [("longer[0]".to_string(), position.clone())].into();
        let (topology, recorded) = ("conformance", &recorded);
        let start = Start {
            topology,
            is_new: false,
            begun: true,
            recorded,
            first: None,
            on_loss,
            to_end: false,
        };
        topic("longer").begin(&start)
    };
    for recorded in [&position, &earlier] {
        let begun = begin_at(recorded, OnLoss::Refuse).expect("it is as it was");
        assert_eq!(begun.warnings, [""; 0]);
        assert_eq!(
            begun.partitions,
            [("longer[0]".to_string(), Some(position.clone()))],
            "the start gives it the id"
        );
    }
    let begin = |on_loss| begin_at(&position, on_loss);
    drop((reader, source));
    delete_topic(&brokers, "longer");
    create_topic(&brokers, "longer", 1, &[]);
    send("longer", 0, &["b"; 20]);
    for (recorded, part) in
        [(&position, "now has the id"), (&earlier, "is not the one that was read")]
    {
        let error = begin_at(recorded, OnLoss::Refuse).expect_err("it is another topic");
        assert!(error.kind() == Kind::SourceLost && error.to_string().contains(part), "{error}");
    }
    for (on_loss, at) in [(OnLoss::Earliest, 0), (OnLoss::Latest, 20)] {
        let begun = begin(on_loss).expect("it goes on");
        let [(name, Some(Position { offset, witness }))] = &begun.partitions[..] else {
            panic!("{:?}", begun.partitions)
        };
        assert_eq!(
            (name.as_str(), *offset, witness.len(), begun.warnings.len()),
            ("longer[0]", at, 17, 1),
            "with the new id"
        );
    }
}

/// A sink of which the marker is asked only when what was committed is visible: the broker confirms
/// a commit some milliseconds before. Nobody else publishes in the suite but a run that has
/// crashed, whose transaction stays open: that is not waited for.
struct Settled(KafkaSink<String>);

struct SettledPublisher(Box<dyn Publisher>);

impl Sink for Settled {
    type Item = String;

    fn kind(&self) -> String {
        self.0.kind()
    }

    fn delivery(&self) -> Delivery {
        self.0.delivery()
    }

    fn encode(&self, item: &String, into: &mut Vec<u8>) -> Result<()> {
        self.0.encode(item, into)
    }

    fn open(&self, owner: &Owner) -> Result<Box<dyn Publisher>> {
        Ok(Box::new(SettledPublisher(self.0.open(owner)?)))
    }
}

impl Publisher for SettledPublisher {
    fn is_settled(&mut self) -> Result<bool> {
        self.0.is_settled()
    }

    fn marker(&mut self) -> Result<Option<Marker>> {
        settle(
            &Broker::shared().address(),
            "conformance.under-test.progress",
            Duration::from_secs(2),
        );
        self.0.marker()
    }

    fn take_over(&mut self) -> Result<Option<Marker>> {
        self.0.take_over()
    }

    fn claim(&mut self, txid: Txid) -> Result<()> {
        self.0.claim(txid)
    }

    fn prepare<'a>(&'a mut self, entries: &[Entry]) -> Result<Box<dyn Prepared + 'a>> {
        self.0.prepare(entries)
    }

    fn idle(&mut self) {
        self.0.idle();
    }
}

#[test]
fn the_sink_keeps_its_contract() {
    let brokers = Broker::shared().address();
    create_topic(&brokers, "published", 1, &[]);
    let kafka = Kafka::new(&brokers);
    let make = || {
        kafka.sink("published", |record: &String| Message::new().key("k").value(record.as_str()))
    };
    let items: Vec<String> = (0..20).map(|number| format!("record {number}")).collect();
    let read_back = || {
        let encoded = |value: Option<String>| {
            let mut bytes = Vec::new();
            make().encode(&value.expect("every message has a value"), &mut bytes).expect("it fits");
            bytes
        };
        read_committed(&brokers, "published")
            .into_iter()
            .map(|message| encoded(message.value))
            .collect()
    };
    conformance::sink(|| Settled(make()), &items, read_back);
}
