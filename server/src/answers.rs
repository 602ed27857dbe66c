//! The answers: one function a path. Each takes what it says from the [`Runtime`], which shows only
//! what is committed.

use super::refusal::{Refusal, place};
use crate::body::json_response;
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::Response;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::Arc;
use tidemill_engine::port::MOST_ROWS;
use tidemill_engine::{PageWish, Runtime};
use tidemill_state::{Kind, Txid};

type Answer = Result<Json<Value>, Refusal>;

/// An answer with keys and values of a state, written as JSON once: parsed again, wide integers
/// would lose their digits.
type OfState = Result<Response, Refusal>;

/// The number of batches that are listed if the request does not say, and at most.
const BATCHES: usize = 100;
const MOST_BATCHES: usize = 10_000;

/// The process lives.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// The workers have loaded their states and take records.
pub(super) async fn readyz(
    State(runtime): State<Arc<Runtime>>,
    method: Method,
    uri: Uri,
) -> Answer {
    if runtime.is_ready() {
        return Ok(Json(json!({"ready": true, "txid": runtime.committed()})));
    }
    // This path requires no token: no more than the phase is reported.
    let status = runtime.status();
    let what = format!("topology \"{}\" is not ready, it is {}", status.topology, status.phase);
    Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, what, place(&method, &uri))
        .remedy("wait until the workers are ready; /v1/status says more"))
}

pub(super) async fn status(
    State(runtime): State<Arc<Runtime>>,
    method: Method,
    uri: Uri,
) -> Answer {
    as_json(&runtime.status(), &method, &uri)
}

pub(super) async fn topology(
    State(runtime): State<Arc<Runtime>>,
    method: Method,
    uri: Uri,
) -> Answer {
    let Json(plan) = as_json(runtime.plan(), &method, &uri)?;
    Ok(Json(
        json!({"name": runtime.topology(), "lineage": runtime.lineage().to_string(), "nodes": plan["nodes"]}),
    ))
}

