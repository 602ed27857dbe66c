//! Values of every shape that serde has, made at random, sound or not: what is encoded is read
//! back, and equal.

use crate::codec::exact::Exact;
use crate::keys::decode_key;
use bincode::Options;
use proptest::prelude::*;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};
use serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleVariant, Serializer,
};
use std::fmt;

static FIELDS: [&str; 4] = ["one", "two", "three", "four"];
static VARIANTS: [&str; 4] = ["Unit", "Newtype", "Tuple", "Struct"];

/// A value, and what it does wrong.
#[derive(Clone, Debug, PartialEq)]
enum Any {
    Unit,
    Bool(bool),
    U8(u8),
    U64(u64),
    I128(i128),
    F64(u64),
    Char(char),
    Text(String),
    Bytes(Vec<u8>),
    Option(Option<Box<Any>>),
    Newtype(Box<Any>),
    Seq(Vec<Any>, Fault),
    Tuple(Vec<Any>, Fault),
    Map(Vec<(Any, Any)>, Fault),
    Struct(Vec<Any>, Fault),
    UnitVariant,
    NewtypeVariant(Box<Any>),
    TupleVariant(Vec<Any>, Fault),
    StructVariant(Vec<Any>, Fault),
}

/// A fault in the parts of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// The first part is not written, though it is announced.
    Missing,
    /// The first part is written twice.
    Doubled,
    /// The first field is skipped, and not announced, as `skip_serializing_if` does. Of others than
    /// structs: as `Missing`.
    Skipped,
}

impl Fault {
    /// The parts as they are written.
    fn of<T>(self, parts: &[T]) -> impl Iterator<Item = &T> {
        let skipped = usize::from(matches!(self, Fault::Missing | Fault::Skipped));
        let doubled = usize::from(self == Fault::Doubled);
        parts.iter().take(doubled).chain(parts.iter().skip(skipped))
    }

    /// The fault of so many parts: none has no fault.
    fn among(self, parts: usize) -> Fault {
        if parts == 0 { Fault::None } else { self }
    }

    fn is_at(self, parts: usize) -> bool {
        self != Fault::None && parts > 0
    }
}

impl Any {
    fn is_faulty(&self) -> bool {
        match self {
            Any::Option(Some(inner)) | Any::Newtype(inner) | Any::NewtypeVariant(inner) => {
                inner.is_faulty()
            }
            Any::Seq(parts, fault)
            | Any::Tuple(parts, fault)
            | Any::Struct(parts, fault)
            | Any::TupleVariant(parts, fault)
            | Any::StructVariant(parts, fault) => {
                fault.is_at(parts.len()) || parts.iter().any(Any::is_faulty)
            }
            Any::Map(parts, fault) => {
                fault.is_at(parts.len())
                    || parts.iter().any(|(key, value)| key.is_faulty() || value.is_faulty())
            }
            _ => false,
        }
    }
}

fn values() -> impl Strategy<Value = Any> {
    let leaf = prop_oneof![
        Just(Any::Unit),
        Just(Any::UnitVariant),
        Just(Any::Option(None)),
        any::<bool>().prop_map(Any::Bool),
        any::<u8>().prop_map(Any::U8),
        any::<u64>().prop_map(Any::U64),
        any::<i128>().prop_map(Any::I128),
        (-1e9..1e9f64).prop_map(|n| Any::F64(n.to_bits())),
        any::<char>().prop_map(Any::Char),
        ".{0,20}".prop_map(Any::Text),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Any::Bytes),
    ];
    leaf.prop_recursive(4, 40, 4, |inner| {
        let parts = || prop::collection::vec(inner.clone(), 0..4);
        let boxed = || inner.clone().prop_map(Box::new);
        let fault = || {
            prop_oneof![12 => Just(Fault::None), 1 => Just(Fault::Missing), 1 => Just(Fault::Doubled), 1 => Just(Fault::Skipped)]
        };
        prop_oneof![
            boxed().prop_map(|inner| Any::Option(Some(inner))),
            boxed().prop_map(Any::Newtype),
            boxed().prop_map(Any::NewtypeVariant),
            (parts(), fault()).prop_map(|(parts, fault)| Any::Seq(parts.clone(), fault.among(parts.len()))),
            (parts(), fault()).prop_map(|(parts, fault)| Any::Tuple(parts.clone(), fault.among(parts.len()))),
            (parts(), fault()).prop_map(|(parts, fault)| Any::Struct(parts.clone(), fault.among(parts.len()))),
            (parts(), fault()).prop_map(|(parts, fault)| Any::TupleVariant(parts.clone(), fault.among(parts.len()))),
            (parts(), fault()).prop_map(|(parts, fault)| Any::StructVariant(parts.clone(), fault.among(parts.len()))),
            (prop::collection::vec((inner.clone(), inner.clone()), 0..3), fault())
                .prop_map(|(parts, fault)| Any::Map(parts.clone(), fault.among(parts.len()))),
        ]
    })
}

