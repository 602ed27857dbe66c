//! Bodies of answers that are counted until they are sent.

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tidemill_engine::port::UnsentGuard;

/// The most bytes handed to the connection at once. These bytes lie in the connection's own
/// buffers, where they are not counted.
const PIECE: usize = 64 << 10;

/// A body of these bytes.
pub(super) fn whole(bytes: Vec<u8>, kept: UnsentGuard) -> Body {
    Body::new(Whole { left: bytes.into(), _kept: kept })
}

struct Whole {
    left: Bytes,
    _kept: UnsentGuard,
}

impl HttpBody for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.left.len().min(PIECE);
        Poll::Ready((piece > 0).then(|| Ok(Frame::data(self.left.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}

/// The same body, which holds an answer's count.
pub(super) fn holding(body: Body, kept: UnsentGuard) -> Body {
    Body::new(Holding { body, _kept: kept })
}

struct Holding {
    body: Body,
    _kept: UnsentGuard,
}

impl HttpBody for Holding {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
