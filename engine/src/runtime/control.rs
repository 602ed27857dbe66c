//! The control of a run from outside: its sources are paused or resumed.

use super::Runtime;
use std::sync::atomic::Ordering::SeqCst;

impl Runtime {
    /// The sources wait until [`Runtime::resume_sources`]; the batch in hand is finished and
    /// committed. Queries are answered all the same. A run that begins later is not paused.
    pub fn pause_sources(&self) {
        self.set_paused(true);
    }

    /// The sources go on where they were.
    pub fn resume_sources(&self) {
        self.set_paused(false);
    }

    fn set_paused(&self, paused: bool) {
        if self.backpressure.set_paused(paused) {
            tracing::info!(
                paused,
                "the sources were told to {}",
                if paused { "wait" } else { "go on" }
            );
        }
    }

    /// Returns whether the sources are paused, every record that was read is committed, and every
    /// sink has confirmed it.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        let inner = self.lock();
        let idle = inner.intake.as_ref().is_some_and(|intake| intake.nothing_in_flight());
        self.backpressure.is_paused() && idle && self.outlets.are_confirmed()
    }

    /// Returns whether the port takes such orders.
    #[doc(hidden)]
    pub fn allow_control(&self, allowed: bool) {
        self.controls.store(allowed, SeqCst);
    }
}
