//! Tokens for SASL's OAUTHBEARER, from a closure of the user's.
//!
//! librdkafka asks for a token on whatever thread polls the client, which may be a worker's or the
//! committer's, and neither must wait for a closure that may take long. So the closure runs on a
//! thread of its own alone: before the first client is made, when three fifths of a token's life
//! are over (clients ask after four fifths), and every [`AGAIN_AFTER`] after a failure. Whoever
//! makes a client waits for the first token, but no longer than [`GIVEN_WITHIN`]; a worker does not
//! wait. All clients of one [`super::Kafka`] share the token, and those of a source on its workers
//! that of the instance that has begun it: see [`super::run_facts`].

use crate::{clock, threads};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::thread::Thread;
use std::time::{Duration, Instant, SystemTime};
use tidemill_state::{Error, Kind, Result};

/// The time between a failure and the next call of the closure.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// The interval at which it is looked at least whether a token is due: the clock may be set, and
/// the machine suspended.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// The time a token is kept at most that is valid for ever.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// The time a thread that makes a client waits for a token.
const GIVEN_WITHIN: Duration = Duration::from_secs(5);

/// A token that the brokers take for a user: see [`super::Kafka::oauth`].
#[derive(Clone)]
pub struct Token {
    value: String,
    principal: String,
    expires: SystemTime,
}

impl Token {
    /// A token as it is sent to the brokers, and when it expires.
    pub fn new(value: impl Into<String>, expires: SystemTime) -> Token {
        Token { value: value.into(), principal: "tidemill".into(), expires }
    }

    /// Sets the name of its user, for librdkafka's log alone: brokers take it from the token.
    #[must_use]
    pub fn principal(mut self, name: impl Into<String>) -> Token {
        self.principal = name.into();
        self
    }
}

impl fmt::Debug for Token {
    /// Leaves its value out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("principal", &self.principal)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

impl From<Token> for rdkafka::client::OAuthToken {
    fn from(token: Token) -> rdkafka::client::OAuthToken {
        let life = token.expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let lifetime_ms = i64::try_from(life.as_millis()).unwrap_or(i64::MAX);
        rdkafka::client::OAuthToken {
            token: token.value,
            principal_name: token.principal,
            lifetime_ms,
        }
    }
}

type Give = dyn Fn() -> Result<Token> + Send + Sync;

/// The tokens of one [`super::Kafka`], kept fresh.
pub(super) struct Tokens {
    give: Box<Give>,
    state: Mutex<State>,
    /// Notified when a call of the closure is over.
    called: Condvar,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    /// When the closure is to be called again: now, if there was no call yet.
    due: Option<Due>,
    /// Why the last call brought none.
    failure: Option<(Kind, String)>,
    /// The thread that calls the closure, once it was needed.
    thread: Option<Thread>,
}

/// The time of the next call of the closure: the earlier of two.
#[derive(Clone, Copy)]
struct Due {
    /// By a clock that is never set, and may stand still while the machine is suspended.
    at: Instant,
    /// By the clock that a token expires by. `None` after a failure.
    by_clock: Option<SystemTime>,
}

impl Due {
    /// The time after a token was given that is valid for so long.
    fn within(left: Duration, now: Instant, clock: SystemTime) -> Due {
        let wait = left.mul_f64(0.6);
        Due {
            at: now.checked_add(wait).unwrap_or(now + LONGEST),
            by_clock: clock.checked_add(wait),
        }
    }

    /// The time after a failure.
    fn again(now: Instant) -> Due {
        Due { at: now + AGAIN_AFTER, by_clock: None }
    }

    /// Returns the time to sleep before the next look; zero if the call is due.
    fn wait(&self, now: Instant, clock: SystemTime) -> Duration {
        match self.by_clock {
            Some(due) if due <= clock => Duration::ZERO,
            _ => self.at.saturating_duration_since(now).min(LOOK_EVERY),
        }
    }
}

impl State {
    /// Returns the token while it is valid.
    fn valid(&self) -> Option<&Token> {
        self.token.as_ref().filter(|token| token.expires > clock::now())
    }

    /// Why there is no token.
    fn why_none(&self) -> String {
        let none =
            if self.token.is_some() { "the last one has expired" } else { "there was none yet" };
        self.failure.as_ref().map_or(none, |(_, why)| why.as_str()).to_string()
    }
}

impl Tokens {
    pub(super) fn new(give: Box<Give>) -> Tokens {
        Tokens { give, state: Mutex::default(), called: Condvar::new() }
    }

