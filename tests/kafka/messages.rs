//! Messages in and out, in one process: decoders and what they refuse, keys, headers and times,
//! what a topic does not take, security.

use std::path::Path;
use std::time::{Duration, Instant};
use tidemill::kafka::{Incoming, Message};
use tidemill::prelude::*;
use tidemill::{Engine, Kind, Settings, Status};
use tidemill_harness::broker::Broker;
use tidemill_harness::topics::{create_topic, produce, read_committed, set_topic};
use tidemill_harness::wire::produce_with_headers;

const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(tidemill_harness::checkout::scratch())
        .expect("the target folder can be written")
}

pub(super) fn settings(name: &str, folder: &Path) -> Settings {
    Settings { workers: 2, disk_reserve: 0, ..Settings::new(name, folder.join("state")) }
}

/// Runs a topology until it is as wanted, and stops it. Gives its last status, or what ended it.
pub(super) fn run_until<F>(
    settings: Settings,
    build: F,
    wanted: impl Fn(&Status) -> bool,
) -> Result<Status>
where
    F: Fn(&Topology<'_>) + Send + Sync + 'static,
{
    let engine = Engine::start(settings, build)?;
    let began = Instant::now();
    loop {
        let status = engine.runtime().status();
        if engine.is_over() {
            return Err(engine.wait().expect_err("it ended by itself"));
        }
        if wanted(&status) && status.sinks.iter().all(|sink| sink.backlog_bytes == 0) {
            engine.stop();
            return engine.wait().map(|()| status);
        }
        assert!(began.elapsed() < PATIENCE, "it stays {status:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_decoder_sees_the_whole_message_and_a_sink_sends_one() {
    let brokers = Broker::shared().address();
    create_topic(&brokers, "whole", 2, &[]);
    create_topic(&brokers, "whole-out", 3, &[]);
    produce(&brokers, "whole", &[(1, Some("k"), Some("v")), (1, None, None)]);
    let (place, kafka) = (folder(), Kafka::new(&brokers));
    // Not much older than now: the broker removes what is.
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("it is after 1970");
    let sent_ms = i64::try_from(since.as_millis()).expect("it is small") - 60_000;
    let build = move |topology: &Topology<'_>| {
        let whole = |message: &Incoming<'_>| {
            let text = |bytes: Option<&[u8]>| {
                bytes.map_or("-".to_string(), |bytes| String::from_utf8_lossy(bytes).into_owned())
            };
            let timed = message.timestamp().is_some_and(|ms| ms > 1_700_000_000_000);
            Ok(format!(
                "{} {} {} {} {} {timed} {}",
                message.topic(),
                message.partition(),
                message.offset(),
                text(message.key()),
                text(message.value()),
                message.headers().count()
            ))
        };
        topology.source("in", kafka.source(["whole"]).decode("whole", whole)).sink(
            "out",
            kafka.sink("whole-out", move |record: &String| {
                Message::new()
                    .key("same")
                    .value(record.as_str())
                    .header("h", "1")
                    .timestamp(sent_ms)
            }),
        );
    };
    run_until(settings("whole", place.path()), build, |status| status.records == 2)
        .expect("it runs");
    let out = read_committed(&brokers, "whole-out");
    let values: Vec<&str> = out.iter().filter_map(|message| message.value.as_deref()).collect();
    assert_eq!(values, ["whole 1 0 k v true 0", "whole 1 1 - - true 0"]);
    assert!(
        out.windows(2).all(|pair| pair[0].partition == pair[1].partition),
        "one key goes to one partition"
    );
    // And back in: what was sent with a header and a time of its own has them.
    let (place, kafka) = (folder(), Kafka::new(&brokers));
    let path = place.path().join("seen");
    let file = path.clone();
    let build = move |topology: &Topology<'_>| {
        let seen = |message: &Incoming<'_>| {
            let headers: Vec<String> = message
                .headers()
                .map(|(name, value)| format!("{name}={}", value.unwrap_or_default().escape_ascii()))
                .collect();
            Ok(format!("{} {:?}", headers.join(","), message.timestamp()))
        };
        topology
            .source("in", kafka.source(["whole-o*"]).decode("seen", seen))
            .sink("out", Files::to(file.to_str().expect("UTF-8")));
    };
    run_until(settings("whole-back", place.path()), build, |status| status.records == 2)
        .expect("it runs");
    let seen = std::fs::read_to_string(path).expect("it was published");
    assert_eq!(seen, format!("\"h=1 Some({sent_ms})\"\n").repeat(2));
}

