//! What a type's bytes are made of, found by deserializing it from nothing: the names of its fields and the kinds of what is in them.
//!
//! Encoded values do not say what they are, and a type that has changed its fields may still take the bytes of the old one, for something else. So what is in a type is recorded beside
//! its name, and compared at each start.

use serde::de::value::{Error as Stop, U32Deserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, IntoDeserializer, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};
use std::fmt::Write;

/// How many parts of a type are looked at: one that contains itself has no end.
const MOST_PARTS: u32 = 1000;

/// How many variants of enums are looked into.
const MOST_VARIANTS: usize = 32;

/// What `T` is made of: `{sum: u64, last: option text}`. The same for each run of the same program. A type that does not let itself be read from nothing, because it
/// checks what it is given, is described up to there.
///
/// ```
/// assert_eq!(tidemill_state::shape::of::<(u64, Option<String>)>(), "(u64, option text)");
/// ```
#[must_use]
pub fn of<T: DeserializeOwned>() -> String {
    let (mut shapes, mut number, mut variants): (Vec<String>, usize, usize) = (Vec::new(), 0, 1);
    // Each pass looks into another variant of every enum.
    while number < variants.min(MOST_VARIANTS) {
        let mut tracer = Tracer { text: String::new(), left: MOST_PARTS, variant: number, variants: 1 };
        // A type's own code may not expect what it is given here; that it panics says no more than an error.
        let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| T::deserialize(&mut tracer).is_ok()));
        if !read.unwrap_or(false) {
            tracer.text.push('…');
        }
        variants = variants.max(tracer.variants);
        if !shapes.contains(&tracer.text) {
            shapes.push(tracer.text);
        }
        number += 1;
    }
    shapes.join(" or ")
}

struct Tracer {
    text: String,
    /// How many parts may still be looked at.
    left: u32,
    /// Which variant of an enum is looked into.
    variant: usize,
    /// The most variants that an enum has.
    variants: usize,
}

impl Tracer {
    fn part(&mut self, kind: &str) -> Result<(), Stop> {
        self.left = self.left.checked_sub(1).ok_or_else(|| Stop::custom("it has no end"))?;
        self.text.push_str(kind);
        Ok(())
    }
}

macro_rules! plain {
    ($($method:ident $kind:literal $visit:ident $value:expr;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
            self.part($kind)?;
            visitor.$visit($value)
        })*
    };
}

impl<'de> Deserializer<'de> for &mut Tracer {
    type Error = Stop;

    fn is_human_readable(&self) -> bool {
        false
    }

