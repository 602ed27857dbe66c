//! Decoding of types that ask for borrowed text, such as inline strings: they are given owned text,
//! which they take as well.
//!
//! `memcomparable` cannot lend text or bytes, since it puts them together from chunks, and refuses
//! to be asked; so the question is changed on its way, at every depth of the key. On the same way,
//! what is read behind the end of the bytes is an error.

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, SeqAccess, VariantAccess, Visitor,
};
use std::cell::Cell;

/// A deserializer, seed, visitor or access whose every question for borrowed text becomes one for
/// owned text; and whether more was read than there is.
pub(super) struct Owned<'c, T>(pub(super) T, pub(super) &'c Cell<bool>);

macro_rules! ask {
    ($($method:ident as $asked:ident($($argument:ident: $type:ty),*))*) => {
        $(fn $method<V: Visitor<'de>>(self, $($argument: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            if self.1.get() {
                return Err(D::Error::custom("it is cut off"));
            }
            self.0.$asked($($argument,)* Owned(visitor, self.1))
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Owned<'_, D> {
    type Error = D::Error;

    ask! {
        deserialize_str as deserialize_string()
        deserialize_bytes as deserialize_byte_buf()
        deserialize_string as deserialize_string()
        deserialize_byte_buf as deserialize_byte_buf()
        deserialize_any as deserialize_any()
        deserialize_ignored_any as deserialize_ignored_any()
        deserialize_identifier as deserialize_identifier()
        deserialize_bool as deserialize_bool()
        deserialize_char as deserialize_char()
        deserialize_i8 as deserialize_i8()
        deserialize_i16 as deserialize_i16()
        deserialize_i32 as deserialize_i32()
        deserialize_i64 as deserialize_i64()
        deserialize_i128 as deserialize_i128()
        deserialize_u8 as deserialize_u8()
        deserialize_u16 as deserialize_u16()
        deserialize_u32 as deserialize_u32()
        deserialize_u64 as deserialize_u64()
        deserialize_u128 as deserialize_u128()
        deserialize_f32 as deserialize_f32()
        deserialize_f64 as deserialize_f64()
        deserialize_option as deserialize_option()
        deserialize_unit as deserialize_unit()
        deserialize_unit_struct as deserialize_unit_struct(name: &'static str)
        deserialize_newtype_struct as deserialize_newtype_struct(name: &'static str)
        deserialize_seq as deserialize_seq()
        deserialize_tuple as deserialize_tuple(len: usize)
        deserialize_tuple_struct as deserialize_tuple_struct(name: &'static str, len: usize)
        deserialize_map as deserialize_map()
        deserialize_struct as deserialize_struct(name: &'static str, fields: &'static [&'static str])
        deserialize_enum as deserialize_enum(name: &'static str, variants: &'static [&'static str])
    }

    fn is_human_readable(&self) -> bool {
        // As the serializer has it: the crate's deserializer keeps serde's default, which is the
        // other one. A type that looks at it, such as an address, would read another form than it
        // wrote.
        false
    }
}

macro_rules! pass_on {
    ($($method:ident($type:ty))*) => {
        $(fn $method<E: serde::de::Error>(self, value: $type) -> Result<V::Value, E> {
            self.0.$method(value)
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Owned<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.expecting(f)
    }

    pass_on! {
        visit_bool(bool) visit_char(char) visit_str(&str) visit_string(String) visit_bytes(&[u8]) visit_byte_buf(Vec<u8>)
        visit_i8(i8) visit_i16(i16) visit_i32(i32) visit_i64(i64) visit_i128(i128)
        visit_u8(u8) visit_u16(u16) visit_u32(u32) visit_u64(u64) visit_u128(u128)
        visit_f32(f32) visit_f64(f64)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.0.visit_none()
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.0.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(Owned(inner, self.1))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.0.visit_newtype_struct(Owned(inner, self.1))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(Owned(items, self.1))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variants: A) -> Result<V::Value, A::Error> {
        self.0.visit_enum(Owned(variants, self.1))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Owned<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Owned(from, self.1))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Owned<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(Owned(seed, self.1))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, 'c, A: EnumAccess<'de>> EnumAccess<'de> for Owned<'c, A> {
    type Error = A::Error;
    type Variant = Owned<'c, A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Owned<'c, A::Variant>), A::Error> {
        let (variant, content) = self.0.variant_seed(seed)?;
        Ok((variant, Owned(content, self.1)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Owned<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.0.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.0.newtype_variant_seed(Owned(seed, self.1))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.0.tuple_variant(len, Owned(visitor, self.1))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.0.struct_variant(fields, Owned(visitor, self.1))
    }
}

#[cfg(test)]
mod tests {
    use crate::keys::{decode_key, encode_key};
    use serde::{Deserialize, Deserializer, Serialize};

    /// Text that asks to borrow, as inline strings do.
    #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
    struct Inline(String);

    impl<'de> Deserialize<'de> for Inline {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Inline, D::Error> {
            struct Text;
            impl serde::de::Visitor<'_> for Text {
                type Value = Inline;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("text")
                }
                fn visit_str<E>(self, text: &str) -> Result<Inline, E> {
                    Ok(Inline(text.to_string()))
                }
            }
            from.deserialize_str(Text)
        }
    }

    #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    enum Key {
        None,
        One(Inline),
        Two(u32, Inline),
        Named { texts: Vec<Inline>, maybe: Option<Inline> },
    }

    #[test]
    fn text_that_asks_to_borrow_is_decoded_at_every_depth() {
        let text = || Inline("a longer text than a chunk".to_string());
        for key in [
            Key::None,
            Key::One(text()),
            Key::Two(7, text()),
            Key::Named { texts: vec![text(), text()], maybe: Some(text()) },
        ] {
            let mut bytes = Vec::new();
            encode_key(&(1u8, &key, ((), true, 'x')), &mut bytes).expect("it encodes");
            assert_eq!(
                decode_key::<(u8, Key, ((), bool, char))>(&bytes).expect("it decodes"),
                (1, key, ((), true, 'x'))
            );
        }
    }
}
