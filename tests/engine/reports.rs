//! What is told of each batch: each worker's share, how long sinks and folds took, and why it was
//! made anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};
use tidemill::prelude::*;
use tidemill::testing::{Io, Kit};
use tidemill::{BatchReport, Txid};

/// Counts words, and gives them on; the word "rock" fails so many more times.
fn counting(faults: &Arc<AtomicU32>) -> impl Fn(&Topology<'_>, &Io) + Send + Sync + 'static {
    let faults = Arc::clone(faults);
    move |topology, io| {
        let faults = Arc::clone(&faults);
        let fails =
            move || faults.fetch_update(SeqCst, SeqCst, |times| times.checked_sub(1)).is_ok();
        let words = topology.source("words", io.source::<String>("words"));
        let words =
            words.inspect(move |word| assert!(word != "rock" || !fails(), "a rock in the wheel"));
        words.clone().sink("all", io.sink("all"));
        words.clone().filter(|word| word.starts_with('t')).sink("some", io.sink("some"));
        words.group_by(|word| word.clone()).persistent_aggregate("counts", Count);
    }
}

fn step(kit: &mut Kit, words: &[&str]) -> Txid {
    kit.feed("words", words.iter().map(ToString::to_string));
    kit.step()
}

fn report(kit: &Kit, txid: Txid) -> BatchReport {
    let batches = kit.engine().runtime().batches(100);
    batches.into_iter().find(|batch| batch.txid == txid).expect("it is kept")
}

fn sinks_of(batch: &BatchReport) -> Vec<&str> {
    let mut sinks: Vec<&str> = batch.publish.iter().map(|publication| &*publication.sink).collect();
    sinks.sort_unstable();
    sinks
}

#[test]
fn a_batch_says_what_each_worker_and_sink_had_to_do_with_it() {
    let mut kit = Kit::with(|settings| settings.workers = 3, counting(&Arc::default()));
    let first = step(&mut kit, &["tide", "mill", "tide", "pond"]);
    let second = step(&mut kit, &["mill"]);
    let [first, second] = [report(&kit, first), report(&kit, second)];
    assert_eq!((first.records, first.changes, first.output_records), (4, 3, 6), "{first:?}");
    assert!(first.bytes >= 4, "{first:?}");
    for batch in [&first, &second] {
        assert_eq!(
            batch.workers.iter().map(|share| share.worker.0).collect::<Vec<_>>(),
            [0, 1, 2],
            "{batch:?}"
        );
        let sums = batch.workers.iter().fold((0, 0, 0), |(records, changes, bytes), share| {
            (records + share.records, changes + share.changes, bytes + share.delta_bytes)
        });
        assert_eq!(
            sums,
            (batch.records, batch.changes, batch.delta_bytes),
            "the shares add up: {batch:?}"
        );
        let slowest = batch.workers.iter().map(|share| share.compute_us).max();
        assert!(
            slowest <= Some(batch.compute_us),
            "it is complete when the last worker has completed it: {batch:?}"
        );
        assert!(batch.retries.is_empty(), "{batch:?}");
    }
    assert_eq!(sinks_of(&first), ["all", "some"], "each sink confirms once: {first:?}");
    assert_eq!(sinks_of(&second), ["all"], "the other has nothing of it: {second:?}");
}

#[test]
fn a_batch_says_why_it_was_made_anew() {
    let faults = Arc::new(AtomicU32::new(0));
    let mut kit =
        Kit::with(|settings| (settings.workers, settings.retries) = (2, 2), counting(&faults));
    let before = step(&mut kit, &["tide"]);
    faults.store(2, SeqCst);
    let failed = step(&mut kit, &["rock"]);
    let after = step(&mut kit, &["mill"]);
    let retries = report(&kit, failed).retries;
    let told: Vec<_> = retries
        .iter()
        .map(|retry| (retry.generation, retry.error.contains("a rock in the wheel")))
        .collect();
    assert_eq!(told, [(1, true), (2, true)], "{retries:?}");
    assert!(retries.iter().all(|retry| retry.at_ms > 1_700_000_000_000), "{retries:?}");
    for other in [before, after] {
        assert!(report(&kit, other).retries.is_empty(), "batch {other} was made once");
    }
    assert_eq!(sinks_of(&report(&kit, failed)), ["all"], "and published once");
}

#[test]
fn a_fold_is_told_of_the_batch_that_it_ends_with() {
    let mut kit = Kit::with(|settings| settings.fold_bytes = 1, counting(&Arc::default()));
    let began = Instant::now();
    loop {
        step(&mut kit, &["tide", "mill"]);
        let batches = kit.engine().runtime().batches(100);
        if let Some(folded) = batches.iter().find(|batch| batch.fold_us.is_some()) {
            assert!(folded.fold_us > Some(0), "{folded:?}");
            let status = kit.engine().runtime().status();
            assert!(status.committed >= folded.txid, "{status:?}");
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "nothing is folded: {batches:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
