//! The standard health service: whether queries are answered.

use crate::grpc::status::no_such_service;
use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use futures_util::stream;
use std::sync::Arc;
use std::time::Duration;
use tidemill_engine::Runtime;
use tidemill_proto::{
    HealthCheckRequest, HealthCheckResponse, ProtoCodec, SERVICE, ServingStatus, path,
};
use tonic::Status;
use tonic::server::Grpc;

/// The interval at which a watch looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

type Codec = ProtoCodec<HealthCheckResponse, HealthCheckRequest>;

/// The routes of a run that has not begun: it is not asked yet.
pub(crate) fn not_yet<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route(
        path::HEALTH_CHECK,
        post(|request: Request| check_with(|| ServingStatus::NotServing, request)),
    )
}

/// Now.
pub(super) async fn check(State(runtime): State<Arc<Runtime>>, request: Request) -> Response {
    check_with(move || now(&runtime), request).await
}

async fn check_with(now: impl Fn() -> ServingStatus, request: Request) -> Response {
    let check = tower::service_fn(|request: tonic::Request<HealthCheckRequest>| {
        let asked = request.into_inner().service;
        let status = if is_known(&asked) {
            Ok(tonic::Response::new(now().into()))
        } else {
            Err(no_such_service(&asked))
        };
        std::future::ready(status)
    });
    Grpc::new(Codec::default()).unary(check, request).await.map(axum::body::Body::new)
}

/// Now, and whenever it changes.
pub(super) async fn watch(State(runtime): State<Arc<Runtime>>, request: Request) -> Response {
    let watch = tower::service_fn(move |request: tonic::Request<HealthCheckRequest>| {
        let (runtime, known) = (Arc::clone(&runtime), is_known(&request.into_inner().service));
        let changes = stream::unfold(None, move |said: Option<ServingStatus>| {
            let runtime = Arc::clone(&runtime);
            async move {
                loop {
                    let status = if known { now(&runtime) } else { ServingStatus::ServiceUnknown };
                    if said != Some(status) {
                        return Some((
                            Ok::<_, Status>(HealthCheckResponse::from(status)),
                            Some(status),
                        ));
                    }
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        });
        std::future::ready(Ok::<_, Status>(tonic::Response::new(changes)))
    });
    Grpc::new(Codec::default()).server_streaming(watch, request).await.map(axum::body::Body::new)
}

fn now(runtime: &Runtime) -> ServingStatus {
    if runtime.is_ready() { ServingStatus::Serving } else { ServingStatus::NotServing }
}

fn is_known(service: &str) -> bool {
    service.is_empty() || service == SERVICE
}
