//! Back-pressure: the sources wait while the disk is full, while they are paused, and while too
//! much is committed that is not folded or not confirmed by sinks.

use crate::batch::intake::Intake;
use crate::clock::now_ms;
use crate::sync::{Mutex, MutexGuard};
use std::sync::Arc;

/// From how many bytes on the sources wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Of committed changes that are not folded.
    pub(crate) unfolded_bytes: u64,
    /// Of committed output that sinks have not confirmed.
    pub(crate) outbox_bytes: usize,
}

/// The reasons for which the sources may wait. It holds the intake of the current generation back
/// while there is one.
pub(crate) struct Backpressure {
    bounds: Bounds,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    intake: Option<Arc<Intake>>,
    full_disk: Option<String>,
    paused_since_ms: Option<u64>,
    unfolded_bytes: u64,
    backlog_bytes: usize,
}

impl Backpressure {
    pub(crate) fn new(bounds: Bounds) -> Backpressure {
        Backpressure { bounds, inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of this lock panics")
    }

    /// Changes a reason, and holds the sources back or lets them go on.
    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.lock();
        let changed = change(&mut inner);
        let hold = inner.reason(self.bounds).is_some();
        if let Some(intake) = &inner.intake {
            intake.hold(hold);
        }
        changed
    }

    /// Holds back this intake from now on, or none.
    pub(crate) fn set_intake(&self, intake: Option<Arc<Intake>>) {
        self.change(|inner| inner.intake = intake);
    }

    /// The disk has too little space, for this reason; or enough.
    pub(crate) fn set_full_disk(&self, why: Option<String>) {
        self.change(|inner| inner.full_disk = why);
    }

    /// Returns whether the sources wait for disk space.
    pub(crate) fn is_disk_full(&self) -> bool {
        self.lock().full_disk.is_some()
    }

    /// Pauses the sources, or lets them go on. Returns whether that is a change.
    pub(crate) fn set_paused(&self, paused: bool) -> bool {
        self.change(|inner| {
            let is_change = paused != inner.paused_since_ms.is_some();
            if is_change {
                inner.paused_since_ms = paused.then(now_ms);
            }
            is_change
        })
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.lock().paused_since_ms.is_some()
    }

    /// So many more bytes of changes are committed, and sinks have not confirmed so many in all.
    /// Returns the number of bytes that are not folded.
    pub(crate) fn commit(&self, changes: u64, backlog: usize) -> u64 {
        self.change(|inner| {
            (inner.unfolded_bytes, inner.backlog_bytes) = (inner.unfolded_bytes + changes, backlog);
            inner.unfolded_bytes
        })
    }

    pub(crate) fn set_unfolded(&self, bytes: u64) {
        self.change(|inner| inner.unfolded_bytes = bytes);
    }

    /// Returns the number of bytes of changes that are committed and not folded.
    pub(crate) fn unfolded_bytes(&self) -> u64 {
        self.lock().unfolded_bytes
    }

    /// Sinks have not confirmed so many bytes.
    pub(crate) fn set_backlog(&self, bytes: usize) {
        self.change(|inner| inner.backlog_bytes = bytes);
    }

    /// Why the sources wait, if they do, for a person.
    pub(crate) fn reason(&self) -> Option<String> {
        self.lock().reason(self.bounds)
    }
}

impl Inner {
    fn reason(&self, bounds: Bounds) -> Option<String> {
        if let Some(why) = &self.full_disk {
            return Some(why.clone());
        }
        if let Some(since) = self.paused_since_ms {
            let seconds = now_ms().saturating_sub(since) / 1000;
            return Some(format!(
                "the sources were told to wait, {seconds} s ago: POST /v1/sources/resume lets \
                 them go on"
            ));
        }
        let Inner { unfolded_bytes, backlog_bytes, .. } = self;
        if *unfolded_bytes >= bounds.unfolded_bytes {
            return Some(format!(
                "{unfolded_bytes} bytes of committed changes are not folded yet: the sources wait \
                 for the fold, nothing is lost"
            ));
        }
        (*backlog_bytes >= bounds.outbox_bytes).then(|| {
            let bound = bounds.outbox_bytes;
            format!(
                "the outbox holds {backlog_bytes} bytes that sinks have not confirmed (the bound \
                 is {bound}): the sources wait, nothing is lost"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sources_wait_for_as_long_as_there_is_a_reason() {
        let pressure = Backpressure::new(Bounds { unfolded_bytes: 100, outbox_bytes: 10 });
        let reason = |part: &str| pressure.reason().is_some_and(|why| why.contains(part));
        assert_eq!(pressure.reason(), None);
        assert_eq!((pressure.commit(60, 0), pressure.commit(40, 0)), (60, 100));
        assert!(reason("100 bytes of committed changes"));
        pressure.set_unfolded(0);
        pressure.set_backlog(10);
        assert!(reason("the outbox holds 10 bytes") && !reason("folded"));
        assert!(pressure.set_paused(true) && !pressure.set_paused(true) && pressure.is_paused());
        assert!(reason("were told to wait"));
        pressure.set_full_disk(Some("the disk is full".into()));
        assert!(reason("the disk is full") && pressure.is_disk_full());
        pressure.set_full_disk(None);
        assert!(pressure.set_paused(false));
        pressure.set_backlog(9);
        assert_eq!(pressure.reason(), None);
    }
}