pub(super) async fn operators(
    State(runtime): State<Arc<Runtime>>,
    method: Method,
    uri: Uri,
) -> Answer {
    let Json(operators) = as_json(&runtime.operators(), &method, &uri)?;
    Ok(Json(json!({"lineage": runtime.lineage().to_string(), "operators": operators})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HowMany {
    limit: Option<usize>,
}

pub(super) async fn batches(
    State(runtime): State<Arc<Runtime>>,
    how_many: Result<Query<HowMany>, QueryRejection>,
    method: Method,
    uri: Uri,
) -> Answer {
    let wrong = |what: String| {
        let remedy = format!(
            "ask for /v1/batches?limit=N, N from 1 to {MOST_BATCHES}, or without it for the \
             newest {BATCHES}"
        );
        Refusal::new(StatusCode::BAD_REQUEST, what, place(&method, &uri)).remedy(remedy)
    };
    let Query(how_many) = how_many.map_err(|why| wrong(why.body_text()))?;
    let limit = how_many.limit.unwrap_or(BATCHES);
    if !(1..=MOST_BATCHES).contains(&limit) {
        return Err(wrong(format!("limit={limit} is not between 1 and {MOST_BATCHES}")));
    }
    let Json(batches) = as_json(&runtime.batches_in_brief(limit), &method, &uri)?;
    Ok(Json(json!({"lineage": runtime.lineage().to_string(), "batches": batches})))
}

pub(super) async fn batch(
    State(runtime): State<Arc<Runtime>>,
    txid: Result<Path<u64>, PathRejection>,
    method: Method,
    uri: Uri,
) -> Answer {
    let at = || place(&method, &uri);
    let Path(txid) = txid.map_err(|why| {
        Refusal::new(StatusCode::BAD_REQUEST, why.body_text(), at())
            .remedy("ask for /v1/batches/TXID, a number from 1 on")
    })?;
    let Some(batch) = runtime.batch(Txid(txid)) else {
        let what = match runtime.batches_kept() {
            None => format!("batch {txid} is not known: none was committed in this run"),
            Some((oldest, newest)) => {
                format!(
                    "batch {txid} is not known: this run still has reports of batches {oldest} to \
                     {newest}"
                )
            }
        };
        return Err(Refusal::new(StatusCode::NOT_FOUND, what, at())
            .remedy("ask for one of those that /v1/batches lists"));
    };
    let Json(mut batch) = as_json(&batch, &method, &uri)?;
    batch["lineage"] = runtime.lineage().to_string().into();
    Ok(Json(batch))
}

pub(super) async fn value(
    State(runtime): State<Arc<Runtime>>,
    path: Result<Path<(String, String)>, PathRejection>,
    method: Method,
    uri: Uri,
) -> OfState {
    let Path((name, key)) = path.map_err(|why| not_utf8(&why, &method, &uri))?;
    value_of(&runtime, &name, &key, place(&method, &uri)).await
}

/// A path cannot have an empty part, but a text can be empty.
pub(super) async fn value_of_the_empty_key(
    State(runtime): State<Arc<Runtime>>,
    path: Result<Path<String>, PathRejection>,
    method: Method,
    uri: Uri,
) -> OfState {
    let Path(name) = path.map_err(|why| not_utf8(&why, &method, &uri))?;
    value_of(&runtime, &name, "", place(&method, &uri)).await
}

/// The part of a state that is requested.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WhichRows {
    prefix: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
    at: Option<u64>,
    /// The lineage of `at`.
    lineage: Option<String>,
}

/// The number of rows a page has if the request does not say.
const ROWS: usize = 1000;

/// Rows of a state in the order of its keys.
pub(super) async fn page(
    State(runtime): State<Arc<Runtime>>,
    path: Result<Path<String>, PathRejection>,
    which: Result<Query<WhichRows>, QueryRejection>,
    method: Method,
    uri: Uri,
) -> OfState {
    let Path(name) = path.map_err(|why| not_utf8(&why, &method, &uri))?;
    let wrong = |what: String| {
        let remedy = format!(
            "ask with prefix, after (a key), limit (1 to {MOST_ROWS}), at and lineage (the \
             first page's), each of them or none"
        );
        Refusal::new(StatusCode::BAD_REQUEST, what, place(&method, &uri)).remedy(remedy)
    };
    let Query(WhichRows { prefix, after, limit, at, lineage }) =
        which.map_err(|why| wrong(why.body_text()))?;
    let here = runtime.lineage().to_string();
    Refusal::of_lineage(lineage.as_deref(), &here, place(&method, &uri)).map_or(Ok(()), Err)?;
    let limit = limit.unwrap_or(ROWS);
    if !(1..=MOST_ROWS).contains(&limit) {
        return Err(wrong(format!("limit={limit} is not between 1 and {MOST_ROWS}")));
    }
    known_state(&runtime, &name, &method, &uri)?;
    let wish = PageWish { prefix, after, limit, at: at.map(Txid) };
    let _admitted =
        runtime.admit_page().map_err(|why| Refusal::of_query(&why, place(&method, &uri)))?;
    let page = runtime
        .read_page(&name, wish)
        .await
        .map_err(|error| Refusal::of(&error, place(&method, &uri)))?;
    Ok(json_response(StatusCode::OK, page.to_json(&here).into_bytes()))
}

/// Which keys are wanted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WhichKeys<'b> {
    #[serde(borrow)]
    keys: Vec<&'b RawValue>,
}

/// The values of some keys, all of one batch. A key without one has no `value` in its row.
pub(super) async fn values(
    State(runtime): State<Arc<Runtime>>,
    path: Result<Path<String>, PathRejection>,
    method: Method,
    uri: Uri,
    body: Result<Bytes, BytesRejection>,
) -> OfState {
    let Path(name) = path.map_err(|why| not_utf8(&why, &method, &uri))?;
    known_state(&runtime, &name, &method, &uri)?;
    let body = body.map_err(|why| Refusal::of_body(&why, place(&method, &uri)))?;
    let WhichKeys { keys } = serde_json::from_slice(&body).map_err(|why| {
        let what = format!("the body does not say which keys: {why}");
        Refusal::new(StatusCode::BAD_REQUEST, what, place(&method, &uri))
            .remedy("send {\"keys\": [key, ...]}")
    })?;
    // A text is a key as it is, anything else as JSON.
    let keys: Vec<String> = keys
        .into_iter()
        .map(|key| serde_json::from_str(key.get()).unwrap_or_else(|_| key.get().to_string()))
        .collect();
    let _admitted =
        runtime.admit_read().map_err(|why| Refusal::of_query(&why, place(&method, &uri)))?;
    let (txid, rows) = runtime
        .read_many(&name, &keys)
        .await
        .map_err(|error| Refusal::of(&error, place(&method, &uri)))?;
    let body = format!("{{\"txid\":{txid},\"lineage\":\"{}\",\"rows\":{rows}}}", runtime.lineage());
    Ok(json_response(StatusCode::OK, body.into_bytes()))
}

fn not_utf8(why: &PathRejection, method: &Method, uri: &Uri) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, why.body_text(), place(method, uri))
        .remedy("write the state's name and the key as percent-encoded UTF-8")
}

