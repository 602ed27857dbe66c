//! Avro and Protobuf with a schema registry, against a real broker and a registry that speaks the
//! REST API.

use super::messages::{folder, run_until, settings};
use prost::bytes::{Buf, BufMut};
use prost::encoding::{DecodeContext, WireType, int64, skip_field, string};
use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::path::Path;
use std::time::{Duration, Instant};
use tidemill::kafka::{Message, SchemaRegistry};
use tidemill::prelude::*;
use tidemill::{CrashPoint, Engine, Kind, Status};
use tidemill_harness::broker::Broker;
use tidemill_harness::child::{How, Running, crash_at};
use tidemill_harness::registry::{Mode, Registry};
use tidemill_harness::run::Run;
use tidemill_harness::topics::{create_topic, produce_bytes};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    id: String,
    cents: i64,
    #[serde(default = "nobody")]
    clerk: String,
}

fn nobody() -> String {
    "nobody".into()
}

const FIRST: &str = r#"{"type": "record", "name": "Order", "fields": [
    {"name": "cents", "type": "int"}, {"name": "id", "type": "string"}]}"#;
const SECOND: &str = r#"{"type": "record", "name": "Order", "fields": [
    {"name": "id", "type": "string"}, {"name": "cents", "type": "long"},
    {"name": "clerk", "type": "string", "default": "nobody"}]}"#;