    /// Makes sure that there is a token: waits for the closure, unless it has given one or has just
    /// failed.
    ///
    /// # Errors
    /// What the closure returned; kind Unreachable if it has not returned within [`GIVEN_WITHIN`].
    pub(super) fn begin(self: &Arc<Tokens>) -> Result<()> {
        let until = Instant::now() + GIVEN_WITHIN;
        let mut state = self.state();
        loop {
            if state.valid().is_some() {
                return Ok(());
            }
            // The closure's thread retries automatically: a caller that comes meanwhile would only
            // wait.
            if let Some((kind, why)) = &state.failure {
                return Err(Error::new(*kind, why.as_str()).while_doing(DOING));
            }
            self.have_called(&mut state)?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let late =
                    format!("the closure has not returned within {} s", GIVEN_WITHIN.as_secs());
                return Err(Error::unreachable(late).while_doing(DOING));
            }
            state = self.called.wait_timeout(state, left).expect("no holder of this lock panics").0;
        }
    }

    /// Has the closure called if it never was. Waits for nothing: without a token,
    /// [`Tokens::current`] returns why.
    pub(super) fn want(self: &Arc<Tokens>) {
        let mut state = self.state();
        if state.thread.is_none()
            && let Err(error) = self.have_called(&mut state)
        {
            // Whoever wants one next tries again.
            tracing::warn!(%error, "no token for Kafka is asked for");
        }
    }

    /// Has the closure called now, on its own thread.
    fn have_called(self: &Arc<Tokens>, state: &mut State) -> Result<()> {
        state.due = None;
        match &state.thread {
            Some(thread) => thread.unpark(),
            None => {
                let tokens = Arc::downgrade(self);
                let thread = threads::spawn("kafka tokens", move || keep_fresh(&tokens));
                let thread = thread.map_err(|why| {
                    Error::try_again(format!(
                        "the operating system gives this process no thread: {why}"
                    ))
                })?;
                state.thread = Some(thread);
            }
        }
        Ok(())
    }

    /// Returns the token, or why there is none. Waits for nothing.
    pub(super) fn current(&self) -> Result<Token, String> {
        let state = self.state();
        state.valid().cloned().ok_or_else(|| state.why_none())
    }

