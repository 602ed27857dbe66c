//! Errors of queries as gRPC has them.

use tidemill_engine::{QueryError, Runtime};
use tidemill_proto::{ErrorKind, QueryRequest};
use tonic::{Code, Status};

/// That the request is about another lineage than the one that is here.
pub(super) fn replaced(request: &QueryRequest, lineage: &str) -> tidemill_proto::QueryError {
    tidemill_proto::QueryError {
        kind: ErrorKind::StateReplaced.into(),
        what: format!("the state was replaced: the request is about lineage {}, and here is lineage {lineage}", request.lineage),
        remedy: "forget the batches of the other lineage, and send the request without it".into(),
        lineage: lineage.to_string(),
        ..tidemill_proto::QueryError::default()
    }
}

/// An error as it goes over the wire: its kind, and what to do.
pub(super) fn described(error: &QueryError, runtime: &Runtime) -> tidemill_proto::QueryError {
    let mut known = Vec::new();
    let (kind, remedy) = match error {
        QueryError::NoSuchQuery { known: there, .. } => {
            known.clone_from(there);
            (ErrorKind::NoSuchQuery, "ask one of those")
        }
        QueryError::BadArguments(_) => (ErrorKind::BadRequest, "correct the request"),
        QueryError::TooMany { .. } => (ErrorKind::TooMany, "send it again when others are answered"),
        QueryError::TimedOut { .. } => (ErrorKind::TimedOut, "ask for less, or give it more time"),
        QueryError::TooLarge { .. } => (ErrorKind::TooLarge, "send or ask for less at once, for instance with a limit"),
        QueryError::Failed(_) => (ErrorKind::FunctionFailed, "look at the query's own code"),
        QueryError::NotHeld => (ErrorKind::NotHeld, "send it again: it reads a newer batch then"),
        QueryError::Unavailable(_) => (ErrorKind::Unavailable, "send it again in a moment"),
    };
    tidemill_proto::QueryError {
        kind: kind.into(),
        what: error.to_string(),
        remedy: remedy.into(),
        known,
        lineage: runtime.lineage().to_string(),
    }
}

/// The health service's own error.
pub(super) fn no_such_service(name: &str) -> Status {
    let service = tidemill_proto::SERVICE;
    Status::new(
        Code::NotFound,
        format!("there is no service \"{name}\": ask for \"{service}\", or for \"\", which is all of them"),
    )
}
