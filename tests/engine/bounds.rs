//! What is on its way stays within its bounds (I8): batches that are not committed, and output that
//! no sink has confirmed. Where a bound is reached the sources wait, and lose nothing.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use tidemill::prelude::*;
use tidemill::testing::Kit;
use tidemill::{Engine, OnFailure, QueryError, Settings, Status};
use tidemill_harness::gate::{Gate, Gated};
use tidemill_harness::hooked::{Hooked, Read};
use tidemill_harness::waiting::wait_until;

const PATIENCE: Duration = Duration::from_secs(60);

/// How long the sources must have read nothing to be said to wait.
const STILL: Duration = Duration::from_millis(700);

/// Lines of each of the two files, many times what the bounds leave room for.
const LINES: u64 = 30_000;

const BATCH_RECORDS: u64 = 100;
const IN_FLIGHT: u64 = 3;

/// What may be read and not committed: the batches in flight, and the one that is open.
const MOST_AHEAD: u64 = (IN_FLIGHT + 1) * BATCH_RECORDS;

/// A topology over two files of numbers, and what it has read of them.
struct Place {
    engine: Engine,
    read: Arc<AtomicU64>,
    _folder: tempfile::TempDir,
}

impl Place {
    /// `on_number` is called for each number, on the worker that has read it.
    fn start(
        outbox_bytes: usize,
        sink: &Gated,
        on_number: impl Fn(u64) + Clone + Send + Sync + 'static,
    ) -> Place {
        let folder = tempfile::tempdir_in(tidemill_harness::checkout::scratch()).expect("a folder");
        for file in 0..2 {
            let lines: String = (0..LINES).map(|line| format!("{}\n", line * 2 + file)).collect();
            std::fs::write(folder.path().join(format!("{file}.txt")), lines)
                .expect("it is written");
        }
        let mut settings = Settings {
            workers: 2,
            outbox_bytes,
            disk_reserve: 0,
            ..Settings::new("bounds", folder.path().join("state"))
        };
        (settings.batches.max_records, settings.batches.max_in_flight) = (BATCH_RECORDS, IN_FLIGHT);
        let read = Arc::new(AtomicU64::new(0));
        let engine = Engine::start(settings, build(folder.path(), &read, sink, on_number))
            .expect("it starts");
        Place { engine, read, _folder: folder }
    }

    fn status(&self) -> Status {
        self.engine.runtime().status()
    }

    fn wait_until(&self, wanted: impl Fn(&Status) -> bool) {
        wait_until(&self.engine, PATIENCE, wanted);
    }

    /// Waits until nothing is read any more, and says how much has been.
    fn read_until_still(&self) -> u64 {
        let (began, mut seen) = (Instant::now(), (Instant::now(), 0));
        while seen.0.elapsed() < STILL {
            let read = self.read.load(SeqCst);
            if read != seen.1 {
                seen = (Instant::now(), read);
            }
            assert!(began.elapsed() < PATIENCE, "the sources do not wait: {read} records are read");
            std::thread::sleep(Duration::from_millis(5));
        }
        seen.1
    }

    /// Every number is in the state and in the sink, once.
    fn everything_comes(self, sink: &Gated) {
        self.wait_until(|status| status.records == 2 * LINES);
        self.wait_until(|status| status.sinks[0].published == status.committed);
        self.engine.stop();
        self.engine.wait().expect("it stops");
        let mut numbers = std::mem::take(&mut *sink.numbers.lock().expect("nobody fails with it"));
        assert!(numbers.is_sorted_by_key(|(txid, _)| *txid), "in the order of the batches");
        numbers.sort_unstable_by_key(|(_, number)| *number);
        assert!(
            numbers.iter().map(|(_, number)| *number).eq(0..2 * LINES),
            "each once: {} are there",
            numbers.len()
        );
    }
}

fn build(
    folder: &Path,
    read: &Arc<AtomicU64>,
    sink: &Gated,
    on_number: impl Fn(u64) + Clone + Send + Sync + 'static,
) -> impl Fn(&Topology<'_>) + Send + Sync + 'static {
    let (files, read, sink) =
        (folder.join("*.txt").display().to_string(), Arc::clone(read), sink.clone());
    move |topology| {
        let (read, on_number) = (Arc::clone(&read), on_number.clone());
        let count = move |seen: &Read<'_>| {
            read.fetch_add(seen.given as u64, SeqCst);
            seen.status
        };
        let numbers = topology
            .source("numbers", Hooked::new(Files::lines(&files), count))
            .try_map(|line: Str| line.parse::<u64>())
            .inspect(move |number| on_number(*number));
        numbers.sink("out", sink.clone());
    }
}

