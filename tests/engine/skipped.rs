//! Records that a source skips fill no batch: a position that moves past them is written all the
//! same, and never takes one back that a later batch has written.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use tidemill::prelude::*;
use tidemill::source::{ReadStatus, Reader, Records, Source};
use tidemill::{Engine, Position, Result, Settings, Status, Txid};
use tidemill_harness::waiting::wait_until;

const PATIENCE: Duration = Duration::from_secs(60);

/// Longer than a worker takes to tell where its partitions are, and to hand a batch over.
const A_WHILE: Duration = Duration::from_millis(400);

/// Numbers in one partition, `None` for one that is skipped; they come as a test gives them. It can
/// hold the committer up after a batch, as a slow disk would.
#[derive(Clone, Default)]
struct Given {
    numbers: Arc<Mutex<Vec<Option<u64>>>>,
    /// Where the partition was opened, in order.
    opened: Arc<Mutex<Vec<u64>>>,
    is_held: Arc<(Mutex<bool>, Condvar)>,
    is_there: Arc<AtomicBool>,
}

impl Given {
    fn give(&self, number: Option<u64>) {
        self.numbers.lock().expect("no holder panics").push(number);
    }

    fn hold(&self, held: bool) {
        *self.is_held.0.lock().expect("no holder panics") = held;
        self.is_held.1.notify_all();
    }
}

impl Source for Given {
    type Item = u64;

    fn kind(&self) -> String {
        "given".into()
    }

    fn partitions(&self) -> Result<Vec<String>> {
        Ok(vec!["all".into()])
    }

    fn open(&self, _: &str, from: Option<&Position>) -> Result<Box<dyn Reader<u64>>> {
        let at = from.map_or(0, |from| from.offset);
        self.opened.lock().expect("no holder panics").push(at);
        Ok(Box::new(GivenReader { numbers: Arc::clone(&self.numbers), at, skipped: 0 }))
    }

    fn committed(&self, _: &[(String, Position)]) {
        let held = self.is_held.0.lock().expect("no holder panics");
        self.is_there.store(*held, SeqCst);
        drop(
            self.is_held
                .1
                .wait_timeout_while(held, PATIENCE, |held| *held)
                .expect("no holder panics"),
        );
    }
}

struct GivenReader {
    numbers: Arc<Mutex<Vec<Option<u64>>>>,
    at: u64,
    skipped: u64,
}

impl Reader<u64> for GivenReader {
    fn read(&mut self, into: &mut Records<u64>) -> Result<ReadStatus> {
        let numbers = self.numbers.lock().expect("no holder panics");
        while let Some(number) =
            numbers.get(usize::try_from(self.at).expect("few")).filter(|_| !into.is_full())
        {
            match number {
                Some(number) => into.push(self.at, 8, *number),
                None => self.skipped += 1,
            }
            self.at += 1;
        }
        Ok(ReadStatus::Idle(Duration::from_millis(5)))
    }

    fn position(&self) -> Position {
        Position::at(self.at)
    }

    fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }
}

fn start(folder: &std::path::Path, given: &Given) -> Engine {
    let settings = Settings { disk_reserve: 0, ..Settings::new("skipped", folder.join("state")) };
    let given = given.clone();
    let build = move |topology: &Topology<'_>| {
        let sum = topology.source("numbers", given.clone()).persistent_aggregate("sum", Sum);
        topology.query("sum", |any: Requests<()>| {
            any.scan(&sum, |()| Scan::all()).map(|(_, sum)| sum).aggregate(Sum)
        });
    };
    Engine::start(settings, build).expect("it starts")
}

fn offset(status: &Status) -> u64 {
    status.partitions[0].offset
}

#[test]
fn i1_a_position_never_goes_back_behind_a_committed_batch() {
    let folder = tempfile::tempdir_in(tidemill_harness::checkout::scratch()).expect("a folder");
    let given = Given::default();
    let engine = start(folder.path(), &given);
    given.give(Some(1));
    wait_until(&engine, PATIENCE, |status| status.committed == Txid(1));
    // The committer is held up behind batch 2. Meanwhile a record is skipped, which is told, and
    // the one after it is in batch 3: both are taken in one go.
    given.hold(true);
    given.give(Some(10));
    let began = Instant::now();
    while !given.is_there.load(SeqCst) {
        assert!(began.elapsed() < PATIENCE, "nothing is committed");
        std::thread::sleep(Duration::from_millis(2));
    }
    given.give(None);
    std::thread::sleep(A_WHILE);
    given.give(Some(100));
    std::thread::sleep(A_WHILE);
    given.hold(false);
    wait_until(&engine, PATIENCE, |status| status.committed == Txid(3));
    assert_eq!(offset(&engine.runtime().status()), 4, "what is shown is where batch 3 ends");
    engine.stop();
    engine.wait().expect("it stops");

    let engine = start(folder.path(), &given);
    assert_eq!(
        given.opened.lock().expect("no holder panics").last(),
        Some(&4),
        "it goes on behind batch 3"
    );
    given.give(Some(1000));
    wait_until(&engine, PATIENCE, |status| status.committed == Txid(4));
    // One that is skipped last is passed too.
    given.give(None);
    wait_until(&engine, PATIENCE, |status| offset(status) == 6);
    engine.stop();
    engine.wait().expect("it stops");
    let engine = start(folder.path(), &given);
    assert_eq!(
        given.opened.lock().expect("no holder panics").last(),
        Some(&6),
        "nothing is looked at again"
    );
    wait_until(&engine, PATIENCE, |status| status.phase == "running");
    assert_eq!(
        engine.runtime().ask_typed::<u64>("sum", &()).expect("an answer"),
        (Txid(4), 1111),
        "each is counted once"
    );
}
