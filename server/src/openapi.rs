//! `/openapi.json`: what the port answers, in the language of OpenAPI 3.1, with the queries and
//! states of the topology that runs.

use crate::body::json_body;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};
use std::sync::{Arc, OnceLock};
use tidemill_engine::plan::Node;
use tidemill_engine::{BatchReport, OperatorWork, Runtime, Status};

/// The description, built at the first request: nothing of it changes while a run lasts.
#[derive(Clone, Default)]
pub(super) struct Described(Arc<OnceLock<Bytes>>);

impl Described {
    pub(super) async fn answer(self, State(runtime): State<Arc<Runtime>>) -> Response {
        let text = self.0.get_or_init(|| describe(&runtime).to_string().into());
        json_body(StatusCode::OK, Body::from(text.clone()))
    }
}

/// The paths of the port, each with its methods.
type Paths = Map<String, Value>;

fn describe(runtime: &Runtime) -> Value {
    // What is answered is described by the types that are written: the two cannot differ.
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut types = settings
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .into_generator();
    let mut paths = Paths::new();
    add_own(&mut paths);
    add_reports(&mut paths, &mut types);
    add_live(&mut paths);
    add_orders(&mut paths);
    add_queries(&mut paths, runtime);
    add_states(&mut paths);
    add_drpc(&mut paths);
    let mut schemas = types.take_definitions(true);
    schemas.insert(
        "Error".into(),
        object(&json!({"error": object(&json!({
        "kind": {"type": "string"}, "what": {"type": "string"}, "where": {"type": "string"}, "do": {"type": "string"}}))})),
    );
    let mut security = Vec::new();
    if runtime.status().controls {
        security.push(json!({"token": []}));
        for free in super::admission::FREE {
            // Neither needs one.
            paths[free]["get"]["security"] = json!([]);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {"title": format!("Tidemill topology {}", runtime.topology()), "version": env!("CARGO_PKG_VERSION")},
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas,
        },
        "security": security,
        "paths": paths,
    })
}

/// The probe, the metrics and this description.
fn add_own(paths: &mut Paths) {
    for (path, what) in
        [("/healthz", "Whether the process lives"), ("/metrics", "Metrics for Prometheus")]
    {
        paths.insert(
            path.into(),
            json!({"get": said_as("text/plain", what, &[], json!({"type": "string"}))}),
        );
    }
    paths.insert(
        "/openapi.json".into(),
        json!({"get": operation("This description", &[], json!({"type": "object"}))}),
    );
}

/// The run, its dataflow and its batches.
fn add_reports(paths: &mut Paths, types: &mut SchemaGenerator) {
    let of_lineage =
        |what: &str, of: Value| object(&json!({"lineage": {"type": "string"}, what: of}));
    let list = |of: Value| json!({"type": "array", "items": of});
    let ready = object(&json!({"ready": {"type": "boolean"}, "txid": {"type": "integer"}}));
    let mut topology = of_lineage("nodes", list(types.subschema_for::<Node>().to_value()));
    topology["properties"]["name"] = json!({"type": "string"});
    let query = object(
        &json!({"name": {"type": "string"}, "arguments": {"type": "string"}, "result": {"type": "string"}, "one": {"type": "boolean"}}),
    );
    for (path, what, answer) in [
        ("/readyz", "Whether the workers take records; 503 until then", ready),
        (
            "/v1/status",
            "What runs: committed batch, rates, lag, states, sinks, last error",
            types.subschema_for::<Status>().to_value(),
        ),
        ("/v1/topology", "The dataflow", topology),
        (
            "/v1/operators",
            "What each operator has done on each worker since the run began",
            of_lineage("operators", list(types.subschema_for::<OperatorWork>().to_value())),
        ),
        (
            "/v1/queries",
            "The queries, with the types of their arguments and results",
            of_lineage("queries", list(query)),
        ),
    ] {
        paths.insert(path.into(), json!({"get": operation(what, &[], answer)}));
    }
    let report = types.subschema_for::<BatchReport>().to_value();
    let newest = of_lineage("batches", list(report.clone()));
    paths.insert(
        "/v1/batches".into(),
        json!({"get": operation("The newest batches", &[limit()], newest)}),
    );
    let txid = parameter("txid", "path", true, json!({"type": "integer"}));
    let lineage = object(&json!({"lineage": {"type": "string"}}));
    paths.insert(
        "/v1/batches/{txid}".into(),
        json!({"get": operation("One batch", &[txid], json!({"allOf": [report, lineage]}))}),
    );
}

fn add_live(paths: &mut Paths) {
    let live = "A web socket: status, operators, batches and watched queries as they come. \
        Without the upgrade it is refused";
    paths.insert("/v1/live".into(), json!({"get": {
        "summary": live, "responses": {"101": {"description": "It speaks the web socket protocol \
            from here on"}, "default": refused()},
    }}));
}

/// The orders to the sources.
fn add_orders(paths: &mut Paths) {
    for (order, what) in [
        ("pause", "The sources wait; the batch in hand is finished"),
        ("resume", "The sources go on"),
        (
            "drain",
            "The sources wait; answers once everything that was read is committed and published",
        ),
    ] {
        let answer = json!({"type": "object", "properties": {"phase": {"type": "string"}, "txid": {"type": "integer"}, "drained": {"type": "boolean"}}});
        let within = parameter("timeout_ms", "query", false, json!({"type": "integer"}));
        let wishes = if order == "drain" { std::slice::from_ref(&within) } else { &[] };
        paths.insert(
            format!("/v1/sources/{order}"),
            json!({"post": operation(what, wishes, answer)}),
        );
    }
}