    /// Calls the closure.
    fn call(&self) -> Result<()> {
        let given = catch_unwind(AssertUnwindSafe(|| (self.give)()));
        let given = given.unwrap_or_else(|_| {
            Err(Error::user_code("the closure that gives tokens has panicked"))
        });
        let now = clock::now();
        let given = given.and_then(|token| match token.expires.duration_since(now) {
            Ok(left) if !left.is_zero() => Ok((token, left)),
            _ => Err(Error::unreachable("the token that was given has expired already")),
        });
        let mut state = self.state();
        let outcome = match given {
            Ok((token, left)) => {
                let due = Due::within(left, Instant::now(), now);
                (state.token, state.due, state.failure) = (Some(token), Some(due), None);
                Ok(())
            }
            Err(error) => {
                state.due = Some(Due::again(Instant::now()));
                state.failure = Some((error.kind(), error.to_string()));
                Err(error.while_doing(DOING))
            }
        };
        self.called.notify_all();
        outcome
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

/// The cause of an error.
const DOING: &str = "a token for Kafka (Kafka::oauth)";

/// Calls the closure whenever it is time, for as long as there is anybody who uses the tokens.
fn keep_fresh(tokens: &Weak<Tokens>) {
    while let Some(used) = tokens.upgrade() {
        let due = used.state().due;
        let wait = due.map_or(Duration::ZERO, |due| due.wait(Instant::now(), clock::now()));
        if wait.is_zero() {
            if let Err(error) = used.call() {
                tracing::warn!(%error, again_in = ?AGAIN_AFTER, "there is no new token for Kafka; \
                    the last one is used while it is valid");
            }
            continue;
        }
        drop(used);
        std::thread::park_timeout(wait);
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        if let Some(thread) = &self.state().thread {
            thread.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    fn tokens(give: impl Fn() -> Result<Token> + Send + Sync + 'static) -> Arc<Tokens> {
        Arc::new(Tokens::new(Box::new(give)))
    }

    #[test]
    fn a_token_is_kept_and_replaced_before_it_expires() {
        let calls = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&calls);
        let tokens = tokens(move || {
            let number = counted.fetch_add(1, SeqCst);
            Ok(Token::new(
                format!("t{number}"),
                SystemTime::now() + Duration::from_secs(if number == 0 { 2 } else { 3600 }),
            ))
        });
        assert!(tokens.current().is_err_and(|why| why.contains("none yet")));
        tokens.begin().expect("it is given");
        tokens.begin().expect("it is there");
        let until = SystemTime::now() + Duration::from_secs(60);
        while tokens.current().is_ok_and(|token| token.value == "t0") {
            assert!(SystemTime::now() < until, "it is not replaced");
            std::thread::park_timeout(Duration::from_millis(5));
        }
        assert_eq!(tokens.current().map(|token| token.value), Ok("t1".to_string()));
        assert_eq!(calls.load(SeqCst), 2);
        let left = Arc::downgrade(&tokens);
        drop(tokens);
        while left.strong_count() > 0 {
            assert!(SystemTime::now() < until, "its thread keeps it");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_clock_that_is_set_and_a_suspended_machine_do_not_delay_a_token() {
        let (began, clock) = (Instant::now(), SystemTime::now());
        let (seconds, day) = (Duration::from_secs, Duration::from_secs(86_400));
        let token = Due::within(seconds(1_000), began, clock);
        let failure = Due::again(began);
        for (case, due, passed, clock, expected) in [
            ("a fresh token", token, 0, clock, LOOK_EVERY),
            ("just before", token, 598, clock + seconds(598), seconds(2)),
            ("three fifths", token, 600, clock + seconds(600), Duration::ZERO),
            ("suspended, or set forward", token, 1, clock + day, Duration::ZERO),
            ("set back", token, 1, clock - day, LOOK_EVERY),
            ("set back, and three fifths", token, 600, clock - day, Duration::ZERO),
            ("a failure", failure, 0, clock, LOOK_EVERY),
            ("a failure, and set back", failure, 5, clock - day, Duration::ZERO),
            ("a failure, and set forward", failure, 3, clock + day, seconds(2)),
        ] {
            assert_eq!(due.wait(began + seconds(passed), clock), expected, "{case}");
        }
        assert_eq!(
            Due::within(Duration::MAX, began, clock).wait(began, clock),
            LOOK_EVERY,
            "it is valid for ever"
        );
    }

    /// A worker and the committer make clients too, and must not run code that may take long.
    #[test]
    fn the_closure_runs_on_its_own_thread_alone_also_when_a_token_has_expired() {
        let (calls, threads) = (Arc::new(AtomicU32::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (counted, seen) = (Arc::clone(&calls), Arc::clone(&threads));
        let tokens = tokens(move || {
            seen.lock().expect("a test").push(std::thread::current().id());
            match counted.fetch_add(1, SeqCst) {
                0 => Ok(Token::new("t0", SystemTime::now() + Duration::from_millis(100))),
                1 => Err(Error::unreachable("no answer")),
                _ => Ok(Token::new("t1", SystemTime::now() + Duration::from_secs(3600))),
            }
        });
        tokens.begin().expect("it is given");
        let until = Instant::now() + Duration::from_secs(60);
        while calls.load(SeqCst) < 2 || tokens.current().is_ok() {
            assert!(Instant::now() < until, "it is asked again");
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let began = Instant::now();
        let error = tokens.begin().expect_err("the last one has expired, and none has come");
        assert!(
            error.kind() == Kind::Unreachable && error.to_string().contains("no answer"),
            "{error}"
        );
        assert!(began.elapsed() < GIVEN_WITHIN, "it has failed just now: nobody waits");
        while let Err(error) = tokens.begin() {
            assert!(Instant::now() < until, "{error}");
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let threads = threads.lock().expect("a test");
        assert!(
            threads
                .iter()
                .all(|thread| *thread == threads[0] && *thread != std::thread::current().id()),
            "{threads:?}"
        );
    }

    #[test]
    fn a_closure_that_does_not_return_is_waited_for_within_bounds() {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = Mutex::new(held);
        let tokens = tokens(move || {
            let _ = held.lock().expect("a test").recv();
            Ok(Token::new("late", SystemTime::now() + Duration::from_secs(3600)))
        });
        let error = tokens.begin().expect_err("it takes too long");
        assert!(
            error.kind() == Kind::Unreachable && error.to_string().contains("has not returned"),
            "{error}"
        );
        drop(release);
        tokens.begin().expect("the same call has returned");
        assert_eq!(tokens.current().map(|token| token.value), Ok("late".to_string()));
    }

    #[test]
    fn what_the_closure_returns_decides_and_a_token_is_never_shown() {
        let error = tokens(|| Err(Error::config("wrong client secret")))
            .begin()
            .expect_err("there is none");
        assert!(
            error.kind() == Kind::Config && error.to_string().contains("wrong client secret"),
            "{error}"
        );
        let error =
            tokens(|| Err(Error::unreachable("no answer"))).begin().expect_err("there is none");
        assert_eq!(error.kind(), Kind::Unreachable);
        let error = tokens(|| Ok(Token::new("x", SystemTime::UNIX_EPOCH)))
            .begin()
            .expect_err("it has expired");
        assert!(
            error.kind() == Kind::Unreachable && error.to_string().contains("expired"),
            "{error}"
        );
        let error = tokens(|| panic!("in the closure")).begin().expect_err("there is none");
        assert_eq!(error.kind(), Kind::UserCode);
        let shown = format!("{:?}", Token::new("hunter2", SystemTime::now()).principal("tide"));
        assert!(shown.contains("tide") && !shown.contains("hunter2"), "{shown}");
    }
}
