//! The settings of a client.

use crate::connection::Connection;
use crate::{Client, Error};
use std::time::Duration;

/// Makes a [`Client`] with other settings than [`Client::connect`] has.
///
/// ```
/// # fn main() -> Result<(), tidemill_client::Error> {
/// use std::time::Duration;
/// use tidemill_client::Client;
///
/// let client = Client::builder("http://127.0.0.1:7070").time_out(Duration::from_secs(30)).connect()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Builder {
    pub(crate) address: String,
    pub(crate) token: Option<String>,
    pub(crate) time_out: Duration,
    pub(crate) attempts: u32,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the token.
        let Builder { address, time_out, attempts, .. } = self;
        f.debug_struct("Builder")
            .field("address", address)
            .field("time_out", time_out)
            .field("attempts", attempts)
            .finish()
    }
}

impl Builder {
    pub(crate) fn new(address: impl Into<String>) -> Builder {
        Builder {
            address: address.into(),
            token: None,
            time_out: Duration::from_secs(5),
            attempts: u32::MAX,
        }
    }

    /// The token that the server asks for.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Builder {
        self.token = Some(token.into());
        self
    }

    /// Sets the time a request may take with all its attempts, if it does not say: 5 s if not set.
    /// The server has a bound of its own for each attempt; when that is over and there is time
    /// left, the request is sent again.
    #[must_use]
    pub fn time_out(mut self, time_out: Duration) -> Builder {
        self.time_out = time_out;
        self
    }

    /// Sets the number of times a request may be sent again; within its time-out as often as needed
    /// if not set. 0: never.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Builder {
        self.attempts = retries.saturating_add(1);
        self
    }

    /// Makes the client. It connects when it is first asked.
    ///
    /// # Errors
    /// [`Error::Settings`]: the address or the token cannot be one.
    pub fn connect(self) -> Result<Client, Error> {
        let connection = Connection::new(&self.address, self.token.as_deref())?;
        Ok(Client::new(connection, self.time_out, self.attempts))
    }
}
