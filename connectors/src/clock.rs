//! The time of day, for what an outside world dates: tokens, files and records. Spans are measured
//! with [`std::time::Instant`].

use std::time::SystemTime;

/// The time, by the system.
#[expect(clippy::disallowed_methods, reason = "the only place that reads it")]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}
