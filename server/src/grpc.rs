//! gRPC, on the same port as HTTP: queries, one at a time or many over one stream, and the standard
//! health service. `proto/tidemill.proto` describes the calls.

use crate::grpc::status::{described, replaced};
mod deadline;
mod health;
mod pipeline;
mod status;

use crate::caller::Caller;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use deadline::Deadline;
pub(super) use health::not_yet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidemill_engine::Runtime;
use tidemill_engine::port::UnsentGuard;
use tidemill_engine::{AtLeast, Format, QueryError, RequestTypes};
use tidemill_proto::{Encoding, ProtoCodec, QueryRequest, QueryResponse, path};
use tidemill_state::Txid;
use tidemill_state::codec::trace::Trace;
use tonic::server::Grpc;

/// The bytes that a request may have beside its arguments (names, positions), and an answer beside
/// its own limit.
const BESIDE_ARGUMENTS: usize = 64 << 10;

/// The routes of a run.
pub(super) fn routes() -> Router<Arc<Runtime>> {
    Router::new()
        .route(path::QUERY, post(query))
        .route(path::PIPELINE, post(pipeline::pipeline))
        .route(path::HEALTH_CHECK, post(health::check))
        .route(path::HEALTH_WATCH, post(health::watch))
}

/// A call's codec and bounds.
fn grpc<Sent, Received>(runtime: &Runtime) -> Grpc<ProtoCodec<Sent, Received>>
where
    ProtoCodec<Sent, Received>: tonic::codec::Codec,
{
    let limits = runtime.query_limits();
    Grpc::new(ProtoCodec::default())
        .max_decoding_message_size(limits.request_bytes + BESIDE_ARGUMENTS)
        .max_encoding_message_size(limits.answer_bytes + BESIDE_ARGUMENTS)
}

/// One request, one answer.
async fn query(State(runtime): State<Arc<Runtime>>, request: Request) -> Response {
    let mut grpc = grpc::<QueryResponse, QueryRequest>(&runtime);
    let (connection, deadline) = (Caller::of(&request), Deadline::of(request.headers()));
    let sent = Arc::new(Mutex::new(UnsentGuard::default()));
    let keep = Arc::clone(&sent);
    let one = tower::service_fn(move |request: tonic::Request<QueryRequest>| {
        let (runtime, connection, keep) =
            (Arc::clone(&runtime), connection.clone(), Arc::clone(&keep));
        async move {
            let (response, kept) =
                answer(&runtime, &connection, deadline.shorten(request.into_inner())).await;
            *keep.lock().expect("no holder of this lock panics") = kept;
            match &response.error {
                None => Ok(tonic::Response::new(response)),
                Some(error) => Err(tidemill_proto::status(error)),
            }
        }
    });
    let response = grpc.unary(one, request).await;
    let kept = std::mem::take(&mut *sent.lock().expect("no holder of this lock panics"));
    let mut response = response.map(Body::new);
    response.extensions_mut().insert(kept);
    response
}

/// The answer to a request, or why there is none; and what counts it until it is sent.
async fn answer(
    runtime: &Runtime,
    connection: &Caller,
    request: QueryRequest,
) -> (QueryResponse, UnsentGuard) {
    let mut response = QueryResponse {
        number: request.number,
        lineage: runtime.lineage().to_string(),
        ..QueryResponse::default()
    };
    if !request.lineage.is_empty() && request.lineage != response.lineage {
        response.error = Some(replaced(&request, &response.lineage));
        return (response, UnsentGuard::default());
    }
    match ask(runtime, connection, &request).await {
        Ok((answer, one)) => {
            (response.txid, response.result, response.one) = (answer.txid.0, answer.bytes, one);
            (response, answer.kept)
        }
        Err(error) => {
            response.error = Some(described(&error, runtime));
            (response, UnsentGuard::default())
        }
    }
}

async fn ask(
    runtime: &Runtime,
    connection: &Caller,
    request: &QueryRequest,
) -> Result<(tidemill_engine::Answer, bool), QueryError> {
    let limits = runtime.query_limits();
    let _place = connection.admit(limits.per_client)?;
    let format = match Encoding::of(request.encoding) {
        Some(Encoding::Bincode) => Format::Bincode,
        Some(Encoding::Json) => Format::Json,
        None => {
            return Err(QueryError::BadArguments(format!(
                "encoding {} is not known to this server",
                request.encoding
            )));
        }
    };
    if request.arguments.len() > limits.request_bytes {
        return Err(QueryError::TooLarge { what: "request", limit: limits.request_bytes });
    }
    let one = runtime.has_one_result(&request.name)?;
    let txid = (request.at_least_txid > 0).then_some(AtLeast::Txid(Txid(request.at_least_txid)));
    let positions = request.at_least_position.iter().map(|position| AtLeast::Position {
        source: &position.source,
        partition: &position.partition,
        offset: position.offset,
    });
    let at_least: Vec<AtLeast<'_>> = txid.into_iter().chain(positions).collect();
    let types = request.types.as_ref().map(|types| RequestTypes {
        arguments: Trace { kinds: types.argument_kinds, names: types.argument_names },
        argument_type: &types.arguments,
        result: &types.result_shape,
        result_type: &types.result,
    });
    let request = tidemill_engine::QueryRequest {
        name: &request.name,
        arguments: &request.arguments,
        format,
        time_out: (request.timeout_ms > 0).then(|| Duration::from_millis(request.timeout_ms)),
        at_least: &at_least,
        types,
    };
    Ok((runtime.ask(request).await?, one))
}