#[test]
fn i8_sources_wait_while_a_worker_holds_up_its_batch() {
    let (gate, sink) = (Arc::new(Gate::default()), Gated::default());
    let at = Arc::clone(&gate);
    // Only the worker of the file with the even numbers is held up: the other could read all of its
    // own.
    let place = Place::start(usize::MAX, &sink, move |number| {
        if number % 2 == 0 {
            at.pass();
        }
    });
    for _ in 0..5 {
        let before = place.status().records;
        place.wait_until(|status| status.records > before);
        let closed = gate.close();
        let read = place.read_until_still();
        let status = place.status();
        let ahead = read - status.records;
        assert!(
            ahead <= MOST_AHEAD,
            "{ahead} records are read and not committed, of at most {MOST_AHEAD}: {status:?}"
        );
        assert!(
            ahead >= IN_FLIGHT * BATCH_RECORDS,
            "only {ahead} of {read} are in flight: it is not the bound that holds them"
        );
        drop(closed);
    }
    place.everything_comes(&sink);
}

#[test]
fn i8_sources_wait_while_a_sink_is_behind() {
    // More than a number takes in the outbox.
    let (outbox_bytes, number_bytes) = (16 << 10, 40);
    let sink = Gated::default();
    let place = Place::start(outbox_bytes, &sink, |_| {});
    for _ in 0..5 {
        let before = place.status().sinks[0].published;
        place.wait_until(|status| status.sinks[0].published > before);
        let closed = sink.gate.close();
        let read = place.read_until_still();
        let status = place.status();
        let waits = status
            .waiting
            .as_deref()
            .is_some_and(|why| why.contains("the sources wait, nothing is lost"));
        assert!(
            waits && read == status.records,
            "it says why, and what is read is committed: {read}, {status:?}"
        );
        // Batches that were on their way when the bound was reached are still taken.
        let most = outbox_bytes + usize::try_from(MOST_AHEAD).expect("it is small") * number_bytes;
        let backlog = status.sinks[0].backlog_bytes;
        assert!(
            (outbox_bytes..=most).contains(&backlog),
            "the outbox holds {backlog} bytes, of at most {most}"
        );
        drop(closed);
    }
    place.everything_comes(&sink);
}

/// An argument, or a record, may make a closure ask for more than there is memory. An allocation
/// that fails ends the process.
#[test]
fn a_call_that_gives_more_than_there_is_memory_fails_alone() {
    let mut kit = Kit::new(|topology, io| {
        topology.on_failure(OnFailure::SKIP);
        let numbers = topology.source("numbers", io.source::<u64>("numbers"));
        numbers.flat_map(|n, out| out.extend(0..n)).sink("out", io.sink("out"));
        topology.query("upto", |n: Requests<u64>| {
            n.flat_map(|n, out| out.extend(0..n)).aggregate(Count)
        });
        topology.query("each", |n: Requests<u64>| {
            n.flat_map(|n, out| {
                for number in 0..n {
                    out.push(number);
                }
            })
            .aggregate(Count)
        });
    });
    for query in ["upto", "each"] {
        for n in [100_000_000_000u64, u64::MAX] {
            match kit.try_ask::<u64>(query, &n) {
                Err(QueryError::Failed(why)) => {
                    assert!(why.contains("it gives more than 8388608 records"), "{why}")
                }
                other => panic!("{query} of {n}: {other:?}"),
            }
        }
        assert_eq!(kit.ask::<u64>(query, &1000u64).1, 1000, "the others are answered");
    }
    // In one chunk: what the neighbours give is there, in order.
    kit.feed("numbers", [2u64, 100_000_000_000, 3]);
    kit.step();
    assert_eq!(kit.output::<u64>("out"), [0, 1, 0, 1, 2]);
    let aside = kit.engine().runtime().status().set_aside;
    assert_eq!(aside.values().sum::<u64>(), 1, "{aside:?}");
}
