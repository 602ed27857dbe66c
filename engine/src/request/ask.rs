//! A request as seen from outside: its arguments, its answer, and every way in which there is no
//! answer.

use crate::ids::QueryIndex;
use crate::request::unsent_bytes::UnsentGuard;
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};
use tidemill_state::codec::trace::Trace;
use tidemill_state::{Kind, Txid};

/// As what arguments come and answers go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON: an array, or the value itself of a query that ends in an ungrouped aggregate.
    Json,
    /// JSON as Storm has it: an array with an array for each output; a tuple is that array itself.
    Storm,
    /// bincode with the format byte in front, as in [`tidemill_state::codec`]: a vector; of a query
    /// that ends in an ungrouped aggregate an option.
    Bincode,
}

/// An answer: from one committed batch, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The batch.
    pub txid: Txid,
    /// The result, in the format that was asked for.
    pub bytes: Vec<u8>,
    /// Counts them until they are sent. For `tidemill-server`.
    #[doc(hidden)]
    pub kept: UnsentGuard,
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryError {
    /// There is no such function; these are there.
    NoSuchQuery {
        /// The requested name.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// The arguments are not of the function's type.
    BadArguments(String),
    /// The result is of another type than the request expects.
    WrongResult(String),
    /// There are too many requests: send it again in a moment.
    TooMany {
        /// The bound that is reached, in words.
        bound: String,
    },
    /// The time is over.
    TimedOut {
        /// After how many milliseconds.
        after_ms: u64,
        /// The possible cause of the delay, if known.
        held_up_by: Option<String>,
    },
    /// The answer, or the request, is larger than it may be.
    TooLarge {
        /// Which of the two.
        what: &'static str,
        /// The number of bytes it may have.
        limit: usize,
    },
    /// The function's own code failed.
    Failed(String),
    /// The batch as of which it was reading is no longer held: it took too long, or too many values
    /// were kept for it.
    NotHeld,
    /// The workers are starting, stopping or beginning anew: send it again in a moment.
    Unavailable(String),
}

impl QueryError {
    /// Returns what it asks of whoever sent the request: a program that ends because of it has this
    /// kind's exit code.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind_and_reason().0
    }

    /// Returns the error's name, one word: for metrics.
    pub(crate) fn reason(&self) -> &'static str {
        self.kind_and_reason().1
    }

    fn kind_and_reason(&self) -> (Kind, &'static str) {
        match self {
            QueryError::NoSuchQuery { .. } => (Kind::Config, "no_such_query"),
            QueryError::BadArguments(_) => (Kind::Config, "bad_arguments"),
            QueryError::WrongResult(_) => (Kind::Config, "wrong_result"),
            QueryError::TooMany { .. } => (Kind::TryAgain, "too_many"),
            QueryError::TimedOut { .. } => (Kind::TryAgain, "timed_out"),
            QueryError::TooLarge { .. } => (Kind::Config, "too_large"),
            QueryError::Failed(_) => (Kind::UserCode, "failed"),
            QueryError::NotHeld => (Kind::TryAgain, "not_held"),
            QueryError::Unavailable(_) => (Kind::TryAgain, "unavailable"),
        }
    }
}

