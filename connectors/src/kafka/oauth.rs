//! Tokens for SASL's OAUTHBEARER, from a closure of the user's.
//!
//! librdkafka asks for a token on whatever thread polls the client, which may be a worker's, and
//! that must not wait for the network. So the closure runs before the first client is made, and
//! then on a thread of its own, when three fifths of a token's life are over: clients ask after
//! four fifths. All clients of one [`super::Kafka`] share the token.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread::Thread;
use std::time::{Duration, SystemTime};
use tidemill_state::{Error, Result};

/// How long after a failure the closure is called again.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

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
        f.debug_struct("Token").field("principal", &self.principal).field("expires", &self.expires).finish_non_exhaustive()
    }
}

impl From<Token> for rdkafka::client::OAuthToken {
    fn from(token: Token) -> rdkafka::client::OAuthToken {
        let life = token.expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let lifetime_ms = i64::try_from(life.as_millis()).unwrap_or(i64::MAX);
        rdkafka::client::OAuthToken { token: token.value, principal_name: token.principal, lifetime_ms }
    }
}

type Give = dyn Fn() -> Result<Token> + Send + Sync;

/// The tokens of one [`super::Kafka`], kept fresh.
pub(super) struct Tokens {
    give: Box<Give>,
    state: Mutex<State>,
    /// Held by whoever asks for the first token.
    first: Mutex<()>,
    /// The thread that asks for the next ones.
    thread: OnceLock<Thread>,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    /// When the closure is to be called again.
    due: Option<SystemTime>,
    /// Why the last call brought none.
    failure: Option<String>,
}

impl Tokens {
    pub(super) fn new(give: Box<Give>) -> Tokens {
        Tokens { give, state: Mutex::default(), first: Mutex::default(), thread: OnceLock::new() }
    }

    /// Makes sure that there is a token: waits for the closure, unless it has given one.
    ///
    /// # Errors
    /// What the closure returned.
    pub(super) fn begin(self: &Arc<Tokens>) -> Result<()> {
        let _one = self.first.lock().expect("no holder of this lock panics");
        if self.current().is_ok() {
            return Ok(());
        }
        self.ask()?;
        if self.thread.get().is_none() {
            let tokens = Arc::downgrade(self);
            let thread = std::thread::Builder::new().name("kafka tokens".into()).spawn(move || keep_fresh(&tokens));
            let thread =
                thread.map_err(|why| Error::try_again(format!("the operating system gives this process no thread: {why}")))?;
            let _ = self.thread.set(thread.thread().clone());
        }
        Ok(())
    }

    /// Returns the token, or why there is none. Waits for nothing.
    pub(super) fn current(&self) -> Result<Token, String> {
        let state = self.state();
        match &state.token {
            Some(token) if token.expires > SystemTime::now() => Ok(token.clone()),
            had => Err(state
                .failure
                .clone()
                .unwrap_or_else(|| if had.is_some() { "the last one has expired" } else { "there was none yet" }.to_string())),
        }
    }

    /// Calls the closure.
    fn ask(&self) -> Result<()> {
        let given = catch_unwind(AssertUnwindSafe(|| (self.give)()));
        let given = given.unwrap_or_else(|_| Err(Error::user_code("the closure that gives tokens has panicked")));
        let now = SystemTime::now();
        let given = given.and_then(|token| match token.expires.duration_since(now) {
            Ok(left) if !left.is_zero() => Ok((token, left)),
            _ => Err(Error::away("the token that was given has expired already")),
        });
        let mut state = self.state();
        match given {
            Ok((token, left)) => {
                *state = State { token: Some(token), due: Some(now + left.mul_f64(0.6)), failure: None };
                Ok(())
            }
            Err(error) => {
                state.due = Some(now + AGAIN_AFTER);
                state.failure = Some(error.to_string());
                Err(error.while_doing("a token for Kafka (Kafka::oauth)"))
            }
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

/// Calls the closure whenever it is time, for as long as there is anybody who uses the tokens.
fn keep_fresh(tokens: &Weak<Tokens>) {
    while let Some(used) = tokens.upgrade() {
        let due = used.state().due;
        let wait = due.and_then(|due| due.duration_since(SystemTime::now()).ok()).unwrap_or_default();
        if wait.is_zero() {
            if let Err(error) = used.ask() {
                tracing::warn!(%error, again_in = ?AGAIN_AFTER, "there is no new token for Kafka; the last one is used while it is valid");
            }
            continue;
        }
        drop(used);
        std::thread::park_timeout(wait);
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
    use tidemill_state::Kind;

    fn tokens(give: impl Fn() -> Result<Token> + Send + Sync + 'static) -> Arc<Tokens> {
        Arc::new(Tokens::new(Box::new(give)))
    }

    #[test]
    fn a_token_is_kept_and_replaced_before_it_expires() {
        let calls = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&calls);
        let tokens = tokens(move || {
            let number = counted.fetch_add(1, SeqCst);
            Ok(Token::new(format!("t{number}"), SystemTime::now() + Duration::from_secs(if number == 0 { 2 } else { 3600 })))
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
    fn what_the_closure_returns_decides_and_a_token_is_never_shown() {
        let error = tokens(|| Err(Error::config("wrong client secret"))).begin().expect_err("there is none");
        assert!(error.kind() == Kind::Config && error.to_string().contains("wrong client secret"), "{error}");
        let error = tokens(|| Err(Error::away("no answer"))).begin().expect_err("there is none");
        assert_eq!(error.kind(), Kind::Away);
        let error = tokens(|| Ok(Token::new("x", SystemTime::UNIX_EPOCH))).begin().expect_err("it has expired");
        assert!(error.kind() == Kind::Away && error.to_string().contains("expired"), "{error}");
        let error = tokens(|| panic!("in the closure")).begin().expect_err("there is none");
        assert_eq!(error.kind(), Kind::UserCode);
        let shown = format!("{:?}", Token::new("hunter2", SystemTime::now()).principal("tide"));
        assert!(shown.contains("tide") && !shown.contains("hunter2"), "{shown}");
    }
}
