//! The place where responses leave the server: what is not sent yet is counted here, of every
//! answer, until its bytes have gone to the operating system.

use crate::caller::OpenRequest;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::StatusCode;
use axum::response::Response;
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use tidemill_engine::QueryError;
use tidemill_engine::port::{UnsentBytes, UnsentGuard};

/// The most bytes handed to the connection at once. A piece is counted until it is written.
const PIECE: usize = 64 << 10;

/// An answer that is counted already, as queries are.
pub(super) fn answer(bytes: Vec<u8>, kept: UnsentGuard) -> Response {
    let mut response = crate::body::json_response(StatusCode::OK, bytes);
    response.extensions_mut().insert(kept);
    response
}

/// The guards of answers in a stream, from the answer to the frame that has it. An extension of the
/// response.
#[derive(Clone, Default)]
pub(super) struct Handover(Arc<Mutex<Vec<UnsentGuard>>>);

impl Handover {
    /// The next frame has this answer in it.
    pub(super) fn put(&self, kept: UnsentGuard) {
        if kept.is_counted() {
            self.0.lock().expect("no holder of this lock panics").push(kept);
        }
    }

    fn take(&self) -> Vec<UnsentGuard> {
        std::mem::take(&mut *self.0.lock().expect("no holder of this lock panics"))
    }
}

/// Counts a response until it is sent. One for which there is no room is an error instead. A stream
/// keeps its connection in use until it ends.
pub(super) fn leave(
    mut response: Response,
    unsent: &Arc<UnsentBytes>,
    open: OpenRequest,
) -> Result<Response, QueryError> {
    let kept = match response.extensions_mut().remove::<UnsentGuard>() {
        Some(kept) => kept,
        None => match response.body().size_hint().exact() {
            Some(bytes) => {
                let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
                unsent.keep(bytes).ok_or_else(|| QueryError::unsent(unsent.most()))?
            }
            None => return Ok(stream(response, unsent, open)),
        },
    };
    if !kept.is_counted() {
        return Ok(response);
    }
    Ok(response.map(|body| Body::new(PieceBody { body, left: Bytes::new(), kept })))
}

fn stream(mut response: Response, unsent: &Arc<UnsentBytes>, open: OpenRequest) -> Response {
    let handover = response.extensions_mut().remove::<Handover>().unwrap_or_default();
    let unsent = Arc::clone(unsent);
    response.map(|body| Body::new(StreamBody { body, handover, unsent, _open: open }))
}

/// Bytes on their way to the connection, with what counts them.
struct Piece<K> {
    bytes: Bytes,
    _kept: K,
}

impl<K> AsRef<[u8]> for Piece<K> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A body that is counted as a whole, and handed over in pieces.
struct PieceBody {
    body: Body,
    left: Bytes,
    kept: UnsentGuard,
}

impl HttpBody for PieceBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.left.is_empty() {
            let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(bytes))) => self.left = bytes,
                Some(Ok(Err(trailers))) => return Poll::Ready(Some(Ok(trailers))),
                Some(Err(why)) => return Poll::Ready(Some(Err(why))),
                None => return Poll::Ready(None),
            }
        }
        let length = self.left.len().min(PIECE);
        let piece = Piece { bytes: self.left.split_to(length), _kept: self.kept.clone() };
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (of_body, left) = (self.body.size_hint(), self.left.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(of_body.lower() + left);
        if let Some(upper) = of_body.upper() {
            hint.set_upper(upper + left);
        }
        hint
    }
}

/// A body without an end that is known: each frame is counted as it comes.
struct StreamBody {
    body: Body,
    handover: Handover,
    unsent: Arc<UnsentBytes>,
    _open: OpenRequest,
}

impl HttpBody for StreamBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(match frame.map(|frame| frame.map(Frame::into_data)) {
            Some(Ok(Ok(bytes))) => {
                // The answers in it are counted already; what has none is counted here.
                let mut kept = self.handover.take();
                if kept.is_empty() {
                    kept.push(self.unsent.count(bytes.len()));
                }
                Some(Ok(Frame::data(Bytes::from_owner(Piece { bytes, _kept: kept }))))
            }
            Some(Ok(Err(trailers))) => Some(Ok(trailers)),
            Some(Err(why)) => Some(Err(why)),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::header::CONTENT_LENGTH;
    use std::future::poll_fn;

    fn answered(bytes: usize) -> Response {
        Response::new(Body::from(vec![0; bytes]))
    }

    #[tokio::test]
    async fn every_body_is_counted_until_its_last_piece_is_gone() {
        let unsent = Arc::new(UnsentBytes::new(200_000));
        let leave = |bytes| leave(answered(bytes), &unsent, OpenRequest::default());
        let mut body = leave(150_000).expect("there is room").into_body();
        assert_eq!(body.size_hint().exact(), Some(150_000));
        let why = leave(100_000).map(drop).expect_err("there is no room for both");
        assert!(matches!(why, QueryError::TooMany { .. }), "{why}");
        leave(500).expect("a small one is not counted");
        let mut pieces = Vec::new();
        while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            pieces.push(frame.expect("no error").into_data().expect("data"));
        }
        drop(body);
        assert_eq!(pieces.iter().map(Bytes::len).collect::<Vec<_>>(), [65_536, 65_536, 18_928]);
        leave(100_000).map(drop).expect_err("the pieces are not sent yet");
        pieces.clear();
        let response = leave(100_000).expect("there is room again");
        assert!(response.headers().get(CONTENT_LENGTH).is_none(), "hyper sets it by the size");
    }
}
