//! The parts that all requests share, and the bounds of requests under way.

use crate::ids::QueryIndex;
use crate::request::ask::{Permit, QueryError};
use crate::request::backlog::Backlog;
use crate::request::codec::QueryCodec;
use crate::request::live_requests::{LiveRequests, PLACES};
use crate::request::pins::Pins;
use crate::request::unsent_bytes::UnsentBytes;
use crate::request::waits::Waits;
use crate::request::watchdog::Watchdog;
use crate::sync::AtomicU64;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// The limits of requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueryLimits {
    /// The number of requests that run at once on each worker.
    pub running: usize,
    /// The number of requests that wait beside them, over all workers; more are refused.
    pub waiting: usize,
    /// The number of requests of one client (one connection), over HTTP or gRPC, that may be under
    /// way at once.
    pub per_client: usize,
    /// The time a request may take if it does not say, and at most.
    pub time_out: Duration,
    /// The number of bytes a request may have.
    pub request_bytes: usize,
    /// The number of bytes an answer may have.
    pub answer_bytes: usize,
    /// The number of bytes of old values that are kept for requests that read an earlier batch than
    /// the last: at the bound the oldest requests fail.
    pub pin_bytes: usize,
    /// The number of bytes of answers that may wait until they are taken: at the bound further
    /// large ones are refused.
    pub unsent_bytes: usize,
}

impl Default for QueryLimits {
    fn default() -> Self {
        QueryLimits {
            running: 1024,
            waiting: 4096,
            per_client: 1024,
            time_out: Duration::from_secs(5),
            request_bytes: 1 << 20,
            answer_bytes: 16 << 20,
            pin_bytes: 256 << 20,
            unsent_bytes: 256 << 20,
        }
    }
}

/// The parts that all callers share. One for a run.
pub(crate) struct RequestHub {
    pub(crate) live: Arc<LiveRequests>,
    pub(crate) pins: Arc<Pins>,
    pub(crate) stuck: Arc<Watchdog>,
    pub(crate) backlog: Arc<Backlog>,
    pub(crate) unsent: Arc<UnsentBytes>,
    /// Requests that are let in and not over.
    pub(crate) outstanding: Arc<AtomicUsize>,
    /// Requests that wait for a batch, and are not let in yet.
    for_batches: Arc<AtomicUsize>,
    pub(crate) waits: Waits,
    pub(crate) queries: Vec<Arc<dyn QueryCodec>>,
    pub(crate) limits: QueryLimits,
    workers: usize,
    pub(crate) next: AtomicUsize,
}

impl RequestHub {
    pub(crate) fn new(
        committed: Arc<AtomicU64>,
        workers: usize,
        queries: Vec<Arc<dyn QueryCodec>>,
        limits: QueryLimits,
    ) -> RequestHub {
        RequestHub {
            live: Arc::new(LiveRequests::new(workers, limits.running.min(PLACES))),
            pins: Arc::new(Pins::new(committed, workers, limits.pin_bytes)),
            stuck: Arc::new(Watchdog::new(workers)),
            backlog: Arc::default(),
            unsent: Arc::new(UnsentBytes::new(limits.unsent_bytes)),
            outstanding: Arc::default(),
            for_batches: Arc::default(),
            waits: Waits::default(),
            queries,
            limits,
            workers,
            next: AtomicUsize::new(0),
        }
    }

    /// Returns the codec of a query.
    pub(crate) fn query(&self, query: QueryIndex) -> &dyn QueryCodec {
        &*self.queries[query.0]
    }

    /// Returns the place of a query in the program.
    pub(crate) fn find(&self, name: &str) -> Result<QueryIndex, QueryError> {
        let place = self.queries.iter().position(|query| query.decl().name == name);
        place.map(QueryIndex).ok_or_else(|| QueryError::NoSuchQuery {
            name: name.to_string(),
            known: self.queries.iter().map(|query| query.decl().name.clone()).collect(),
        })
    }

    /// Lets one more request wait for a batch, if there is room.
    pub(crate) fn let_wait(&self) -> Result<Permit, QueryError> {
        let most = self.limits.waiting;
        let waits = Permit::one_of(&self.for_batches, most);
        waits.ok_or_else(|| QueryError::TooMany {
            bound: format!("{most} wait for a batch already"),
        })
    }

    /// Lets one more request in, if there is room.
    pub(crate) fn admit(&self) -> Result<Permit, QueryError> {
        Permit::one_of(&self.outstanding, self.most()).ok_or_else(|| self.full())
    }

    /// Returns an error if no more request would be let in now.
    pub(crate) fn check_room(&self) -> Result<(), QueryError> {
        if self.outstanding.load(SeqCst) < self.most() { Ok(()) } else { Err(self.full()) }
    }

    fn most(&self) -> usize {
        self.limits.running * self.workers + self.limits.waiting
    }

    fn full(&self) -> QueryError {
        QueryError::TooMany { bound: format!("{} are running and waiting already", self.most()) }
    }
}
