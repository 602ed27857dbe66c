//! The trace of a value: the kinds of its parts and the names of its fields and variants, in the
//! order in which they are written and read, each folded into a number.
//!
//! Encoded values hold neither kinds nor names, so the bytes of one type may be read as another:
//! `3i32` as the `u64` 6, or a struct as one whose fields have another order. A type's `Serialize`
//! and `Deserialize` make the same calls, as the encoding requires anyway. So a writer sends the
//! trace of its calls beside the bytes ([`of`]), and the reader compares it with that of its own
//! ([`crate::decode_traced`]).
//!
//! A newtype counts as what it holds, and names of types do not count. An option without a value
//! and an empty sequence are of any type, as their bytes are.
//!
//! The numbers go from one program to another. They are FNV-1a of 64 bits, and stay what they are.

use serde::Serialize;
use serde::de::value::Error as Stop;
use serde::ser::{
    SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};
use std::cell::Cell;
use std::fmt::Display;

/// The kinds and the names of a value's parts, as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The kinds of the parts.
    pub kinds: u64,
    /// The names of fields and variants.
    pub names: u64,
}

/// The trace of nothing.
const NOTHING: Trace = Trace { kinds: OFFSET, names: OFFSET };

/// The offset and the prime of FNV-1a.
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

fn fold(number: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(number, |number, byte| (number ^ u64::from(*byte)).wrapping_mul(PRIME))
}

/// The kind of a part. The numbers are part of the wire format.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PartKind {
    Bool = 1,
    I8 = 2,
    I16 = 3,
    I32 = 4,
    I64 = 5,
    I128 = 6,
    U8 = 7,
    U16 = 8,
    U32 = 9,
    U64 = 10,
    U128 = 11,
    F32 = 12,
    F64 = 13,
    Char = 14,
    Text = 15,
    Bytes = 16,
    None = 17,
    Some = 18,
    Unit = 19,
    Seq = 20,
    Tuple = 21,
    Map = 22,
    Struct = 23,
    Variant = 24,
    /// The end of a sequence, tuple, map or struct.
    End = 25,
}

impl Trace {
    fn part(self, kind: PartKind) -> Trace {
        Trace { kinds: fold(self.kinds, &[kind as u8]), ..self }
    }

    fn name(self, name: &str) -> Trace {
        // No name ends with a byte that no text has.
        Trace { names: fold(fold(self.names, name.as_bytes()), &[0xff]), ..self }
    }

    fn variant(self, index: u32, name: &str) -> Trace {
        let trace = self.part(PartKind::Variant).name(name);
        Trace { kinds: fold(trace.kinds, &index.to_le_bytes()), ..trace }
    }
}

/// The trace of a value that is read.
pub(crate) struct TraceRecorder {
    trace: Cell<Trace>,
    has_aliases: Cell<bool>,
}

impl Default for TraceRecorder {
    fn default() -> TraceRecorder {
        TraceRecorder { trace: Cell::new(NOTHING), has_aliases: Cell::new(false) }
    }
}

impl TraceRecorder {
    #[inline]
    pub(crate) fn part(&self, kind: PartKind) {
        self.trace.set(self.trace.get().part(kind));
    }

    #[inline]
    pub(crate) fn name(&self, name: &str) {
        self.trace.set(self.trace.get().name(name));
    }

    #[inline]
    pub(crate) fn variant(&self, index: u32, name: &str) {
        self.trace.set(self.trace.get().variant(index, name));
    }

    /// A struct was read that has more names than fields.
    pub(crate) fn note_aliases(&self) {
        self.has_aliases.set(true);
    }

    pub(crate) fn end(self) -> DecodedTrace {
        DecodedTrace { trace: self.trace.get(), has_aliases: self.has_aliases.get() }
    }
}

/// The trace of a value that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodedTrace {
    trace: Trace,
    has_aliases: bool,
}

