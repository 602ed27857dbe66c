//! How runs and generations end: everything that is complete is committed first, a failure is never
//! held up, and a stop is over in time, whoever does not return.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tidemill::prelude::*;
use tidemill::source::{ReadStatus, Reader, Records, Source};
use tidemill::{
    CrashPoint, Durability, Engine, Error, Kind, Points, Position, Result, Settings, Store, Txid,
};
use tidemill_harness::gate::{Gate, Gated};
use tidemill_harness::waiting::wait_until;
use tidemill_state::points::Effect;

const PATIENCE: Duration = Duration::from_secs(60);

/// Much longer than any of these tests may take, much shorter than the tests' own patience.
const LONG: Duration = Duration::from_secs(40);

/// What follows the last number of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Nothing,
    Lost,
    Retired,
}

type Hook = Arc<dyn Fn() -> Result<()> + Send + Sync>;

/// A source of numbers, one partition each for `names`, with hooks where the engine calls it.
#[derive(Clone)]
struct Numbers {
    names: Arc<Mutex<Vec<String>>>,
    numbers: u64,
    then: Then,
    discover_every: Option<Duration>,
    on_discover: Hook,
    on_committed: Hook,
}

impl Numbers {
    fn upto(numbers: u64, then: Then) -> Numbers {
        let nothing: Hook = Arc::new(|| Ok(()));
        Numbers {
            names: Arc::new(Mutex::new(vec!["a".into()])),
            numbers,
            then,
            discover_every: None,
            on_discover: Arc::clone(&nothing),
            on_committed: nothing,
        }
    }
}

impl Source for Numbers {
    type Item = u64;

    fn kind(&self) -> String {
        "numbers".into()
    }

    fn partitions(&self) -> Result<Vec<String>> {
        Ok(self.names.lock().expect("no holder panics").clone())
    }

    fn discover_every(&self) -> Option<Duration> {
        self.discover_every
    }

    fn discover(
        &self,
        known: &BTreeMap<String, Option<Position>>,
    ) -> Result<Vec<(String, Option<Position>)>> {
        (self.on_discover)()?;
        let listed = self.partitions()?.into_iter();
        Ok(listed
            .filter(|name| !known.contains_key(name))
            .map(|name| (name, Some(Position::at(0))))
            .collect())
    }

    fn committed(&self, _: &[(String, Position)]) {
        let _ = (self.on_committed)();
    }

    fn open(&self, name: &str, from: Option<&Position>) -> Result<Box<dyn Reader<u64>>> {
        let numbers = if name == "empty" { 0 } else { self.numbers };
        Ok(Box::new(NumbersReader {
            next: from.map_or(0, |from| from.offset),
            source: Numbers { numbers, ..self.clone() },
        }))
    }
}

struct NumbersReader {
    next: u64,
    source: Numbers,
}

impl Reader<u64> for NumbersReader {
    fn read(&mut self, into: &mut Records<u64>) -> Result<ReadStatus> {
        while self.next < self.source.numbers {
            if into.is_full() {
                return Ok(ReadStatus::More);
            }
            into.push(self.next, 8, self.next);
            self.next += 1;
        }
        match self.source.then {
            Then::Nothing => Ok(ReadStatus::Idle(Duration::from_millis(20))),
            Then::Lost => Err(Error::source_lost(format!("number {} is gone", self.next))),
            Then::Retired => Ok(ReadStatus::Retired),
        }
    }

