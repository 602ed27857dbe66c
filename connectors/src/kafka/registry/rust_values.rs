//! Values as Rust's serde gives them, made those that a schema of Avro takes.
//!
//! The crate for Avro writes an `u64` as eight bytes and an `i128` or `u128` as sixteen,
//! little-endian, and bytes in a `Vec<u8>` as an array of numbers. Only a `fixed` takes the former
//! as they are meant, and only `bytes` the latter: a `decimal` would take sixteen bytes too, as
//! another number.

use apache_avro::Decimal;
use apache_avro::Schema;
use apache_avro::schema::Name;
use apache_avro::types::Value;
use serde::ser::Error as _;
use std::collections::HashMap;

/// The schemas that may fit a value: those of a union, or one.
type Candidates<'s> = Vec<&'s Schema>;

/// See the module's documentation.
pub(super) struct RustValues<'s> {
    names: &'s HashMap<Name, &'s Schema>,
}

impl<'s> RustValues<'s> {
    /// Values whose schemas have these names.
    pub(super) fn new(names: &'s HashMap<Name, &'s Schema>) -> RustValues<'s> {
        RustValues { names }
    }

    /// Returns a value as this schema takes it.
    ///
    /// # Errors
    /// It has a number that is too large for Avro.
    pub(super) fn fit(
        &self,
        value: Value,
        schema: &'s Schema,
    ) -> Result<Value, apache_avro::Error> {
        self.fit_one(value, &self.candidates([schema]))
    }

    fn fit_one(
        &self,
        value: Value,
        candidates: &Candidates<'s>,
    ) -> Result<Value, apache_avro::Error> {
        Ok(match value {
            Value::Fixed(8, bytes) if !takes_fixed(candidates) => long(&bytes)?,
            Value::Fixed(16, bytes) if takes_decimal(candidates) => Value::Decimal(decimal(bytes)?),
            // As `serde_bytes` gives them.
            Value::Bytes(bytes) if bytes.len() == DURATION && takes_duration(candidates) => {
                Value::Fixed(DURATION, bytes)
            }
            Value::Array(items) => match bytes_for(&items, candidates) {
                Some(bytes) => bytes,
                None => {
                    let candidates = self.within(candidates, |schema| match schema {
                        Schema::Array(array) => Some(&*array.items),
                        _ => None,
                    });
                    let items = items.into_iter().map(|item| self.fit_one(item, &candidates));
                    Value::Array(items.collect::<Result<_, _>>()?)
                }
            },
            Value::Record(fields) => {
                let fields = fields.into_iter().map(|(name, value)| {
                    let value = self.fit_one(value, &self.named(&name, candidates))?;
                    Ok((name, value))
                });
                Value::Record(fields.collect::<Result<_, apache_avro::Error>>()?)
            }
            Value::Map(items) => {
                let items = items.into_iter().map(|(name, value)| {
                    let value = self.fit_one(value, &self.named(&name, candidates))?;
                    Ok((name, value))
                });
                Value::Map(items.collect::<Result<_, apache_avro::Error>>()?)
            }
            Value::Union(at, value) => {
                Value::Union(at, Box::new(self.fit_one(*value, candidates)?))
            }
            value => value,
        })
    }

    /// The schemas of a record's field, or of a map's value.
    fn named(&self, name: &str, candidates: &Candidates<'s>) -> Candidates<'s> {
        self.within(candidates, |schema| match schema {
            Schema::Record(record) => record
                .lookup
                .get(name)
                .and_then(|at| record.fields.get(*at))
                .map(|field| &field.schema),
            Schema::Map(map) => Some(&*map.types),
            _ => None,
        })
    }

    fn within(
        &self,
        candidates: &Candidates<'s>,
        part: impl Fn(&'s Schema) -> Option<&'s Schema>,
    ) -> Candidates<'s> {
        self.candidates(candidates.iter().filter_map(|schema| part(schema)))
    }

    /// Returns these schemas without unions and names.
    fn candidates(&self, schemas: impl IntoIterator<Item = &'s Schema>) -> Candidates<'s> {
        let mut candidates = Vec::new();
        for schema in schemas {
            match schema {
                Schema::Union(union) => candidates.extend(self.candidates(union.variants())),
                Schema::Ref { name } => candidates.extend(self.names.get(name)),
                schema => candidates.push(schema),
            }
        }
        candidates
    }
}

/// Returns whether eight bytes are meant where a value may be an `u64`: a schema has them, and none
/// is a number.
fn takes_fixed(candidates: &Candidates<'_>) -> bool {
    candidates.iter().any(|schema| is_fixed(schema, 8))
        && !candidates.iter().any(|schema| is_number(schema))
}

fn is_fixed(schema: &Schema, size: usize) -> bool {
    matches!(schema, Schema::Fixed(fixed) if fixed.size == size)
}

/// Returns whether a schema takes a number, as itself or as a time or date.
fn is_number(schema: &Schema) -> bool {
    matches!(
        schema,
        Schema::Int
            | Schema::Long
            | Schema::Float
            | Schema::Double
            | Schema::Date
            | Schema::TimeMillis
            | Schema::TimeMicros
            | Schema::TimestampMillis
            | Schema::TimestampMicros
            | Schema::TimestampNanos
            | Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos
    )
}

/// Returns whether sixteen bytes are the number of a decimal.
fn takes_decimal(candidates: &Candidates<'_>) -> bool {
    let is_decimal = |schema: &&Schema| matches!(schema, Schema::Decimal(_));
    candidates.iter().any(is_decimal) && !candidates.iter().any(|schema| is_fixed(schema, 16))
}

/// The size of a duration.
const DURATION: usize = 12;

/// Returns whether twelve bytes are a duration: a schema has that, and none takes bytes as they
/// are.
fn takes_duration(candidates: &Candidates<'_>) -> bool {
    let is_duration = |schema: &&Schema| matches!(schema, Schema::Duration(_));
    let takes_bytes = |schema: &&Schema| {
        matches!(schema, Schema::Bytes | Schema::Decimal(_)) || is_fixed(schema, DURATION)
    };
    candidates.iter().any(is_duration) && !candidates.iter().any(takes_bytes)
}

/// The number that the crate has written as sixteen bytes, in as few bytes as its sign allows. The
/// schema's precision is compared later.
fn decimal(mut bytes: Vec<u8>) -> Result<Decimal, apache_avro::Error> {
    bytes.reverse();
    let is_needless = |pair: &[u8]| {
        matches!(pair, [0, next] if *next < 0x80) || matches!(pair, [0xff, next] if *next >= 0x80)
    };
    let needless = bytes.windows(2).take_while(|pair| is_needless(pair)).count();
    Decimal::new(&bytes[needless..])
}

/// The bytes that an array of numbers is, for schemas that take bytes and no array.
fn bytes_for(items: &[Value], candidates: &Candidates<'_>) -> Option<Value> {
    if candidates.iter().any(|schema| matches!(schema, Schema::Array(_))) {
        return None;
    }
    let sizes = |schema: &&Schema| match schema {
        Schema::Fixed(fixed) | Schema::Duration(fixed) => Some(fixed.size),
        _ => None,
    };
    let is_sized = candidates.iter().filter_map(sizes).any(|size| size == items.len());
    if !is_sized && !candidates.iter().any(|schema| matches!(schema, Schema::Decimal(_))) {
        return None;
    }
    let byte = |item: &Value| match item {
        Value::Int(number) => u8::try_from(*number).ok(),
        _ => None,
    };
    let bytes = items.iter().map(byte).collect::<Option<Vec<u8>>>()?;
    Some(if is_sized { Value::Fixed(bytes.len(), bytes) } else { Value::Bytes(bytes) })
}

/// The number that the crate has written as eight bytes.
fn long(bytes: &[u8]) -> Result<Value, apache_avro::Error> {
    let number =
        <[u8; 8]>::try_from(bytes).ok().and_then(|le| i64::try_from(u64::from_le_bytes(le)).ok());
    let too_large =
        || apache_avro::Error::custom(format!("the number of bytes {bytes:?} is no long of Avro"));
    number.map(Value::Long).ok_or_else(too_large)
}
