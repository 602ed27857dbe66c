//! `/openapi.json`: what the port answers, in the language of OpenAPI 3.1, with the queries and states of the topology that runs.

use crate::runtime::Runtime;
use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The description.
pub(super) async fn describe(State(runtime): State<Arc<Runtime>>) -> Json<Value> {
    let name = |name: &str| parameter(name, "path", true, json!({"type": "string"}));
    let batch = json!({"txid": {"type": "integer"}, "line": {"type": "string"}});
    let mut paths = Map::new();
    for (path, what) in [
        ("/healthz", "Whether the process lives, as text"),
        ("/readyz", "Whether the workers take records; 503 until then"),
        ("/metrics", "Metrics for Prometheus, as text"),
        ("/v1/status", "What runs: committed batch, rates, lag, states, sinks, last error"),
        ("/v1/topology", "The dataflow"),
        ("/v1/operators", "What each operator has done on each worker since the run began"),
        ("/v1/queries", "The queries, with the types of their arguments and results"),
    ] {
        paths.insert(path.into(), json!({"get": operation(what, &[], json!({}))}));
    }
    let limit = parameter("limit", "query", false, json!({"type": "integer"}));
    paths.insert("/v1/batches".into(), json!({"get": operation("The newest batches", std::slice::from_ref(&limit), json!({}))}));
    let one = operation("One batch", &[name("txid")], json!({}));
    paths.insert("/v1/batches/{txid}".into(), json!({"get": one}));
    let live = operation("A web socket: status, batches and watched queries as they come; see the documentation", &[], json!({}));
    paths.insert("/v1/live".into(), json!({"get": live}));
    for (order, what) in [
        ("pause", "The sources wait; the batch in hand is finished"),
        ("resume", "The sources go on"),
        ("drain", "The sources wait; answers once everything that was read is committed and published"),
    ] {
        let answer = json!({"type": "object", "properties": {"phase": {"type": "string"}, "txid": {"type": "integer"}, "drained": {"type": "boolean"}}});
        let within = parameter("timeout_ms", "query", false, json!({"type": "integer"}));
        let wishes = if order == "drain" { std::slice::from_ref(&within) } else { &[] };
        paths.insert(format!("/v1/sources/{order}"), json!({"post": operation(what, wishes, answer)}));
    }
    for query in runtime.queries() {
        let result = if query.one {
            json!({"description": query.result})
        } else {
            json!({"type": "array", "items": {"description": query.result}})
        };
        let mut answer = batch.clone();
        answer["result"] = result;
        let wishes = [
            parameter("timeout_ms", "query", false, json!({"type": "integer"})),
            parameter(
                "at_least",
                "query",
                false,
                json!({"type": "integer", "description": "the answer is of this batch or a later one"}),
            ),
            parameter(
                "at_least_position",
                "query",
                false,
                json!({"type": "string", "description": "source/partition/offset: the answer knows of this record"}),
            ),
        ];
        let mut ask =
            operation(&format!("Asks the query \"{}\"", query.name), &wishes, json!({"type": "object", "properties": answer}));
        ask["requestBody"] =
            json!({"required": true, "content": {"application/json": {"schema": {"description": query.arguments}}}});
        paths.insert(format!("/v1/query/{}", query.name), json!({"post": ask}));
    }
    let key_and_value = json!({"type": "object", "properties": {"key": {}, "value": {}}});
    let mut rows = batch.clone();
    rows["rows"] = json!({"type": "array", "items": key_and_value});
    let page = [
        name("name"),
        parameter("prefix", "query", false, json!({"type": "string"})),
        parameter("after", "query", false, json!({"type": "string"})),
        limit,
        parameter("at", "query", false, json!({"type": "integer", "description": "the txid of the walk's first page"})),
    ];
    let mut many =
        operation("The values of some keys, all of one batch", &[name("name")], json!({"type": "object", "properties": rows}));
    many["requestBody"] = json!({"required": true, "content": {"application/json": {"schema":
        {"type": "object", "properties": {"keys": {"type": "array", "items": {}}}, "required": ["keys"]}}}});
    paths.insert(
        "/v1/state/{name}".into(),
        json!({"get": operation("Rows of a state in the order of its keys", &page, json!({"type": "object", "properties": rows})), "post": many}),
    );
    let mut one = batch;
    (one["key"], one["value"]) = (json!({}), json!({}));
    let value = operation("The value of a key", &[name("name"), name("key")], json!({"type": "object", "properties": one}));
    paths.insert("/v1/state/{name}/{key}".into(), json!({"get": value}));
    let outputs = json!({"type": "array", "items": {"type": "array"}});
    let drpc = operation("Asks a query as Storm's DRPC does", &[name("function"), name("arguments")], outputs.clone());
    paths.insert("/drpc/{function}/{arguments}".into(), json!({"get": drpc}));
    let mut posted = operation("Asks a query as Storm's DRPC does, with the arguments as the body", &[name("function")], outputs);
    posted["requestBody"] = json!({"content": {"text/plain": {"schema": {"type": "string"}}}});
    paths.insert("/drpc/{function}".into(), json!({"post": posted}));
    Json(json!({
        "openapi": "3.1.0",
        "info": {"title": format!("Tidemill topology {}", runtime.facts.topology), "version": env!("CARGO_PKG_VERSION")},
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Error": {"type": "object", "properties": {"error": {"type": "object", "properties": {
                "what": {"type": "string"}, "where": {"type": "string"}, "do": {"type": "string"}}}}}},
        },
        "paths": paths,
    }))
}

fn parameter(name: &str, place: &str, required: bool, schema: Value) -> Value {
    json!({"name": name, "in": place, "required": required, "schema": schema})
}

fn operation(what: &str, parameters: &[Value], answer: Value) -> Value {
    let error = json!({"description": "What is wrong, where, and what to do", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}});
    json!({
        "summary": what,
        "parameters": parameters,
        "responses": {"200": {"description": what, "content": {"application/json": {"schema": answer}}}, "default": error},
    })
}