fn add_queries(paths: &mut Paths, runtime: &Runtime) {
    for query in runtime.queries() {
        let result = if query.one {
            json!({"description": query.result})
        } else {
            json!({"type": "array", "items": {"description": query.result}})
        };
        let mut answer = of_batch();
        answer["result"] = result;
        let wishes = [
            parameter("timeout_ms", "query", false, json!({"type": "integer"})),
            parameter(
                "at_least",
                "query",
                false,
                json!({"type": "integer", "description": "the answer is of this batch or a later \
                    one"}),
            ),
            parameter(
                "at_least_position",
                "query",
                false,
                json!({"type": "string", "description": "source/partition/offset: the answer \
                    knows of this record"}),
            ),
            lineage_of("at_least"),
        ];
        let mut ask = operation(
            &format!("Asks the query \"{}\"", query.name),
            &wishes,
            json!({"type": "object", "properties": answer}),
        );
        ask["requestBody"] = json!({"required": true, "content": {"application/json": {"schema": {"description": query.arguments}}}});
        paths.insert(format!("/v1/query/{}", query.name), json!({"post": ask}));
    }
}

/// The lineage of another parameter.
fn lineage_of(parameter_of: &str) -> Value {
    let description =
        format!("the lineage of {parameter_of}: 409 if the state was replaced by another one");
    parameter("lineage", "query", false, json!({"type": "string", "description": description}))
}

fn add_states(paths: &mut Paths) {
    let value = "missing if the key has none; NaN and the infinities are the texts \"NaN\", \
        \"Infinity\" and \"-Infinity\", integers have all their digits";
    let key_and_value = json!({"type": "object", "properties": {"key": {}, "value": {"description": value}}, "required": ["key"]});
    let mut rows = of_batch();
    rows["rows"] = json!({"type": "array", "items": key_and_value});
    let mut page_of_rows = rows.clone();
    page_of_rows["moved_on"] = json!({"type": "boolean", "description": "the batch of the walk's \
        first page is no longer held: this page is of another"});
    page_of_rows["next"] = json!({"description": "the key to go on after; missing on the last \
        page, and null where that is a key"});
    let page = [
        in_path("name"),
        parameter("prefix", "query", false, json!({"type": "string"})),
        parameter("after", "query", false, json!({"type": "string"})),
        limit(),
        parameter(
            "at",
            "query",
            false,
            json!({"type": "integer", "description": "the txid of the walk's first page"}),
        ),
        lineage_of("at"),
    ];
    let mut many = operation(
        "The values of some keys, all of one batch",
        &[in_path("name")],
        json!({"type": "object", "properties": rows}),
    );
    many["requestBody"] = json!({"required": true, "content": {"application/json": {"schema":
        {"type": "object", "properties": {"keys": {"type": "array", "items": {}}}, "required": ["keys"]}}}});
    paths.insert(
        "/v1/state/{name}".into(),
        json!({"get": operation("Rows of a state in the order of its keys", &page, object(&page_of_rows)), "post": many}),
    );
    let mut one = of_batch();
    (one["key"], one["value"]) = (json!({}), json!({}));
    let value = operation(
        "The value of a key",
        &[in_path("name"), in_path("key")],
        json!({"type": "object", "properties": one}),
    );
    paths.insert("/v1/state/{name}/{key}".into(), json!({"get": value}));
}

/// Queries as Storm's DRPC asks them.
fn add_drpc(paths: &mut Paths) {
    let outputs = json!({"type": "array", "items": {"type": "array"}});
    let drpc = operation(
        "Asks a query as Storm's DRPC does",
        &[in_path("function"), in_path("arguments")],
        outputs.clone(),
    );
    paths.insert("/drpc/{function}/{arguments}".into(), json!({"get": drpc}));
    let mut posted = operation(
        "Asks a query as Storm's DRPC does, with the arguments as the body",
        &[in_path("function")],
        outputs.clone(),
    );
    posted["requestBody"] = json!({"content": {"text/plain": {"schema": {"type": "string"}}}});
    let without = operation(
        "Asks a query as Storm's DRPC does, with no arguments",
        &[in_path("function")],
        outputs,
    );
    paths.insert("/drpc/{function}".into(), json!({"get": without, "post": posted}));
}

/// The batch that an answer is of.
fn of_batch() -> Value {
    json!({"txid": {"type": "integer"}, "lineage": {"type": "string"}})
}

fn in_path(name: &str) -> Value {
    parameter(name, "path", true, json!({"type": "string"}))
}

fn limit() -> Value {
    parameter("limit", "query", false, json!({"type": "integer"}))
}

fn parameter(name: &str, place: &str, required: bool, schema: Value) -> Value {
    json!({"name": name, "in": place, "required": required, "schema": schema})
}

fn object(properties: &Value) -> Value {
    json!({"type": "object", "properties": properties})
}

fn refused() -> Value {
    json!({"description": "What is wrong, where, and what to do", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}})
}

fn operation(what: &str, parameters: &[Value], answer: Value) -> Value {
    said_as("application/json", what, parameters, answer)
}

fn said_as(kind: &str, what: &str, parameters: &[Value], answer: Value) -> Value {
    json!({
        "summary": what,
        "parameters": parameters,
        "responses": {"200": {"description": what, "content": {kind: {"schema": answer}}}, "default": refused()},
    })
}
