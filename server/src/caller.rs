//! The sender of a request, and the number of its requests under way.

use super::connections::{Connection, Usage};
use axum::extract::Request;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use tidemill_engine::QueryError;
use tidemill_engine::port::Permit;

/// A client, as far as the server knows it: a connection, whose requests share a bound.
#[derive(Clone, Debug, Default)]
pub(super) struct Caller {
    under_way: Arc<AtomicUsize>,
    usage: Arc<Usage>,
    address: Option<SocketAddr>,
}

/// An answer that is waited for longer than queries may take: its connection is not an idle one
/// meanwhile.
pub(super) struct LongWait(Arc<Usage>);

impl Drop for LongWait {
    fn drop(&mut self) {
        self.0.waits.fetch_sub(1, Relaxed);
    }
}

/// A request or a stream under way: its connection keeps its place until this is dropped.
#[derive(Debug, Default)]
pub(super) struct OpenRequest(Option<Arc<Usage>>);

impl Drop for OpenRequest {
    fn drop(&mut self) {
        if let Some(usage) = &self.0 {
            usage.open.fetch_sub(1, Relaxed);
        }
    }
}

impl Caller {
    pub(super) fn on(connection: &Connection) -> Caller {
        let address = connection.address();
        Caller { usage: connection.usage(), address, ..Caller::default() }
    }

    pub(super) fn of(request: &Request) -> Caller {
        request.extensions().get::<Caller>().cloned().unwrap_or_default()
    }

    /// Returns the client's address, if it is known.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The head of a request has come whole.
    pub(super) fn begin(&self) {
        self.usage.begun.fetch_add(1, Relaxed);
    }

    /// It is not idle, until what is given is dropped.
    pub(super) fn open(&self) -> OpenRequest {
        self.usage.open.fetch_add(1, Relaxed);
        OpenRequest(Some(Arc::clone(&self.usage)))
    }

    /// It waits for an answer, until what is given is dropped.
    pub(super) fn wait(&self) -> LongWait {
        self.usage.waits.fetch_add(1, Relaxed);
        LongWait(Arc::clone(&self.usage))
    }

    /// Lets one more of its requests in, if there is room: it counts until what is given is
    /// dropped.
    pub(super) fn admit(&self, most: usize) -> Result<Permit, QueryError> {
        let admitted = Permit::one_of(&self.under_way, most);
        admitted.ok_or_else(|| QueryError::TooMany {
            bound: format!("{most} of this connection are under way already"),
        })
    }
}
