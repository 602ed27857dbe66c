//! Serialization that refuses what could not be read back.
//!
//! The encodings of values and keys hold no names and no kinds: whoever reads them takes part after
//! part, as the type lists them. A field that is left out, or a sequence with fewer elements than
//! it announced, shifts everything behind it. [`Exact`] passes a value on to any serializer
//! unchanged, and refuses these. For a type without enums, options and sequences it costs nothing.

mod alternatives;

pub use alternatives::Alternatives;
use alternatives::Place;
use serde::ser::{
    Error, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

/// A value that is serialized as it is, or refused if it could not be read back.
///
/// ```
/// use serde::Serialize;
/// use tidemill_codec::{FORMAT, encode};
///
/// #[derive(Serialize)]
/// struct Edit {
///     #[serde(skip_serializing_if = "Option::is_none")]
///     note: Option<u64>,
///     bytes: u64,
/// }
///
/// let mut bytes = Vec::new();
/// encode(&Edit { note: Some(7), bytes: 3 }, &mut bytes)?;
/// assert_eq!(bytes, [FORMAT, 1, 7, 3]);
/// let refused = encode(&Edit { note: None, bytes: 3 }, &mut bytes).unwrap_err();
/// assert!(refused.contains("field \"note\" of Edit"), "{refused}");
/// # Ok::<(), String>(())
/// ```
pub struct Exact<'a, T: ?Sized> {
    value: &'a T,
    at: Place,
    taken: Option<&'a Alternatives>,
}

impl<'a, T: ?Sized> Exact<'a, T> {
    /// The value, whose alternatives are of no interest.
    pub fn new(value: &'a T) -> Exact<'a, T> {
        Exact { value, at: Place::OUTERMOST, taken: None }
    }

    /// The value; the alternatives that it takes are noted.
    pub fn noting(value: &'a T, taken: &'a Alternatives) -> Exact<'a, T> {
        Exact { value, at: Place::OUTERMOST, taken: Some(taken) }
    }
}

impl<T: Serialize + ?Sized> Serialize for Exact<'_, T> {
    #[inline]
    fn serialize<S: Serializer>(&self, inner: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Refusing { inner, at: self.at, taken: self.taken })
    }
}

/// A serializer that refuses what could not be read back, and passes on everything else.
struct Refusing<'a, S> {
    inner: S,
    at: Place,
    taken: Option<&'a Alternatives>,
}

impl<'a, S: Serializer> Refusing<'a, S> {
    #[inline]
    fn note(&self, alternative: u64) {
        if let Some(taken) = self.taken {
            taken.note(self.at.alternative(alternative));
        }
    }

    /// Notes what has so many entries, if that is known.
    #[inline]
    fn note_entries(&self, len: Option<usize>) {
        self.note(u64::from(len != Some(0)));
        self.note_many(len.is_none_or(|len| len > 1));
    }

    #[inline]
    fn note_many(&self, has_many: bool) {
        if let Some(taken) = self.taken.filter(|_| has_many) {
            taken.note_many();
        }
    }

    #[inline]
    fn part<'v, T: ?Sized>(&self, value: &'v T, part: u64) -> Exact<'v, T>
    where
        'a: 'v,
    {
        Exact { value, at: self.at.within(part), taken: self.taken }
    }

    /// Opens what has parts, of which so many are announced.
    #[inline]
    fn parts<C>(
        self,
        of: &'static str,
        announced: Option<usize>,
        open: impl FnOnce(S) -> Result<C, S::Error>,
    ) -> Result<Parts<'a, C>, S::Error> {
        let Refusing { inner, at, taken } = self;
        Ok(Parts { inner: open(inner)?, at, taken, of, announced, written: 0 })
    }
}

#[cold]
fn refuse<E: Error>(taken: Option<&Alternatives>, why: std::fmt::Arguments<'_>) -> E {
    if let Some(taken) = taken {
        taken.note_refusal();
    }
    E::custom(why)
}

/// The number of a variant among the alternatives of its place: behind those of options and
/// sequences.
fn of_variant(index: u32) -> u64 {
    u64::from(index) + 2
}

macro_rules! pass_on {
    ($($method:ident($kind:ty);)*) => {
        $(#[inline]
        fn $method(self, value: $kind) -> Result<S::Ok, S::Error> {
            self.inner.$method(value)
        })*
    };
}

