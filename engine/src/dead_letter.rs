//! Dead letters: records set aside by policy, and the type of the sinks that take them.

use crate::sink::Sink;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A record that could not be decoded, or at which an operator has failed: what goes to a
/// dead-letter sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The operator that failed, and where it is in the program; `None` if the record could not be
    /// decoded.
    pub operator: Option<String>,
    /// The source that it came from; `None` if that is not known: it was made of several records,
    /// or came out of a state.
    pub source: Option<String>,
    /// The partition.
    pub partition: Option<String>,
    /// The record's offset there.
    pub offset: Option<u64>,
    /// Why it could not be decoded, or what the operator said.
    pub error: String,
    /// Its key, if it has one. As JSON this and `bytes` are texts if they are UTF-8, else arrays of
    /// numbers.
    #[serde(with = "crate::readable")]
    pub key: Option<Vec<u8>>,
    /// Its bytes, if they are known: as they were read if it could not be decoded; else the record
    /// as the source, or the last exchange, has given it, a text as it is and anything else as
    /// JSON.
    #[serde(with = "crate::readable")]
    pub bytes: Option<Vec<u8>>,
    /// Its time in milliseconds since 1970, if it has one and could not be decoded.
    pub timestamp: Option<i64>,
    /// Its headers, if it has some and could not be decoded.
    pub headers: Vec<LetterHeader>,
}

/// A header of a record that could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetterHeader {
    /// Its name. A name may be there several times.
    pub name: String,
    /// Its value, if it has one. As JSON this is a text if it is UTF-8, else an array of numbers.
    #[serde(with = "crate::readable")]
    pub value: Option<Vec<u8>>,
}

/// A sink that takes dead letters.
pub type DeadLetterSink = Arc<dyn Sink<Item = DeadLetter>>;
