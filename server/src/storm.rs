//! Storm's DRPC over HTTP: `GET|POST /drpc/{function}[/{args}]`, with Storm's shapes of results and
//! its error codes, so that a client written for it works unchanged.

use super::sending;
use crate::body::failed;
use crate::query_errors::row_of;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use std::sync::Arc;
use tidemill_engine::{Format, QueryError, QueryRequest, Runtime};

/// The arguments in the path.
pub(super) async fn get_with(
    State(runtime): State<Arc<Runtime>>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Response {
    match path {
        Ok(Path((function, arguments))) => call(&runtime, &function, arguments.as_bytes()).await,
        Err(why) => failed(StatusCode::BAD_REQUEST, &why.body_text()),
    }
}

/// No arguments: an empty text.
pub(super) async fn get_without(
    State(runtime): State<Arc<Runtime>>,
    path: Result<Path<String>, PathRejection>,
) -> Response {
    match path {
        Ok(Path(function)) => call(&runtime, &function, b"").await,
        Err(why) => failed(StatusCode::BAD_REQUEST, &why.body_text()),
    }
}

/// The arguments as the body.
pub(super) async fn post(
    State(runtime): State<Arc<Runtime>>,
    path: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    match (path, body) {
        (Ok(Path(function)), Ok(body)) => call(&runtime, &function, &body).await,
        (Err(why), _) => failed(StatusCode::BAD_REQUEST, &why.body_text()),
        (_, Err(why)) => failed(why.status(), &why.body_text()),
    }
}

async fn call(runtime: &Runtime, name: &str, arguments: &[u8]) -> Response {
    let request = QueryRequest {
        name,
        arguments,
        format: Format::Storm,
        time_out: None,
        at_least: &[],
        types: None,
    };
    match runtime.ask(request).await {
        Ok(answer) => sending::answer(answer.bytes, answer.kept),
        // Storm reports a failure of the function as a bad request.
        Err(QueryError::Failed(why)) => failed(StatusCode::BAD_REQUEST, &why),
        Err(error) => failed(row_of(&error).status, &error.to_string()),
    }
}
