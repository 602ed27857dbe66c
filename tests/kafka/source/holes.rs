//! Holes in the offsets: what compaction and aborted transactions leave.

use super::copying::{
    Copying, PATIENCE, brokers, copy_of, ranges_are_whole, reaches, source, stop,
};
use std::time::{Duration, Instant};
use tidemill_harness::topics::{
    create_topic, produce, produce_in_transaction, read_committed, set_topic, watermarks,
};

/// What a reader of committed records sees from `from` on, as it is copied.
fn seen_from(topic: &str, from: usize) -> Vec<String> {
    let seen = read_committed(&brokers(), topic).into_iter();
    let seen = seen.map(|message| {
        (usize::try_from(message.offset).expect("it is not negative"), message.value)
    });
    seen.filter(|(offset, _)| *offset >= from)
        .map(|(offset, value)| copy_of(topic, 0, offset, value.as_deref().unwrap_or("-")))
        .collect()
}

/// Asserts that the copied records lie in the order of their offsets, each once.
fn no_offset_comes_twice(copied: &[String]) {
    let offset = |copy: &String| {
        copy.split(['@', ' '])
            .nth(1)
            .and_then(|offset| offset.parse::<usize>().ok())
            .expect("an offset")
    };
    assert!(
        copied.is_sorted_by_key(offset)
            && copied.windows(2).all(|pair| offset(&pair[0]) < offset(&pair[1])),
        "{copied:?}"
    );
}

/// Waits until nothing before this offset is left in the topic "compacted".
fn await_compaction(offset: usize) {
    let until = Instant::now() + PATIENCE;
    while seen_from("compacted", 0).len() != seen_from("compacted", offset).len() {
        assert!(Instant::now() < until, "it is not compacted: {:?}", seen_from("compacted", 0));
        // The segment that is written to is not compacted: a record ends it.
        produce(&brokers(), "compacted", &[(0, Some("roll"), Some("-"))]);
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn compacted_records_and_aborted_transactions_are_holes() {
    let brokers = brokers();
    create_topic(&brokers, "compacted", 1, &[("cleanup.policy", "compact")]);
    let keyed: Vec<(String, String)> =
        (0..40).map(|number| (format!("k{}", number % 10), number.to_string())).collect();
    let send = |from: usize, to: usize| {
        let messages: Vec<_> = keyed[from..to]
            .iter()
            .map(|(key, value)| (0, Some(key.as_str()), Some(value.as_str())))
            .collect();
        produce(&brokers, "compacted", &messages);
    };
    send(0, 20);
    let aborted = [(0, Some("k3"), Some("aborted"))];
    produce_in_transaction(&brokers, "compacted-1", "compacted", &aborted, false);
    produce_in_transaction(
        &brokers,
        "compacted-2",
        "compacted",
        &[(0, Some("k4"), Some("kept"))],
        true,
    );
    produce_in_transaction(&brokers, "compacted-3", "compacted", &aborted, false);
    let end = |brokers: &str| {
        u64::try_from(watermarks(brokers, "compacted", 0).1).expect("it is not negative")
    };
    let copying = Copying::new("compacted");
    let engine = copying.start(None, source(&["compacted"])).expect("it starts");
    let middle = end(&brokers);
    reaches(&engine, [("compacted[0]", middle)]);
    stop(engine);
    let before = seen_from("compacted", 0);
    copying.has_copied("before the compaction", before.clone());
    assert_eq!(before.len(), 21);
    // Every record that was read is written over, and compacted away: also the one before the
    // position.
    send(20, 40);
    let at_once = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.001"),
    ];
    set_topic(&brokers, "compacted", &at_once);
    let middle_at = usize::try_from(middle).expect("it is small");
    await_compaction(middle_at);
    let end = end(&brokers);
    let engine = copying.start(None, source(&["compacted"])).expect("it starts");
    reaches(&engine, [("compacted[0]", end)]);
    ranges_are_whole(&engine);
    stop(engine);
    // What is compacted away meanwhile may have been read: of what is there nothing is missing, and
    // nothing comes twice.
    let (copied, there) = (copying.copied(), seen_from("compacted", middle_at));
    assert_eq!(copied[..before.len()], before);
    let rest = &copied[before.len()..];
    assert!(there.iter().all(|record| rest.contains(record)), "{there:?} is not all in {rest:?}");
    no_offset_comes_twice(&copied);
    let anew = Copying::new("compacted-anew");
    let engine = anew.start(None, source(&["compacted"])).expect("it starts");
    reaches(&engine, [("compacted[0]", end)]);
    stop(engine);
    let copied = anew.copied();
    assert!(
        there.iter().all(|record| copied.contains(record))
            && copied.len() < before.len() + rest.len(),
        "{copied:?}"
    );
}
