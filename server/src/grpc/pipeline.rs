//! Many requests over one stream, each answered when it is ready.

use super::deadline::Deadline;
use super::{Caller, answer, grpc};
use crate::request_bodies::CallMeter;
use crate::sending::Handover;
use axum::extract::{Request, State};
use axum::response::Response;
use futures_util::Stream;
use futures_util::stream::FuturesUnordered;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tidemill_engine::Runtime;
use tidemill_engine::port::UnsentGuard;
use tidemill_proto::{QueryRequest, QueryResponse};
use tonic::{Status, Streaming};

type UnderWay = Pin<Box<dyn Future<Output = (QueryResponse, UnsentGuard)> + Send>>;

/// The call.
pub(super) async fn pipeline(State(runtime): State<Arc<Runtime>>, request: Request) -> Response {
    let mut grpc = grpc::<QueryResponse, QueryRequest>(&runtime);
    let (connection, deadline) = (Caller::of(&request), Deadline::of(request.headers()));
    let (meter, handover) = (CallMeter::of(&request), Handover::default());
    let sent = handover.clone();
    let many = tower::service_fn(move |requests: tonic::Request<Streaming<QueryRequest>>| {
        let answers = Answers {
            runtime: Arc::clone(&runtime),
            connection: connection.clone(),
            requests: Some(requests.into_inner()),
            under_way: FuturesUnordered::new(),
            deadline,
            meter: meter.clone(),
            sent: sent.clone(),
        };
        std::future::ready(Ok::<_, Status>(tonic::Response::new(answers)))
    });
    let mut response = grpc.streaming(many, request).await.map(axum::body::Body::new);
    response.extensions_mut().insert(handover);
    response
}

/// The answers to a stream of requests. While nobody takes answers no more requests are read; what
/// those give that were is counted until it is sent ([`Handover`]). Dropping it gives up what is
/// under way.
struct Answers {
    runtime: Arc<Runtime>,
    connection: Caller,
    /// `None` once the client has sent all of its requests.
    requests: Option<Streaming<QueryRequest>>,
    under_way: FuturesUnordered<UnderWay>,
    deadline: Deadline,
    /// Counts each request until it is answered.
    meter: Option<CallMeter>,
    /// Counts what is handed out.
    sent: Handover,
}

impl Stream for Answers {
    type Item = Result<QueryResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            // Answers go out before more requests come in.
            if let Poll::Ready(Some((response, kept))) =
                Pin::new(&mut this.under_way).poll_next(context)
            {
                this.sent.put(kept);
                return Poll::Ready(Some(Ok(response)));
            }
            let Some(requests) = &mut this.requests else {
                return if this.under_way.is_empty() { Poll::Ready(None) } else { Poll::Pending };
            };
            match Pin::new(requests).poll_next(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => this.requests = None,
                Poll::Ready(Some(Err(broken))) => {
                    this.requests = None;
                    this.under_way.clear();
                    return Poll::Ready(Some(Err(broken)));
                }
                Poll::Ready(Some(Ok(request))) => {
                    let (runtime, connection) =
                        (Arc::clone(&this.runtime), this.connection.clone());
                    let request = this.deadline.shorten(request);
                    let claim = this.meter.as_ref().and_then(CallMeter::next_message);
                    this.under_way.push(Box::pin(async move {
                        let answered = answer(&runtime, &connection, request).await;
                        drop(claim);
                        answered
                    }));
                }
            }
        }
    }
}
