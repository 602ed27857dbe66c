//! The parts of this folder that fuzz targets use: see `fuzz/src/registry.rs`.

use super::avro::{ValueReader, ValueWriter, bound_nesting};
use super::schemas::{Language, Schema};
use super::wire;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Splits a value into the id of its schema and its body.
#[doc(hidden)]
pub fn split(value: &[u8]) -> Result<(u32, &[u8]), String> {
    wire::split(value)
}

/// Returns the head of a value.
#[doc(hidden)]
pub fn head(id: u32) -> Vec<u8> {
    wire::head(id)
}

/// Splits the body of a Protobuf message into its indexes and the message.
#[doc(hidden)]
pub fn split_indexes(body: &[u8]) -> Result<(Vec<usize>, &[u8]), String> {
    wire::split_indexes(body)
}

/// Appends the indexes of a message.
#[doc(hidden)]
pub fn push_indexes(into: &mut Vec<u8>, indexes: &[usize]) {
    wire::push_indexes(into, indexes);
}

/// Reads the Avro of a value by its schema.
#[doc(hidden)]
pub fn read_avro<T: DeserializeOwned>(schema: &str, body: &[u8]) -> Result<T, String> {
    bound_nesting();
    let (language, references) = (Language::Avro, Vec::new());
    ValueReader::of(&Schema { language, text: schema.into(), references }, None)?.read(body)
}

/// Writes a value as the Avro of a schema.
#[doc(hidden)]
pub fn write_avro(schema: &str, value: &impl Serialize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let written = ValueWriter::of(schema)?.write(value, &mut bytes);
    written.map(|()| bytes).map_err(|why| why.to_string())
}