#[test]
fn headers_without_a_value_stay_so_and_a_name_that_is_no_text_is_left_out() {
    let brokers = Broker::shared().address();
    create_topic(&brokers, "headers", 1, &[]);
    create_topic(&brokers, "headers-out", 1, &[]);
    produce_with_headers(&brokers, "headers", "v", &[b"a", b"\xff\xfe", b"b"]);
    let shown = |message: &Incoming<'_>| {
        let value = |value: Option<&[u8]>| {
            value.map_or("-".to_string(), |value| format!("{:?}", value.escape_ascii().to_string()))
        };
        Ok(message
            .headers()
            .map(|(name, header)| format!("{name}={}", value(header)))
            .collect::<Vec<_>>()
            .join(","))
    };
    let (place, kafka) = (folder(), Kafka::new(&brokers));
    let build = move |topology: &Topology<'_>| {
        let sink = kafka.sink("headers-out", |seen: &String| {
            Message::new()
                .value(seen.as_str())
                .null_header("none")
                .header("empty", "")
                .header("some", "1")
                .null_header("none")
        });
        topology.source("in", kafka.source(["headers"]).decode("shown", shown)).sink("out", sink);
    };
    run_until(settings("headers", place.path()), build, |status| status.records == 1)
        .expect("the message can be decoded");
    let out: Vec<_> =
        read_committed(&brokers, "headers-out").into_iter().map(|message| message.value).collect();
    assert_eq!(out, [Some("a=\"a\",b=\"b\"".to_string())]);
    let (place, kafka) = (folder(), Kafka::new(&brokers));
    let path = place.path().join("seen");
    let file = path.clone();
    let build = move |topology: &Topology<'_>| {
        let source = kafka.source(["headers-out"]).decode("shown", shown);
        topology.source("in", source).sink("out", Files::to(file.to_str().expect("UTF-8")));
    };
    run_until(settings("headers-back", place.path()), build, |status| status.records == 1)
        .expect("it runs");
    let seen: String =
        serde_json::from_str(&std::fs::read_to_string(path).expect("it was published"))
            .expect("it is JSON");
    assert_eq!(seen, "none=-,empty=\"\",some=\"1\",none=-");
}

/// A batch with one message has 61 bytes, and 9 that are neither key nor value if the value has 64
/// to 8,191.
#[test]
fn a_message_that_just_fits_is_sent_and_one_byte_more_is_refused_before_the_commit() {
    let brokers = Broker::shared().address();
    create_topic(&brokers, "fits", 1, &[]);
    create_topic(&brokers, "fits-out", 1, &[("max.message.bytes", "2000")]);
    let run = |name: &str, wanted: &dyn Fn(&Status) -> bool| {
        let (place, kafka) = (folder(), Kafka::new(&brokers));
        let build = move |topology: &Topology<'_>| {
            let sink = kafka.sink("fits-out", |size: &u64| {
                Message::new().value("x".repeat(usize::try_from(*size).expect("small")))
            });
            topology.source("in", kafka.source(["fits"]).json::<u64>()).sink("out", sink);
        };
        run_until(settings(name, place.path()), build, wanted)
    };
    let largest = 2000 - 61 - 9;
    produce(&brokers, "fits", &[(0, None, Some(largest.to_string().as_str()))]);
    run("fits", &|status| status.records == 1).expect("the broker takes it");
    produce(&brokers, "fits", &[(0, None, Some((largest + 1).to_string().as_str()))]);
    let error = run("fits-not", &|status| status.records == 2).expect_err("it is too large");
    assert!(
        error.kind() == Kind::UserCode && error.to_string().contains("has 2001 bytes"),
        "{error}"
    );
}

