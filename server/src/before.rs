//! The answers before a run has begun: that it starts, and what it waits for.

use super::refusal::{Refusal, place};
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::sync::Arc;
use tidemill_engine::Starting;

/// The data that the answers are taken from.
struct Before {
    starting: Arc<Starting>,
    topology: String,
}

/// The routes of a run that has not begun.
pub(super) fn routes(starting: Arc<Starting>, topology: &str) -> Router {
    let before = Before { starting, topology: topology.to_string() };
    Router::new()
        .route("/healthz", get(super::answers::healthz))
        .route("/metrics", get(super::metrics::answer_before))
        .route("/v1/status", get(status))
        .merge(super::grpc::not_yet())
        .fallback(not_yet)
        .method_not_allowed_fallback(super::refusal::wrong_method)
        .with_state(Arc::new(before))
}

async fn status(State(before): State<Arc<Before>>) -> Json<Value> {
    let waiting = before.starting.waiting();
    Json(json!({
        "topology": before.topology,
        "phase": "starting",
        "waiting": waiting.as_ref().map(|waiting| &waiting.waiting_for),
        "waiting_since_ms": waiting.as_ref().map(|waiting| waiting.since_ms),
    }))
}

async fn not_yet(State(before): State<Arc<Before>>, method: Method, uri: Uri) -> Refusal {
    // The reason for waiting is not for everybody: /readyz requires no token.
    let waiting = before.starting.waiting().filter(|_| uri.path() != "/readyz");
    let waits =
        waiting.map_or(String::new(), |waiting| format!(", and waits: {}", waiting.waiting_for));
    let what = format!("topology \"{}\" is not ready, it is starting{waits}", before.topology);
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, what, place(&method, &uri))
        .remedy("wait until it has begun; /v1/status says what it waits for")
}
