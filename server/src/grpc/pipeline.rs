//! Many requests over one stream, each answered when it is ready.

use super::{Caller, answer, grpc};
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
    let connection = Caller::of(&request);
    let many = tower::service_fn(move |requests: tonic::Request<Streaming<QueryRequest>>| {
        let answers = Answers {
            runtime: Arc::clone(&runtime),
            connection: connection.clone(),
            requests: Some(requests.into_inner()),
            under_way: FuturesUnordered::new(),
            sent: UnsentGuard::default(),
        };
        std::future::ready(Ok::<_, Status>(tonic::Response::new(answers)))
    });
    grpc.streaming(many, request).await.map(axum::body::Body::new)
}

/// The answers to a stream of requests. While nobody takes answers no more requests are read; what
/// those give that were is counted until it is taken ([`UnsentGuard`]). Dropping it gives up what
/// is under way.
struct Answers {
    runtime: Arc<Runtime>,
    connection: Caller,
    /// `None` once the client has sent all of its requests.
    requests: Option<Streaming<QueryRequest>>,
    under_way: FuturesUnordered<UnderWay>,
    /// Counts the last answer handed out. The next one is requested when there is room for it, so
    /// that the last is on its way by then.
    sent: UnsentGuard,
}

impl Stream for Answers {
    type Item = Result<QueryResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        this.sent = UnsentGuard::default();
        loop {
            // Answers go out before more requests come in.
            if let Poll::Ready(Some((response, kept))) =
                Pin::new(&mut this.under_way).poll_next(context)
            {
                this.sent = kept;
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
                    this.under_way.push(Box::pin(async move {
                        answer(&runtime, &connection, request).await
                    }));
                }
            }
        }
    }
}
