//! Who asks, and how many requests of it are under way.

use super::connections::Connections;
use crate::query::ask::{Admitted, QueryError};
use axum::extract::Request;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::serve::IncomingStream;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// A client, as far as the server knows it: a connection, whose requests share a bound.
#[derive(Clone, Debug, Default)]
pub(super) struct Caller {
    under_way: Arc<AtomicUsize>,
}

impl Connected<IncomingStream<'_, Connections>> for Caller {
    fn connect_info(stream: IncomingStream<'_, Connections>) -> Caller {
        Caller { under_way: stream.io().under_way() }
    }
}

impl Caller {
    pub(super) fn of(request: &Request) -> Caller {
        request.extensions().get::<ConnectInfo<Caller>>().map(|caller| caller.0.clone()).unwrap_or_default()
    }

    /// Lets one more of its requests in, if there is room: it counts until what is given is dropped.
    pub(super) fn admit(&self, most: usize) -> Result<Admitted, QueryError> {
        let admitted = Admitted::one_of(&self.under_way, most);
        admitted.ok_or_else(|| QueryError::TooMany { bound: format!("{most} of this connection are under way already") })
    }
}
