//! Errors, sorted by what the caller must do. A message says what, where and what to do.

use crate::printable;
use std::borrow::Cow;
use std::fmt;

/// The result of everything in Tidemill that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The class of an error, by the action that it requires of whoever runs the topology. Each class
/// is an exit code of the process.
///
/// # Errors of a source or a sink
///
/// An error of the operating system has the kind that [`system::error`](crate::system::error) gives
/// it: `TryAgain` if it may pass, `Config` if it stays until a path, a right or a limit is changed.
/// The kinds of the others:
///
/// | a source or a sink meets | kind |
/// | --- | --- |
/// | an unreachable broker or server, a time-out | `Unreachable` |
/// | a full disk, too many open files, an input/output error, a lock of another process | `TryAgain` |
/// | a missing path or right, a wrong setting, nothing to read at the first start | `Config` |
/// | a recorded partition that is gone, cut or replaced | `SourceLost` |
/// | a record that cannot be decoded | `UserCode` |
/// | a marker that is missing or damaged, output that does not match it, a target that refuses for good | `Sink` |
/// | a marker of a newer run, or of another topology | `Foreign` |
/// | a call that breaks the contract, a fault of the source or sink itself | `Bug` |
///
/// The engine reacts by the kind and the moment. *Ends* means that the run ends with the error:
///
/// | kind | at a start | while a source is opened or read | while a sink publishes |
/// | --- | --- | --- | --- |
/// | `Unreachable` | the run waits and tries again | ends: a reader has nothing to give instead, and reports its trouble | a new publisher reads the marker, after a pause of 100 ms to 10 s |
/// | `TryAgain` | ends | ends | as `Unreachable` |
/// | `SourceLost` | ends; with `--on-loss`, the source's `begin` may leave the partition out | everything read before is committed, then ends; with `--on-loss`, the run continues from the last commit | ends |
/// | `UserCode` | ends | the dataflow is rebuilt after the last commit up to `--retries` times in a row, then ends | ends |
/// | every other | ends | ends | ends |
///
/// While a source looks for new partitions (`discover`), `SourceLost` is treated as while it is
/// read. Every other error is logged, and the next look follows after the usual interval. The
/// command `check` waits for nothing: it ends with every error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Fix the arguments, settings or program (also: port in use, no input).
    Config,
    /// The state is damaged: restore it or begin anew.
    Damaged,
    /// The state is older than what a sink holds, or belongs to another program.
    Foreign,
    /// Records are gone at the source, or the source is another one.
    SourceLost,
    /// The content of a sink is unknown, or the sink refuses for good.
    Sink,
    /// The user's code or a record failed.
    UserCode,
    /// An invariant of Tidemill is broken: a bug to report.
    Bug,
    /// The same command may succeed later: folder in use, write failed, peer died.
    TryAgain,
    /// An input or output of the topology, such as a broker, is unreachable: a run waits for it.
    Unreachable,
}

impl Kind {
    /// Its name, as answers of the port have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Config => "config",
            Kind::Damaged => "damaged",
            Kind::Foreign => "foreign",
            Kind::SourceLost => "source_lost",
            Kind::Sink => "sink",
            Kind::UserCode => "user_code",
            Kind::Bug => "bug",
            Kind::TryAgain => "try_again",
            Kind::Unreachable => "unreachable",
        }
    }

    /// Returns the kind of this name, see [`Kind::name`].
    ///
    /// ```
    /// use tidemill_state::Kind;
    /// assert_eq!(Kind::named(Kind::UserCode.name()), Some(Kind::UserCode));
    /// assert_eq!(Kind::named("fine"), None);
    /// ```
    #[must_use]
    pub fn named(name: &str) -> Option<Kind> {
        use Kind::{
            Bug, Config, Damaged, Foreign, Sink, SourceLost, TryAgain, Unreachable, UserCode,
        };
        let all =
            [Config, Damaged, Foreign, SourceLost, Sink, UserCode, Bug, TryAgain, Unreachable];
        all.into_iter().find(|kind| kind.name() == name)
    }

    /// The exit code of a process that ends with this error. Of these, a supervisor restarts only
    /// 75.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Config => 64,
            Kind::Damaged => 65,
            Kind::Foreign => 66,
            Kind::SourceLost => 67,
            Kind::Sink => 68,
            Kind::UserCode => 69,
            Kind::Bug => 70,
            Kind::TryAgain | Kind::Unreachable => 75,
        }
    }
}

/// An error with its kind and a message for a person. Control characters in the message are
/// escaped, but for line breaks and tabs.
///
/// ```
/// use tidemill_state::{Error, Kind};
/// let error = Error::config("--workers 0: give at least 1");
/// assert_eq!(error.kind(), Kind::Config);
/// assert_eq!(error.kind().exit_code(), 64);
/// ```
#[derive(Clone, Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    perhaps_elsewhere: bool,
}

impl Error {
    /// An error of this kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error { kind, message: fit(message.into()), perhaps_elsewhere: false }
    }

    /// See [`Kind::Config`].
    pub fn config(message: impl Into<String>) -> Error {
        Error::new(Kind::Config, message)
    }

    /// See [`Kind::Damaged`].
    pub fn damaged(message: impl Into<String>) -> Error {
        Error::new(Kind::Damaged, message)
    }

    /// See [`Kind::Foreign`].
    pub fn foreign(message: impl Into<String>) -> Error {
        Error::new(Kind::Foreign, message)
    }

    /// See [`Kind::SourceLost`].
    pub fn source_lost(message: impl Into<String>) -> Error {
        Error::new(Kind::SourceLost, message)
    }

    /// See [`Kind::Sink`].
    pub fn sink(message: impl Into<String>) -> Error {
        Error::new(Kind::Sink, message)
    }

    /// See [`Kind::UserCode`].
    pub fn user_code(message: impl Into<String>) -> Error {
        Error::new(Kind::UserCode, message)
    }

    /// See [`Kind::Bug`].
    pub fn bug(message: impl Into<String>) -> Error {
        Error::new(Kind::Bug, message)
    }

    /// See [`Kind::TryAgain`].
    pub fn try_again(message: impl Into<String>) -> Error {
        Error::new(Kind::TryAgain, message)
    }

    /// See [`Kind::Unreachable`].
    pub fn unreachable(message: impl Into<String>) -> Error {
        Error::new(Kind::Unreachable, message)
    }

    /// Returns the class of the error: the action that it requires of the caller.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The same error of a source whose records may be elsewhere: a run looks at the whole input
    /// again before it ends with it.
    #[must_use]
    pub fn perhaps_elsewhere(self) -> Error {
        Error { perhaps_elsewhere: true, ..self }
    }

    /// Returns whether the records may be elsewhere, see [`Error::perhaps_elsewhere`].
    #[must_use]
    pub fn is_perhaps_elsewhere(&self) -> bool {
        self.perhaps_elsewhere
    }

    /// The same error, its message led by what was being done.
    #[must_use]
    pub fn while_doing(mut self, doing: &str) -> Error {
        self.message = fit(format!("{doing}: {}", self.message));
        self
    }
}

/// A message without control characters: it may quote names and values from outside, and be shown
/// on a terminal.
fn fit(message: String) -> String {
    match printable::lines(&message) {
        Cow::Borrowed(_) => message,
        Cow::Owned(escaped) => escaped,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
