//! Findings of a sink about its topics, kept from one session to the next.
//!
//! A session after a commit that cannot be trusted begins where the last one ended: nobody has
//! touched the topics. Only after a failure, and after an hour, the topics are looked at again:
//! with far brokers, that look takes longer than all else of a new session.

use super::settings::Takes;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The time it is taken for true.
const KEPT_FOR: Duration = Duration::from_secs(60 * 60);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Findings(Mutex<Option<(Takes, Instant)>>);

impl Findings {
    /// Returns how large messages may be, if that was found not long ago.
    pub(super) fn at(&self, now: Instant) -> Option<Takes> {
        let found = self.0.lock().expect("no holder of this lock panics");
        found
            .filter(|(_, at)| now.saturating_duration_since(*at) < KEPT_FOR)
            .map(|(takes, _)| takes)
    }

    /// Keeps what was found.
    pub(super) fn keep(&self, takes: Takes, now: Instant) {
        *self.0.lock().expect("no holder of this lock panics") = Some((takes, now));
    }

    /// Forgets it: something has failed, and it may be for a change of the topics.
    pub(super) fn forget(&self) {
        *self.0.lock().expect("no holder of this lock panics") = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_kept_for_an_hour_or_until_a_failure() {
        let (findings, began) = (Findings::default(), Instant::now());
        let takes = Takes { some: 2, every: 1 };
        assert_eq!(findings.at(began), None);
        findings.keep(takes, began);
        assert_eq!(findings.at(began + KEPT_FOR / 2), Some(takes));
        assert_eq!(findings.at(began + KEPT_FOR), None);
        findings.keep(takes, began);
        findings.forget();
        assert_eq!(findings.at(began), None);
    }
}
