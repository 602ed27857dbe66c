//! Bodies of answers, and the statuses of errors.

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::Response;
use serde_json::json;
use tidemill_engine::QueryError;

pub(super) fn json_response(status: StatusCode, body: Vec<u8>) -> Response {
    json_body(status, Body::from(body))
}

pub(super) fn json_body(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

/// The status that an error stands for.
pub(super) fn status_of(error: &QueryError) -> StatusCode {
    match error {
        QueryError::NoSuchQuery { .. } => StatusCode::NOT_FOUND,
        QueryError::BadArguments(_) => StatusCode::BAD_REQUEST,
        QueryError::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
        QueryError::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
        QueryError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        QueryError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        QueryError::NotHeld | QueryError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// An error in Storm's shape: its kind, and what is said of it.
pub(super) fn failed(status: StatusCode, why: &str) -> Response {
    let error = match status {
        StatusCode::SERVICE_UNAVAILABLE => "SERVER_SHUTDOWN",
        StatusCode::GATEWAY_TIMEOUT => "SERVER_TIMEOUT",
        StatusCode::INTERNAL_SERVER_ERROR => "INTERNAL_ERROR",
        _ => "FAILED_REQUEST",
    };
    json_response(status, json!({"error": error, "errorMessage": why}).to_string().into_bytes())
}
