//! A request and its answer.

use crate::encoding::{self, EncodedArguments};
use crate::{Client, Error};
use serde::de::DeserializeOwned;
use std::time::Duration;
use tidemill_proto::{Position, QueryResponse};

/// An answer: all of it from one committed batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<R> {
    /// The batch.
    pub txid: u64,
    /// The lineage of the server's state: batches can be compared only within one.
    pub lineage: String,
    /// The result.
    pub value: R,
}

/// A request that is not sent yet: made by [`Client::request`].
#[derive(Debug)]
#[must_use = "a request is sent by `send`"]
pub struct Request {
    pub(crate) client: Client,
    pub(crate) wanted: Wanted,
}

/// The contents of a request.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) arguments: Result<EncodedArguments, String>,
    pub(crate) time_out: Duration,
    pub(crate) txid: u64,
    pub(crate) positions: Vec<Position>,
}

/// The response to a request.
pub(crate) struct Answered {
    pub(crate) name: String,
    pub(crate) response: QueryResponse,
}

impl Wanted {
    /// Sets the type that the result is expected to have.
    pub(crate) fn expecting<R: DeserializeOwned>(mut self) -> Wanted {
        if let Ok(arguments) = &mut self.arguments {
            arguments.types = encoding::expect::<R>(std::mem::take(&mut arguments.types));
        }
        self
    }

    pub(crate) fn position(&mut self, source: &str, partition: &str, offset: u64) {
        self.positions.push(Position {
            source: source.into(),
            partition: partition.into(),
            offset,
        });
    }
}

impl Request {
    /// The answer must be of this batch or a later one: it is waited for, within the time-out.
    pub fn at_least(mut self, txid: u64) -> Request {
        self.wanted.txid = self.wanted.txid.max(txid);
        self
    }

    /// The answer must be of a batch that holds the record at this offset: of the partition
    /// `sentences[3]` for a topic, of a file's path.
    pub fn at_least_position(mut self, source: &str, partition: &str, offset: u64) -> Request {
        self.wanted.position(source, partition, offset);
        self
    }

    /// Sets the time it may take with all its attempts.
    pub fn time_out(mut self, time_out: Duration) -> Request {
        self.wanted.time_out = time_out;
        self
    }

    /// Sends it, and waits for the answer. Dropping the future gives the request up.
    ///
    /// # Errors
    /// Every way in which there is no answer: [`Error`].
    pub async fn send<R: DeserializeOwned>(self) -> Result<Answer<R>, Error> {
        self.client.answer(self.wanted.expecting::<R>()).await?.decode()
    }
}

impl Answered {
    pub(crate) fn decode<R: DeserializeOwned>(self) -> Result<Answer<R>, Error> {
        let Answered { name, response: QueryResponse { txid, lineage, result, one, .. } } = self;
        let value = if one {
            encoding::decode::<Option<R>>(&result)
        } else {
            encoding::decode(&result).map(Some)
        };
        match value {
            Ok(Some(value)) => Ok(Answer { txid, lineage, value }),
            Ok(None) => Err(Error::NoValue { name }),
            Err(why) => {
                let many = if one { "one value, or none" } else { "a vector" };
                Err(Error::WrongType {
                    name,
                    what: format!("it is {many}, and no {}: {why}", std::any::type_name::<R>()),
                })
            }
        }
    }
}
