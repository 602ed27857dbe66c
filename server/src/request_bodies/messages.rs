//! The body of a gRPC call: each message counts until its request is answered, and has a time
//! within which it has to come. Between messages a stream may rest for as long as it likes.

use super::{BodyBudget, BodyClaim};
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use http_body::{Frame, SizeHint};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::time::{Sleep, sleep};
use tonic::Status;

/// The bytes before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// The count of one call's bytes. An extension of the request.
#[derive(Clone)]
pub(crate) struct CallMeter(Arc<Mutex<MeterState>>);

struct MeterState {
    /// The bytes that have come and belong to no request yet.
    held: BodyClaim,
    /// The sizes of messages that came whole, and were not taken yet.
    whole: VecDeque<usize>,
}

impl CallMeter {
    pub(crate) fn new(budget: &BodyBudget) -> CallMeter {
        CallMeter(Arc::new(Mutex::new(MeterState { held: budget.claim(), whole: VecDeque::new() })))
    }

    pub(crate) fn of(request: &Request) -> Option<CallMeter> {
        request.extensions().get().cloned()
    }

    /// Returns the claim of the oldest message that came whole: whoever answers it holds it.
    pub(crate) fn next_message(&self) -> Option<BodyClaim> {
        let mut metering = self.lock();
        let size = metering.whole.pop_front()?;
        Some(metering.held.split(size))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, MeterState> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

/// The place in a stream of messages.
#[derive(Default)]
struct MessageCursor {
    prefix: [u8; PREFIX],
    /// The bytes of the prefix that have come.
    begun: usize,
    /// The bytes of the message that are still to come.
    left: usize,
}

impl MessageCursor {
    /// Goes on by these bytes, and adds the sizes of messages that end in them.
    fn advance(&mut self, mut data: &[u8], whole: &mut VecDeque<usize>) {
        while !data.is_empty() {
            if self.begun < PREFIX {
                let (prefix, rest) = data.split_at(data.len().min(PREFIX - self.begun));
                self.prefix[self.begun..][..prefix.len()].copy_from_slice(prefix);
                self.begun += prefix.len();
                data = rest;
                if self.begun < PREFIX {
                    return;
                }
                self.left = self.length();
            } else {
                let part = data.len().min(self.left);
                self.left -= part;
                data = &data[part..];
            }
            if self.left == 0 {
                whole.push_back(PREFIX + self.length());
                self.begun = 0;
            }
        }
    }

    fn length(&self) -> usize {
        let [_, a, b, c, d] = self.prefix;
        usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX - PREFIX)
    }

    fn is_between_messages(&self) -> bool {
        self.begun == 0
    }
}

/// A body whose messages are counted.
pub(crate) struct MessageBody {
    body: Body,
    meter: CallMeter,
    budget: BodyBudget,
    place: MessageCursor,
    /// When the message that has begun is late.
    due: Option<Pin<Box<Sleep>>>,
}

impl MessageBody {
    pub(crate) fn new(body: Body, meter: CallMeter, budget: &BodyBudget) -> MessageBody {
        MessageBody {
            body,
            meter,
            budget: budget.clone(),
            place: MessageCursor::default(),
            due: None,
        }
    }

    fn count(&mut self, data: &[u8]) -> Result<(), Status> {
        let mut metering = self.meter.lock();
        let messages = metering.whole.len();
        if !metering.held.grow(data.len()) {
            return Err(Status::resource_exhausted(format!(
                "{}: send it again in a moment, or fewer at once",
                self.budget.full()
            )));
        }
        self.place.advance(data, &mut metering.whole);
        if metering.whole.len() > messages {
            self.due = None;
        }
        Ok(())
    }
}

impl HttpBody for MessageBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let counted = frame.data_ref().map_or(Ok(()), |data| this.count(data));
                Poll::Ready(Some(counted.map(|()| frame)))
            }
            Poll::Ready(Some(Err(why))) => {
                Poll::Ready(Some(Err(Status::from_error(why.into_inner()))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending if this.place.is_between_messages() => Poll::Pending,
            Poll::Pending => {
                let budget = &this.budget;
                let due = this.due.get_or_insert_with(|| Box::pin(sleep(budget.within)));
                due.as_mut().poll(context).map(|()| {
                    let late = format!("{}: send it at once", budget.late());
                    Some(Err(Status::deadline_exceeded(late)))
                })
            }
        }
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
    use futures_util::{StreamExt, stream};
    use std::convert::Infallible;
    use std::future::poll_fn;
    use std::time::Duration;

    const MESSAGES: &[u8] = b"\0\0\0\0\x03abc\0\0\0\0\0\x01\0\0\0\x01x";

    #[test]
    fn messages_are_found_however_they_are_cut() {
        for length in 1..=MESSAGES.len() {
            let (mut place, mut whole) = (MessageCursor::default(), VecDeque::new());
            for part in MESSAGES.chunks(length) {
                place.advance(part, &mut whole);
            }
            assert_eq!(whole, [8, 5, 6], "in parts of {length}");
            assert!(place.is_between_messages());
            place.advance(b"\0", &mut whole);
            assert!(!place.is_between_messages());
        }
    }

    async fn next(body: &mut MessageBody) -> Option<Result<Bytes, tonic::Code>> {
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
        frame.map(|frame| {
            frame.map(|frame| frame.into_data().expect("data")).map_err(|status| status.code())
        })
    }

    fn budget(most: usize) -> BodyBudget {
        BodyBudget { taken: Arc::default(), most, within: Duration::from_millis(50) }
    }

    fn metered(bytes: &'static [u8], budget: &BodyBudget) -> (MessageBody, CallMeter) {
        let parts = stream::iter([Ok::<_, Infallible>(bytes)]).chain(stream::pending());
        let meter = CallMeter::new(budget);
        (MessageBody::new(Body::from_stream(parts), meter.clone(), budget), meter)
    }

    #[tokio::test]
    async fn a_message_counts_until_its_request_is_answered() {
        let budget = budget(MESSAGES.len());
        let (mut body, meter) = metered(MESSAGES, &budget);
        assert_eq!(next(&mut body).await, Some(Ok(Bytes::from_static(MESSAGES))));
        let claims: Vec<_> = std::iter::from_fn(|| meter.next_message()).collect();
        assert_eq!(claims.iter().map(|claim| claim.bytes).collect::<Vec<_>>(), [8, 5, 6]);
        let more = tokio::time::timeout(Duration::from_millis(300), next(&mut body)).await;
        assert!(more.is_err(), "between messages it may rest");
        let (mut other, _) = metered(MESSAGES, &budget);
        assert_eq!(next(&mut other).await, Some(Err(tonic::Code::ResourceExhausted)));
        drop(claims);
        let (mut other, _) = metered(MESSAGES, &budget);
        assert!(next(&mut other).await.is_some_and(|frame| frame.is_ok()));
    }

    #[tokio::test]
    async fn a_message_that_does_not_end_is_given_up() {
        let budget = budget(MESSAGES.len());
        let (mut body, meter) = metered(b"\0\0\0\0\x03ab", &budget);
        assert!(next(&mut body).await.is_some_and(|frame| frame.is_ok()));
        assert!(meter.next_message().is_none());
        assert_eq!(next(&mut body).await, Some(Err(tonic::Code::DeadlineExceeded)));
    }
}
