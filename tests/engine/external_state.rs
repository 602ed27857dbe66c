//! External states: one that is away is waited for, and never taken for a record that fails.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tidemill::prelude::*;
use tidemill::testing::{Io, Kit, assert_exactly_once};
use tidemill::{BatchLimits, Engine, ExternalState, Kind, LookupCache, OnFailure, Settings, Store};
use tidemill_state::codec;

/// Squares of numbers, given as `behave` says: the number of the call, and the keys.
struct Squares<F>(Arc<AtomicUsize>, F);

impl<F> ExternalState for Squares<F>
where
    F: Fn(usize, &[u64]) -> Result<Vec<Option<u64>>, String> + Send + Sync + 'static,
{
    type Key = u64;
    type Value = u64;

    fn get_many(&self, keys: &[u64]) -> Result<Vec<Option<u64>>, String> {
        (self.1)(self.0.fetch_add(1, SeqCst), keys)
    }
}

/// Even numbers have squares here.
fn squares(keys: &[u64]) -> Vec<Option<u64>> {
    keys.iter().map(|key| (*key % 2 == 0).then(|| key * key)).collect()
}

fn looked_up<E: ExternalState<Key = u64, Value = u64>>(
    topology: &Topology<'_>,
    io: &Io,
    store: E,
    caching: LookupCache,
) {
    // Whatever is away is no record's fault: nothing may be set aside for it.
    topology.on_failure(OnFailure::SKIP);
    let squares = topology.external_state("squares", store, caching);
    topology
        .source("in", io.source::<u64>("in"))
        .lookup_external(&squares, |number| *number)
        .sink("out", io.sink("out"));
}

fn sorted(kit: &Kit) -> Vec<(u64, Option<u64>)> {
    let mut out = kit.output::<(u64, Option<u64>)>("out");
    out.sort_unstable();
    out
}

/// The records and squares come whole, though the first calls go as `behave` says; and how many
/// calls were made.
fn comes_in_spite_of(
    caching: LookupCache,
    behave: impl Fn(usize, &[u64]) -> Result<Vec<Option<u64>>, String> + Clone + Send + Sync + 'static,
) -> usize {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let mut kit = Kit::new(move |topology, io| {
        looked_up(topology, io, Squares(Arc::clone(&counted), behave.clone()), caching)
    });
    kit.feed("in", [2u64, 3, 2, 4]);
    kit.step();
    assert_eq!(sorted(&kit), [(2, Some(4)), (2, Some(4)), (3, None), (4, Some(16))]);
    assert!(kit.engine().runtime().status().set_aside.is_empty());
    calls.load(SeqCst)
}

#[test]
fn one_that_is_away_or_answers_wrongly_is_asked_again() {
    let soon = LookupCache { time_out: Duration::from_millis(100), batches: 1 };
    let away = |call: usize, keys: &[u64]| {
        if call < 3 { Err("not now".to_string()) } else { Ok(squares(keys)) }
    };
    assert!(comes_in_spite_of(LookupCache::default(), away) > 3);
    let panics =
        |call: usize, keys: &[u64]| if call < 2 { panic!("on purpose") } else { Ok(squares(keys)) };
    assert!(comes_in_spite_of(LookupCache::default(), panics) > 2);
    let short = |call: usize, keys: &[u64]| Ok(if call < 2 { Vec::new() } else { squares(keys) });
    assert!(comes_in_spite_of(LookupCache::default(), short) > 2);
    let slow = |call: usize, keys: &[u64]| {
        std::thread::sleep(Duration::from_millis(if call < 2 { 400 } else { 0 }));
        Ok(squares(keys))
    };
    assert!(comes_in_spite_of(soon, slow) > 2);
}

#[test]
fn of_calls_that_do_not_return_there_are_not_more_and_more() {
    let (calls, release) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (counted, released) = (Arc::clone(&calls), Arc::clone(&release));
    let behave = move |_, keys: &[u64]| {
        while !released.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(squares(keys))
    };
    let caching = LookupCache { time_out: Duration::from_millis(1), batches: 1 };
    let one_worker = |settings: &mut Settings| settings.workers = 1;
    let mut kit = Kit::with(one_worker, move |topology, io| {
        looked_up(topology, io, Squares(Arc::clone(&counted), behave.clone()), caching);
    });
    kit.feed("in", [2u64]);
    let most = std::thread::scope(|scope| {
        // The pauses between the calls grow from 50 ms: the ninth would be after 13 s.
        let watcher = scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(15));
            let most = calls.load(SeqCst);
            release.store(true, SeqCst);
            most
        });
        kit.step();
        watcher.join().expect("it only looks")
    });
    assert_eq!(most, 8, "after that it waits for one to return");
    assert_eq!(sorted(&kit), [(2, Some(4))]);
}

