//! The parts of this folder that fuzz targets use: see `fuzz/src/kafka.rs`.

use super::identity::{self, Witness};
use super::marker;
use super::message::{Encoded, Message};
#[cfg(feature = "schema-registry")]
pub use super::registry::fuzz as registry;
use tidemill_engine::sink::{Marker, Owner};
use tidemill_state::{Position, Result, Txid};

/// Reads a message as it lies in the outbox.
#[doc(hidden)]
pub fn read_message(bytes: &[u8]) -> Result<Message> {
    let Encoded { key, value, headers, timestamp, partition } = Encoded::read(bytes)?;
    let (key, value) = (key.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec));
    let headers =
        headers.into_iter().map(|(name, value)| (name.to_string(), value.map(<[u8]>::to_vec)));
    Ok(Message { key, value, headers: headers.collect(), timestamp, partition })
}

/// Writes a message as it lies in the outbox.
#[doc(hidden)]
#[must_use]
pub fn write_message(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    bytes
}

/// Returns the same position, with its witness read and written again.
#[doc(hidden)]
#[must_use]
pub fn rewritten(position: &Position) -> Position {
    Position { witness: Witness::of(position).to_bytes(), ..*position }
}

/// Reads the topic and its new id from a line of librdkafka's log.
#[doc(hidden)]
#[must_use]
pub fn changed_id(line: &str) -> Option<(&str, String)> {
    identity::changed_id(line).map(|(topic, id)| (topic, id.to_string()))
}

/// Writes a marker.
///
/// # Errors
/// As the sink has them.
#[doc(hidden)]
pub fn write_marker(owner: &Owner, txid: Txid) -> Result<Vec<u8>> {
    marker::encode(owner, txid)
}

/// Reads the marker of a sink from a record of its progress topic.
///
/// # Errors
/// As the sink has them.
#[doc(hidden)]
pub fn read_marker(sink: &str, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Marker> {
    marker::marker_in("progress", sink, key, value)
}
