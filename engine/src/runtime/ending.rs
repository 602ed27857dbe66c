//! The end of a run: the request to stop or the failure, the time since, the time that sinks have
//! to publish, and everything that did not end in time.

use super::{Inner, Runtime};
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};
use tidemill_state::Error;

impl Runtime {
    /// Sinks have until then to publish what is committed.
    pub(crate) fn end_publishing(&self, at: Instant) {
        self.outlets.end_at(at);
        self.fold_alarm.ring();
        // Whoever has seen that there is no end yet waits by now, and is woken.
        drop(self.lock());
        self.stopped.notify_all();
    }

    /// Records the error that ends the run.
    pub(crate) fn fail(&self, error: Error) {
        let mut inner = self.lock();
        inner.phase = "failed";
        inner.last_error = Some(error.to_string());
        inner.fatal.get_or_insert(error);
        inner.ending_since.get_or_insert_with(Instant::now);
        if let Some(intake) = &inner.intake {
            intake.stop();
        }
        self.stopped.notify_all();
    }

    pub(crate) fn fatal(&self) -> Option<Error> {
        self.lock().fatal.clone()
    }

    /// Finishes the batch in hand and begins no other.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, SeqCst);
        let mut inner = self.lock();
        inner.phase = "stopping";
        inner.ending_since.get_or_insert_with(Instant::now);
        if let Some(intake) = &inner.intake {
            intake.stop();
        }
        self.stopped.notify_all();
    }

    /// For how long the run has been ending: since it was told to stop, or failed.
    pub(crate) fn ending_for(&self) -> Option<Duration> {
        self.lock().ending_since.map(|since| since.elapsed())
    }

    /// Marks the run as ending, if nothing has yet.
    pub(crate) fn begin_ending(&self) {
        self.lock().ending_since.get_or_insert_with(Instant::now);
    }

    /// Notes something that did not end in the time that a stop has.
    pub(crate) fn leave_behind(&self, what: String) {
        tracing::warn!("{what}");
        self.lock().left_behind.push(what);
    }

    /// Everything that did not end in the time that the stop had, in words: a closure that does not
    /// return, a write that hangs. Its threads still run; whoever ends the process does not wait
    /// for them. What is committed is safe.
    #[must_use]
    pub fn left_behind(&self) -> Vec<String> {
        self.lock().left_behind.clone()
    }

    /// Returns whether threads of the run may still be at work after its end: those left behind,
    /// and a look for new partitions that is under way. A process ends without the destructors of
    /// its libraries then, which would run beneath them.
    #[must_use]
    pub fn has_threads(&self) -> bool {
        self.looks.load(SeqCst) > 0 || !self.lock().left_behind.is_empty()
    }

    /// Sleeps so long, or until the run is being stopped: then a little, so that a loop around it
    /// does not spin until it is over.
    pub(crate) fn sleep_unless_stopped(&self, how_long: Duration) {
        let inner = self.lock();
        let running = |inner: &mut Inner| {
            !self.stopping.load(SeqCst) && self.outlets.ends().is_none() && inner.fatal.is_none()
        };
        let (inner, waited) = self
            .stopped
            .wait_timeout_while(inner, how_long, running)
            .expect("no holder of this lock panics");
        drop(inner);
        if !waited.timed_out() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
