//! A message that a reader holds back, since it cannot be decoded yet, and when it is decoded
//! again.

use rdkafka::message::OwnedMessage;
use std::time::{Duration, Instant};

/// The time between two attempts to decode it: at first, and at most. Each attempt parses the
/// message anew.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// See the module's documentation.
pub(super) struct Held {
    pub(super) message: OwnedMessage,
    /// The reason, if something temporary is wrong.
    pub(super) why: Option<String>,
    next: Instant,
    pause: Duration,
}

impl Held {
    /// Holds a message whose first attempt was now.
    pub(super) fn new(message: OwnedMessage, why: Option<String>, now: Instant) -> Held {
        Held { message, why, next: now + PAUSE.0, pause: PAUSE.0 }
    }

    /// Holds it on after another attempt.
    pub(super) fn again(self, why: Option<String>, now: Instant) -> Held {
        let pause = (self.pause * 2).min(PAUSE.1);
        Held { why, next: now + pause, pause, ..self }
    }

    /// Returns how long it is held before the next attempt; `None` if that is due.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        let wait = self.next.saturating_duration_since(now);
        (!wait.is_zero()).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::Timestamp;

    #[test]
    fn a_message_is_decoded_ever_less_often_up_to_once_a_second() {
        let message =
            OwnedMessage::new(None, None, "t".into(), Timestamp::NotAvailable, 0, 0, None);
        let mut now = Instant::now();
        let mut held = Held::new(message, None, now);
        let mut waits = Vec::new();
        for _ in 0..8 {
            let wait = held.wait(now).expect("it is not due at once");
            assert_eq!(held.wait(now + wait), None);
            now += wait;
            held = held.again(None, now);
            waits.push(wait.as_millis());
        }
        assert_eq!(waits, [20, 40, 80, 160, 320, 640, 1000, 1000]);
    }
}