    fn position(&self) -> Position {
        Position::at(self.next)
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(tidemill_harness::checkout::scratch()).expect("a folder can be made")
}

fn settings(folder: &tempfile::TempDir) -> Settings {
    let state = folder.path().join("state");
    let mut settings = Settings { workers: 2, disk_reserve: 0, ..Settings::new("endings", state) };
    settings.batches.max_records = 10;
    settings.batches.max_delay = Duration::from_millis(20);
    settings
}

/// Where the store of a run that has ended goes on in partition `name`, and after which batch.
fn recorded(folder: &tempfile::TempDir, name: &str) -> (Option<u64>, Txid) {
    let store =
        Store::open(&folder.path().join("state"), Durability::Sync).expect("nobody holds it");
    let id = store.schema().expect("it is readable").source("numbers").expect("it is registered");
    let all = store.positions(id).expect("it is readable");
    (all.get(name).map(|position| position.offset), store.committed().txid())
}

#[test]
fn a_failure_is_not_held_up_by_a_look_for_partitions() {
    let slow_look = Arc::new(Gate::default());
    let _closed = slow_look.close();
    for (name, every, slow) in [
        ("a look that is far off", LONG * 10, false),
        ("a look that takes long", Duration::from_millis(1), true),
    ] {
        let folder = folder();
        let mut numbers =
            Numbers { discover_every: Some(every), ..Numbers::upto(20, Then::Nothing) };
        if slow {
            let gate = Arc::clone(&slow_look);
            numbers.on_discover = Arc::new(move || {
                gate.pass();
                Ok(())
            });
        }
        let go = Arc::new(AtomicBool::new(false));
        let fails = Arc::clone(&go);
        let engine = Engine::start(settings(&folder), move |topology| {
            let (fails, numbers) = (Arc::clone(&fails), numbers.clone());
            topology.source("numbers", numbers).inspect(move |number| {
                while *number == 15 && !fails.load(SeqCst) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                assert_ne!(*number, 15);
            });
        });
        let engine = engine.expect("it starts");
        if slow {
            slow_look.wait_until_held();
        }
        go.store(true, SeqCst);
        let began = Instant::now();
        let error = engine.wait().expect_err("a closure has failed");
        assert_eq!(error.kind(), Kind::UserCode, "{name}: {error}");
        assert!(began.elapsed() < LONG, "{name}: the end took {:?}", began.elapsed());
    }
}

#[test]
fn a_stop_commits_every_complete_batch() {
    let folder = folder();
    let gate = Arc::new(Gate::default());
    let closed = gate.close();
    let mut numbers = Numbers::upto(1_000_000, Then::Nothing);
    let held = Arc::clone(&gate);
    // Called on the committer's thread: batches that are complete wait for it.
    numbers.on_committed = Arc::new(move || {
        held.pass();
        Ok(())
    });
    let read = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&read);
    let engine = Engine::start(Settings { workers: 1, ..settings(&folder) }, move |topology| {
        let seen = Arc::clone(&seen);
        topology.source("numbers", numbers.clone()).inspect(move |number| {
            seen.store(number + 1, SeqCst);
        });
    });
    let engine = engine.expect("it starts");
    gate.wait_until_held();
    // As many as may be in flight, and the one whose news the committer is held up with.
    let before = 10 * (8 + 1);
    let began = Instant::now();
    while read.load(SeqCst) < before {
        assert!(began.elapsed() < PATIENCE, "only {} numbers are read", read.load(SeqCst));
        std::thread::sleep(Duration::from_millis(2));
    }
    let runtime = Arc::clone(engine.runtime());
    engine.stop();
    // Without waiting for the committer, the workers would have ended long before.
    std::thread::sleep(Duration::from_millis(500));
    assert!(!engine.is_over() && runtime.left_behind().is_empty());
    drop(closed);
    engine.wait().expect("it stops");
    assert_eq!(recorded(&folder, "a").0, Some(before), "everything that was read is committed");
}

#[test]
fn what_was_read_before_a_loss_is_committed() {
    let folder = folder();
    let numbers = Numbers::upto(37, Then::Lost);
    let engine = Engine::start(settings(&folder), move |topology| {
        topology.source("numbers", numbers.clone()).persistent_aggregate("total", Sum);
    });
    let error = engine.expect("it starts").wait().expect_err("records are lost");
    assert!(
        error.kind() == Kind::SourceLost && error.to_string().contains("number 37 is gone"),
        "{error}"
    );
    assert_eq!(recorded(&folder, "a").0, Some(37));
}

#[test]
fn what_was_read_before_a_look_found_a_loss_is_committed() {
    let folder = folder();
    let mut numbers = Numbers {
        discover_every: Some(Duration::from_millis(50)),
        ..Numbers::upto(37, Then::Nothing)
    };
    let (lost, read) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (now, seen) = (Arc::clone(&lost), Arc::clone(&read));
    numbers.on_discover = Arc::new(move || {
        if now.load(SeqCst) { Err(Error::source_lost("a is another one")) } else { Ok(()) }
    });
    let mut settings = settings(&folder);
    // The last numbers lie in a batch that nothing closes before the loss does.
    settings.batches.max_delay = LONG * 10;
    let engine = Engine::start(settings, move |topology| {
        let seen = Arc::clone(&seen);
        let numbers = topology.source("numbers", numbers.clone());
        numbers
            .inspect(move |number| seen.store(number + 1, SeqCst))
            .persistent_aggregate("total", Sum);
    });
    let engine = engine.expect("it starts");
    wait_until(&engine, PATIENCE, |status| status.records == 30 && read.load(SeqCst) == 37);
    lost.store(true, SeqCst);
    let error = engine.wait().expect_err("the source is another one");
    assert!(
        error.kind() == Kind::SourceLost && error.to_string().contains("a is another one"),
        "{error}"
    );
    assert_eq!(recorded(&folder, "a"), (Some(37), Txid(4)));
}

