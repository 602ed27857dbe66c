//! The errors of queries, in one table: the status over HTTP, the kind over gRPC, and the advice to
//! the client. [`QueryError::kind`] is the exit code of a program that ends because of one.

use axum::http::StatusCode;
use tidemill_engine::QueryError;
use tidemill_proto::ErrorKind;

/// The form of an error outside.
pub(super) struct Row {
    pub(super) status: StatusCode,
    pub(super) kind: ErrorKind,
    /// The advice to the client.
    pub(super) remedy: &'static str,
}

/// Returns the row of an error.
pub(super) fn row_of(error: &QueryError) -> Row {
    let (status, kind, remedy) = match error {
        QueryError::NoSuchQuery { .. } => (
            StatusCode::NOT_FOUND,
            ErrorKind::NoSuchQuery,
            "ask for one of those; GET /v1/queries lists them with their types",
        ),
        QueryError::BadArguments(_) => (
            StatusCode::BAD_REQUEST,
            ErrorKind::BadRequest,
            "send arguments of the query's type, as JSON over HTTP: GET /v1/queries lists the \
             types",
        ),
        QueryError::WrongResult(_) => (
            StatusCode::BAD_REQUEST,
            ErrorKind::WrongType,
            "expect a result of the query's type: GET /v1/queries lists the types",
        ),
        QueryError::TooMany { .. } => (
            StatusCode::TOO_MANY_REQUESTS,
            ErrorKind::TooMany,
            "send it again in a moment, or fewer at once",
        ),
        QueryError::TimedOut { .. } => (
            StatusCode::GATEWAY_TIMEOUT,
            ErrorKind::TimedOut,
            "ask for less, or allow more time with timeout_ms, up to the server's own bound",
        ),
        QueryError::TooLarge { .. } => (
            StatusCode::PAYLOAD_TOO_LARGE,
            ErrorKind::TooLarge,
            "ask for less: with a limit or a narrower range",
        ),
        QueryError::Failed(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            ErrorKind::FunctionFailed,
            "correct the query's code or its arguments: nothing else is affected",
        ),
        QueryError::NotHeld => (
            StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::NotHeld,
            "send it again: it begins at the last committed batch; if it fails often, ask for \
             less at once",
        ),
        QueryError::Unavailable(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Unavailable,
            "send the same request again in a moment",
        ),
    };
    Row { status, kind, remedy }
}
