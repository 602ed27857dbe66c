//! Values as bytes: one byte for the format, then bincode 1.3 with variable-length integers, with
//! limits.
//!
//! What the store keeps and what goes between the client and a topology are encoded here. What is
//! encoded can be read back, as far as a value shows: see [`exact`]. Bytes do not show of which type
//! they are: [`shape`] describes types, and [`trace`] values.

mod depth;
pub mod exact;
pub mod shape;
pub mod trace;
pub mod type_names;

use bincode::Options;
use depth::Limited;
use exact::Exact;
use serde::de::{DeserializeOwned, DeserializeSeed};
use serde::{Deserializer, Serialize};
use std::marker::PhantomData;
use trace::{DecodedTrace, TraceRecorder};

/// The format byte of everything this version writes.
pub const FORMAT: u8 = 1;

/// The largest encoded value, 256 MiB: nothing larger is written, and a length above it is not
/// believed when read.
pub const MAX_VALUE_BYTES: u64 = 256 << 20;

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_limit(MAX_VALUE_BYTES)
}

/// Appends the format byte and `value` to `into`.
///
/// # Errors
/// The value cannot be serialized or could not be read back, or it is larger than
/// [`MAX_VALUE_BYTES`]. `into` may then hold a part of it.
pub fn encode<V: Serialize + ?Sized>(value: &V, into: &mut Vec<u8>) -> Result<(), String> {
    into.push(FORMAT);
    append(value, into).map_err(|why| why.to_string())
}

/// Appends `value` alone, without the format byte: as an element of something that has it.
///
/// # Errors
/// As bincode has them: the value cannot be serialized or could not be read back, or the writer
/// takes no more.
pub fn append<V: Serialize + ?Sized>(
    value: &V,
    into: &mut impl std::io::Write,
) -> Result<(), Box<Unwritten>> {
    options().serialize_into(into, &Exact::new(value))
}

/// Why [`append`] did not write.
pub type Unwritten = bincode::ErrorKind;

/// Appends the format byte and `value` to `into`, and notes the alternatives that the value takes.
///
/// # Errors
/// As [`encode`].
pub fn encode_noting<V: Serialize + ?Sized>(
    value: &V,
    taken: &exact::Alternatives,
    into: &mut Vec<u8>,
) -> Result<(), String> {
    into.push(FORMAT);
    options().serialize_into(into, &Exact::noting(value, taken)).map_err(|why| why.to_string())
}

/// Decodes what [`encode`] wrote, all of it.
///
/// # Errors
/// Another format, bytes of another type, or bytes left over.
pub fn decode<V: DeserializeOwned>(bytes: &[u8]) -> Result<V, String> {
    options().deserialize(content(bytes)?).map_err(|why| why.to_string())
}

/// Returns what is behind the format byte.
fn content(bytes: &[u8]) -> Result<&[u8], String> {
    match bytes.split_first() {
        Some((&FORMAT, rest)) => Ok(rest),
        Some((format, _)) => {
            Err(format!("format {format} is not known to this version, which writes {FORMAT}"))
        }
        None => Err("it is empty".into()),
    }
}

/// As [`decode`], for bytes that come from outside: what is nested more than 128 levels deep is an
/// error, before it takes the stack of whoever reads it.
///
/// # Errors
/// As [`decode`].
pub fn decode_from_outside<V: DeserializeOwned>(bytes: &[u8]) -> Result<V, String> {
    decode_traced(bytes).map(|(value, _)| value)
}

/// As [`decode_from_outside`]; gives the trace of the value too, to be compared with that of the
/// value that was written.
///
/// # Errors
/// As [`decode`].
pub fn decode_traced<V: DeserializeOwned>(bytes: &[u8]) -> Result<(V, DecodedTrace), String> {
    let trace = TraceRecorder::default();
    let seed = OutsideSeed { trace: &trace, value: PhantomData };
    let value = options().deserialize_seed(seed, content(bytes)?).map_err(|why| why.to_string())?;
    Ok((value, trace.end()))
}

/// A value that is not nested too deeply, and whose parts are noted.
struct OutsideSeed<'t, V> {
    trace: &'t TraceRecorder,
    value: PhantomData<fn() -> V>,
}

impl<'de, V: DeserializeOwned> DeserializeSeed<'de> for OutsideSeed<'_, V> {
    type Value = V;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<V, D::Error> {
        V::deserialize(Limited::outermost(inner, self.trace))
    }
}