/// A number as Avro has it: zigzag, in sevens of bits.
fn number(number: i64) -> Vec<u8> {
    let mut zigzag = (number << 1 ^ number >> 63) as u64;
    let mut bytes = Vec::new();
    while zigzag >= 0x80 {
        bytes.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    bytes.push(zigzag as u8);
    bytes
}

fn text(text: &str) -> Vec<u8> {
    [number(i64::try_from(text.len()).expect("it is short")), text.as_bytes().to_vec()].concat()
}

/// A message as a producer with a registry writes it.
fn framed(id: u32, parts: &[Vec<u8>]) -> Vec<u8> {
    [&[0][..], &id.to_be_bytes(), &parts.concat()].concat()
}

/// The `at`-th order of a partition, by either schema in turn.
fn order(ids: [u32; 2], partition: i32, at: i64) -> Vec<u8> {
    let name = format!("{partition}-{at}");
    if at % 2 == 0 {
        framed(ids[0], &[number(at), text(&name)])
    } else {
        framed(ids[1], &[text(&name), number(at), text("kim")])
    }
}

/// As the sink writes it.
fn line(partition: i32, at: i64) -> String {
    let clerk = if at % 2 == 0 { "nobody" } else { "kim" };
    format!(r#"{{"id":"{partition}-{at}","cents":{at},"clerk":"{clerk}"}}"#)
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_string).collect()
}

/// Those of one partition, which are in order.
fn of_partition(lines: &[String], partition: i32) -> Vec<String> {
    let begin = format!(r#"{{"id":"{partition}-"#);
    lines.iter().filter(|line| line.starts_with(&begin)).cloned().collect()
}

fn trouble(status: &Status) -> String {
    status
        .partitions
        .iter()
        .filter_map(|partition| partition.trouble.clone())
        .collect::<Vec<_>>()
        .join("; ")
}

/// A topology in a process of its own, which is killed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    registry: String,
    brokers: String,
    run: Run,
    /// It stops with so many lines published.
    ends: Option<u64>,
}

const ROWS: i64 = 150;

/// Runs the subject, if the job is one of this file.
pub(crate) fn run(job: &str) {
    let Ok(Job { registry, brokers, run, ends }) = serde_json::from_str(job) else { return };
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let here = std::env::current_dir().expect("the parent has made the folder");
    let registry = SchemaRegistry::new(registry);
    let build = move |topology: &Topology<'_>| {
        let orders = topology
            .source("in", Kafka::new(&brokers).source(["avro-killed"]).avro::<Order>(&registry));
        orders.clone().persistent_aggregate("cents", of(|order: &Order| order.cents, Sum));
        orders.sink("out", Files::to("out"));
    };
    let outcome =
        Engine::start(run.settings("avro-killed", here.join("state")), build).and_then(|engine| {
            while !engine.is_over() {
                let status = engine.runtime().status();
                let is_published = status.sinks.iter().all(|sink| sink.backlog_bytes == 0);
                let read: u64 = status.partitions.iter().map(|partition| partition.offset).sum();
                if is_published && ends.is_some_and(|ends| read == ends) {
                    engine.stop();
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            engine.wait()
        });
    if let Err(error) = outcome {
        eprintln!("{error}");
        std::process::exit(error.kind().exit_code().into())
    }
    std::process::exit(0)
}

#[test]
fn records_of_two_schemas_are_read_right_across_a_kill_and_a_restart() {
    let brokers = Broker::shared().address();
    let registry = Registry::start();
    let ids = [FIRST, SECOND].map(|schema| registry.add("avro-killed-value", "AVRO", schema, &[]));
    create_topic(&brokers, "avro-killed", 2, &[]);
    for partition in 0..2 {
        let orders = (0..ROWS).map(|at| (partition, order(ids, partition, at)));
        produce_bytes(&brokers, "avro-killed", orders);
    }
    let place = folder();
    let job = |ends| Job {
        registry: registry.url(),
        brokers: brokers.clone(),
        run: Run::with_workers(2),
        ends,
    };
    let start = |nth: u32, ends, at: Option<&str>| {
        let (stderr, title) =
            (place.path().join(format!("stderr-{nth}")), format!("run {nth} of avro-killed"));
        Running::start(place.path(), &stderr, title, &job(ends), at)
    };
    let point = CrashPoint::AfterWrite;
    let mut child = start(1, None, Some(&crash_at(point, How::Kill, 2)));
    child.reaches(point, How::Kill);
    child.kill();
    let before = lines(&place.path().join("out")).len();
    assert!(before < 2 * usize::try_from(ROWS).expect("small"), "it was killed in the middle");
    let mut child = start(2, Some(2 * ROWS.unsigned_abs()), None);
    assert!(child.wait().success(), "{child:?}");
    let out = lines(&place.path().join("out"));
    for partition in 0..2 {
        let expected: Vec<String> = (0..ROWS).map(|at| line(partition, at)).collect();
        assert_eq!(of_partition(&out, partition), expected);
    }
    assert_eq!(out.len(), 2 * usize::try_from(ROWS).expect("small"), "nothing is there twice");
}

/// The schema is waited for, and with it its partition alone: nothing is lost, doubled or
/// reordered.
#[test]
fn a_registry_that_is_away_or_fails_or_is_slow_is_waited_for() {
    let brokers = Broker::shared().address();
    let registry = RefCell::new(Registry::stopped());
    let ids =
        [FIRST, SECOND].map(|schema| registry.borrow().add("avro-away-value", "AVRO", schema, &[]));
    create_topic(&brokers, "avro-away", 1, &[]);
    create_topic(&brokers, "avro-plain", 1, &[]);
    produce_bytes(&brokers, "avro-away", (0..20).map(|at| (0, order([ids[0]; 2], 0, at * 2))));
    let place = folder();
    let (path, kafka) = (place.path().join("out"), Kafka::new(&brokers));
    let (out, of_registry) = (path.clone(), SchemaRegistry::new(registry.borrow().url()));
    let build = move |topology: &Topology<'_>| {
        let orders = kafka.source(["avro-away"]).avro::<Order>(&of_registry);
        topology.source("orders", orders).sink("out", Files::to(out.to_str().expect("UTF-8")));
        topology
            .source("plain", kafka.source(["avro-plain"]).utf8())
            .persistent_aggregate("plain", Count);
    };
    let step = Cell::new(0);
    run_until(settings("avro-away", place.path()), build, |status| {
        let trouble = trouble(status);
        match step.get() {
            0 if trouble.contains("schema 1 is waited for") => {
                assert!(trouble.contains("avro-away[0] is not read on at offset 0"), "{trouble}");
                // Others go on beside it.
                produce_bytes(&brokers, "avro-plain", [(0, b"line".to_vec())].into_iter());
            }
            1 if status.records == 1 => {
                registry.borrow().set(Mode::Failing(503));
                registry.borrow_mut().restart();
            }
            2 if trouble.contains("503") => {
                registry.borrow().set(Mode::Slow(Duration::from_millis(3_000)))
            }
            3 if trouble.contains("has not answered") || status.records == 21 => {
                registry.borrow().set(Mode::Well)
            }
            4 if status.records == 21 && trouble.is_empty() => {
                // What it has, it needs no registry for.
                registry.borrow_mut().stop();
                produce_bytes(
                    &brokers,
                    "avro-away",
                    (20..30).map(|at| (0, order([ids[0]; 2], 0, at * 2))),
                );
            }
            5 if status.records == 31 => {
                let both =
                    (30..50).map(|at| (0, order(ids, 0, if at == 30 { 61 } else { at * 2 })));
                produce_bytes(&brokers, "avro-away", both);
            }
            6 if trouble.contains("schema 2 is waited for") => {
                assert_eq!(status.records, 31, "what comes behind it waits too");
                registry.borrow_mut().restart();
            }
            7 => return status.records == 51,
            _ => return false,
        }
        step.set(step.get() + 1);
        false
    })
    .expect("it is waited for");
    let expected: Vec<String> =
        (0..50).map(|at| line(0, if at == 30 { 61 } else { at * 2 })).collect();
    assert_eq!(lines(&path), expected);
    let fetched = registry
        .borrow()
        .requests()
        .iter()
        .filter(|request| request.ends_with("/schemas/ids/1"))
        .count();
    assert!(fetched >= 2, "it had failed and was asked again");
}

#[test]
fn what_no_schema_fits_stops_or_goes_to_dead_letters() {
    let brokers = Broker::shared().address();
    let registry = Registry::start();
    let ids = [FIRST, SECOND].map(|schema| registry.add("avro-poison-value", "AVRO", schema, &[]));
    let number_id = registry.add("other-value", "AVRO", r#""long""#, &[]);
    let json = registry.add("json-value", "JSON", "{}", &[]);
    create_topic(&brokers, "avro-poison", 1, &[]);
    let bad = [
        framed(999, &[]),
        b"plain text".to_vec(),
        framed(number_id, &[number(3)]),
        framed(json, &[b"{}".to_vec()]),
        framed(ids[0], &[number(3)]),
    ];
    let good = |at| (0, order(ids, 0, at));
    let all = [good(0)].into_iter().chain(bad.map(|bad| (0, bad))).chain([
        good(1),
        (0, framed(999, &[])),
        good(2),
    ]);
    produce_bytes(&brokers, "avro-poison", all);
    let (kafka, of_registry) = (Kafka::new(&brokers), SchemaRegistry::new(registry.url()));
    let place = folder();
    let (source, registry_here) = (kafka.source(["avro-poison"]), of_registry.clone());
    let build = move |topology: &Topology<'_>| {
        let orders = source.clone().avro::<Order>(&registry_here);
        topology.source("in", orders).persistent_aggregate("n", Count);
    };
    let error =
        run_until(settings("avro-stops", place.path()), build, |_| false).expect_err("it stops");
    assert_eq!(error.kind(), Kind::UserCode, "{error}");
    for part in ["avro-poison[0]", "offset 1", "no schema 999", &registry.url(), "dead_letters"] {
        assert!(error.to_string().contains(part), "{part} is not in {error}");
    }
    let place = folder();
    let (out, letters) = (place.path().join("out"), place.path().join("letters"));
    let files =
        [out.clone(), letters.clone()].map(|path| path.to_str().expect("UTF-8").to_string());
    let build = move |topology: &Topology<'_>| {
        let orders = kafka
            .source(["avro-poison"])
            .avro::<Order>(&of_registry)
            .dead_letters(Files::to(&files[1]));
        topology.source("in", orders).sink("out", Files::to(&files[0]));
    };
    run_until(settings("avro-letters", place.path()), build, |status| status.records == 9)
        .expect("it goes on");
    assert_eq!(lines(&out), [line(0, 0), line(0, 1), line(0, 2)]);
    let letters: Vec<serde_json::Value> = lines(&letters)
        .iter()
        .map(|line| serde_json::from_str(line).expect("a letter is JSON"))
        .collect();
    let reasons = [
        "no schema 999",
        "byte 112",
        "does not fit",
        "another language",
        "does not fit",
        "no schema 999",
    ];
    let offsets = [1, 2, 3, 4, 5, 7];
    assert_eq!(letters.len(), reasons.len(), "{letters:?}");
    for ((letter, reason), offset) in letters.iter().zip(reasons).zip(offsets) {
        assert!(
            letter["error"].as_str().is_some_and(|why| why.contains(reason)),
            "{reason} is not in {letter}"
        );
        assert_eq!(letter["offset"].as_u64(), Some(offset));
    }
}