impl DecodedTrace {
    /// Returns whether a value was written with this trace, as far as the names show: a field with
    /// `#[serde(alias)]` has several, and which of them is its own is not known.
    #[must_use]
    pub fn is_of(&self, written: &Trace) -> bool {
        self.trace == *written || (self.has_aliases && self.is_of_kinds(written))
    }

    /// As [`DecodedTrace::is_of`], by the kinds of the parts alone.
    #[must_use]
    pub fn is_of_kinds(&self, written: &Trace) -> bool {
        self.trace.kinds == written.kinds
    }
}

/// A value as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenValue {
    /// The kinds and names of its parts.
    pub trace: Trace,
    /// The same for a person, as [`crate::shape`] describes types: of a sequence the first part, and
    /// of a long description the beginning.
    pub text: String,
}

/// The longest description of a value, in bytes.
const LONGEST: usize = 1000;

/// Returns the trace of a value.
///
/// # Errors
/// The value cannot be serialized.
///
/// ```
/// use tidemill_codec::trace;
///
/// let written = trace::of(&("tide", Some(3)))?;
/// assert_eq!(written.text, "(text, option i32)");
/// assert_eq!(written.trace, trace::of(&(String::new(), Some(-7)))?.trace);
/// assert_ne!(written.trace, trace::of(&("tide", Some(3u64)))?.trace);
/// # Ok::<(), String>(())
/// ```
pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<WrittenValue, String> {
    let mut writing =
        TraceSerializer { trace: NOTHING, text: String::new(), muted: 0, is_full: false };
    value.serialize(&mut writing).map_err(|why| why.to_string())?;
    Ok(WrittenValue { trace: writing.trace, text: writing.text })
}

/// A serializer that writes nothing but the trace.
struct TraceSerializer {
    trace: Trace,
    text: String,
    /// Above 0 within parts that are not described, because one like them was.
    muted: u32,
    is_full: bool,
}

impl TraceSerializer {
    fn say(&mut self, text: &str) {
        if self.muted > 0 || self.is_full {
            return;
        }
        self.is_full = self.text.len() + text.len() > LONGEST;
        self.text.push_str(if self.is_full { "…" } else { text });
    }

    fn part(&mut self, kind: PartKind, text: &str) {
        self.trace = self.trace.part(kind);
        self.say(text);
    }

    fn parts(&mut self, kind: PartKind, begin: &str, end: &'static str) -> Compound<'_> {
        self.part(kind, begin);
        Compound { writing: self, written: 0, end }
    }

    fn variant(&mut self, index: u32, name: &str) {
        self.trace = self.trace.variant(index, name);
        self.say("one of ");
        self.say(name);
        self.say(": ");
    }
}

macro_rules! plain {
    ($($method:ident($type:ty) $kind:ident $text:literal;)*) => {
        $(fn $method(self, _: $type) -> Result<(), Stop> {
            self.part(PartKind::$kind, $text);
            Ok(())
        })*
    };
}

impl<'w> Serializer for &'w mut TraceSerializer {
    type Ok = ();
    type Error = Stop;
    type SerializeSeq = Compound<'w>;
    type SerializeTuple = Compound<'w>;
    type SerializeTupleStruct = Compound<'w>;
    type SerializeTupleVariant = Compound<'w>;
    type SerializeMap = Compound<'w>;
    type SerializeStruct = Compound<'w>;
    type SerializeStructVariant = Compound<'w>;

    fn is_human_readable(&self) -> bool {
        false
    }