#[test]
fn answers_are_kept_for_as_many_batches_as_said() {
    for (batches, asked_in_third) in [(1, vec![2, 4, 6]), (2, vec![2, 6]), (3, vec![6])] {
        let asked: Arc<Mutex<Vec<u64>>> = Arc::default();
        let noted = Arc::clone(&asked);
        let behave = move |_: usize, keys: &[u64]| {
            noted.lock().expect("nobody panics with it").extend(keys);
            Ok(squares(keys))
        };
        let caching = LookupCache { batches, ..LookupCache::default() };
        let mut kit = Kit::new(move |topology, io| {
            looked_up(topology, io, Squares(Arc::default(), behave.clone()), caching);
        });
        for batch in [[2u64, 2, 2], [4, 4, 4], [2, 4, 6]] {
            asked.lock().expect("nobody panics with it").clear();
            kit.feed("in", batch);
            kit.step();
        }
        let mut last = asked.lock().expect("nobody panics with it").clone();
        last.sort_unstable();
        assert_eq!(last, asked_in_third, "kept for {batches} batches");
    }
}

#[test]
fn with_one_that_fails_now_and_then_everything_comes_once_after_each_crash() {
    assert_exactly_once(
        |topology, io| {
            let behave = |call: usize, keys: &[u64]| {
                if call.is_multiple_of(3) { Err("not now".to_string()) } else { Ok(squares(keys)) }
            };
            let squares = topology.external_state(
                "squares",
                Squares(Arc::default(), behave),
                LookupCache::default(),
            );
            let found = topology
                .source("in", io.source::<u64>("in"))
                .lookup_external(&squares, |number| *number);
            let sums = found.group_by(|(number, _)| number % 3).persistent_aggregate(
                "sums",
                of(|(_, square): &(u64, Option<u64>)| square.unwrap_or(1), Sum),
            );
            sums.changes().sink("out", io.sink("out"));
        },
        3,
        |kit, batch| kit.feed("in", (0..4).map(|number| number + batch as u64)),
    );
}

#[test]
fn a_topology_that_waits_for_one_can_be_stopped_and_goes_on_later() {
    let folder = tempfile::tempdir_in(tidemill_harness::checkout::scratch())
        .expect("the target folder can be written");
    let batches = BatchLimits { max_records: 10, ..BatchLimits::default() };
    let settings = Settings {
        workers: 2,
        batches,
        disk_reserve: 0,
        ..Settings::new("waits", folder.path().join("state"))
    };
    let (is_back, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let start = || {
        let (is_back, calls) = (Arc::clone(&is_back), Arc::clone(&calls));
        Engine::start(settings.clone(), move |topology| {
            let is_back = Arc::clone(&is_back);
            let behave = move |_: usize, keys: &[u64]| {
                if is_back.load(SeqCst) { Ok(squares(keys)) } else { Err("away".to_string()) }
            };
            let squares = topology.external_state(
                "squares",
                Squares(Arc::clone(&calls), behave),
                LookupCache::default(),
            );
            let numbers =
                topology.source("numbers", Generator::new(1, |_, number| number).records(100));
            numbers
                .lookup_external(&squares, |number| *number)
                .persistent_aggregate("count", Count);
        })
        .expect("it starts")
    };
    let engine = start();
    let began = Instant::now();
    while calls.load(SeqCst) < 3 {
        assert!(
            began.elapsed() < Duration::from_secs(30) && !engine.is_over(),
            "{:?}",
            engine.runtime().status()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    let stopping = Instant::now();
    engine.stop();
    if let Err(error) = engine.wait() {
        assert_eq!(error.kind(), Kind::Unreachable, "{error}");
    }
    assert!(stopping.elapsed() < Duration::from_secs(10), "a stop does not wait for what is away");
    is_back.store(true, SeqCst);
    let engine = start();
    while !engine.runtime().is_at_end() {
        assert!(
            began.elapsed() < Duration::from_secs(60) && !engine.is_over(),
            "{:?}",
            engine.runtime().status()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    engine.stop();
    engine.wait().expect("it stops cleanly");
    assert_eq!(counts_in(&settings.state), [100]);
}

/// The values of the state "count" on disk.
fn counts_in(state: &Path) -> Vec<u64> {
    let store = Store::inspect(state).expect("the store can be read");
    let id = store
        .facts()
        .expect("the facts can be read")
        .schema
        .state("count")
        .expect("it was recorded");
    let mut counts = Vec::new();
    let read = store.scan(id, |_, value| {
        counts.push(codec::decode::<u64>(value).expect("a count"));
        Ok(true)
    });
    read.expect("the state can be read");
    counts
}
