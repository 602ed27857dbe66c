//! I5: generations that fail while earlier batches are still being committed, over and over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use tidemill::prelude::*;
use tidemill::{BatchLimits, Engine, Settings, Store};

const RECORDS: u64 = 20_000;

#[test]
fn i5_a_generation_that_fails_during_a_commit_is_followed_by_one_that_goes_on_exactly() {
    let folder = tempfile::tempdir_in(tidemill_harness::checkout::scratch())
        .expect("the target folder can be written");
    let batches = BatchLimits {
        max_records: 64,
        max_delay: Duration::from_millis(5),
        ..BatchLimits::default()
    };
    let state = folder.path().join("state");
    let settings = Settings {
        workers: 2,
        retries: 1000,
        batches,
        disk_reserve: 0,
        ..Settings::new("restarts", &state)
    };
    // Fails at every 997th record that it sees, whichever that is: most often while batches before
    // it are on their way to the disk.
    let seen = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&seen);
    let engine = Engine::start(settings, move |topology| {
        let seen = Arc::clone(&counted);
        topology
            .source("numbers", Generator::new(1, |_, number| number).partitions(4).records(RECORDS))
            .map(move |number| {
                assert!(seen.fetch_add(1, SeqCst) % 997 != 996, "on purpose");
                number
            })
            .group_by(|number| number % 100)
            .persistent_aggregate("counts", Count);
    });
    let engine = engine.expect("the topology starts");
    let began = Instant::now();
    while !engine.runtime().is_at_end() {
        assert!(!engine.is_over(), "the topology ended: {:?}", engine.wait());
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "it hangs: {:?}",
            engine.runtime().status()
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(engine.runtime().status().generations > 5, "generations have failed");
    engine.stop();
    engine.wait().expect("it stops cleanly");
    let store = Store::inspect(&state).expect("the store can be read");
    let id = store
        .facts()
        .expect("the facts can be read")
        .schema
        .state("counts")
        .expect("it was recorded");
    let mut keys = 0;
    let scanned = store.scan(id, |_, value| {
        keys += 1;
        assert_eq!(tidemill_state::codec::decode::<u64>(value).expect("a count"), RECORDS / 100);
        Ok(true)
    });
    scanned.expect("the state can be read");
    assert_eq!(keys, 100);
}
