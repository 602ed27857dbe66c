//! What can be told to a run from outside: its sources are to wait, or to go on.

use super::{Inner, Runtime};
use crate::clock::now_ms;
use std::sync::atomic::Ordering::SeqCst;

impl Runtime {
    /// The sources wait until [`Runtime::resume_sources`]; the batch in hand is finished and committed. Queries are answered all the same. A run that begins later is not paused.
    pub fn pause_sources(&self) {
        self.set_paused(true);
    }

    /// The sources go on where they were.
    pub fn resume_sources(&self) {
        self.set_paused(false);
    }

    fn set_paused(&self, paused: bool) {
        let mut inner = self.lock();
        if paused == inner.paused_since_ms.is_some() {
            return;
        }
        inner.paused_since_ms = paused.then(now_ms);
        self.apply_hold(&inner);
        drop(inner);
        tracing::info!(paused, "the sources were told to {}", if paused { "wait" } else { "go on" });
    }

    /// Whether the sources are paused, every record that was read is committed, and every sink has confirmed it.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        let inner = self.lock();
        let idle = inner.intake.as_ref().is_some_and(|intake| intake.nothing_in_flight());
        inner.paused_since_ms.is_some() && idle && inner.sinks.iter().all(|sink| sink.last_output <= sink.published)
    }

    /// Whether the port takes such orders.
    #[doc(hidden)]
    pub fn allow_control(&self, allowed: bool) {
        self.controls.store(allowed, SeqCst);
    }

    pub(super) fn paused(inner: &Inner) -> Option<String> {
        let since = inner.paused_since_ms?;
        let seconds = now_ms().saturating_sub(since) / 1000;
        Some(format!("the sources were told to wait, {seconds} s ago: POST /v1/sources/resume lets them go on"))
    }
}
