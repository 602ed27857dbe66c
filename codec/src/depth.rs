//! Values from outside: a bound on how deeply they may be nested, and the trace of their parts.
//!
//! A type that contains itself is read by recursion, and bytes from outside must not be what says
//! how far that goes. What a type reads, in which order, is noted in a trace.

use crate::trace::{PartKind, TraceRecorder};
use serde::Deserialize;
use serde::de::value::U32Deserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use std::fmt;

/// The greatest nesting depth of values: the same as in JSON.
const DEEPEST: u32 = 128;

type NameList = &'static [&'static str];

/// A deserializer, or what one gives to read parts with, in which so many levels are left.
pub(crate) struct Limited<'t, I> {
    inner: I,
    left: u32,
    trace: &'t TraceRecorder,
    /// The names of the fields or variants that come next.
    names: NameList,
}

impl<'t, I> Limited<'t, I> {
    /// The outermost value.
    pub(crate) fn outermost(inner: I, trace: &'t TraceRecorder) -> Limited<'t, I> {
        at(DEEPEST, trace, inner)
    }

    fn named(self, names: NameList) -> Limited<'t, I> {
        Limited { names, ..self }
    }
}

fn at<I>(left: u32, trace: &TraceRecorder, inner: I) -> Limited<'_, I> {
    Limited { inner, left, trace, names: &[] }
}

fn within<I, E: Error>(left: u32, trace: &TraceRecorder, inner: I) -> Result<Limited<'_, I>, E> {
    let left = left
        .checked_sub(1)
        .ok_or_else(|| E::custom(format!("it is nested more than {DEEPEST} levels deep")))?;
    Ok(at(left, trace, inner))
}

macro_rules! plain {
    ($($method:ident($($argument:ident: $type:ty),*) $($kind:ident)?;)*) => {
        $(fn $method<V: Visitor<'de>>(
            self,
            $($argument: $type,)*
            visitor: V,
        ) -> Result<V::Value, D::Error> {
            $(self.trace.part(PartKind::$kind);)?
            self.inner.$method($($argument,)* within(self.left, self.trace, visitor)?)
        })*
    };
}

macro_rules! several {
    ($($method:ident($($argument:ident: $type:ty),*) $kind:ident;)*) => {
        $(fn $method<V: Visitor<'de>>(
            self,
            $($argument: $type,)*
            visitor: V,
        ) -> Result<V::Value, D::Error> {
            let visitor = within(self.left, self.trace, visitor)?;
            self.trace.part(PartKind::$kind);
            let value = self.inner.$method($($argument,)* visitor)?;
            self.trace.part(PartKind::End);
            Ok(value)
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Limited<'_, D> {
    type Error = D::Error;

    plain! {
        deserialize_any();
        deserialize_ignored_any();
        deserialize_identifier();
        deserialize_option();
        deserialize_newtype_struct(name: &'static str);
        deserialize_bool() Bool;
        deserialize_i8() I8;
        deserialize_i16() I16;
        deserialize_i32() I32;
        deserialize_i64() I64;
        deserialize_i128() I128;
        deserialize_u8() U8;
        deserialize_u16() U16;
        deserialize_u32() U32;
        deserialize_u64() U64;
        deserialize_u128() U128;
        deserialize_f32() F32;
        deserialize_f64() F64;
        deserialize_char() Char;
        deserialize_str() Text;
        deserialize_string() Text;
        deserialize_bytes() Bytes;
        deserialize_byte_buf() Bytes;
        deserialize_unit() Unit;
        deserialize_unit_struct(name: &'static str) Unit;
    }

    several! {
        deserialize_seq() Seq;
        deserialize_map() Map;
        deserialize_tuple(len: usize) Tuple;
        deserialize_tuple_struct(name: &'static str, len: usize) Tuple;
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: NameList,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = within(self.left, self.trace, visitor)?.named(fields);
        self.trace.part(PartKind::Struct);
        let value = self.inner.deserialize_struct(name, fields, visitor)?;
        self.trace.part(PartKind::End);
        Ok(value)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: NameList,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = within(self.left, self.trace, visitor)?.named(variants);
        self.inner.deserialize_enum(name, variants, visitor)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! visit {
    ($($method:ident($type:ty)),* $(,)?) => {
        $(fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.inner.$method(value)
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Limited<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    visit! {
        visit_bool(bool),
        visit_i8(i8),
        visit_i16(i16),
        visit_i32(i32),
        visit_i64(i64),
        visit_i128(i128),
        visit_u8(u8),
        visit_u16(u16),
        visit_u32(u32),
        visit_u64(u64),
        visit_u128(u128),
        visit_f32(f32),
        visit_f64(f64),
        visit_char(char),
        visit_str(&str),
        visit_borrowed_str(&'de str),
        visit_string(String),
        visit_bytes(&[u8]),
        visit_borrowed_bytes(&'de [u8]),
        visit_byte_buf(Vec<u8>),
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.trace.part(PartKind::None);
        self.inner.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.trace.part(PartKind::Some);
        self.inner.visit_some(at(self.left, self.trace, inner))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.inner.visit_newtype_struct(at(self.left, self.trace, inner))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let mut parts = at(self.left, self.trace, inner).named(self.names);
        let value = self.inner.visit_seq(&mut parts)?;
        if !parts.names.is_empty() {
            parts.trace.note_aliases();
        }
        Ok(value)
    }

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(at(self.left, self.trace, inner))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.inner.visit_enum(at(self.left, self.trace, inner).named(self.names))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Limited<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        self.inner.deserialize(at(self.left, self.trace, inner))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Limited<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        inner: S,
    ) -> Result<Option<S::Value>, A::Error> {
        if let Some((name, rest)) = self.names.split_first() {
            self.trace.name(name);
            self.names = rest;
        }
        self.inner.next_element_seed(at(self.left, self.trace, inner))
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Limited<'_, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        inner: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.inner.next_key_seed(at(self.left, self.trace, inner))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, inner: S) -> Result<S::Value, A::Error> {
        self.inner.next_value_seed(at(self.left, self.trace, inner))
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, 't, A: EnumAccess<'de>> EnumAccess<'de> for Limited<'t, A> {
    type Error = A::Error;
    type Variant = Limited<'t, A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self::Variant), A::Error> {
        let Limited { inner, left, trace, names } = self;
        let (value, variant) = inner.variant_seed(VariantIndexSeed { seed, trace, names })?;
        Ok((value, at(left, trace, variant)))
    }
}

/// The index of a variant, which is noted before it is read.
struct VariantIndexSeed<'t, S> {
    seed: S,
    trace: &'t TraceRecorder,
    names: NameList,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for VariantIndexSeed<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        let index = u32::deserialize(inner)?;
        let name = usize::try_from(index).ok().and_then(|index| self.names.get(index));
        self.trace.variant(index, name.copied().unwrap_or_default());
        let index: U32Deserializer<D::Error> = index.into_deserializer();
        self.seed.deserialize(index)
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Limited<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.trace.part(PartKind::Unit);
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, inner: S) -> Result<S::Value, A::Error> {
        self.inner.newtype_variant_seed(at(self.left, self.trace, inner))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.trace.part(PartKind::Tuple);
        let value = self.inner.tuple_variant(len, at(self.left, self.trace, visitor))?;
        self.trace.part(PartKind::End);
        Ok(value)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: NameList,
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.trace.part(PartKind::Struct);
        let visitor = at(self.left, self.trace, visitor).named(fields);
        let value = self.inner.struct_variant(fields, visitor)?;
        self.trace.part(PartKind::End);
        Ok(value)
    }
}