impl<'a, S: Serializer> Serializer for Refusing<'a, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Parts<'a, S::SerializeSeq>;
    type SerializeTuple = Parts<'a, S::SerializeTuple>;
    type SerializeTupleStruct = Parts<'a, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Parts<'a, S::SerializeTupleVariant>;
    type SerializeMap = Parts<'a, S::SerializeMap>;
    type SerializeStruct = Parts<'a, S::SerializeStruct>;
    type SerializeStructVariant = Parts<'a, S::SerializeStructVariant>;

    pass_on! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_i128(i128);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_u128(u128);
        serialize_f32(f32);
        serialize_f64(f64);
        serialize_char(char);
        serialize_unit_struct(&'static str);
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<S::Ok, S::Error> {
        // A text may list the entries of a hash set.
        self.note_many(value.len() > 2);
        self.inner.serialize_str(value)
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Result<S::Ok, S::Error> {
        self.note_many(value.len() > 1);
        self.inner.serialize_bytes(value)
    }

    #[inline]
    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.note(0);
        self.inner.serialize_none()
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.note(1);
        let part = self.part(value, 1);
        self.inner.serialize_some(&part)
    }

    #[inline]
    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit()
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.note(of_variant(index));
        self.inner.serialize_unit_variant(name, index, variant)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let part = Exact { value, at: self.at, taken: self.taken };
        self.inner.serialize_newtype_struct(name, &part)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.note(of_variant(index));
        let part = self.part(value, of_variant(index));
        self.inner.serialize_newtype_variant(name, index, variant, &part)
    }

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        self.note_entries(len);
        self.parts("a sequence", len, |inner| inner.serialize_seq(len))
    }

    #[inline]
    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        self.parts("a tuple", Some(len), |inner| inner.serialize_tuple(len))
    }

    #[inline]
    fn serialize_tuple_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        self.parts(name, Some(len), |inner| inner.serialize_tuple_struct(name, len))
    }

    #[inline]
    fn serialize_tuple_variant(
        mut self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.note(of_variant(index));
        self.at = self.at.within(of_variant(index));
        self.parts(variant, Some(len), |inner| {
            inner.serialize_tuple_variant(name, index, variant, len)
        })
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        if len.is_none() {
            return Err(refuse(
                self.taken,
                format_args!(
                    "it is written as a map of unknown size, as `#[serde(flatten)]` does: remove \
                     the attribute"
                ),
            ));
        }
        self.note_entries(len);
        self.parts("a map", len, |inner| inner.serialize_map(len))
    }

    #[inline]
    fn serialize_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStruct, S::Error> {
        self.parts(name, Some(len), |inner| inner.serialize_struct(name, len))
    }

    #[inline]
    fn serialize_struct_variant(
        mut self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.note(of_variant(index));
        self.at = self.at.within(of_variant(index));
        self.parts(variant, Some(len), |inner| {
            inner.serialize_struct_variant(name, index, variant, len)
        })
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// The parts of a value that has several.
struct Parts<'a, C> {
    inner: C,
    at: Place,
    taken: Option<&'a Alternatives>,
    /// The name of the type or variant whose parts they are.
    of: &'static str,
    announced: Option<usize>,
    written: usize,
}

impl<C> Parts<'_, C> {
    /// The next of parts that each have their place.
    #[inline]
    fn next<'v, T: ?Sized>(&mut self, value: &'v T) -> Exact<'v, T>
    where
        Self: 'v,
    {
        let at = self.at.within(self.written as u64);
        self.written += 1;
        Exact { value, at, taken: self.taken }
    }

    /// The next of parts that share one place.
    #[inline]
    fn alike<'v, T: ?Sized>(&mut self, value: &'v T) -> Exact<'v, T>
    where
        Self: 'v,
    {
        self.written += 1;
        Exact { value, at: self.at.within(0), taken: self.taken }
    }

    #[inline]
    fn are_all<E: Error>(&self) -> Result<(), E> {
        match self.announced {
            Some(announced) if announced != self.written => Err(refuse(
                self.taken,
                format_args!(
                    "{} announces {announced} parts and writes {}: its own `Serialize` announces \
                     as many as it writes",
                    self.of, self.written
                ),
            )),
            _ => Ok(()),
        }
    }

    #[cold]
    fn left_out<E: Error>(&self, field: &str) -> E {
        // Of this value only, and not of its type: there may be no such value.
        refuse(
            None,
            format_args!(
                "the field \"{field}\" of {} is left out of this value, as \
                 `#[serde(skip_serializing_if)]` does, and could not be read back: its bytes hold \
                 no names. Remove the attribute; an `Option` without a value takes one byte",
                self.of
            ),
        )
    }
}

macro_rules! parts {
    ($($kind:ident $method:ident $next:ident;)*) => {
        $(impl<C: $kind> $kind for Parts<'_, C> {
            type Ok = C::Ok;
            type Error = C::Error;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
                let part = self.$next(value);
                self.inner.$method(&part)
            }

            #[inline]
            fn end(self) -> Result<C::Ok, C::Error> {
                self.are_all()?;
                self.inner.end()
            }
        })*
    };
}

parts! {
    SerializeSeq serialize_element alike;
    SerializeTuple serialize_element next;
    SerializeTupleStruct serialize_field next;
    SerializeTupleVariant serialize_field next;
}

macro_rules! fields {
    ($($kind:ident)*) => {
        $(impl<C: $kind> $kind for Parts<'_, C> {
            type Ok = C::Ok;
            type Error = C::Error;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), C::Error> {
                let part = self.next(value);
                self.inner.serialize_field(name, &part)
            }

            fn skip_field(&mut self, name: &'static str) -> Result<(), C::Error> {
                Err(self.left_out(name))
            }

            #[inline]
            fn end(self) -> Result<C::Ok, C::Error> {
                self.are_all()?;
                self.inner.end()
            }
        })*
    };
}

fields! { SerializeStruct SerializeStructVariant }

impl<C: SerializeMap> SerializeMap for Parts<'_, C> {
    type Ok = C::Ok;
    type Error = C::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), C::Error> {
        let part = self.alike(key);
        self.inner.serialize_key(&part)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        self.inner.serialize_value(&Exact { value, at: self.at.within(1), taken: self.taken })
    }

    fn end(self) -> Result<C::Ok, C::Error> {
        self.are_all()?;
        self.inner.end()
    }
}
