//! The alarm that wakes the fold: when enough is committed that is not folded, and at the end of
//! the run. Commits before do not.

use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// An alarm for one thread. What rings while nobody waits is not lost.
#[derive(Debug, Default)]
pub(crate) struct FoldAlarm {
    rings: Mutex<bool>,
    rang: Condvar,
}

impl FoldAlarm {
    /// Ends the wait, or the next one.
    pub(crate) fn ring(&self) {
        *self.rings.lock().expect("no holder of this lock panics") = true;
        self.rang.notify_all();
    }

    /// Waits until it rings, at most so long. Returns whether it rang.
    pub(crate) fn wait(&self, at_most: Duration) -> bool {
        let rings = self.rings.lock().expect("no holder of this lock panics");
        let waited = self.rang.wait_timeout_while(rings, at_most, |rings| !*rings);
        std::mem::take(&mut *waited.expect("no holder of this lock panics").0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_ends_one_wait_whenever_it_comes() {
        let alarm = FoldAlarm::default();
        alarm.ring();
        alarm.ring();
        assert!(alarm.wait(Duration::from_secs(60)));
        assert!(!alarm.wait(Duration::from_millis(1)));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| alarm.wait(Duration::from_secs(60)));
            alarm.ring();
            assert!(waiting.join().expect("it does not panic"));
        });
    }
}
