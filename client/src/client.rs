//! The client: requests, sent again until they are answered or their time is over.

mod builder;
pub(crate) mod request;

use crate::client::request::{Answered, Wanted};
use crate::connection::{Connection, Failure};
use crate::seen::{At, Seen, Verdict};
use crate::{Error, encoding, pause};
pub use builder::Builder;
pub use request::{Answer, Request};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use tidemill_proto::{Encoding, QueryRequest, QueryResponse};
use tokio::time::Instant;

/// The time after the server's time-out at which the client gives up: the server's answer has more
/// details.
const GRACE: Duration = Duration::from_millis(250);

/// Asks queries. Cloning it is cheap, and shares the connection and what was seen: see the crate's
/// documentation.
///
/// It lives in the Tokio runtime in which it is first asked.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    connection: Connection,
    time_out: Duration,
    attempts: u32,
    seen: Seen,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("time_out", &self.0.time_out)
            .field("seen", &self.0.seen)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the server at this address, such as `http://127.0.0.1:7070`. It connects when it
    /// is first asked.
    ///
    /// # Errors
    /// [`Error::Settings`]: this is no address.
    pub fn connect(address: impl Into<String>) -> Result<Client, Error> {
        Client::builder(address).connect()
    }

    /// The same with a token, and other time-outs and retries.
    pub fn builder(address: impl Into<String>) -> Builder {
        Builder::new(address)
    }

    pub(crate) fn new(connection: Connection, time_out: Duration, attempts: u32) -> Client {
        Client(Arc::new(Shared { connection, time_out, attempts, seen: Seen::default() }))
    }

    /// Asks the query `name`. `R` is the result's type: its value for a query that ends in an
    /// ungrouped aggregate, a `Vec` for any other.
    ///
    /// # Errors
    /// Every way in which there is no answer: [`Error`].
    pub async fn query<A: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        name: &str,
        arguments: &A,
    ) -> Result<Answer<R>, Error> {
        self.request(name, arguments).send().await
    }

    /// A request that can say more: of what its answer must be, and how long it may take.
    pub fn request<A: Serialize + ?Sized>(&self, name: &str, arguments: &A) -> Request {
        let wanted = Wanted {
            name: name.to_string(),
            arguments: encoding::encode(arguments),
            time_out: self.0.time_out,
            txid: 0,
            positions: Vec::new(),
        };
        Request { client: self.clone(), wanted }
    }

    /// Sends until there is an answer.
    pub(crate) async fn answer(&self, wanted: Wanted) -> Result<Answered, Error> {
        let arguments = wanted.arguments.map_err(|why| {
            Error::BadRequest(format!(
                "the arguments of \"{}\" cannot be encoded: {why}",
                wanted.name
            ))
        })?;
        let request = QueryRequest {
            name: wanted.name,
            arguments: arguments.bytes,
            encoding: Encoding::Bincode.into(),
            at_least_position: wanted.positions,
            types: Some(arguments.types),
            ..QueryRequest::default()
        };
        let began = Instant::now();
        let until = began + wanted.time_out;
        let mut attempts = 0;
        // The lineage in which the caller's own txid is: that of when it was asked for.
        let own = At { lineage: self.0.seen.now().lineage, txid: wanted.txid };
        loop {
            attempts += 1;
            let seen = self.0.seen.now();
            let last = match self.attempt(&request, &seen, &own, until).await {
                Ok(response) => match self
                    .0
                    .seen
                    .answered(&At { lineage: response.lineage.clone(), txid: response.txid })
                {
                    Verdict::Taken => return Ok(Answered { name: request.name, response }),
                    Verdict::Again | Verdict::Replaced(_) => continue,
                },
                // The server's own bound is over: there may be time for another attempt.
                Err(Failure::Lasting(Error::TimedOut { what, .. })) => {
                    Error::TimedOut { after: began.elapsed(), what }
                }
                Err(Failure::Lasting(error)) => return Err(error),
                Err(Failure::Passing(error)) => error,
                Err(Failure::Replaced(now)) => match self.0.seen.replaced(&seen.lineage, &now) {
                    Verdict::Replaced(was) => return Err(Error::StateReplaced { was, now }),
                    // Another request has reported it. What this one waits for is of the old state
                    // all the same.
                    _ if own.txid > 0 => {
                        return Err(Error::StateReplaced { was: own.lineage, now });
                    }
                    _ => continue,
                },
            };
            let wait = pause::after(attempts, rand::random());
            if attempts >= self.0.attempts || Instant::now() + wait >= until {
                return Err(last);
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// One attempt, of what was seen and is wanted.
    async fn attempt(
        &self,
        request: &QueryRequest,
        seen: &At,
        own: &At,
        until: Instant,
    ) -> Result<QueryResponse, Failure> {
        let left = until.saturating_duration_since(Instant::now());
        let txid = if own.lineage == seen.lineage || own.lineage.is_empty() { own.txid } else { 0 };
        let request = QueryRequest {
            // At least 1: 0 stands for as long as the server allows.
            timeout_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1),
            at_least_txid: seen.txid.max(txid),
            lineage: seen.lineage.clone(),
            ..request.clone()
        };
        match tokio::time::timeout_at(until + GRACE, self.0.connection.attempt(request)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let what = "the server does not answer".to_string();
                Err(Failure::Lasting(Error::TimedOut { after: Duration::ZERO, what }))
            }
        }
    }
}