/// librdkafka would send the first as of now, and the second to any partition.
#[test]
fn a_time_or_partition_that_would_become_another_ends_the_run_before_the_commit() {
    let brokers = Broker::shared().address();
    create_topic(&brokers, "timed", 1, &[]);
    create_topic(&brokers, "timed-out", 1, &[]);
    produce(&brokers, "timed", &[(0, None, Some("0")), (0, None, Some("-1"))]);
    for (name, part, timed) in
        [("changed-time", "the time 0", true), ("changed-partition", "partition -1", false)]
    {
        let (place, kafka) = (folder(), Kafka::new(&brokers));
        let build = move |topology: &Topology<'_>| {
            let sink = kafka.sink("timed-out", move |number: &i64| {
                let message = Message::new().key("k").value("v");
                if timed {
                    message.timestamp(*number)
                } else {
                    message.partition(i32::try_from(*number).expect("small"))
                }
            });
            topology.source("in", kafka.source(["timed"]).json::<i64>()).sink("out", sink);
        };
        let error =
            run_until(settings(name, place.path()), build, |_| false).expect_err("it stops");
        assert_eq!(error.kind(), Kind::UserCode, "{error}");
        assert!(
            error.to_string().contains(part) && error.to_string().contains("key \"k\""),
            "{error}"
        );
    }
    assert_eq!(read_committed(&brokers, "timed-out"), []);
}

#[test]
fn what_cannot_be_decoded_stops_is_skipped_or_set_aside() {
    let brokers = Broker::shared().address();
    create_topic(&brokers, "poison", 1, &[]);
    produce(
        &brokers,
        "poison",
        &[
            (0, None, Some("1")),
            (0, Some("bad"), Some("one")),
            (0, None, Some("2")),
            (0, None, None),
        ],
    );
    let kafka = Kafka::new(&brokers);
    let sum = |place: &Path,
               make: fn(&Kafka, &Path) -> tidemill::kafka::KafkaSource<u64>,
               wanted: fn(&Status) -> bool| {
        let (kafka, folder) = (kafka.clone(), place.to_path_buf());
        let name =
            place.file_name().and_then(|name| name.to_str()).expect("UTF-8").replace('.', "x");
        run_until(
            settings(&format!("poison-{name}"), place),
            move |topology| {
                topology.source("in", make(&kafka, &folder)).persistent_aggregate("sum", Sum);
            },
            wanted,
        )
    };
    let place = folder();
    let error = sum(place.path(), |kafka, _| kafka.source(["poison"]).json(), |_| false)
        .expect_err("it stops");
    assert_eq!(error.kind(), Kind::UserCode);
    for part in ["poison[0]", "offset 1", "\"one\"", "skip_undecodable"] {
        assert!(error.to_string().contains(part), "{part} is not in {error}");
    }
    let place = folder();
    let skipped = |status: &Status| {
        status.records == 2
            && status.partitions.iter().map(|partition| partition.skipped).sum::<u64>() == 2
    };
    sum(place.path(), |kafka, _| kafka.source(["poison"]).json().skip_undecodable(), skipped)
        .expect("it goes on");
    let place = folder();
    let letters = |kafka: &Kafka, folder: &Path| {
        kafka
            .source(["poison"])
            .json()
            .dead_letters(Files::to(folder.join("letters").to_str().expect("UTF-8")))
    };
    sum(place.path(), letters, |status| status.records == 4).expect("it goes on");
    let letters =
        std::fs::read_to_string(place.path().join("letters")).expect("they were published");
    let letters: Vec<serde_json::Value> =
        letters.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    letters_name_their_messages(&letters);
}

/// The letters of the two messages of the topic "poison" that are no numbers.
fn letters_name_their_messages(letters: &[serde_json::Value]) {
    assert_eq!(letters.len(), 2, "{letters:?}");
    assert_eq!(
        (letters[0]["offset"].as_u64(), letters[0]["partition"].as_str()),
        (Some(1), Some("poison[0]"))
    );
    assert!(
        letters[0]["error"].as_str().is_some_and(|why| why.contains("not the JSON of a u64")),
        "{letters:?}"
    );
    assert!(letters[1]["bytes"].is_null(), "{letters:?}");
    assert!(
        letters[0]["timestamp"].as_i64().is_some_and(|ms| ms > 1_700_000_000_000),
        "{letters:?}"
    );
    assert_eq!(
        (&letters[0]["key"], &letters[0]["bytes"]),
        (&"bad".into(), &"one".into()),
        "{letters:?}"
    );
}