/// One of several registries may be behind the one that a producer has used.
#[test]
fn a_schema_that_comes_a_few_seconds_late_is_waited_for() {
    let brokers = Broker::shared().address();
    let registry = Registry::start();
    create_topic(&brokers, "avro-late", 1, &[]);
    produce_bytes(&brokers, "avro-late", (0..10).map(|at| (0, order([1; 2], 0, at * 2))));
    let (place, kafka, of_registry) =
        (folder(), Kafka::new(&brokers), SchemaRegistry::new(registry.url()));
    let path = place.path().join("out");
    let out = path.clone();
    let build = move |topology: &Topology<'_>| {
        let orders = kafka.source(["avro-late"]).avro::<Order>(&of_registry);
        topology.source("in", orders).sink("out", Files::to(out.to_str().expect("UTF-8")));
    };
    let (began, is_named) = (Instant::now(), Cell::new(false));
    run_until(settings("avro-late", place.path()), build, |status| {
        is_named.set(is_named.get() || trouble(status).contains("has no schema 1"));
        if began.elapsed() >= Duration::from_secs(3) && is_named.get() && status.records == 0 {
            registry.add("avro-late-value", "AVRO", FIRST, &[]);
        }
        status.records == 10
    })
    .expect("it is waited for");
    assert_eq!(lines(&path), (0..10).map(|at| line(0, at * 2)).collect::<Vec<_>>());
}

