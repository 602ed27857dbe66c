//! Requests that take long hold the values of their batch, up to a bound (I8): beyond it the oldest
//! of them fail, with an error of their own, and the memory comes back.

use std::time::{Duration, Instant};
use tidemill::prelude::*;
use tidemill::{Engine, QueryError, QueryLimits, Settings};
use tidemill_harness::waiting::wait_until;

const KEYS: u64 = 100_000;
const PIN_BYTES: usize = 1 << 20;

/// Records of a batch, and how many batches may be on their way: their old values are kept too,
/// whoever asks.
const BATCH: (u64, u64) = (1_000, 2);

/// What those are at most, and a batch that is committed before it is looked at.
const SLACK: usize = (BATCH.1 as usize + 2) * BATCH.0 as usize * 64;

#[test]
fn i8_what_is_kept_for_requests_that_take_long_is_bounded() {
    let folder = tempfile::tempdir_in(tidemill_harness::checkout::scratch()).expect("a folder");
    let queries = QueryLimits {
        pin_bytes: PIN_BYTES,
        time_out: Duration::from_secs(60),
        ..QueryLimits::default()
    };
    let mut settings = Settings {
        workers: 2,
        disk_reserve: 0,
        queries,
        ..Settings::new("pins", folder.path().join("state"))
    };
    (settings.batches.max_records, settings.batches.max_in_flight) = BATCH;
    let engine = Engine::start(settings, |topology: &Topology<'_>| {
        let numbers = Generator::new(7, |_, number| number.wrapping_mul(7919) % KEYS).partitions(2);
        let counts = topology
            .source("numbers", numbers)
            .group_by(|number| *number)
            .persistent_aggregate("counts", Count);
        topology.query("one", |key: Requests<u64>| key.lookup(&counts).aggregate(Sum));
        // All keys, so many times.
        topology.query("scans", |times: Requests<u64>| {
            let each = times.flat_map(|times, each| each.extend(0..times));
            each.scan_with(&counts, |_| Scan::all(), |_, count| Some(*count)).aggregate(Sum)
        });
    });
    let engine = engine.expect("it starts");
    let runtime = engine.runtime();
    let before =
        wait_until(&engine, Duration::from_secs(60), |status| status.committed.0 >= 20).committed;
    let began = Instant::now();
    let (mut most, mut answered, mut refused) = (0, 0, 0);
    // A thread that does not get its turn may miss how much was kept: then once more.
    while most < PIN_BYTES / 2 || answered == 0 {
        assert!(
            began.elapsed() < Duration::from_secs(120),
            "only {most} bytes were kept, and {answered} had answers"
        );
        let long = {
            let runtime = std::sync::Arc::clone(runtime);
            std::thread::spawn(move || runtime.ask_typed::<u64>("scans", &100_000u64))
        };
        while !long.is_finished() {
            most = most.max(runtime.status().queries.kept_bytes);
            // Others are answered meanwhile; one that has just begun may be the oldest by the next
            // batch, and is asked again.
            let one = runtime.ask_typed::<u64>("one", &7u64);
            assert!(matches!(one, Ok(_) | Err(QueryError::NotHeld)), "{one:?}");
            answered += u64::from(one.is_ok());
            refused += u64::from(one.is_err());
        }
        let outcome = long.join().expect("it does not panic");
        assert_eq!(outcome, Err(QueryError::NotHeld), "it held its batch beyond the bound");
        refused += 1;
        assert!(most <= PIN_BYTES + SLACK, "{most} bytes were kept, of at most {PIN_BYTES}");
    }
    assert!(runtime.committed() > before, "batches are committed meanwhile");
    assert!(
        runtime.status().queries.cancelled >= refused,
        "{refused} were refused: {:?}",
        runtime.status().queries
    );
    let began = Instant::now();
    while runtime.status().queries.kept_bytes > PIN_BYTES / 2 {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "the memory comes back: {:?}",
            runtime.status().queries
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    engine.stop();
    engine.wait().expect("it stops");
}