#[test]
fn a_retired_partition_leaves_the_store_and_its_name_is_free() {
    let folder = folder();
    let mut numbers = Numbers {
        discover_every: Some(Duration::from_millis(20)),
        ..Numbers::upto(25, Then::Retired)
    };
    let (names, looked) = (Arc::clone(&numbers.names), Arc::new(AtomicU64::new(0)));
    let looks = Arc::clone(&looked);
    numbers.on_discover = Arc::new(move || {
        looks.fetch_add(1, SeqCst);
        Ok(())
    });
    let engine = Engine::start(settings(&folder), move |topology| {
        topology.source("numbers", numbers.clone()).persistent_aggregate("total", Count);
    });
    let engine = engine.expect("it starts");
    // Found again under the same name as soon as the position is gone: it is read once more.
    wait_until(&engine, PATIENCE, |status| status.records >= 50);
    names.lock().expect("no holder panics").clear();
    // One that was under way may have found it still: what it has found is over with the one after
    // it.
    let last = looked.load(SeqCst) + 2;
    wait_until(&engine, PATIENCE, |_| looked.load(SeqCst) >= last);
    std::thread::sleep(Duration::from_millis(300));
    wait_until(&engine, PATIENCE, |status| {
        status.partitions.is_empty() && status.records % 25 == 0
    });
    engine.stop();
    engine.wait().expect("it stops");
    assert_eq!(recorded(&folder, "a").0, None, "its position is removed");
}

/// What a source reads into a partition whose name was another's: everything, whatever crashes in
/// between.
#[test]
fn i1_a_partition_by_the_name_of_a_retired_one_is_read_from_its_beginning_after_a_crash() {
    for nth in [4, 5, 6] {
        let folder = folder();
        let numbers = Numbers {
            discover_every: Some(Duration::from_millis(5)),
            ..Numbers::upto(25, Then::Retired)
        };
        let build = move |topology: &Topology<'_>| {
            topology.source("numbers", numbers.clone()).persistent_aggregate("total", Count);
        };
        let points = Arc::new(Points::none());
        // Each round has three batches, and a write of its own for the position that goes.
        points.arm(CrashPoint::BeforeWrite, Effect::Stop, nth);
        let engine =
            Engine::start_with_points(settings(&folder), build.clone(), points).expect("it starts");
        engine.wait().expect_err("it has crashed");
        let (position, _) = recorded(&folder, "a");
        let counted = total(&folder);
        let expected = position.unwrap_or(0);
        assert_eq!(
            counted % 25,
            expected % 25,
            "crash {nth}: {counted} are counted, the position is {position:?}"
        );
        let engine = Engine::start(settings(&folder), build).expect("it starts again");
        wait_until(&engine, PATIENCE, |status| status.records >= 50);
        engine.stop();
        engine.wait().expect("it stops");
        let (position, _) = recorded(&folder, "a");
        assert_eq!(
            total(&folder) % 25,
            position.unwrap_or(0) % 25,
            "crash {nth}: each number of each round has counted once"
        );
    }
}

/// The count of all numbers, in the store of a run that has ended.
fn total(folder: &tempfile::TempDir) -> u64 {
    let store =
        Store::open(&folder.path().join("state"), Durability::Sync).expect("nobody holds it");
    let id = store.schema().expect("it is readable").state("total").expect("it is registered");
    let mut total = 0;
    let scanned = store.scan(id, |_, value| {
        total = tidemill_state::codec::decode(value)?;
        Ok(true)
    });
    scanned.expect("it is readable");
    total
}