/// Writes the fields of a struct or of a variant, which have their names in common only by name.
macro_rules! fields {
    ($into:expr, $parts:expr, $fault:expr, $open:ident($($argument:expr),*)) => {{
        let skips = $fault == Fault::Skipped && !$parts.is_empty();
        let mut into = $into.$open($($argument,)* $parts.len() - usize::from(skips))?;
        if skips {
            into.skip_field(FIELDS[0])?;
        }
        for (part, name) in $fault.of($parts).zip(FIELDS.iter().cycle()) {
            into.serialize_field(name, part)?;
        }
        into.end()
    }};
}

impl Serialize for Any {
    fn serialize<S: Serializer>(&self, into: S) -> Result<S::Ok, S::Error> {
        match self {
            Any::Unit => into.serialize_unit(),
            Any::Bool(value) => into.serialize_bool(*value),
            Any::U8(value) => into.serialize_u8(*value),
            Any::U64(value) => into.serialize_u64(*value),
            Any::I128(value) => into.serialize_i128(*value),
            Any::F64(bits) => into.serialize_f64(f64::from_bits(*bits)),
            Any::Char(value) => into.serialize_char(*value),
            Any::Text(value) => into.serialize_str(value),
            Any::Bytes(value) => into.serialize_bytes(value),
            Any::Option(None) => into.serialize_none(),
            Any::Option(Some(inner)) => into.serialize_some(inner),
            Any::Newtype(inner) => into.serialize_newtype_struct("Newtype", inner),
            Any::Seq(parts, fault) => {
                let mut into = into.serialize_seq(Some(parts.len()))?;
                fault.of(parts).try_for_each(|part| into.serialize_element(part))?;
                into.end()
            }
            Any::Tuple(parts, fault) => {
                let mut into = into.serialize_tuple(parts.len())?;
                fault.of(parts).try_for_each(|part| into.serialize_element(part))?;
                into.end()
            }
            Any::Map(parts, fault) => {
                let mut into = into.serialize_map(Some(parts.len()))?;
                fault.of(parts).try_for_each(|(key, value)| into.serialize_entry(key, value))?;
                into.end()
            }
            Any::Struct(parts, fault) => fields!(into, parts, *fault, serialize_struct("Struct")),
            Any::UnitVariant => into.serialize_unit_variant("Variants", 0, VARIANTS[0]),
            Any::NewtypeVariant(inner) => {
                into.serialize_newtype_variant("Variants", 1, VARIANTS[1], inner)
            }
            Any::TupleVariant(parts, fault) => {
                let mut into =
                    into.serialize_tuple_variant("Variants", 2, VARIANTS[2], parts.len())?;
                fault.of(parts).try_for_each(|part| into.serialize_field(part))?;
                into.end()
            }
            Any::StructVariant(parts, fault) => {
                fields!(into, parts, *fault, serialize_struct_variant("Variants", 3, VARIANTS[3]))
            }
        }
    }
}

/// Reads a value of the shape that this one has.
struct Like<'a>(&'a Any);

impl<'de> DeserializeSeed<'de> for Like<'_> {
    type Value = Any;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Any, D::Error> {
        match self.0 {
            Any::Unit => from.deserialize_unit(self),
            Any::Bool(_) => from.deserialize_bool(self),
            Any::U8(_) => from.deserialize_u8(self),
            Any::U64(_) => from.deserialize_u64(self),
            Any::I128(_) => from.deserialize_i128(self),
            Any::F64(_) => from.deserialize_f64(self),
            Any::Char(_) => from.deserialize_char(self),
            Any::Text(_) => from.deserialize_string(self),
            Any::Bytes(_) => from.deserialize_byte_buf(self),
            Any::Option(_) => from.deserialize_option(self),
            Any::Newtype(_) => from.deserialize_newtype_struct("Newtype", self),
            Any::Seq(..) => from.deserialize_seq(self),
            Any::Tuple(parts, _) => from.deserialize_tuple(parts.len(), self),
            Any::Map(..) => from.deserialize_map(self),
            Any::Struct(parts, _) => {
                from.deserialize_struct("Struct", &FIELDS[..parts.len()], self)
            }
            Any::UnitVariant
            | Any::NewtypeVariant(_)
            | Any::TupleVariant(..)
            | Any::StructVariant(..) => from.deserialize_enum("Variants", &VARIANTS, self),
        }
    }
}

impl Like<'_> {
    fn parts(&self) -> &[Any] {
        match self.0 {
            Any::Seq(parts, _)
            | Any::Tuple(parts, _)
            | Any::Struct(parts, _)
            | Any::TupleVariant(parts, _)
            | Any::StructVariant(parts, _) => parts,
            _ => &[],
        }
    }
}

