//! Bodies of answers, and the statuses of errors.

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::Response;
use serde_json::json;

pub(super) fn json_response(status: StatusCode, mut body: Vec<u8>) -> Response {
    // It is counted by its length, and may wait for long.
    body.shrink_to_fit();
    json_body(status, Body::from(body))
}

pub(super) fn json_body(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
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
