//! Tests that run the hand-written protocols between threads in many orders of their steps: batch
//! intake, pins, and the way from a commit over back-pressure to the sinks.
//!
//! The crate shuttle runs all threads of a model as tasks of one thread, and chooses at each lock,
//! number and wake-up which of them continues. What the protocols import from `sync.rs` is
//! shuttle's here. The loops around them (a worker's, the committer's, a publisher's) are written
//! again in the models, as small as they can be, with the calls in the order of the original.
//! No time passes: a thread that only a time-out would wake waits for ever, and that is a failure.

mod intake;
mod outlets;
mod pins;

use crate::panics::watch_panics;
use crate::sync::scheduled::scheduled;
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::thread::{Builder, JoinHandle};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

/// The number of orders that a test runs: one half at random, one half with few preemptions at
/// random places, which finds what needs a thread to be late for long.
const ORDERS: usize = 2000;

/// The number of preemptions in an order of the second half.
const PREEMPTIONS: usize = 3;

/// The most steps of one order. Whoever takes more runs in a circle.
const MOST_STEPS: usize = 20_000;

/// Runs `body` in many orders of the steps of its threads. A failure prints the seed that repeats
/// it, in `TIDEMILL_TEST_SEED`.
fn explore(body: fn()) {
    struct Repeat(u64);
    impl Drop for Repeat {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("TIDEMILL_TEST_SEED={} repeats this failure", self.0);
            }
        }
    }
    let seed = std::env::var("TIDEMILL_TEST_SEED").map_or_else(
        |_| rand::random(),
        |seed| seed.parse().expect("TIDEMILL_TEST_SEED is a number"),
    );
    let long = std::env::var("TIDEMILL_LONG").is_ok_and(|long| long == "1");
    let half = if long { ORDERS * 10 } else { ORDERS / 2 };
    // Shuttle sets a hook for panics around the one that is there: first the engine's own.
    watch_panics();
    let _repeat = Repeat(seed);
    scheduled(|| {
        run(RandomScheduler::new_from_seed(seed, half), body);
        run(PctScheduler::new_from_seed(seed, PREEMPTIONS, half), body);
    });
}

fn run(scheduler: impl Scheduler + 'static, body: fn()) {
    let mut config = Config::new();
    config.stack_size = 256 << 10;
    config.failure_persistence = FailurePersistence::None;
    config.max_steps = MaxSteps::FailAfter(MOST_STEPS);
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(body);
}

/// Starts a thread of a model. A deadlock is reported with the names of those that wait.
fn thread<T: Send + 'static>(
    name: impl Into<String>,
    body: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    Builder::new().name(name.into()).spawn(body).expect("a task needs no resources")
}

/// Returns a random number below `end`, which the seed repeats.
fn random(end: u64) -> u64 {
    thread_rng().gen_range(0..end)
}

/// Lets other threads continue for a while.
fn dawdle() {
    for _ in 0..random(4) {
        shuttle::thread::yield_now();
    }
}
