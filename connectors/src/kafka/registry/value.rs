//! A value of Avro, read by serde.
//!
//! `apache_avro::from_value` takes a plain value for no `Option`, bytes for no `Vec<u8>`, and
//! copies each text; the crate's deserializer straight from bytes wants the very integers and names
//! of the schema. Fields come and go as schemas evolve, so a type must be read from what is there.

use apache_avro::Decimal;
use apache_avro::types::Value;
use serde::de::value::{Error, MapAccessDeserializer, MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, Error as _, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

/// See the module's documentation.
pub(super) struct OfAvro(pub(super) Value);

impl IntoDeserializer<'_, Error> for OfAvro {
    type Deserializer = OfAvro;

    fn into_deserializer(self) -> OfAvro {
        self
    }
}

impl<'de> Deserializer<'de> for OfAvro {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Boolean(value) => visitor.visit_bool(value),
            Value::Int(number) | Value::Date(number) | Value::TimeMillis(number) => {
                visitor.visit_i32(number)
            }
            Value::Long(number)
            | Value::TimeMicros(number)
            | Value::TimestampMillis(number)
            | Value::TimestampMicros(number)
            | Value::TimestampNanos(number)
            | Value::LocalTimestampMillis(number)
            | Value::LocalTimestampMicros(number)
            | Value::LocalTimestampNanos(number) => visitor.visit_i64(number),
            Value::Float(number) => visitor.visit_f32(number),
            Value::Double(number) => visitor.visit_f64(number),
            Value::Bytes(bytes) | Value::Fixed(_, bytes) => visitor.visit_byte_buf(bytes),
            Value::String(text) | Value::Enum(_, text) => visitor.visit_string(text),
            Value::Union(_, value) => OfAvro(*value).deserialize_any(visitor),
            Value::Array(items) => {
                visitor.visit_seq(SeqDeserializer::new(items.into_iter().map(OfAvro)))
            }
            Value::Map(items) => visitor.visit_map(MapDeserializer::new(
                items.into_iter().map(|(key, value)| (key, OfAvro(value))),
            )),
            Value::Record(fields) => visitor.visit_map(MapDeserializer::new(
                fields.into_iter().map(|(name, value)| (name, OfAvro(value))),
            )),
            Value::Decimal(decimal) => visitor.visit_byte_buf(of_decimal(&decimal)?),
            Value::BigDecimal(decimal) => visitor.visit_string(decimal.to_plain_string()),
            Value::Duration(duration) => {
                visitor.visit_byte_buf(<[u8; 12]>::from(duration).to_vec())
            }
            Value::Uuid(uuid) => visitor.visit_string(uuid.to_string()),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            Value::Union(_, value) => OfAvro(*value).deserialize_option(visitor),
            value => visitor.visit_some(OfAvro(value)),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let bytes_of = |bytes: Vec<u8>| SeqDeserializer::new(bytes.into_iter());
        match self.0 {
            Value::Bytes(bytes) | Value::Fixed(_, bytes) => visitor.visit_seq(bytes_of(bytes)),
            Value::Decimal(decimal) => visitor.visit_seq(bytes_of(of_decimal(&decimal)?)),
            Value::Duration(duration) => {
                visitor.visit_seq(bytes_of(<[u8; 12]>::from(duration).to_vec()))
            }
            Value::Union(_, value) => OfAvro(*value).deserialize_seq(visitor),
            value => OfAvro(value).deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Enum(_, symbol) | Value::String(symbol) => {
                visitor.visit_enum(symbol.into_deserializer())
            }
            Value::Union(at, value) => {
                if matches!(*value, Value::Enum(..)) {
                    return OfAvro(*value).deserialize_enum("", variants, visitor);
                }
                let at = usize::try_from(at).map_err(Error::custom)?;
                let variant = variants.get(at).ok_or_else(|| {
                    Error::custom(format!(
                        "type {at} of a union has no variant: the enum has {}",
                        variants.len()
                    ))
                })?;
                let one = std::iter::once((*variant, OfAvro(*value)));
                visitor.visit_enum(MapAccessDeserializer::new(MapDeserializer::new(one)))
            }
            value => Err(Error::custom(format!("{} is no enum or union", kind_of(&value)))),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct tuple
        tuple_struct map struct identifier
    }
}

/// The bytes of a decimal: its number without the point, in two's complement, big-endian.
fn of_decimal(decimal: &Decimal) -> Result<Vec<u8>, Error> {
    Vec::<u8>::try_from(decimal).map_err(Error::custom)
}

/// The type of a value, for an error.
fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Record(_) => "a record",
        Value::Array(_) => "an array",
        Value::Map(_) => "a map",
        Value::Null => "null",
        _ => "a plain value",
    }
}
