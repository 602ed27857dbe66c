//! Errors of queries as gRPC has them.

use crate::query_errors::row_of;
use tidemill_engine::{QueryError, Runtime};
use tidemill_proto::{ErrorKind, QueryRequest};
use tonic::{Code, Status};

/// That the request is about another lineage than the one that is here.
pub(super) fn replaced(request: &QueryRequest, lineage: &str) -> tidemill_proto::QueryError {
    let (what, remedy) = crate::refusal::replaced(&request.lineage, lineage);
    tidemill_proto::QueryError {
        kind: ErrorKind::StateReplaced.into(),
        what,
        remedy: remedy.into(),
        lineage: lineage.to_string(),
        ..tidemill_proto::QueryError::default()
    }
}

/// An error as it goes over the wire: its kind, and what to do.
pub(super) fn described(error: &QueryError, runtime: &Runtime) -> tidemill_proto::QueryError {
    let row = row_of(error);
    let known = match error {
        QueryError::NoSuchQuery { known, .. } => known.clone(),
        _ => Vec::new(),
    };
    tidemill_proto::QueryError {
        kind: row.kind.into(),
        what: error.to_string(),
        remedy: row.remedy.into(),
        known,
        lineage: runtime.lineage().to_string(),
    }
}

/// The health service's own error.
pub(super) fn no_such_service(name: &str) -> Status {
    let service = tidemill_proto::SERVICE;
    Status::new(
        Code::NotFound,
        format!(
            "there is no service \"{name}\": ask for \"{service}\", or for \"\", which is all of \
             them"
        ),
    )
}
