//! The state of a run before it has begun: what it waits for, and whether it is to be given up.

use crate::clock::now_ms;
use serde::Serialize;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tidemill_state::{Kind, Result};

/// A start that may take long, because what the topology reads or writes is away: seen, and given
/// up, from outside.
///
/// ```
/// use tidemill_engine::{Settings, Starting};
/// let settings = Settings::new("orders", "state/orders");
/// assert!(settings.starting.waiting().is_none());
/// settings.starting.give_up();
/// ```
#[derive(Debug, Default)]
pub struct Starting {
    given_up: AtomicBool,
    /// A flag of the caller's that gives it up too. It is only read: the caller may use it for
    /// more.
    signal: Arc<AtomicBool>,
    waiting: Mutex<Option<Waiting>>,
}

/// The condition for which a start waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// The unreachable service, and the reason why it is thought so, in one text.
    pub waiting_for: String,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
}

/// The first and the longest pause between two attempts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// The interval at which a wait that continues is logged again.
const TELL_EVERY: Duration = Duration::from_secs(30);

impl Starting {
    /// Given up when this flag is raised: by a signal, say.
    #[must_use]
    pub fn given_up_by(flag: Arc<AtomicBool>) -> Starting {
        Starting { signal: flag, ..Starting::default() }
    }

    /// Makes a start that waits fail, with kind Unreachable.
    pub fn give_up(&self) {
        self.given_up.store(true, SeqCst);
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.load(SeqCst) || self.signal.load(SeqCst)
    }

    /// Returns what the start waits for now, if it waits.
    #[must_use]
    pub fn waiting(&self) -> Option<Waiting> {
        self.waiting.lock().expect("no holder of this lock panics").clone()
    }

    /// Calls `ask` until what it asks is no longer away.
    ///
    /// # Errors
    /// Those of `ask` but for kind Unreachable, which comes only when the start is given up.
    pub(crate) fn retry_while_away<T>(&self, mut ask: impl FnMut() -> Result<T>) -> Result<T> {
        let (mut pause, began) = (PAUSE.0, Instant::now());
        let mut told: Option<Instant> = None;
        loop {
            match ask() {
                Err(error) if error.kind() == Kind::Unreachable && !self.is_given_up() => {
                    if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                        tracing::warn!(%error, since = ?began.elapsed(), "waiting; it goes on by \
                            itself when that is back");
                        told = Some(Instant::now());
                    }
                    let mut waiting = self.waiting.lock().expect("no holder of this lock panics");
                    let since_ms = waiting.as_ref().map_or_else(now_ms, |waiting| waiting.since_ms);
                    *waiting = Some(Waiting { waiting_for: error.to_string(), since_ms });
                    drop(waiting);
                    self.sleep(pause);
                    pause = (pause * 2).min(PAUSE.1);
                }
                outcome => {
                    if told.is_some() && outcome.is_ok() {
                        tracing::info!(waited = ?began.elapsed(), "it is back: going on");
                    }
                    *self.waiting.lock().expect("no holder of this lock panics") = None;
                    return outcome;
                }
            }
        }
    }

    fn sleep(&self, pause: Duration) {
        let until = Instant::now() + pause;
        while Instant::now() < until && !self.is_given_up() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[cfg(test)]
mod tests {

    use crate::runtime::starting::*;
    use tidemill_state::Error;

    #[test]
    fn what_is_away_is_waited_for_and_named() {
        let starting = Starting::default();
        let mut asked = 0;
        let got = starting.retry_while_away(|| {
            asked += 1;
            match asked {
                1 => Err(Error::unreachable("the broker is away")),
                2 => {
                    assert_eq!(
                        starting.waiting().expect("it waits").waiting_for,
                        "the broker is away"
                    );
                    Ok(7)
                }
                _ => panic!("it was back"),
            }
        });
        assert_eq!((got.expect("it is back"), starting.waiting()), (7, None));
    }

    #[test]
    fn giving_up_does_not_raise_the_flag_of_the_caller() {
        let flag = Arc::new(AtomicBool::new(false));
        let starting = Starting::given_up_by(Arc::clone(&flag));
        starting.give_up();
        assert!(starting.is_given_up() && !flag.load(SeqCst));
    }

    #[test]
    fn a_start_that_waits_can_be_given_up() {
        let starting = Starting::default();
        starting.give_up();
        let error = starting
            .retry_while_away(|| Err::<(), _>(Error::unreachable("the broker is away")))
            .expect_err("given up");
        assert_eq!(error.kind(), Kind::Unreachable);
    }
}
