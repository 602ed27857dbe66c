//! The sender of a request, and the number of its requests under way.

use super::connections::Connection;
use axum::extract::Request;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use tidemill_engine::QueryError;
use tidemill_engine::port::Permit;

/// A client, as far as the server knows it: a connection, whose requests share a bound.
#[derive(Clone, Debug, Default)]
pub(super) struct Caller {
    under_way: Arc<AtomicUsize>,
    waits: Arc<AtomicUsize>,
}

/// An answer that is waited for longer than queries may take: its connection is not an idle one
/// meanwhile.
pub(super) struct Wait(Arc<AtomicUsize>);

impl Drop for Wait {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Caller {
    pub(super) fn on(connection: &Connection) -> Caller {
        Caller { waits: connection.waits(), ..Caller::default() }
    }

    pub(super) fn of(request: &Request) -> Caller {
        request.extensions().get::<Caller>().cloned().unwrap_or_default()
    }

    /// It waits for an answer, until what is given is dropped.
    pub(super) fn wait(&self) -> Wait {
        self.waits.fetch_add(1, Relaxed);
        Wait(Arc::clone(&self.waits))
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