impl std::fmt::Display for QueryError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            QueryError::NoSuchQuery { name, known } if known.is_empty() => {
                write!(f, "there is no query \"{name}\": this topology has none")
            }
            QueryError::NoSuchQuery { name, known } => write!(
                f,
                "there is no query \"{name}\"; \
                there are: {}",
                known.join(", ")
            ),
            QueryError::BadArguments(why) | QueryError::WrongResult(why) => f.write_str(why),
            QueryError::TooMany { bound } => write!(f, "too many requests: {bound}"),
            QueryError::TimedOut { after_ms, held_up_by: None } => write!(
                f,
                "there was no answer \
                within {after_ms} ms"
            ),
            QueryError::TimedOut { after_ms, held_up_by: Some(what) } => {
                write!(f, "there was no answer within {after_ms} ms; {what}")
            }
            QueryError::TooLarge { what, limit } => write!(
                f,
                "the {what} is larger than {limit} \
                bytes"
            ),
            QueryError::Failed(why) => f.write_str(why),
            QueryError::NotHeld => f.write_str(
                "the batch as of which it was reading is no longer held: too many values were \
                 kept for requests that take long",
            ),
            QueryError::Unavailable(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for QueryError {}

impl QueryError {
    /// So many bytes of answers are not sent yet: there is no room for another. For
    /// `tidemill-server`.
    #[doc(hidden)]
    #[must_use]
    pub fn unsent(most: usize) -> QueryError {
        QueryError::TooMany {
            bound: format!("{most} bytes of answers are not taken yet, as many as there may be"),
        }
    }

    /// The workers that had the request are no more.
    pub(crate) fn gone() -> QueryError {
        QueryError::Unavailable(
            "the workers have stopped or begun anew: send it again in a moment".into(),
        )
    }
}

/// The outcome of a request.
pub type Outcome = Result<Answer, QueryError>;

/// Takes the answer to one request.
pub(crate) trait Reply: Send {
    fn answer(self: Box<Self>, outcome: Outcome);

    /// Returns whether nobody waits for it any more.
    fn is_gone(&self) -> bool;

    /// The request was not sent, and whoever sent it knows.
    fn withdraw(self: Box<Self>);
}

impl Reply for tokio::sync::oneshot::Sender<Outcome> {
    fn answer(self: Box<Self>, outcome: Outcome) {
        let _ = self.send(outcome);
    }

    fn is_gone(&self) -> bool {
        self.is_closed()
    }

    fn withdraw(self: Box<Self>) {}
}

/// A reply to one of many requests that share a channel: each with its number.
pub(crate) struct Numbered {
    number: u64,
    to: Option<crossbeam_channel::Sender<(u64, Outcome)>>,
}

impl Numbered {
    pub(crate) fn new(number: u64, to: crossbeam_channel::Sender<(u64, Outcome)>) -> Numbered {
        Numbered { number, to: Some(to) }
    }
}

/// A request that is dropped before its answer, with the inbox of workers that stop, is answered
/// with `QueryError::gone`.
impl Drop for Numbered {
    fn drop(&mut self) {
        if let Some(to) = self.to.take() {
            let _ = to.send((self.number, Err(QueryError::gone())));
        }
    }
}

impl Reply for Numbered {
    fn answer(mut self: Box<Self>, outcome: Outcome) {
        if let Some(to) = self.to.take() {
            let _ = to.send((self.number, outcome));
        }
    }

    fn is_gone(&self) -> bool {
        false
    }

    fn withdraw(mut self: Box<Self>) {
        self.to = None;
    }
}

/// A request that counts as let in, until this is dropped.
pub struct Permit(Arc<AtomicUsize>);

impl Permit {
    /// One more of what is counted there, if that is not more than `most`.
    #[must_use]
    pub fn one_of(counted: &Arc<AtomicUsize>, most: usize) -> Option<Permit> {
        let admitted = Permit(Arc::clone(counted));
        (counted.fetch_add(1, SeqCst) < most).then_some(admitted)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// A request on its way to its home.
pub(crate) struct Ask {
    pub(crate) admitted: Permit,
    /// Which of the topology's queries.
    pub(crate) query: QueryIndex,
    /// Its arguments, of the query's own type.
    pub(crate) arguments: Box<dyn Any + Send>,
    pub(crate) format: Format,
    pub(crate) begun: Instant,
    pub(crate) deadline: Instant,
    /// The number of bytes the answer may have.
    pub(crate) most_bytes: usize,
    pub(crate) reply: Box<dyn Reply>,
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct QueryRequest<'a> {
    /// The query's name.
    pub name: &'a str,
    /// Its arguments, in `format`.
    pub arguments: &'a [u8],
    /// As what the arguments come and the answer goes.
    pub format: Format,
    /// The time it may take: at most [`crate::QueryLimits::time_out`], which is also what it may
    /// take if this is `None`.
    pub time_out: Option<Duration>,
    /// The batches that the answer must include: the request waits for them, within its time.
    pub at_least: &'a [AtLeast<'a>],
    /// The types that the arguments and the result have where it comes from. They are compared with
    /// those of the query if `format` is bincode, whose bytes do not show of which type they are.
    pub types: Option<RequestTypes<'a>>,
}

/// The types of a request, where it comes from.
#[derive(Clone, Copy, Debug)]
pub struct RequestTypes<'a> {
    /// The kinds and names of the arguments' parts.
    pub arguments: Trace,
    /// The type of the arguments in words, for the error.
    pub argument_type: &'a str,
    /// The result's type, as [`tidemill_state::shape`] describes it; empty if it is not compared.
    pub result: &'a str,
    /// The type of the result in words, for the error.
    pub result_type: &'a str,
}

/// A batch that an answer must not be older than: so that who has written something reads it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtLeast<'a> {
    /// This batch.
    Txid(Txid),
    /// The batch that holds the record at this offset of a source's partition. A producer knows
    /// that, and not the batch.
    Position {
        /// The source's name.
        source: &'a str,
        /// The partition's name: of a topic `orders[3]`.
        partition: &'a str,
        /// The record's offset.
        offset: u64,
    },
}

#[cfg(test)]
mod tests {
    use crate::request::ask::*;

    #[test]
    fn a_request_that_is_dropped_unanswered_is_told_so_and_one_that_was_not_sent_is_not() {
        let (to, answers) = crossbeam_channel::unbounded();
        drop(Box::new(Numbered::new(1, to.clone())));
        assert!(matches!(answers.try_recv(), Ok((1, Err(QueryError::Unavailable(_))))));
        Box::new(Numbered::new(2, to.clone())).withdraw();
        Box::new(Numbered::new(3, to)).answer(Err(QueryError::NotHeld));
        assert_eq!(answers.iter().collect::<Vec<_>>(), [(3, Err(QueryError::NotHeld))]);
    }
}
