//! The pause before librdkafka sends a request again, and what follows from it: how long a commit
//! may take and be trusted.
//!
//! # Why a quick commit was sent once
//!
//! Kafka's protocol does not say of which transaction an EndTxn is. One that was sent twice can
//! arrive a second time in the middle of the producer's next transaction, and commit half of it.
//! librdkafka sends a request a second time only from its queue of retries, where it lies for
//! `retry.backoff.ms`, give or take a fifth, but no longer than `retry.backoff.max.ms`
//! (`rd_kafka_broker_buf_retry` in `rdkafka_broker.c`). So a commit that was over before four
//! fifths of the pause were over was sent once, as long as the greatest pause is not below the
//! first. [`Backoff`] keeps the three in step: nobody can set one alone.
//!
//! Whatever took longer is not trusted, also when all went well: its producer is thrown away, and
//! the next one of the same transactional id fences what may still be under way. A longer pause
//! therefore costs no safety. It costs time when a request is lost or a leader moves: the producer
//! waits for so long before it asks again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use tidemill_state::{Error, Result};

/// The name of librdkafka's setting.
pub(super) const NAME: &str = "retry.backoff.ms";

/// The permitted values, in milliseconds.
const BOUNDS: std::ops::RangeInclusive<u64> = 100..=10_000;

/// librdkafka's own default for the greatest pause, in milliseconds.
const LEAST_MAXIMUM: u64 = 1_000;

/// The pause of a producer before it sends a request again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Backoff {
    ms: u64,
}

impl Default for Backoff {
    /// Short: a lost request of a broker nearby is soon sent again.
    fn default() -> Backoff {
        Backoff { ms: *BOUNDS.start() }
    }
}

impl Backoff {
    /// Returns what the settings give, or the default.
    ///
    /// # Errors
    /// Kind Config: it is not a number between 100 and 10,000.
    pub(super) fn of(settings: &BTreeMap<String, String>) -> Result<Backoff> {
        let Some(given) = settings.get(NAME) else { return Ok(Backoff::default()) };
        match given.trim().parse() {
            Ok(ms) if BOUNDS.contains(&ms) => Ok(Backoff { ms }),
            _ => Err(Error::config(format!(
                "Kafka's setting {NAME} does not fit: give the milliseconds after which a sink's \
                 request is sent again, from {} to {}",
                BOUNDS.start(),
                BOUNDS.end()
            ))),
        }
    }

    /// Returns librdkafka's settings.
    pub(super) fn settings(self) -> [(&'static str, String); 2] {
        [
            (NAME, self.ms.to_string()),
            ("retry.backoff.max.ms", self.ms.max(LEAST_MAXIMUM).to_string()),
        ]
    }

    /// Returns how long a commit may take and be trusted: less than the shortest pause that
    /// librdkafka makes of this one.
    pub(super) fn trusted_within(self) -> Duration {
        Duration::from_millis(self.ms * 4 / 5)
    }
}

/// The slow commits of a sink since the last one that was trusted.
#[derive(Debug, Default)]
pub(super) struct SlowCommits {
    in_a_row: AtomicU64,
    is_advised: AtomicBool,
}

impl SlowCommits {
    /// After so many in a row a run advises what helps, once.
    pub(super) const ADVISED_AFTER: u64 = 20;

    /// Counts a commit that took too long. Returns the pause in milliseconds that helps, when it is
    /// to be advised.
    pub(super) fn was_slow(&self, took: Duration) -> Option<u64> {
        let is_due = self.in_a_row.fetch_add(1, SeqCst) + 1 >= SlowCommits::ADVISED_AFTER;
        let helps = u64::try_from(took.as_millis() * 10)
            .unwrap_or(u64::MAX)
            .clamp(*BOUNDS.start(), *BOUNDS.end());
        (is_due && !self.is_advised.swap(true, SeqCst)).then_some(helps)
    }

    /// Begins to count from zero: the brokers are not always slow.
    pub(super) fn was_trusted(&self) {
        self.in_a_row.store(0, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(given: Option<&str>) -> Result<Backoff> {
        Backoff::of(&given.map(|given| (NAME.to_string(), given.to_string())).into_iter().collect())
    }

    #[test]
    fn a_commit_is_trusted_for_less_than_the_shortest_pause_and_the_greatest_pause_is_no_shorter() {
        for (given, first, greatest, trusted) in [
            (None, "100", "1000", 80),
            (Some("100"), "100", "1000", 80),
            (Some(" 2500"), "2500", "2500", 2000),
        ] {
            let backoff = of(given).expect("it is allowed");
            assert_eq!(backoff.settings().map(|(_, value)| value), [first, greatest]);
            assert_eq!(backoff.trusted_within(), Duration::from_millis(trusted));
        }
    }

    #[test]
    fn a_pause_out_of_bounds_is_refused() {
        for wrong in ["99", "10001", "-1", "1s", ""] {
            let error = of(Some(wrong)).expect_err("it is refused").to_string();
            assert!(error.contains("from 100 to 10000"), "{error}");
        }
    }

    #[test]
    fn only_slow_commits_in_a_row_are_advised_on_and_once() {
        let (slow, took) = (SlowCommits::default(), Duration::from_millis(120));
        let some = |count| (0..count).filter_map(|_| slow.was_slow(took)).collect::<Vec<_>>();
        // A commit that was trusted comes in between, however many were slow in all.
        for _ in 0..10 {
            assert!(some(SlowCommits::ADVISED_AFTER - 1).is_empty());
            slow.was_trusted();
        }
        assert_eq!(some(SlowCommits::ADVISED_AFTER), [1200]);
        assert!(some(100).is_empty());
    }
}