/// The value of one key at the last committed batch, from the worker that owns it.
async fn value_of(runtime: &Runtime, name: &str, key: &str, at: String) -> OfState {
    let codec = runtime
        .find_state(name)
        .map(|(_, codec)| codec)
        .map_err(|_| no_such_state(runtime, name, at.clone()))?;
    let shown = codec
        .parse_key(key, runtime.key_groups())
        .and_then(|(encoded, _)| codec.key_to_json(&encoded));
    let shown = shown.map_err(|error| Refusal::of(&error, at.clone()))?;
    let lineage = runtime.lineage().to_string();
    let _admitted = runtime.admit_read().map_err(|why| Refusal::of_query(&why, at.clone()))?;
    match runtime.read_state(name, key).await {
        Ok((txid, Some(value))) => {
            let body = format!(
                "{{\"txid\":{txid},\"lineage\":\"{lineage}\",\"key\":{shown},\"value\":{value}}}"
            );
            Ok(json_response(StatusCode::OK, body.into_bytes()))
        }
        Ok((txid, None)) => Err(Refusal::new(
            StatusCode::NOT_FOUND,
            format!("state \"{name}\" has no value for key {shown} at batch {txid}"),
            at,
        )
        .remedy("nothing, if the key was never given a value; else ask again after a later batch")
        .knowing("txid", txid.to_string())
        .knowing("lineage", format!("\"{lineage}\""))
        .knowing("key", shown)),
        Err(error) => {
            if error.kind() == Kind::Bug {
                tracing::error!(%error, state = name, "a value could not be read");
            }
            Err(Refusal::of(&error, at))
        }
    }
}

fn known_state(runtime: &Runtime, name: &str, method: &Method, uri: &Uri) -> Result<(), Refusal> {
    runtime.find_state(name).map(drop).map_err(|_| no_such_state(runtime, name, place(method, uri)))
}

fn no_such_state(runtime: &Runtime, name: &str, at: String) -> Refusal {
    let names: Vec<String> = runtime.codecs().iter().map(|codec| codec.decl().name).collect();
    let remedy = if names.is_empty() {
        "this topology keeps no state".into()
    } else {
        format!("ask for one of: {}", names.join(", "))
    };
    Refusal::new(StatusCode::NOT_FOUND, format!("there is no state \"{name}\""), at).remedy(remedy)
}

fn as_json(what: &impl serde::Serialize, method: &Method, uri: &Uri) -> Answer {
    serde_json::to_value(what).map(Json).map_err(|why| {
        let what = format!("the answer cannot be written as JSON: {why}");
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, what, place(method, uri))
            .remedy("report it: this is a fault of Tidemill")
    })
}