#[test]
fn a_server_that_is_no_registry_ends_the_run() {
    let brokers = Broker::shared().address();
    let registry = Registry::start();
    registry.set(Mode::Failing(404));
    create_topic(&brokers, "avro-nowhere", 1, &[]);
    produce_bytes(&brokers, "avro-nowhere", [(0, order([1; 2], 0, 0))].into_iter());
    let check = |case: &str, outcome: Result<Status>, took: Duration| {
        let error = outcome.expect_err(case);
        assert_eq!(error.kind(), Kind::Config, "{case}: {error}");
        for part in ["not as a schema registry does", "correct its URL", &registry.url()] {
            assert!(error.to_string().contains(part), "{case}: {part} is not in {error}");
        }
        assert!(took >= Duration::from_secs(8), "{case}: a proxy may give it for a moment");
    };
    let (kafka, of_registry) = (Kafka::new(&brokers), SchemaRegistry::new(registry.url()));
    let read = move |topology: &Topology<'_>| {
        topology
            .source("in", kafka.source(["avro-nowhere"]).avro::<Order>(&of_registry))
            .persistent_aggregate("n", Count);
    };
    let (place, began) = (folder(), Instant::now());
    check(
        "a source",
        run_until(settings("avro-nowhere", place.path()), read, |_| false),
        began.elapsed(),
    );
    let (kafka, of_registry) = (Kafka::new(&brokers), SchemaRegistry::new(registry.url()));
    let write = move |topology: &Topology<'_>| {
        let numbers = topology.source("in", kafka.source(["avro-nowhere"]).json::<i64>());
        numbers.sink(
            "out",
            kafka.sink("avro-nowhere", |_: &i64| Message::new()).avro(&of_registry, r#""long""#),
        );
    };
    let (place, began) = (folder(), Instant::now());
    check(
        "a sink",
        run_until(settings("avro-nowhere-out", place.path()), write, |_| false),
        began.elapsed(),
    );
}

/// As a generator makes it of a `.proto` file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Paid {
    id: String,
    cents: i64,
}

impl prost::Message for Paid {
    fn encode_raw(&self, into: &mut impl BufMut) {
        string::encode(1, &self.id, into);
        int64::encode(2, &self.cents, into);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        from: &mut impl Buf,
        context: DecodeContext,
    ) -> std::result::Result<(), prost::DecodeError> {
        match tag {
            1 => string::merge(wire_type, &mut self.id, from, context),
            2 => int64::merge(wire_type, &mut self.cents, from, context),
            _ => skip_field(wire_type, tag, from, context),
        }
    }