    plain! {
        serialize_bool(bool) Bool "bool";
        serialize_i8(i8) I8 "i8";
        serialize_i16(i16) I16 "i16";
        serialize_i32(i32) I32 "i32";
        serialize_i64(i64) I64 "i64";
        serialize_i128(i128) I128 "i128";
        serialize_u8(u8) U8 "u8";
        serialize_u16(u16) U16 "u16";
        serialize_u32(u32) U32 "u32";
        serialize_u64(u64) U64 "u64";
        serialize_u128(u128) U128 "u128";
        serialize_f32(f32) F32 "f32";
        serialize_f64(f64) F64 "f64";
        serialize_char(char) Char "char";
        serialize_str(&str) Text "text";
        serialize_bytes(&[u8]) Bytes "bytes";
        serialize_unit_struct(&'static str) Unit "()";
    }

    fn collect_str<T: Display + ?Sized>(self, _: &T) -> Result<(), Stop> {
        self.serialize_str("")
    }

    fn serialize_none(self) -> Result<(), Stop> {
        self.part(PartKind::None, "option");
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Stop> {
        self.part(PartKind::Some, "option ");
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Stop> {
        self.part(PartKind::Unit, "()");
        Ok(())
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<(), Stop> {
        self.variant(index, variant);
        self.serialize_unit()
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Stop> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Stop> {
        self.variant(index, variant);
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Compound<'w>, Stop> {
        Ok(self.parts(PartKind::Seq, "[", "]"))
    }

    fn serialize_tuple(self, _: usize) -> Result<Compound<'w>, Stop> {
        Ok(self.parts(PartKind::Tuple, "(", ")"))
    }

    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<Compound<'w>, Stop> {
        self.serialize_tuple(len)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Compound<'w>, Stop> {
        self.variant(index, variant);
        self.serialize_tuple(len)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Compound<'w>, Stop> {
        Ok(self.parts(PartKind::Map, "map of ", ""))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Compound<'w>, Stop> {
        Ok(self.parts(PartKind::Struct, "{", "}"))
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Compound<'w>, Stop> {
        self.variant(index, variant);
        self.serialize_struct(name, len)
    }
}

/// The parts of a value that has several.
struct Compound<'w> {
    writing: &'w mut TraceSerializer,
    written: usize,
    end: &'static str,
}

impl Compound<'_> {
    /// One of parts that each have their place.
    fn next<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
        if self.written > 0 {
            self.writing.say(", ");
        }
        self.written += 1;
        value.serialize(&mut *self.writing)
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Stop> {
        if self.written > 0 {
            self.writing.say(", ");
        }
        self.written += 1;
        self.writing.trace = self.writing.trace.name(name);
        self.writing.say(name);
        self.writing.say(": ");
        value.serialize(&mut *self.writing)
    }

    /// One of parts that are alike: the first is described.
    fn alike<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
        let muted = u32::from(self.written > 0);
        self.writing.muted += muted;
        let written = value.serialize(&mut *self.writing);
        self.writing.muted -= muted;
        written
    }

    fn close(self) {
        self.writing.part(PartKind::End, self.end);
    }
}

macro_rules! parts {
    ($($kind:ident $method:ident $next:ident;)*) => {
        $(impl $kind for Compound<'_> {
            type Ok = ();
            type Error = Stop;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
                self.$next(value)
            }

            fn end(self) -> Result<(), Stop> {
                self.close();
                Ok(())
            }
        })*
    };
}

parts! {
    SerializeTuple serialize_element next;
    SerializeTupleStruct serialize_field next;
    SerializeTupleVariant serialize_field next;
}

macro_rules! fields {
    ($($kind:ident)*) => {
        $(impl $kind for Compound<'_> {
            type Ok = ();
            type Error = Stop;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Stop> {
                self.field(name, value)
            }

            fn end(self) -> Result<(), Stop> {
                self.close();
                Ok(())
            }
        })*
    };
}

fields! { SerializeStruct SerializeStructVariant }

impl SerializeSeq for Compound<'_> {
    type Ok = ();
    type Error = Stop;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
        let written = self.alike(value);
        self.written += 1;
        written
    }

    fn end(self) -> Result<(), Stop> {
        self.close();
        Ok(())
    }
}

impl SerializeMap for Compound<'_> {
    type Ok = ();
    type Error = Stop;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Stop> {
        self.alike(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
        if self.written == 0 {
            self.writing.say(" to ");
        }
        let written = self.alike(value);
        self.written += 1;
        written
    }

    fn end(self) -> Result<(), Stop> {
        self.close();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
