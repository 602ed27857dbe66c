//! The presence of a sink's topics. A broker may not know a topic for a moment: a topic is gone
//! only if no broker has known it for a while.

use std::time::{Duration, Instant};

/// The time a topic that was there must be missing.
const GONE_AFTER: Duration = Duration::from_secs(30);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Presence {
    were_there: bool,
    missing_since: Option<Instant>,
}

impl Presence {
    /// Notes that all topics are there.
    pub(super) fn are_there(&mut self) {
        *self = Presence { were_there: true, missing_since: None };
    }

    /// Notes that one is missing. Returns whether it is gone, or was never there.
    pub(super) fn one_is_missing(&mut self, now: Instant) -> bool {
        let since = *self.missing_since.get_or_insert(now);
        !self.were_there || now.saturating_duration_since(since) >= GONE_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_was_there_is_gone_only_after_a_while() {
        let began = Instant::now();
        let mut presence = Presence::default();
        assert!(presence.one_is_missing(began), "it was never there");
        presence.are_there();
        assert!(!presence.one_is_missing(began));
        assert!(!presence.one_is_missing(began + GONE_AFTER / 2));
        assert!(presence.one_is_missing(began + GONE_AFTER));
        presence.are_there();
        assert!(!presence.one_is_missing(began + GONE_AFTER));
    }
}
