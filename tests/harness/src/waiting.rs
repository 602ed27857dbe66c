//! Waiting for what a running engine's status is to say.

use std::time::{Duration, Instant};
use tidemill::{Engine, Status};

/// Waits until the status is as wanted, and gives it; fails if that takes longer than `patience`,
/// or the engine ends.
#[track_caller]
pub fn wait_until(engine: &Engine, patience: Duration, wanted: impl Fn(&Status) -> bool) -> Status {
    let began = Instant::now();
    loop {
        let status = engine.runtime().status();
        if wanted(&status) {
            return status;
        }
        assert!(!engine.is_over() && began.elapsed() < patience, "it stays {status:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