#[test]
fn a_stop_is_over_in_time_whoever_does_not_return() {
    let drain = Duration::from_millis(500);
    for held in ["closure", "committer", "sink", "look"] {
        let folder = folder();
        let gate = Arc::new(Gate::default());
        let _closed = gate.close();
        let mut numbers = Numbers {
            discover_every: Some(Duration::from_millis(10)),
            ..Numbers::upto(1_000, Then::Nothing)
        };
        let hook: Hook = Arc::new({
            let gate = Arc::clone(&gate);
            move || {
                gate.pass();
                Ok(())
            }
        });
        match held {
            "committer" => numbers.on_committed = hook,
            "look" => numbers.on_discover = hook,
            _ => {}
        }
        let at = Arc::clone(&gate);
        let build = move |topology: &Topology<'_>| {
            let inside = Arc::clone(&at);
            let stream = topology.source("numbers", numbers.clone());
            let stream = stream.inspect(move |number| {
                if held == "closure" && *number == 55 {
                    inside.pass();
                }
            });
            let free = Arc::new(Gate::default());
            stream.sink(
                "out",
                Gated {
                    gate: if held == "sink" { Arc::clone(&at) } else { free },
                    ..Gated::default()
                },
            );
        };
        // What holds up nothing has all the time that a busy machine may need.
        let drain = if held == "look" { LONG } else { drain };
        let engine =
            Engine::start(Settings { drain, ..settings(&folder) }, build).expect("it starts");
        gate.wait_until_held();
        let runtime = Arc::clone(engine.runtime());
        let began = Instant::now();
        engine.stop();
        let outcome = engine.wait();
        assert!(began.elapsed() < LONG, "{held}: the stop took {:?}", began.elapsed());
        let left = runtime.left_behind().join("\n");
        match held {
            // It is named, and what it held up is as after a crash.
            "closure" => assert!(left.contains("has been in inspect"), "{held}: {left}"),
            "committer" => assert!(
                outcome.as_ref().is_err_and(|error| error.kind() == Kind::TryAgain),
                "{held}"
            ),
            "sink" => assert!(left.contains("a sink takes nothing now"), "{held}: {left}"),
            _ => assert_eq!(left, "", "{held}: a look holds up nothing"),
        }
        assert_eq!(outcome.is_ok(), held != "committer", "{held}: {outcome:?}");
    }
}

/// One that was committed alone would hide the other from the next start.
#[test]
fn i1_partitions_that_join_together_are_recorded_together() {
    let folder = folder();
    let numbers = Numbers {
        discover_every: Some(Duration::from_millis(10)),
        ..Numbers::upto(20, Then::Nothing)
    };
    let names = Arc::clone(&numbers.names);
    let engine = Engine::start(settings(&folder), move |topology| {
        topology.source("numbers", numbers.clone()).persistent_aggregate("total", Sum);
    });
    let engine = engine.expect("it starts");
    wait_until(&engine, PATIENCE, |status| status.records == 20);
    names.lock().expect("no holder panics").extend(["empty".to_string(), "full".to_string()]);
    wait_until(&engine, PATIENCE, |status| status.records == 40);
    engine.stop();
    engine.wait().expect("it ends well");
    assert_eq!([recorded(&folder, "empty").0, recorded(&folder, "full").0], [Some(0), Some(20)]);
}

/// Every cut ends a generation, and none of them is the same loss again.
#[test]
fn many_files_that_are_copied_and_cut_while_no_line_comes_do_not_end_a_run() {
    let (folder, names) = (folder(), ["a", "b", "c", "d", "e", "f"]);
    let path = |name: &str| folder.path().join(name);
    let append = |name: &str, text: &str| {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path(&format!("{name}.log")));
        file.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
            .expect("it is written");
    };
    names.iter().for_each(|name| append(name, &format!("{name} 1\n{name} 2\n")));
    let glob = path("*.log").to_str().expect("UTF-8").to_owned();
    let engine = Engine::start(settings(&folder), move |topology| {
        let lines = topology.source("lines", Files::lines(&glob).follow());
        lines.group_by(|line: &Str| line.clone()).persistent_aggregate("counts", Count);
    });
    let engine = engine.expect("it starts");
    wait_until(&engine, PATIENCE, |status| status.records == 12);
    for name in names {
        let before = engine.runtime().status().generations;
        std::fs::copy(path(&format!("{name}.log")), path(&format!("{name}.log.1")))
            .expect("it is copied");
        std::fs::File::create(path(&format!("{name}.log"))).expect("it is cut");
        wait_until(&engine, PATIENCE, |status| status.generations > before);
    }
    names.iter().for_each(|name| append(name, &format!("{name} 3\n")));
    wait_until(&engine, PATIENCE, |status| status.records == 18);
    engine.stop();
    engine.wait().expect("it was running");
    let store = Store::inspect(&folder.path().join("state")).expect("it can be read");
    let id = store.schema().expect("it is readable").state("counts").expect("it is registered");
    let mut counts = 0;
    let counted = store.scan(id, |_, value| {
        assert_eq!(tidemill_state::codec::decode::<u64>(value)?, 1);
        counts += 1;
        Ok(true)
    });
    counted.expect("it is readable");
    assert_eq!(counts, 18, "every line once");
}