/// What is committed cannot be left out: of a message that its topic refuses, the dead letter has
/// all that their topic takes.
#[test]
fn a_large_message_goes_to_dead_letters_that_take_it_as_a_whole() {
    let brokers = Broker::shared().address();
    create_topic(&brokers, "entire-in", 1, &[]);
    // Its messages are of 1970: they would be past retention.
    create_topic(&brokers, "entire-out", 1, &[("retention.ms", "-1")]);
    create_topic(
        &brokers,
        "entire-letters",
        1,
        &[("max.message.bytes", "20000"), ("retention.ms", "-1")],
    );
    let kafka = Kafka::new(&brokers);
    let build = move |topology: &Topology<'_>| {
        let sink = kafka.sink("entire-out", |size: &u64| {
            let size = usize::try_from(*size).expect("small");
            Message::new()
                .key("k".repeat(size))
                .value("v".repeat(size))
                .header("h", "1")
                .timestamp(7)
        });
        topology
            .source("in", kafka.source(["entire-in"]).json::<u64>())
            .sink("out", sink.dead_letters("entire-letters"));
    };
    produce(&brokers, "entire-in", &[(0, None, Some("1"))]);
    let lowered = std::cell::Cell::new(false);
    let place = folder();
    run_until(settings("entire", place.path()), build, |status| {
        let published = status.sinks[0].published == status.committed;
        if published && status.records == 1 && !lowered.replace(true) {
            // The topic takes less from now on, which the sink sees when it is refused.
            set_topic(
                &brokers,
                "entire-out",
                &[("max.message.bytes", "2000"), ("retention.ms", "-1")],
            );
            let large = ["5000", "15000", "25000", "2"].map(|size| (0, None, Some(size)));
            produce(&brokers, "entire-in", &large);
        }
        published && status.records == 5
    })
    .expect("it is taken, or goes to the dead letters");
    let out: Vec<_> =
        read_committed(&brokers, "entire-out").into_iter().map(|message| message.value).collect();
    assert_eq!(out, [Some("v".to_string()), Some("vv".to_string())]);
    let letters = read_committed(&brokers, "entire-letters");
    let letter = |at: usize| -> (usize, serde_json::Value) {
        let value = letters[at].value.as_deref().expect("a letter has a value");
        (
            letters[at].key.as_ref().map_or(0, String::len),
            serde_json::from_str(value).expect("it is JSON"),
        )
    };
    assert_eq!(letters.len(), 3, "{letters:?}");
    let (key, whole) = letter(0);
    assert_eq!(
        (key, whole["value"].as_str().map(str::len), &whole["timestamp"]),
        (5000, Some(5000), &7.into())
    );
    assert_eq!(whole["headers"], serde_json::json!([["h", "1"]]));
    let (key, head) = letter(1);
    assert_eq!(
        (key, head["bytes"].as_u64(), head["value"].is_null()),
        (15_000, Some(15_000), true),
        "its size was the reason"
    );
    let (key, heads) = letter(2);
    assert_eq!((key, heads["key_bytes"].as_u64()), (0, Some(25_000)));
}

