//! The bodies of requests: one budget of bytes for all of them together, and a time within which
//! each has to come. A body counts from before it is read until its request is answered.

mod messages;

use crate::refusal::Refusal;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::StatusCode;
use http_body::Frame;
pub(super) use messages::{CallMeter, MessageBody};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::timeout;

/// The bytes of all bodies together, unless one request may be larger.
const MOST: usize = 64 << 20;

/// The step in which a body whose length is not known takes from the budget.
const STEP: usize = 64 << 10;

/// The time a body, or a message of a stream, has from its beginning to its end.
const WITHIN: Duration = Duration::from_secs(10);

/// The budget of all bodies.
#[derive(Clone, Debug)]
pub(super) struct BodyBudget {
    taken: Arc<AtomicUsize>,
    most: usize,
    within: Duration,
}

/// A part of the budget, given back when it is dropped.
#[derive(Debug)]
pub(super) struct BodyClaim {
    budget: BodyBudget,
    bytes: usize,
}

impl BodyBudget {
    /// Creates the budget of a port whose requests may have so many bytes each.
    pub(super) fn new(request_bytes: usize) -> BodyBudget {
        BodyBudget { taken: Arc::default(), most: MOST.max(request_bytes), within: WITHIN }
    }

    pub(super) fn claim(&self) -> BodyClaim {
        BodyClaim { budget: self.clone(), bytes: 0 }
    }

    fn full(&self) -> String {
        format!("bodies of requests take {} bytes already, as many as there may be", self.most)
    }

    fn late(&self) -> String {
        format!("the request's body did not come within {:?}", self.within)
    }
}

impl BodyClaim {
    /// Takes so many bytes more, if there is room.
    fn grow(&mut self, bytes: usize) -> bool {
        let before = self.budget.taken.fetch_add(bytes, Relaxed);
        if before.saturating_add(bytes) > self.budget.most {
            self.budget.taken.fetch_sub(bytes, Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }

    /// Moves up to so many bytes into a claim of their own.
    fn split(&mut self, bytes: usize) -> BodyClaim {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        BodyClaim { budget: self.budget.clone(), bytes }
    }
}

impl Drop for BodyClaim {
    fn drop(&mut self) {
        self.budget.taken.fetch_sub(self.bytes, Relaxed);
    }
}

/// Reads a body of at most so many bytes. `place` is that of the request.
pub(super) async fn receive(
    body: Body,
    budget: &BodyBudget,
    most: usize,
    place: &str,
) -> Result<(Bytes, BodyClaim), Refusal> {
    let length =
        body.size_hint().exact().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    if length.is_some_and(|length| length > most) {
        return Err(too_large(most, place));
    }
    let mut claim = budget.claim();
    if length.is_some_and(|length| !claim.grow(length)) {
        return Err(full(budget, place));
    }
    match timeout(budget.within, collect(body, length, most, &mut claim)).await {
        Ok(Ok(bytes)) => Ok((bytes, claim)),
        Ok(Err(Unreceived::Full)) => Err(full(budget, place)),
        Ok(Err(Unreceived::TooLarge)) => Err(too_large(most, place)),
        Ok(Err(Unreceived::Broken(why))) => {
            let what = format!("the request's body cannot be read: {why}");
            Err(Refusal::new(StatusCode::BAD_REQUEST, what, place.into())
                .remedy("send the whole body"))
        }
        Err(_) => Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, budget.late(), place.into())
            .remedy("send the whole body at once")),
    }
}

/// Returns the refusal of a body that is larger than any may be.
pub(super) fn too_large(most: usize, place: &str) -> Refusal {
    let what = format!("the request's body is larger than {most} bytes");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, what, place.into()).remedy("send less")
}

fn full(budget: &BodyBudget, place: &str) -> Refusal {
    Refusal::new(StatusCode::TOO_MANY_REQUESTS, budget.full(), place.into())
        .remedy("send it again in a moment, or fewer at once")
}

/// Why there is no whole body.
enum Unreceived {
    Full,
    TooLarge,
    Broken(axum::Error),
}

async fn collect(
    mut body: Body,
    length: Option<usize>,
    most: usize,
    claim: &mut BodyClaim,
) -> Result<Bytes, Unreceived> {
    // A body that comes at once is not copied.
    let (mut first, mut whole) = (Bytes::new(), Vec::new());
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let Ok(data) = frame.map_err(Unreceived::Broken).map(Frame::into_data)? else { continue };
        let bytes = first.len() + whole.len() + data.len();
        if bytes > most {
            return Err(Unreceived::TooLarge);
        }
        if length.is_none() && bytes > claim.bytes {
            let step = (bytes - claim.bytes).next_multiple_of(STEP);
            if !claim.grow(step) {
                return Err(Unreceived::Full);
            }
        }
        if bytes == data.len() {
            first = data;
            continue;
        }
        if whole.is_empty() {
            whole.reserve_exact(length.unwrap_or(bytes));
            whole.extend_from_slice(&std::mem::take(&mut first));
        }
        whole.extend_from_slice(&data);
    }
    Ok(if whole.is_empty() { first } else { whole.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use std::convert::Infallible;

    fn budget(most: usize) -> BodyBudget {
        BodyBudget { taken: Arc::default(), most, within: Duration::from_millis(50) }
    }

    fn chunked(pieces: &[&'static str]) -> Body {
        let pieces: Vec<_> = pieces.iter().map(|piece| Ok::<_, Infallible>(*piece)).collect();
        Body::from_stream(stream::iter(pieces))
    }

    async fn received(body: Body, budget: &BodyBudget) -> Result<(Bytes, BodyClaim), StatusCode> {
        receive(body, budget, 10, "POST /x").await.map_err(|refusal| refusal.status())
    }

    #[tokio::test]
    async fn bodies_count_together_until_their_requests_are_answered() {
        let budget = budget(15);
        let (bytes, first) = received(Body::from("0123456789"), &budget).await.expect("room");
        assert_eq!(bytes, "0123456789");
        let refused = received(Body::from("012345"), &budget).await.expect_err("no room");
        assert_eq!(refused, StatusCode::TOO_MANY_REQUESTS);
        let (_, second) = received(Body::from("01234"), &budget).await.expect("room for this one");
        drop((first, second));
        assert_eq!(budget.taken.load(Relaxed), 0);
    }

    #[tokio::test]
    async fn a_body_of_unknown_length_takes_its_room_as_it_comes() {
        let budget = budget(2 * STEP);
        let (bytes, claim) = received(chunked(&["012", "", "34"]), &budget).await.expect("room");
        assert_eq!((&*bytes, claim.bytes), (&b"01234"[..], STEP));
        let second = received(chunked(&["0"]), &budget).await.expect("room for one step more");
        let refused = received(chunked(&["0"]), &budget).await.expect_err("no room");
        assert_eq!(refused, StatusCode::TOO_MANY_REQUESTS);
        drop((claim, second));
        let refused = received(chunked(&["012345", "678901"]), &budget).await.expect_err("large");
        assert_eq!(refused, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(budget.taken.load(Relaxed), 0);
    }

    #[tokio::test]
    async fn a_body_that_does_not_end_is_given_up() {
        let budget = budget(STEP);
        let never = stream::pending::<Result<&str, Infallible>>();
        let refused = received(Body::from_stream(never), &budget).await.expect_err("it is late");
        assert_eq!(refused, StatusCode::REQUEST_TIMEOUT);
        assert_eq!(budget.taken.load(Relaxed), 0);
    }
}
