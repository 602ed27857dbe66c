//! Queries over HTTP: `POST /v1/query/{name}` with the arguments as JSON, and the list of what can
//! be asked.

use super::refusal::{Refusal, place};
use super::sending;
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tidemill_engine::{Answer, AtLeast, Format, QueryRequest, Runtime};
use tidemill_state::Txid;

/// The options of a request beside its arguments.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Wishes {
    /// The time it may take, in milliseconds.
    timeout_ms: Option<u64>,
    /// The batch that the answer must not be older than.
    at_least: Option<u64>,
    /// The record that the answer must know of: `source/partition/offset`.
    at_least_position: Option<String>,
    /// The lineage of `at_least`.
    lineage: Option<String>,
}

/// Returns the lineage, and the queries that there are.
pub(super) async fn list(State(runtime): State<Arc<Runtime>>) -> Json<Value> {
    Json(json!({"lineage": runtime.lineage().to_string(), "queries": runtime.queries()}))
}

/// `{"txid": C, "lineage": …, "result": …}`.
pub(super) async fn ask(
    State(runtime): State<Arc<Runtime>>,
    name: Result<Path<String>, PathRejection>,
    wishes: Result<Query<Wishes>, QueryRejection>,
    method: Method,
    uri: Uri,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let at = || place(&method, &uri);
    let wrong = |what: String, remedy: &str| {
        Refusal::new(StatusCode::BAD_REQUEST, what, at()).remedy(remedy)
    };
    let Path(name) = name
        .map_err(|why| wrong(why.body_text(), "write the query's name as percent-encoded UTF-8"))?;
    let Query(wishes) = wishes.map_err(|why| {
        wrong(
            why.body_text(),
            "ask with no parameters, or with timeout_ms, at_least, lineage or \
             at_least_position=source/partition/offset",
        )
    })?;
    let here = runtime.lineage().to_string();
    Refusal::of_lineage(wishes.lineage.as_deref(), &here, at()).map_or(Ok(()), Err)?;
    let body = body.map_err(|why| Refusal::of_body(&why, at()))?;
    let mut at_least = Vec::new();
    at_least.extend(wishes.at_least.map(|txid| AtLeast::Txid(Txid(txid))));
    if let Some(position) = &wishes.at_least_position {
        let position = parse_position(position);
        at_least.push(position.ok_or_else(|| {
            wrong(
                "at_least_position is no position".into(),
                "write it as source/partition/offset, as in /v1/status",
            )
        })?);
    }
    let time_out = wishes.timeout_ms.map(Duration::from_millis);
    let request = QueryRequest {
        name: &name,
        arguments: &body,
        format: Format::Json,
        time_out,
        at_least: &at_least,
        types: None,
    };
    match runtime.ask(request).await {
        Ok(answer) => Ok(sending::answer(answer_of(&runtime, &answer), answer.kept)),
        Err(error) => Err(Refusal::of_query(&error, at())),
    }
}

/// An answer as it is written.
pub(super) fn answer_of(runtime: &Runtime, Answer { txid, bytes, .. }: &Answer) -> Vec<u8> {
    // The result is JSON already: it is not read again only to be written again.
    let mut whole = Vec::with_capacity(bytes.len() + 64);
    whole.extend_from_slice(
        format!("{{\"txid\":{txid},\"lineage\":\"{}\",\"result\":", runtime.lineage()).as_bytes(),
    );
    whole.extend_from_slice(bytes);
    whole.push(b'}');
    whole
}

/// `source/partition/offset`; the partition's name may have slashes in it.
fn parse_position(text: &str) -> Option<AtLeast<'_>> {
    let (source, rest) = text.split_once('/')?;
    let (partition, offset) = rest.rsplit_once('/')?;
    Some(AtLeast::Position { source, partition, offset: offset.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_has_three_parts() {
        let position = |partition| AtLeast::Position { source: "s", partition, offset: 7 };
        assert_eq!(parse_position("s/orders[3]/7"), Some(position("orders[3]")));
        assert_eq!(parse_position("s/data/a.txt/7"), Some(position("data/a.txt")));
        for wrong in ["", "s", "s/7", "s/p/", "s/p/x", "s/p/-1"] {
            assert_eq!(parse_position(wrong), None, "{wrong}");
        }
    }
}