    fn encoded_len(&self) -> usize {
        string::encoded_len(1, &self.id) + int64::encoded_len(2, &self.cents)
    }

    fn clear(&mut self) {
        *self = Paid::default();
    }
}

const PAID: &str = r#"syntax = "proto3"; package shop; message Customer {} message Paid { string id = 1; int64 cents = 2; }"#;
const PAID_MORE: &str = r#"syntax = "proto3"; package shop;
    message Paid { string id = 1; int64 cents = 2; string clerk = 3; message Line {} }"#;

#[test]
fn messages_of_protobuf_are_read_across_schemas_and_those_of_another_type_are_set_aside() {
    let brokers = Broker::shared().address();
    let registry = RefCell::new(Registry::stopped());
    let ids = [PAID, PAID_MORE]
        .map(|schema| registry.borrow().add("proto-value", "PROTOBUF", schema, &[]));
    let avro = registry.borrow().add("proto-other", "AVRO", r#""string""#, &[]);
    create_topic(&brokers, "proto", 1, &[]);
    // Field 1, a text; field 2, a number; field 3, a text.
    let body = |clerk: bool| {
        [&b"\x0a\x01x\x10\x2a"[..], if clerk { b"\x1a\x03kim" } else { b"" }].concat()
    };
    let messages = [
        framed(ids[0], &[vec![2, 2], body(false)]),
        framed(ids[1], &[vec![0], body(true)]),
        // A customer, and a line of what is paid: of other types.
        framed(ids[0], &[vec![0], body(false)]),
        framed(ids[1], &[vec![4, 0, 0]]),
        framed(avro, &[vec![0]]),
        framed(ids[0], &[vec![2, 2], b"\x0a\x09x".to_vec()]),
        framed(ids[0], &[vec![2, 18]]),
        framed(ids[1], &[vec![0], body(false)]),
    ];
    produce_bytes(&brokers, "proto", messages.into_iter().map(|message| (0, message)));
    let place = folder();
    let (out, letters) = (place.path().join("out"), place.path().join("letters"));
    let files =
        [out.clone(), letters.clone()].map(|path| path.to_str().expect("UTF-8").to_string());
    let (kafka, of_registry) = (Kafka::new(&brokers), SchemaRegistry::new(registry.borrow().url()));
    let build = move |topology: &Topology<'_>| {
        let paid = kafka
            .source(["proto"])
            .protobuf::<Paid>(&of_registry, "shop.Paid")
            .dead_letters(Files::to(&files[1]));
        topology.source("in", paid).sink("out", Files::to(&files[0]));
    };
    let was_waited_for = Cell::new(false);
    run_until(settings("proto", place.path()), build, |status| {
        if !was_waited_for.get() && trouble(status).contains("schema 1 is waited for") {
            was_waited_for.set(true);
            registry.borrow_mut().restart();
        }
        status.records == 8
    })
    .expect("it is read");
    assert!(was_waited_for.get());
    assert_eq!(lines(&out), [r#"{"id":"x","cents":42}"#; 3]);
    let letters = lines(&letters);
    let reasons = [
        "message shop.Customer",
        "message shop.Paid.Line",
        "is AVRO",
        "no message shop.Paid",
        "no message at [9]",
    ];
    assert_eq!(letters.len(), reasons.len(), "{letters:?}");
    for (letter, reason) in letters.iter().zip(reasons) {
        assert!(letter.contains(reason), "{reason} is not in {letter}");
    }
}

/// What a sink writes is what a source reads, and what the schema's other readers do.
#[test]
fn a_sink_registers_its_schema_before_its_first_batch_and_writes_by_it() {
    let brokers = Broker::shared().address();
    let registry = Registry::start();
    // Ids of their own.
    registry.add("somebody-value", "AVRO", r#""string""#, &[]);
    create_topic(&brokers, "numbers", 1, &[]);
    create_topic(&brokers, "orders-out", 1, &[]);
    create_topic(&brokers, "paid-out", 1, &[]);
    produce_bytes(&brokers, "numbers", (0..10).map(|at| (0, at.to_string().into_bytes())));
    let kafka = Kafka::new(&brokers);
    let write = |registry: SchemaRegistry| {
        let kafka = kafka.clone();
        move |topology: &Topology<'_>| {
            let numbers = topology.source("in", kafka.source(["numbers"]).json::<i64>());
            let orders = numbers.clone().map(|at| Order {
                id: format!("0-{at}"),
                cents: at,
                clerk: "kim".into(),
            });
            let paid = numbers.map(|at| Paid { id: at.to_string(), cents: at });
            let keyed = |order: &Order| Message::new().key(&*order.id);
            orders.sink("orders", kafka.sink("orders-out", keyed).avro(&registry, SECOND));
            paid.sink(
                "paid",
                kafka.sink("paid-out", |_: &Paid| Message::new()).protobuf(
                    &registry,
                    PAID,
                    "shop.Paid",
                ),
            );
        }
    };
    // The registry has neither schema, and may not be given one.
    let place = folder();
    let only_looks = write(SchemaRegistry::new(registry.url()).look_up_only());
    let error = run_until(settings("avro-sink", place.path()), only_looks, |_| false)
        .expect_err("it is refused");
    assert_eq!(error.kind(), Kind::Config, "{error}");
    assert!(error.to_string().contains("subject orders-out-value has no version"), "{error}");
    // In trouble at the start: it is waited for.
    registry.set(Mode::Failing(503));
    let asked_before = registry.requests().len();
    let failed = std::thread::scope(|scope| {
        let (build, settings) =
            (write(SchemaRegistry::new(registry.url())), settings("avro-sink", place.path()));
        let run = scope.spawn(move || run_until(settings, build, |status| status.records == 10));
        while registry.requests().len() == asked_before && !run.is_finished() {
            std::thread::sleep(Duration::from_millis(5));
        }
        registry.set(Mode::Well);
        run.join().expect("it does not panic")
    });
    failed.expect("it is waited for");
    let posts =
        || registry.requests().iter().filter(|request| request.ends_with("/versions")).count();
    let posts_of_start = posts();
    assert!(posts_of_start >= 3, "one had failed: {:?}", registry.requests());
    // They are there, so that looking suffices, also after a restart.
    produce_bytes(&brokers, "numbers", (10..20).map(|at| (0, at.to_string().into_bytes())));
    let only_looks = write(SchemaRegistry::new(registry.url()).look_up_only());
    run_until(settings("avro-sink", place.path()), only_looks, |status| status.records == 10)
        .expect("they are there");
    assert_eq!(posts(), posts_of_start, "nothing is sent");
    read_back_is_what_was_written(&kafka, &registry);
}

/// Reads the topics of [`a_sink_registers_its_schema_before_its_first_batch_and_writes_by_it`].
fn read_back_is_what_was_written(kafka: &Kafka, registry: &Registry) {
    let place = folder();
    let outs = ["orders", "paid", "bytes"].map(|name| place.path().join(name));
    let files = outs.clone().map(|path| path.to_str().expect("UTF-8").to_string());
    let (from, of_registry) = (kafka.clone(), SchemaRegistry::new(registry.url()));
    let read = move |topology: &Topology<'_>| {
        let orders = from.source(["orders-out"]).avro_as::<Order>(&of_registry, SECOND);
        topology.source("orders", orders).sink("out", Files::to(&files[0]));
        let paid = from.source(["paid-out"]).protobuf::<Paid>(&of_registry, ".shop.Paid");
        topology.source("paid", paid).sink("paid", Files::to(&files[1]));
        topology
            .source("bytes", from.source(["orders-out"]).bytes())
            .sink("bytes", Files::to(&files[2]));
    };
    run_until(settings("avro-back", place.path()), read, |status| status.records == 60)
        .expect("it is read");
    let orders: Vec<String> = (0..20).map(|at| line(0, at).replace("nobody", "kim")).collect();
    assert_eq!(lines(&outs[0]), orders);
    let paid: Vec<String> = (0..20).map(|at| format!(r#"{{"id":"{at}","cents":{at}}}"#)).collect();
    assert_eq!(lines(&outs[1]), paid);
    let first = framed(2, &[text("0-0"), number(0), text("kim")]);
    assert_eq!(lines(&outs[2])[0], serde_json::to_string(&first).expect("it is plain data"));
}

#[test]
fn a_schema_that_the_registry_does_not_take_and_a_record_that_does_not_fit_are_named() {
    let brokers = Broker::shared().address();
    let registry = Registry::start();
    registry.close("closed-out-value");
    for topic in ["misfits", "closed-out", "misfits-out"] {
        create_topic(&brokers, topic, 1, &[]);
    }
    produce_bytes(&brokers, "misfits", [(0, b"5000000000".to_vec())].into_iter());
    let kafka = Kafka::new(&brokers);
    let write = |topic: &'static str, schema: &'static str| {
        let (kafka, registry) = (kafka.clone(), SchemaRegistry::new(registry.url()));
        move |topology: &Topology<'_>| {
            let numbers = topology.source("in", kafka.source(["misfits"]).json::<i64>());
            let orders = numbers.map(|cents| Order { id: "x".into(), cents, clerk: "kim".into() });
            orders
                .sink("out", kafka.sink(topic, |_: &Order| Message::new()).avro(&registry, schema));
        }
    };
    let place = folder();
    let error = run_until(settings("closed", place.path()), write("closed-out", SECOND), |_| false)
        .expect_err("it is refused");
    assert_eq!(error.kind(), Kind::Config, "{error}");
    for part in ["closed-out-value", "409", "incompatible"] {
        assert!(error.to_string().contains(part), "{part} is not in {error}");
    }
    // Its number does not fit an int.
    let place = folder();
    let error =
        run_until(settings("misfits", place.path()), write("misfits-out", FIRST), |_| false)
            .expect_err("it fails");
    assert_eq!(error.kind(), Kind::UserCode, "{error}");
    assert!(error.to_string().contains("does not fit the sink's schema"), "{error}");
}

#[test]
fn a_user_is_sent_along_and_one_that_is_refused_ends_the_run() {
    let brokers = Broker::shared().address();
    let (registry, dead) = (Registry::start(), Registry::stopped());
    let id = registry.add("avro-user-value", "AVRO", SECOND, &[]);
    create_topic(&brokers, "avro-user", 1, &[]);
    produce_bytes(
        &brokers,
        "avro-user",
        [(0, framed(id, &[text("0-1"), number(1), text("kim")]))].into_iter(),
    );
    let run = |registry: SchemaRegistry, wanted: fn(&Status) -> bool| {
        let (place, kafka) = (folder(), Kafka::new(&brokers));
        let name = format!(
            "avro-user-{}",
            place
                .path()
                .file_name()
                .and_then(|name| name.to_str())
                .expect("UTF-8")
                .replace('.', "x")
        );
        let build = move |topology: &Topology<'_>| {
            topology
                .source("in", kafka.source(["avro-user"]).avro::<Order>(&registry))
                .persistent_aggregate("n", Count);
        };
        run_until(settings(&name, place.path()), build, wanted)
    };
    let is_read = |status: &Status| status.records == 1;
    registry.want("Basic dGlkZTpyaWdodA==");
    // The first of them does not answer.
    let urls = format!("{}, {}/", dead.url(), registry.url());
    let with = |password: &str| SchemaRegistry::new(&urls).basic_auth("tide", password);
    let error = run(with("wrong"), |_| false).expect_err("it is refused");
    assert_eq!(error.kind(), Kind::Config, "{error}");
    assert!(
        error.to_string().contains("refuses this user") && !error.to_string().contains("wrong"),
        "{error}"
    );
    run(with("right"), is_read).expect("the other answers");
    registry.want("Bearer secret");
    run(SchemaRegistry::new(&urls).bearer_token("secret"), is_read).expect("it is taken");
    assert!(!format!("{:?}", with("hidden")).contains("hidden"));
    // Settings that are none.
    for (url, part) in [("ftp://x", "no URL"), ("", "no URL"), ("http://user:word@x", "basic_auth")]
    {
        let error = run(SchemaRegistry::new(url), |_| false).expect_err("it is refused");
        assert!(error.kind() == Kind::Config && error.to_string().contains(part), "{error}");
        assert!(!error.to_string().contains("word"), "{error}");
    }
}