impl<'de> Visitor<'de> for Like<'_> {
    type Value = Any;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value like {:?}", self.0)
    }

    fn visit_unit<E>(self) -> Result<Any, E> {
        Ok(Any::Unit)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Any, E> {
        Ok(Any::Bool(value))
    }

    fn visit_u8<E>(self, value: u8) -> Result<Any, E> {
        Ok(Any::U8(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Any, E> {
        Ok(Any::U64(value))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Any, E> {
        Ok(Any::I128(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Any, E> {
        Ok(Any::F64(value.to_bits()))
    }

    fn visit_char<E>(self, value: char) -> Result<Any, E> {
        Ok(Any::Char(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Any, E> {
        Ok(Any::Text(value.to_string()))
    }

    fn visit_byte_buf<E>(self, value: Vec<u8>) -> Result<Any, E> {
        Ok(Any::Bytes(value))
    }

    fn visit_none<E>(self) -> Result<Any, E> {
        Ok(Any::Option(None))
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Any, D::Error> {
        match self.0 {
            Any::Option(Some(inner)) => {
                Ok(Any::Option(Some(Box::new(Like(inner).deserialize(from)?))))
            }
            _ => Err(D::Error::custom("it had no value")),
        }
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, from: D) -> Result<Any, D::Error> {
        match self.0 {
            Any::Newtype(inner) => Ok(Any::Newtype(Box::new(Like(inner).deserialize(from)?))),
            _ => Err(D::Error::custom("it was no newtype")),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Any, A::Error> {
        let mut parts = Vec::new();
        for like in self.parts() {
            parts.extend(from.next_element_seed(Like(like))?);
        }
        if matches!(self.0, Any::Seq(..)) && from.next_element_seed(Like(&Any::Unit))?.is_some() {
            return Err(A::Error::custom("it has more elements"));
        }
        Ok(match self.0 {
            Any::Seq(..) => Any::Seq(parts, Fault::None),
            Any::Tuple(..) => Any::Tuple(parts, Fault::None),
            Any::Struct(..) => Any::Struct(parts, Fault::None),
            Any::TupleVariant(..) => Any::TupleVariant(parts, Fault::None),
            _ => Any::StructVariant(parts, Fault::None),
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Any, A::Error> {
        let Any::Map(like, _) = self.0 else { return Err(A::Error::custom("it was no map")) };
        let mut parts = Vec::new();
        for (key, value) in like {
            if let Some(key) = from.next_key_seed(Like(key))? {
                parts.push((key, from.next_value_seed(Like(value))?));
            }
        }
        Ok(Any::Map(parts, Fault::None))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, from: A) -> Result<Any, A::Error> {
        let (index, content) = from.variant_seed(std::marker::PhantomData::<u32>)?;
        match (index, self.0) {
            (0, Any::UnitVariant) => content.unit_variant().map(|()| Any::UnitVariant),
            (1, Any::NewtypeVariant(inner)) => {
                Ok(Any::NewtypeVariant(Box::new(content.newtype_variant_seed(Like(inner))?)))
            }
            (2, Any::TupleVariant(parts, _)) => content.tuple_variant(parts.len(), self),
            (3, Any::StructVariant(parts, _)) => {
                content.struct_variant(&FIELDS[..parts.len()], self)
            }
            (index, _) => Err(A::Error::custom(format!("it was not variant {index}"))),
        }
    }
}

fn options() -> impl Options {
    bincode::DefaultOptions::new()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_value_is_refused_or_read_back_and_equal(value in values()) {
        let encoded = options().serialize(&Exact::new(&value));
        prop_assert_eq!(encoded.is_err(), value.is_faulty(), "{:?}", encoded);
        if let Ok(bytes) = encoded {
            prop_assert_eq!(&bytes, &options().serialize(&value).expect("it encodes"), "the bytes \
                are bincode's");
            prop_assert_eq!(options().deserialize_seed(Like(&value), &bytes).expect("it is read \
                back"), value);
        }
    }

    #[test]
    fn a_key_is_refused_or_encoded_as_before(value in values()) {
        let as_before = memcomparable::to_vec(&value);
        match memcomparable::to_vec(&Exact::new(&value)) {
            Ok(bytes) => {
                prop_assert!(!value.is_faulty());
                prop_assert_eq!(bytes, as_before.expect("it encodes"));
            }
            Err(_) => prop_assert!(value.is_faulty() || as_before.is_err()),
        }
    }

    #[test]
    fn any_bytes_are_a_key_or_an_error(bytes in prop::collection::vec(prop_oneof![3 => 0u8..3, 1 => any::<u8>()], 0..40)) {
        // None of these panics, nor takes the stack.
        let _ = decode_key::<(String, u64)>(&bytes);
        let _ = decode_key::<Vec<Option<std::net::SocketAddr>>>(&bytes);
        let _ = decode_key::<(Vec<u8>, i128, char, bool)>(&bytes);
        let _ = decode_key::<Endless>(&bytes);
        let _ = decode_key::<std::time::SystemTime>(&bytes);
    }
}

/// A type whose zeros go on for ever.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
enum Endless {
    Next(Box<Endless>),
    Text(String),
    Last,
}

#[test]
fn a_key_that_is_cut_off_is_an_error_however_it_would_go_on() {
    for bytes in [&[][..], &[0], &[0, 0, 0], &[1, 1, b'a']] {
        let error = decode_key::<Endless>(bytes).expect_err("it is cut off").to_string();
        assert!(error.contains("cut off"), "{error}");
    }
}