    // One and not zero: some numbers must not be that.
    plain! {
        deserialize_bool "bool" visit_bool true;
        deserialize_i8 "i8" visit_i8 1;
        deserialize_i16 "i16" visit_i16 1;
        deserialize_i32 "i32" visit_i32 1;
        deserialize_i64 "i64" visit_i64 1;
        deserialize_i128 "i128" visit_i128 1;
        deserialize_u8 "u8" visit_u8 1;
        deserialize_u16 "u16" visit_u16 1;
        deserialize_u32 "u32" visit_u32 1;
        deserialize_u64 "u64" visit_u64 1;
        deserialize_u128 "u128" visit_u128 1;
        deserialize_f32 "f32" visit_f32 1.0;
        deserialize_f64 "f64" visit_f64 1.0;
        deserialize_char "char" visit_char 'a';
        deserialize_str "text" visit_borrowed_str "";
        deserialize_string "text" visit_borrowed_str "";
        deserialize_bytes "bytes" visit_borrowed_bytes &[];
        deserialize_byte_buf "bytes" visit_borrowed_bytes &[];
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        Err(Stop::custom("it does not say what it is"))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_any(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.part("option ")?;
        visitor.visit_some(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.part("()")?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.part("[")?;
        let value = visitor.visit_seq(Parts { tracer: &mut *self, names: None, left: 1, first: true })?;
        self.text.push(']');
        Ok(value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Stop> {
        self.part("(")?;
        let value = visitor.visit_seq(Parts { tracer: &mut *self, names: None, left: len, first: true })?;
        self.text.push(')');
        Ok(value)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(self, _: &'static str, len: usize, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.part("map of ")?;
        visitor.visit_map(Parts { tracer: self, names: None, left: 1, first: true })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.part("{")?;
        let value = visitor.visit_seq(Parts { tracer: &mut *self, names: Some(fields), left: fields.len(), first: true })?;
        self.text.push('}');
        Ok(value)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.part("one of ")?;
        let _ = write!(self.text, "{}: ", variants.join("|"));
        self.variants = self.variants.max(variants.len());
        let index = self.variant.min(variants.len().saturating_sub(1));
        visitor.visit_enum(Variant { tracer: self, index: u32::try_from(index).expect("variants are few") })
    }
}

/// The parts of something that has several, with their names if they have some.
struct Parts<'t> {
    tracer: &'t mut Tracer,
    names: Option<&'static [&'static str]>,
    left: usize,
    first: bool,
}

impl<'de> SeqAccess<'de> for Parts<'_> {
    type Error = Stop;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Stop> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        if !std::mem::take(&mut self.first) {
            self.tracer.text.push_str(", ");
        }
        if let Some(names) = self.names {
            let _ = write!(self.tracer.text, "{}: ", names[names.len() - self.left]);
        }
        self.left = left;
        seed.deserialize(&mut *self.tracer).map(Some)
    }
}

impl<'de> MapAccess<'de> for Parts<'_> {
    type Error = Stop;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Stop> {
        SeqAccess::next_element_seed(self, seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Stop> {
        self.tracer.text.push_str(" to ");
        seed.deserialize(&mut *self.tracer)
    }
}

struct Variant<'t> {
    tracer: &'t mut Tracer,
    index: u32,
}

impl<'de, 't> EnumAccess<'de> for Variant<'t> {
    type Error = Stop;
    type Variant = &'t mut Tracer;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, &'t mut Tracer), Stop> {
        let index: U32Deserializer<Stop> = self.index.into_deserializer();
        Ok((seed.deserialize(index)?, self.tracer))
    }
}

impl<'de> VariantAccess<'de> for &mut Tracer {
    type Error = Stop;

    fn unit_variant(self) -> Result<(), Stop> {
        self.part("()")
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Stop> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_struct("", fields, visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Total {
        sum: u64,
        last: Option<Box<Total>>,
    }

    #[derive(Deserialize)]
    #[allow(dead_code)]
    enum Tree {
        Leaf(i32),
        Fork { left: Box<Tree>, right: Box<Tree> },
        Empty,
    }

    #[derive(Deserialize)]
    #[serde(try_from = "u8")]
    struct Even;

    impl TryFrom<u8> for Even {
        type Error = String;

        fn try_from(number: u8) -> Result<Even, String> {
            if number.is_multiple_of(2) { Ok(Even) } else { panic!("it is odd") }
        }
    }

    #[test]
    fn a_type_is_described_by_its_fields_and_their_kinds() {
        assert_eq!(of::<u64>(), "u64");
        assert_eq!(of::<(String, [u8; 2], ())>(), "(text, (u8, u8), ())");
        assert_eq!(of::<BTreeMap<String, Vec<f64>>>(), "map of text to [f64]");
        assert_eq!(of::<std::num::NonZeroU32>(), "u32");
        assert_eq!(of::<Result<u8, String>>(), "one of Ok|Err: u8 or one of Ok|Err: text");
    }

    #[test]
    fn a_type_that_contains_itself_or_refuses_what_it_is_given_has_an_end() {
        let total = of::<Total>();
        assert!(total.starts_with("{sum: u64, last: option {sum: u64,") && total.ends_with('…'), "{total}");
        let tree = of::<Tree>();
        assert!(tree.starts_with("one of Leaf|Fork|Empty: i32 or one of Leaf|Fork|Empty: {left: one of"), "{tree}");
        assert!(tree.ends_with("or one of Leaf|Fork|Empty: ()"), "{tree}");
        assert_eq!(of::<(u8, Even)>(), "(u8, u8…");
        assert_eq!(of::<serde_json::Value>(), "…");
    }
}
