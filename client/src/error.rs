//! Why there is no answer, sorted by what to do.

use std::fmt;
use std::time::Duration;

/// Why a request has no answer. Each says what to do: [`Error::remedy`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The server's address, the token or another setting of the client's is none.
    Settings(String),
    /// There is no such query; these are there.
    NoSuchQuery {
        /// The name of the requested query.
        name: String,
        /// The names of the queries that exist.
        known: Vec<String>,
    },
    /// The request cannot be understood, or its arguments are not of the query's type.
    BadRequest(String),
    /// There was no answer in time. The server was there.
    TimedOut {
        /// The time it was waited for.
        after: Duration,
        /// The server's reason, or the result of the last attempt.
        what: String,
    },
    /// Too many requests are under way.
    TooMany(String),
    /// The request or its answer is larger than it may be.
    TooLarge(String),
    /// The query's own code failed.
    Failed(String),
    /// The batch that was read from was given up before the answer was complete, again and again.
    NotHeld(String),
    /// The server could not be reached, or was starting or stopping, for as long as the request
    /// could wait.
    Unavailable(String),
    /// The server's state was replaced by another one, in which batches have other numbers. Said
    /// once: the next answers are of the new state.
    StateReplaced {
        /// The line of the state before, as far as this client knows it.
        was: String,
        /// The line of the state that is there now.
        now: String,
    },
    /// The query gives no value for these arguments: a greatest of none, for instance.
    NoValue {
        /// The query.
        name: String,
    },
    /// The result is not of the type that was asked for.
    WrongType {
        /// The query.
        name: String,
        /// The type that was asked for, and what does not fit.
        what: String,
    },
    /// The server does not let this client in.
    Refused(String),
    /// The server is no Tidemill that this client understands.
    Foreign(String),
}

impl Error {
    /// Returns the remedy.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Error::Settings(_) => "correct the client's settings",
            Error::NoSuchQuery { .. } => "ask one of those",
            Error::BadRequest(_) => "correct the request",
            Error::TimedOut { .. } => "ask for less, or give it more time",
            Error::TooMany(_) => "send it again when others are answered",
            Error::TooLarge(_) => "ask for less at once, for instance with a limit",
            Error::Failed(_) => "look at the query's own code",
            Error::NotHeld(_) => "send it again, or ask for less at once",
            Error::Unavailable(_) => "see that the server runs, or give the request more time",
            Error::StateReplaced { .. } => "forget what was known of the old state, and ask again",
            Error::NoValue { .. } => "give arguments for which there is one, or take it for none",
            Error::WrongType { .. } => "ask for the type that the server lists for this query",
            Error::Refused(_) => "give the client the server's token",
            Error::Foreign(_) => {
                "see that the address is that of a Tidemill server, of this version or a newer one"
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoSuchQuery { name, known } if known.is_empty() => {
                write!(f, "there is no query \"{name}\": this topology has none")?
            }
            Error::NoSuchQuery { name, known } => {
                write!(f, "there is no query \"{name}\"; there are: {}", known.join(", "))?
            }
            Error::TimedOut { after, what } => {
                write!(f, "there was no answer within {} ms: {what}", after.as_millis())?
            }
            Error::StateReplaced { was, now } => write!(
                f,
                "the server's state was replaced: it was of lineage {was}, and is of lineage {now}"
            )?,
            Error::NoValue { name } => write!(f, "\"{name}\" gives no value for these arguments")?,
            Error::WrongType { name, what } => {
                write!(f, "the answer of \"{name}\" is of another type: {what}")?
            }
            Error::Settings(what)
            | Error::BadRequest(what)
            | Error::TooMany(what)
            | Error::TooLarge(what)
            | Error::Failed(what)
            | Error::NotHeld(what)
            | Error::Unavailable(what)
            | Error::Refused(what)
            | Error::Foreign(what) => f.write_str(what)?,
        }
        write!(f, "; {}", self.remedy())
    }
}

impl std::error::Error for Error {}
