//! Errors as a call's status: a code that every gRPC client knows, and the whole error in the
//! status's details.

use crate::field::{message, repeated};
use crate::{ErrorKind, QueryError};
use prost::Message;
use tonic::{Code, Status};

message! {
    /// A status with its details, as `google.rpc.Status` has it.
    StatusDetails {
        /// The code.
        1 code: i32,
        /// In words.
        2 message: String,
        /// Further details.
        3 details: Vec<Detail>,
    }
}

message! {
    /// A message with its type's name, as `google.protobuf.Any` has it.
    Detail {
        /// The type's name, after a slash.
        1 type_url: String,
        /// The message.
        2 value: Vec<u8>,
    }
}

repeated!(Detail, message, "repeated Any");

/// The name of [`QueryError`] as a detail.
const TYPE: &str = "type.googleapis.com/tidemill.v1.QueryError";

/// The status that says this error.
#[must_use]
pub fn status(error: &QueryError) -> Status {
    let code = match ErrorKind::of(error.kind).unwrap_or(ErrorKind::Unspecified) {
        ErrorKind::NoSuchQuery => Code::NotFound,
        ErrorKind::BadRequest | ErrorKind::WrongType => Code::InvalidArgument,
        ErrorKind::TimedOut => Code::DeadlineExceeded,
        ErrorKind::TooMany | ErrorKind::TooLarge => Code::ResourceExhausted,
        ErrorKind::NotHeld => Code::Aborted,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::StateReplaced => Code::FailedPrecondition,
        ErrorKind::FunctionFailed | ErrorKind::Unspecified => Code::Unknown,
    };
    let message = if error.remedy.is_empty() {
        error.what.clone()
    } else {
        format!("{}: {}", error.what, error.remedy)
    };
    let detail = Detail { type_url: TYPE.to_string(), value: error.encode_to_vec() };
    let details =
        StatusDetails { code: code as i32, message: message.clone(), details: vec![detail] };
    Status::with_details(code, message, details.encode_to_vec().into())
}

/// The error that a status says, if it comes from a query and not from the connection.
#[must_use]
pub fn error_of(status: &Status) -> Option<QueryError> {
    let details = StatusDetails::decode(status.details()).ok()?;
    let detail = details.details.into_iter().find(|detail| detail.type_url == TYPE)?;
    QueryError::decode(&detail.value[..]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_comes_back_from_its_status() {
        let kinds = (0..11).map(|number| ErrorKind::of(number).expect("a kind"));
        for kind in kinds {
            let error = QueryError {
                kind: kind.into(),
                what: "it is so".into(),
                remedy: "do this".into(),
                ..QueryError::default()
            };
            let status = status(&error);
            assert_eq!(error_of(&status), Some(error));
            assert_eq!(status.message(), "it is so: do this");
        }
        assert_eq!(error_of(&Status::unavailable("a proxy says so")), None);
    }
}
