//! Topics that have lost records or are others, and programs that have changed.

use super::place::{Goes, Output, Place, Refused, brokers, check_all};
use tidemill_harness::binary::folder;
use tidemill_harness::topics::{
    create_topic, delete_records, delete_topic, produce, read_committed,
};

#[test]
fn topics_and_programs_that_have_changed() {
    check_all(&[
        (
            "records that have expired",
            |place| {
                place.count(30, true);
                place.send(30);
                delete_records(&brokers(), &place.input(), 0, 40);
            },
            &[],
            Refused(
                67,
                &[
                    "records-that-have-expired-in[0]: need 30, the log starts at 40: 10 records \
                     lost",
                    "--on-loss",
                ],
            ),
        ),
        (
            "records that have expired, all left out",
            |place| {
                place.send(30);
                place.lost = 30;
                // Nothing of what is lost is counted, and only what comes later.
                let kafka = place.kafka(true);
                let arguments: Vec<&str> =
                    kafka.iter().map(String::as_str).chain(["--from", "latest"]).collect();
                place.run_to_end("read to its end", &arguments);
                place.send(30);
                place.lost = 60;
                delete_records(&brokers(), &place.input(), 0, 40);
            },
            &["--on-loss", "latest"],
            Goes(&["10 records lost; told to go on: at 60"], Output::Exact),
        ),
        (
            "a topic that is shorter now",
            |place| {
                place.count(30, true);
                delete_topic(&brokers(), &place.input());
                create_topic(&brokers(), &place.input(), 1, &[]);
                place.send(5);
            },
            &[],
            Refused(
                67,
                &[
                    "the topic was deleted and made again",
                    "now has the id",
                    "the offsets 0 to 5, and 30 were read",
                ],
            ),
        ),
        (
            "a topic that is shorter now, gone on with",
            |place| {
                place.count(30, true);
                delete_topic(&brokers(), &place.input());
                create_topic(&brokers(), &place.input(), 1, &[]);
                place.send(5);
            },
            &["--on-loss", "earliest"],
            Goes(&["the topic was deleted and made again", "told to go on: at 0"], Output::Exact),
        ),
    ]);
}

#[test]
fn what_is_refused_in_other_ways() {
    // A topic that has fewer partitions.
    let brokers = brokers();
    let mut place = Place { name: "fewer".into(), folder: folder(), sent: Vec::new(), lost: 0 };
    create_topic(&brokers, "fewer-in", 2, &[]);
    create_topic(&brokers, "fewer-out", 1, &[]);
    produce(&brokers, "fewer-in", &[(1, None, Some("a")), (1, None, Some("b"))]);
    let kafka = place.kafka(true);
    let kafka: Vec<&str> = kafka.iter().map(String::as_str).collect();
    let mut running = place.start(&kafka, &[]);
    running.get_until("/v1/status", |status| {
        status["records"] == 2 && status["sinks"][0]["published"] == status["committed"]
    });
    running.signal("TERM");
    running.wait().is("fewer", 0, &[]);
    delete_topic(&brokers, "fewer-in");
    create_topic(&brokers, "fewer-in", 1, &[]);
    place.end("run", &kafka).is(
        "fewer partitions",
        67,
        &["fewer-in[0]: the topic was deleted and made again"],
    );
    // A program that has changed.
    place = Place::new("changed");
    place.count(30, true);
    let without = place.kafka(false);
    let without: Vec<&str> = without.iter().map(String::as_str).collect();
    place.end("run", &without).is("without its sink", 64, &["sink \"out\" is gone"]);
    let elsewhere = place.folder.path().join("elsewhere");
    place.end("run", &["--out", elsewhere.to_str().expect("UTF-8")]).is(
        "another source",
        64,
        &["source \"sentences\" was kafka/utf-8", "is files/lines"],
    );
    // A progress topic that is not the sink's alone.
    place = Place::new("shared");
    create_topic(&brokers, "shared.out.progress", 2, &[("cleanup.policy", "compact")]);
    place.send(10);
    let kafka = place.kafka(true);
    let kafka: Vec<&str> = kafka.iter().map(String::as_str).collect();
    place.end("run", &kafka).is(
        "two partitions",
        64,
        &["topic shared.out.progress must be compacted and have one partition"],
    );
    delete_topic(&brokers, "shared.out.progress");
    create_topic(&brokers, "shared.out.progress", 1, &[("cleanup.policy", "delete")]);
    place.end("run", &kafka).is(
        "not compacted",
        64,
        &["must be compacted", "cleanup.policy=delete"],
    );
    assert_eq!(read_committed(&brokers, "shared-out"), [], "nothing is published");
}

/// A run that is behind, and finds its records gone.
#[test]
fn records_that_expire_while_it_runs_end_the_run_or_are_reported() {
    for (case, arguments) in [("expiring", &[][..]), ("expiring-on", &["--on-loss", "earliest"])] {
        let mut place = Place::new(case);
        place.send(30);
        let kafka = place.kafka(true);
        let arguments: Vec<&str> =
            kafka.iter().map(String::as_str).chain(arguments.iter().copied()).collect();
        let mut running = place.start(&arguments, &[]);
        let read = |offset: u64| {
            move |status: &serde_json::Value| status["partitions"][0]["offset"] == offset
        };
        running.get_until("/v1/status", read(30));
        running.signal("STOP");
        // A fetch that waits at the broker would be answered with them before they are gone: it is
        // over after half a second.
        std::thread::sleep(std::time::Duration::from_millis(1500));
        place.send(30);
        delete_records(&brokers(), &place.input(), 0, 50);
        running.signal("CONT");
        if arguments.contains(&"--on-loss") {
            running.get_until("/v1/status", read(60));
            assert!(
                running.err().contains("20 records lost; told to go on: at 50"),
                "{}",
                running.err()
            );
            running.signal("TERM");
            running.wait().is(case, 0, &[]);
        } else {
            running.wait().is(
                case,
                67,
                &["expiring-in[0]: need 30, the log starts at 50", "Start again to see"],
            );
            place.end("run", &arguments).is(
                case,
                67,
                &["need 30, the log starts at 50: 20 records lost"],
            );
        }
    }
}
