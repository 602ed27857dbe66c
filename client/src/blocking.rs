//! The client for threads that may sleep.
//!
//! ```no_run
//! # fn main() -> Result<(), tidemill_client::Error> {
//! let client = tidemill_client::blocking::Client::connect("http://127.0.0.1:7070")?;
//! println!("{}", client.query::<_, u64>("words", &"the tide")?.value);
//! # Ok(())
//! # }
//! ```

use crate::client::request::{Answered, Wanted};
use crate::{Answer, Error};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// As [`crate::Client`], for threads that may sleep: a runtime on a thread of its own does the
/// work. Not to be used from within an async function.
#[derive(Clone)]
pub struct Client {
    client: crate::Client,
    thread: Arc<Thread>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.client.fmt(f)
    }
}

/// The thread that does the work, until this value is dropped.
struct Thread {
    handle: Handle,
    _stop: oneshot::Sender<()>,
}

impl crate::Builder {
    /// The same for threads that may sleep.
    ///
    /// # Errors
    /// As [`crate::Builder::connect`], and if the operating system gives no thread.
    pub fn connect_blocking(self) -> Result<Client, Error> {
        Client::new(self.connect()?)
    }
}

impl Client {
    /// As [`crate::Client::connect`].
    ///
    /// # Errors
    /// [`Error::Settings`]: this is no address, or the operating system gives no thread.
    pub fn connect(address: impl Into<String>) -> Result<Client, Error> {
        crate::Client::builder(address).connect_blocking()
    }

    pub(crate) fn new(client: crate::Client) -> Result<Client, Error> {
        let cannot = |why: std::io::Error| {
            Error::Settings(format!("the client's thread cannot be started: {why}"))
        };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(cannot)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let work = move || {
            // It ends when the last client is gone, which drops the sender.
            let _ = runtime.block_on(stopped);
        };
        #[expect(clippy::disallowed_methods, reason = "the only thread of this crate")]
        std::thread::Builder::new().name("tidemill-client".into()).spawn(work).map_err(cannot)?;
        Ok(Client { client, thread: Arc::new(Thread { handle, _stop: stop }) })
    }

    /// As [`crate::Client::query`].
    ///
    /// # Errors
    /// As there.
    pub fn query<A: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        name: &str,
        arguments: &A,
    ) -> Result<Answer<R>, Error> {
        self.request(name, arguments).send()
    }

    /// As [`crate::Client::request`].
    pub fn request<A: Serialize + ?Sized>(&self, name: &str, arguments: &A) -> Request {
        Request { client: self.clone(), wanted: self.client.request(name, arguments).wanted }
    }

    fn answer(&self, wanted: Wanted) -> Result<Answered, Error> {
        let client = self.client.clone();
        let (to, answer) = oneshot::channel();
        self.thread.handle.spawn(async move {
            let _ = to.send(client.answer(wanted).await);
        });
        answer
            .blocking_recv()
            .unwrap_or_else(|_| Err(Error::Unavailable("the client's thread has ended".into())))
    }
}

/// As [`crate::Request`]: made by [`Client::request`].
#[derive(Debug)]
#[must_use = "a request is sent by `send`"]
pub struct Request {
    client: Client,
    wanted: Wanted,
}

impl Request {
    /// As [`crate::Request::at_least`].
    pub fn at_least(mut self, txid: u64) -> Request {
        self.wanted.txid = self.wanted.txid.max(txid);
        self
    }

    /// As [`crate::Request::at_least_position`].
    pub fn at_least_position(mut self, source: &str, partition: &str, offset: u64) -> Request {
        self.wanted.position(source, partition, offset);
        self
    }

    /// As [`crate::Request::time_out`].
    pub fn time_out(mut self, time_out: Duration) -> Request {
        self.wanted.time_out = time_out;
        self
    }

    /// As [`crate::Request::send`].
    ///
    /// # Errors
    /// As there.
    pub fn send<R: DeserializeOwned>(self) -> Result<Answer<R>, Error> {
        self.client.answer(self.wanted.expecting::<R>())?.decode()
    }
}
