//! Sinks and their markers: new, known, gone, wrong.

use super::place::{Goes, Output, Place, Refused, brokers, check_all};
use tidemill_harness::binary::folder;
use tidemill_harness::topics::{Open, delete_topic, watermarks};

#[test]
#[expect(clippy::too_many_lines, reason = "one table, a row for each case")]
fn sinks_that_are_new_to_a_state() {
    check_all(&[
        ("nothing anywhere", |place| place.send(30), &[], Goes(&["a new topology"], Output::Exact)),
        (
            "a state that is lost",
            |place| {
                place.count(30, true);
                place.folder = folder();
            },
            &[],
            Refused(
                66,
                &[
                    "there is no state in this folder",
                    "\"out\" holds output up to batch",
                    "\"a-state-that-is-lost\"",
                    "--state",
                ],
            ),
        ),
        (
            "a state that is begun anew",
            |place| {
                place.count(30, true);
                place.folder = folder();
            },
            &["--start-over"],
            Goes(&["a new topology"], Output::Twice),
        ),
        (
            "a sink that is added",
            |place| {
                place.count(30, false);
                place.send(20);
            },
            &[],
            Goes(&["go on after batch", "sink \"out\" is new, from batch"], Output::Exact),
        ),
        (
            "a crash before a new sink is recorded",
            |place| {
                place.count(30, false);
                place.crash_at(20, "sinks-claimed");
                assert_eq!(place.markers().len(), 1, "its marker is there");
            },
            &[],
            Goes(&["sink \"out\" is new, from batch"], Output::Exact),
        ),
        (
            "a new sink with a marker of an older batch",
            |place| {
                place.count(30, false);
                place.crash_at(20, "sinks-claimed");
                place.count(20, false);
            },
            &[],
            Refused(
                66,
                &[
                    "sink \"out\" is new to this state",
                    "somebody else's output is there",
                    "another output",
                ],
            ),
        ),
        (
            "a new sink with a marker of another history",
            |place| {
                place.count(30, false);
                let copy = place.copy();
                place.count(20, true);
                place.folder = copy;
            },
            &[],
            Refused(
                66,
                &[
                    "sink \"out\" is new to this state",
                    "somebody else's output is there",
                    "another output",
                ],
            ),
        ),
    ]);
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table, a row for each case")]
fn sinks_that_a_state_knows() {
    check_all(&[
        (
            "nothing to send",
            |place| place.count(30, true),
            &[],
            Goes(&["sink \"out\" holds batch"], Output::Exact),
        ),
        (
            "output to send again",
            |place| {
                place.count(30, true);
                place.crash_at(30, "before-publish");
            },
            &[],
            Goes(&["sink \"out\" holds batch"], Output::Exact),
        ),
        (
            "output that was sent and not confirmed",
            |place| {
                place.count(30, true);
                place.crash_at(30, "published");
            },
            &[],
            Goes(&["sink \"out\" holds batch"], Output::Exact),
        ),
        (
            "a marker that was rolled back",
            |place| {
                place.count(30, true);
                let marker = place.markers().pop().expect("a marker");
                place.count(30, true);
                place.set_marker(&marker);
            },
            &[],
            Refused(
                68,
                &[
                    "sink \"out\" was rolled back",
                    "it had confirmed batch",
                    "Restore its output and marker",
                ],
            ),
        ),
        (
            "a marker before what was trimmed",
            |place| {
                place.count(30, true);
                place.crash_at(30, "before-publish");
                let marker = place.markers().swap_remove(0);
                place.set_marker(&marker);
            },
            &[],
            Refused(
                68,
                &[
                    "sink \"out\" was rolled back: it holds batch 0",
                    "the next entry of its outbox is batch",
                    "was confirmed",
                ],
            ),
        ),
        (
            "an older copy of the state",
            |place| {
                place.count(30, true);
                let copy = place.copy();
                place.count(30, true);
                place.folder = copy;
            },
            &[],
            Refused(
                66,
                &[
                    "the state is older than its sink",
                    "it ends with batch",
                    "sink \"out\" holds batch",
                    "newest folder",
                ],
            ),
        ),
        (
            "a copy whose original has started again",
            |place| {
                place.count(30, true);
                let copy = place.copy();
                place.count(0, true);
                place.folder = copy;
            },
            &[],
            Refused(66, &["another instance owns sink \"out\"", "not in this folder's history"]),
        ),
        (
            "a folder that was moved",
            |place| {
                place.count(30, true);
                place.folder = place.copy();
                place.send(10);
            },
            &[],
            Goes(&["sink \"out\" holds batch"], Output::Exact),
        ),
    ]);
}

#[test]
fn markers_that_are_gone_or_wrong() {
    fn unconfirmed_and_gone(place: &mut Place) {
        place.count(30, true);
        place.crash_at(30, "before-publish");
        delete_topic(&brokers(), &place.progress());
    }
    check_all(&[
        (
            "a marker that is gone with nothing unconfirmed",
            |place| {
                place.count(30, true);
                delete_topic(&brokers(), &place.progress());
                place.send(10);
            },
            &[],
            Goes(&["sink \"out\" has lost its marker; nothing was unconfirmed"], Output::Exact),
        ),
        (
            "a marker that is gone with output unconfirmed",
            unconfirmed_and_gone,
            &[],
            Refused(
                68,
                &[
                    "sink \"out\" has no marker",
                    "whether it holds them is unknown",
                    "--sink-assume delivered or --sink-assume lost",
                ],
            ),
        ),
        (
            "told that it is lost",
            unconfirmed_and_gone,
            &["--sink-assume", "lost"],
            Goes(&["told to assume that it holds nothing after batch"], Output::Exact),
        ),
        (
            "told that it is delivered",
            unconfirmed_and_gone,
            &["--sink-assume", "delivered"],
            Goes(&["told to assume that it holds batch"], Output::Partial),
        ),
        (
            "a marker that is damaged",
            |place| {
                place.count(30, true);
                let marker =
                    place.markers().pop().and_then(|marker| marker.value).expect("a marker");
                place.set_progress("out", &marker.replace("\"run\":1", "\"run\":2"));
            },
            &[],
            Refused(68, &["the marker is damaged", "Restore the topic"]),
        ),
        (
            "a progress topic that others write to",
            |place| {
                place.count(30, true);
                place.set_progress("other", "{}");
            },
            &[],
            Refused(64, &["has records that are not this sink's markers", "another name"]),
        ),
    ]);
}

/// What was committed last may not be visible yet. Taken for what the sink holds, it would look as
/// if the sink had been rolled back.
#[test]
fn a_marker_that_is_not_visible_yet_is_waited_for() {
    let mut place = Place::new("invisible");
    place.count(30, true);
    let kafka = place.kafka(true);
    let kafka: Vec<&str> = kafka.iter().map(String::as_str).collect();
    let mut running = place.start(&kafka, &[]);
    running.url();
    let open = Open::begin(
        &brokers(),
        "invisible-other",
        &place.progress(),
        (0, Some("out"), Some("aborted")),
    );
    place.send(30);
    running.get_until("/v1/status", |status| {
        status["records"] == 30
            && status["sinks"][0]["published"] == status["committed"]
            && status["sinks"][0]["backlog_bytes"] == 0
    });
    running.signal("TERM");
    running.wait().is("stopped", 0, &[]);
    let end = watermarks(&brokers(), &place.progress(), 0).1;
    let mut running = place.start(&kafka, &[]);
    // Long enough for a start that does not wait.
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert!(
        !running.has_ended() && !running.err().contains("listening"),
        "it waits: {}",
        running.err()
    );
    assert_eq!(watermarks(&brokers(), &place.progress(), 0).1, end, "nothing is claimed");
    open.abort();
    let said = running.says("listening on");
    assert!(said.contains("sink \"out\" holds batch"), "{said}");
    running.signal("TERM");
    running.wait().is("stopped", 0, &[]);
    assert_eq!(place.published("invisible").1, place.counted());
}