#[test]
fn what_a_topic_never_takes_is_found_before_the_commit_or_goes_to_its_dead_letters() {
    let brokers = Broker::shared().address();
    create_topic(&brokers, "large-in", 1, &[]);
    create_topic(&brokers, "large-out", 1, &[("max.message.bytes", "2000")]);
    produce(&brokers, "large-in", &[(0, None, Some("1")), (0, None, Some("5000"))]);
    let build = |kafka: Kafka, partition: Option<i32>, letters: bool| {
        move |topology: &Topology<'_>| {
            let sink = kafka.sink("large-out", move |size: &u64| {
                let message = Message::new()
                    .key(size.to_string())
                    .value("x".repeat(usize::try_from(*size).expect("small")));
                partition.into_iter().fold(message, Message::partition)
            });
            let sink = if letters { sink.dead_letters("large-letters") } else { sink };
            topology.source("in", kafka.source(["large-in"]).json::<u64>()).sink("out", sink);
        }
    };
    let place = folder();
    let error = run_until(
        settings("large", place.path()),
        build(Kafka::new(&brokers), None, false),
        |_| false,
    )
    .expect_err("it stops");
    assert_eq!(error.kind(), Kind::UserCode, "{error}");
    for part in ["key \"5000\"", "topic large-out takes 2000", "batch 1"] {
        assert!(error.to_string().contains(part), "{part} is not in {error}");
    }
    assert_eq!(read_committed(&brokers, "large-out"), [], "nothing of its batch is visible");
    // A partition that does not exist is seen only when it is sent.
    create_topic(&brokers, "small-in", 1, &[]);
    produce(&brokers, "small-in", &[(0, None, Some("1"))]);
    let small = move |kafka: Kafka, letters: bool| {
        move |topology: &Topology<'_>| {
            let sink = kafka.sink("large-out", |size: &u64| {
                Message::new().key(size.to_string()).value("v").partition(7)
            });
            let sink = if letters { sink.dead_letters("large-letters") } else { sink };
            topology.source("in", kafka.source(["small-in"]).json::<u64>()).sink("out", sink);
        }
    };
    let place = folder();
    let error =
        run_until(settings("small", place.path()), small(Kafka::new(&brokers), false), |_| false)
            .expect_err("it stops");
    assert_eq!(error.kind(), Kind::Sink, "{error}");
    assert!(
        error.to_string().contains("batch 1, message 0")
            && error.to_string().contains("dead_letters"),
        "{error}"
    );
    create_topic(&brokers, "large-letters", 1, &[]);
    run_until(settings("small", place.path()), small(Kafka::new(&brokers), true), |status| {
        status.sinks[0].published.0 == 1 && status.sinks[0].backlog_bytes == 0
    })
    .expect("it goes to the dead letters");
    let letters = read_committed(&brokers, "large-letters");
    assert_eq!(letters.len(), 1);
    assert!(letters[0].value.as_deref().is_some_and(
        |value| value.contains("\"batch\":1") && value.contains("\"topic\":\"large-out\"")
    ));
}

#[test]
fn only_what_a_topic_refuses_goes_to_its_dead_letters() {
    let brokers = Broker::shared().address();
    create_topic(&brokers, "keyless-in", 1, &[]);
    // A compacted topic takes no message without a key; the broker refuses all that come together
    // with one.
    for topic in ["keyless-out", "keyless-letters-too"] {
        create_topic(&brokers, topic, 1, &[("cleanup.policy", "compact")]);
    }
    create_topic(&brokers, "keyless-letters", 1, &[]);
    let numbers: Vec<String> = (0..60).map(|number| number.to_string()).collect();
    produce(
        &brokers,
        "keyless-in",
        &numbers.iter().map(|number| (0, None, Some(number.as_str()))).collect::<Vec<_>>(),
    );
    let build = |letters: &'static str| {
        let kafka = Kafka::new(&brokers);
        move |topology: &Topology<'_>| {
            let sink = kafka.sink("keyless-out", |number: &u64| {
                let message = Message::new().value(number.to_string());
                if number % 20 == 7 { message } else { message.key(number.to_string()) }
            });
            topology
                .source("in", kafka.source(["keyless-in"]).json::<u64>())
                .sink("out", sink.dead_letters(letters));
        }
    };
    let place = folder();
    run_until(settings("keyless", place.path()), build("keyless-letters"), |status| {
        status.records == 60 && status.sinks[0].published == status.committed
    })
    .expect("all but three are taken");
    let out = read_committed(&brokers, "keyless-out");
    let mut out: Vec<u64> =
        out.iter().filter_map(|message| message.value.as_deref()?.parse().ok()).collect();
    out.sort_unstable();
    assert_eq!(
        out,
        (0..60).filter(|number| number % 20 != 7).collect::<Vec<u64>>(),
        "no other goes with them"
    );
    assert_eq!(read_committed(&brokers, "keyless-letters").len(), 3);
    // Letters that are not taken either are no reason to try for ever.
    let place = folder();
    let error =
        run_until(settings("keyless-too", place.path()), build("keyless-letters-too"), |_| false)
            .expect_err("it stops");
    assert_eq!(error.kind(), Kind::Sink, "{error}");
    assert!(
        error.to_string().contains("keyless-letters-too does not take the dead letter"),
        "{error}"
    );
}

