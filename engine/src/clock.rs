//! The clock: the system's, or one that a test sets.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time: the system's, or one that a test sets.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<AtomicU64>>);

impl Clock {
    /// A clock that stands still at `ms` milliseconds after 1970 until it is set.
    #[must_use]
    pub fn stopped_at(ms: u64) -> Clock {
        Clock(Some(Arc::new(AtomicU64::new(ms))))
    }

    /// Sets a stopped clock. The system's is left alone.
    pub fn set(&self, ms: u64) {
        if let Some(time) = &self.0 {
            time.store(ms, SeqCst);
        }
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        match &self.0 {
            Some(time) => time.load(SeqCst),
            None => now_ms(),
        }
    }
}

/// A duration in whole microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A duration in whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds since 1970, by the system.
#[expect(clippy::disallowed_methods, reason = "the only place that reads it")]
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}

/// The longest that a point in time is put off: clocks do not reach further.
pub(crate) const A_YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
