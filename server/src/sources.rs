//! `POST /v1/sources/pause`, `/resume` and `/drain`: the sources wait, and go on. Only on a port
//! that asks for a token.

use super::caller::Caller;
use super::refusal::{Refusal, place};
use crate::connections::MOST_DRAIN;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{Method, StatusCode, Uri};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tidemill_engine::Runtime;
use tokio::time::{Instant, sleep};

type Answer = Result<Json<Value>, Refusal>;

/// The sources wait from now on; the batch in hand is finished.
pub(super) async fn pause(State(runtime): State<Arc<Runtime>>, method: Method, uri: Uri) -> Answer {
    allowed(&runtime, &method, &uri)?;
    runtime.pause_sources();
    Ok(told(&runtime))
}

/// The sources go on.
pub(super) async fn resume(
    State(runtime): State<Arc<Runtime>>,
    method: Method,
    uri: Uri,
) -> Answer {
    allowed(&runtime, &method, &uri)?;
    runtime.resume_sources();
    Ok(told(&runtime))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HowLong {
    timeout_ms: Option<u64>,
}

/// The time a drain is waited for if the request does not say, and at most.
const DRAIN_WITHIN: Duration = Duration::from_secs(30);

/// The interval at which it is looked whether all is done.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The sources wait, and the answer comes once everything that was read is committed and confirmed
/// by the sinks.
pub(super) async fn drain(
    State(runtime): State<Arc<Runtime>>,
    Extension(caller): Extension<Caller>,
    how_long: Result<Query<HowLong>, QueryRejection>,
    method: Method,
    uri: Uri,
) -> Answer {
    allowed(&runtime, &method, &uri)?;
    let wrong = |what: String| {
        Refusal::new(StatusCode::BAD_REQUEST, what, place(&method, &uri))
            .remedy("ask with timeout_ms, up to 600000, or without it")
    };
    let Query(how_long) = how_long.map_err(|why| wrong(why.body_text()))?;
    let within = how_long.timeout_ms.map_or(DRAIN_WITHIN, Duration::from_millis);
    if within > MOST_DRAIN {
        return Err(wrong(format!("timeout_ms is {}", within.as_millis())));
    }
    let _wait = caller.wait();
    runtime.pause_sources();
    let until = Instant::now() + within;
    while !runtime.is_drained() {
        if Instant::now() >= until {
            let what = format!(
                "not everything is committed and published after {} ms; the sources wait",
                within.as_millis()
            );
            return Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, what, place(&method, &uri))
                .remedy(
                    "send it again to wait on; /v1/status says which sink does not take its output",
                ));
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(told(&runtime))
}

fn told(runtime: &Runtime) -> Json<Value> {
    let status = runtime.status();
    Json(json!({"phase": status.phase, "txid": status.committed, "drained": runtime.is_drained()}))
}

fn allowed(runtime: &Runtime, method: &Method, uri: &Uri) -> Result<(), Refusal> {
    if runtime.status().controls {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::FORBIDDEN,
        "this port asks nobody who they are, and so lets nobody pause its sources",
        place(method, uri),
    )
    .remedy(
        "start the topology with --token-file FILE, and send the token as the header \
        Authorization: Bearer TOKEN",
    ))
}