#[test]
fn a_wrong_password_and_a_setting_that_is_not_the_users_are_refused_in_seconds() {
    let broker = Broker::with().sasl("tide", "right").start();
    create_topic(&broker.address(), "secret", 1, &[]);
    produce(&broker.address(), "secret", &[(0, None, Some("a"))]);
    let secured = |password: &str| {
        Kafka::new(broker.sasl_address())
            .set("security.protocol", "SASL_PLAINTEXT")
            .set("sasl.mechanism", "PLAIN")
            .set("sasl.username", "tide")
            .set("sasl.password", password)
    };
    let build = |kafka: Kafka| {
        move |topology: &Topology<'_>| {
            topology
                .source("in", kafka.source(["secret"]).utf8())
                .persistent_aggregate("lines", Count);
        }
    };
    let (began, place) = (Instant::now(), folder());
    let error = run_until(settings("secret", place.path()), build(secured("wrong")), |_| false)
        .expect_err("it is refused");
    assert_eq!(error.kind(), Kind::Config, "{error}");
    assert!(
        error.to_string().contains("refuse this client") && !error.to_string().contains("wrong"),
        "{error}"
    );
    assert!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
    run_until(settings("secret", place.path()), build(secured("right")), |status| {
        status.records == 1
    })
    .expect("it is let in");
    let place = folder();
    let dirty = Kafka::new(broker.address()).set("isolation.level", "read_uncommitted");
    let unknown = Kafka::new(broker.address()).set("sasl.pasword", "hidden");
    let error = run_until(settings("dirty", place.path()), build(unknown), |_| false)
        .expect_err("it is refused")
        .to_string();
    assert!(error.contains("sasl.pasword") && !error.contains("hidden"), "{error}");
    let error = run_until(settings("dirty", place.path()), build(dirty), |_| false)
        .expect_err("it is refused");
    assert!(
        error.kind() == Kind::Config && error.to_string().contains("aborted transactions"),
        "{error}"
    );
}

/// The brokers' view of users may be stale for a moment. Only a user that they never took is
/// refused at once.
#[test]
fn a_user_that_was_let_in_is_waited_for_while_it_is_refused() {
    let broker = std::cell::RefCell::new(Broker::with().sasl("tide", "right").start());
    let (plain, secured) = (broker.borrow().address(), broker.borrow().sasl_address());
    create_topic(&plain, "refused", 1, &[]);
    produce(&plain, "refused", &[(0, None, Some("a"))]);
    let kafka = Kafka::new(secured)
        .set("security.protocol", "SASL_PLAINTEXT")
        .set("sasl.mechanism", "PLAIN")
        .set("sasl.username", "tide")
        .set("sasl.password", "right");
    let build = move |topology: &Topology<'_>| {
        topology
            .source("in", kafka.source(["refused"]).utf8())
            .persistent_aggregate("lines", Count);
    };
    let restart = |password: &str| {
        let mut broker = broker.borrow_mut();
        broker.stop();
        broker.set_password(password);
        broker.restart();
    };
    let (place, step) = (folder(), std::cell::Cell::new(0));
    run_until(settings("refused", place.path()), build, |status| {
        let trouble = status
            .partitions
            .first()
            .and_then(|partition| partition.trouble.as_deref())
            .unwrap_or_default();
        match step.get() {
            0 if status.records == 1 => restart("another"),
            1 if trouble.contains("uthentication") => {
                restart("right");
                produce(&plain, "refused", &[(0, None, Some("b"))]);
            }
            2 => return status.records == 2,
            _ => return false,
        }
        step.set(step.get() + 1);
        false
    })
    .expect("it is read on");
}
