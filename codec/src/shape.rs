//! The parts of a type's bytes, found by deserializing the type from nothing: the names of its
//! fields and the kinds of their contents.
//!
//! Encoded values do not say what they are, and a type that has changed its fields may still take
//! the bytes of the old one, for something else. So what is in a type is recorded beside its name,
//! and compared at each start.
//!
//! A field that is renamed and a variant that is appended count as changes too: names alone do not
//! show which of them are harmless.

mod compare;

pub use compare::{agree, known};
use serde::de::value::{Error as Stop, U32Deserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, Expected, IntoDeserializer,
    MapAccess, SeqAccess, VariantAccess, Visitor,
};
use std::collections::BTreeMap;
use std::fmt::Write;

/// The depth down to which all parts of a type are examined. Below that, parts that need not be
/// there are left out, because a type may contain itself.
const DEEP: u32 = 8;

/// The greatest depth and the greatest number of parts to which any type is examined.
const DEEPEST: u32 = 32;
const MOST_PARTS: u32 = 1000;

/// The number of times a type is looked through: each time at other variants of its enums.
const MOST_PASSES: usize = 64;

/// The longest description, in bytes: of a longer one the rest is a checksum.
const LONGEST: usize = 4096;

/// Returns the parts of `T`: `{sum: u64, last: option text}`. The same for each run of the same
/// program. A type that cannot be read from nothing, because it checks its input, is described up
/// to that check.
///
/// ```
/// assert_eq!(tidemill_codec::shape::of::<(u64, Option<String>)>(), "(u64, option text)");
/// ```
#[must_use]
pub fn of<T: DeserializeOwned>() -> String {
    look::<T>(drop).text
}

/// Returns why values of `T` cannot be read from bytes that hold no names and no kinds, as far as
/// the type shows.
///
/// ```
/// let refused = tidemill_codec::shape::unreadable::<serde_json::Value>().expect("it cannot be read");
/// assert!(refused.contains("deserialize_any"), "{refused}");
/// ```
#[must_use]
pub fn unreadable<T: DeserializeOwned>() -> Option<String> {
    look::<T>(drop).unreadable
}

/// Returns whether a variant of an enum in `T` has several names, as `#[serde(alias)]` gives it:
/// then the names of the variants are not known.
#[must_use]
pub fn has_variant_aliases<T: DeserializeOwned>() -> bool {
    look::<T>(drop).has_variant_aliases
}

/// A type as it is seen from outside. For `tidemill-state`.
#[doc(hidden)]
pub struct Look {
    /// See [`of`].
    text: String,
    /// The first part that can only be read from bytes that name their fields and kinds.
    pub unreadable: Option<String>,
    /// True if a map is in it.
    pub has_maps: bool,
    has_variant_aliases: bool,
}

/// Looks at a type, and calls `each` with the values that it let itself be read as: one or more for
/// each of its alternatives.
#[doc(hidden)]
pub fn look<T: DeserializeOwned>(mut each: impl FnMut(T)) -> Look {
    let mut shapes: Vec<String> = Vec::new();
    let mut tracer = Tracer::default();
    let mut is_complete = false;
    for _ in 0..MOST_PASSES {
        (tracer.text, tracer.left, tracer.depth) = (String::new(), MOST_PARTS, 0);
        tracer.fields.clear();
        let unreadable = tracer.unreadable.take();
        // A type's own code may not expect what it is given here; that it panics says no more than
        // an error.
        let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            T::deserialize(&mut tracer).map(&mut each).is_ok()
        }));
        if read.unwrap_or(false) {
            // Its own code knew what to do about a part that is not readable.
            tracer.unreadable = unreadable;
        } else {
            tracer.text.push('…');
            tracer.unreadable = unreadable.or(tracer.unreadable);
        }
        if !shapes.contains(&tracer.text) {
            shapes.push(tracer.text.clone());
        }
        for one in tracer.enums.values_mut() {
            one.next += usize::from(std::mem::take(&mut one.met));
        }
        is_complete = tracer.enums.values().all(|one| one.next >= one.variants);
        if is_complete {
            break;
        }
    }
    Look {
        text: shortened(shapes.join(" or ")),
        unreadable: tracer.unreadable,
        has_maps: tracer.has_maps,
        has_variant_aliases: tracer.has_variant_aliases || !is_complete,
    }
}

fn shortened(text: String) -> String {
    if text.len() <= LONGEST {
        return text;
    }
    let most = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}… {:016x}", &text[..most], xxhash_rust::xxh3::xxh3_64(text.as_bytes()))
}

/// An enum that was met.
struct Enum {
    variants: usize,
    /// The variant that is looked into next; beyond the last, all have been, and it begins again:
    /// there may be other enums behind them.
    next: usize,
    /// True if it was met in this pass.
    met: bool,
}

#[derive(Default)]
struct Tracer {
    text: String,
    /// The number of parts that may still be looked at.
    left: u32,
    depth: u32,
    /// By their names.
    enums: BTreeMap<&'static str, Enum>,
    /// The fields that lead to the part in hand, each with its struct.
    fields: Vec<(&'static str, &'static str)>,
    /// The struct or map whose parts are read, as its type describes it, and how deep they are.
    within: Option<(u32, String)>,
    unreadable: Option<String>,
    has_maps: bool,
    /// True if an enum has more names than variants.
    has_variant_aliases: bool,
}

impl Tracer {
    fn part(&mut self, kind: &str) -> Result<(), Stop> {
        self.left = self.left.checked_sub(1).ok_or_else(|| Stop::custom("it has no end"))?;
        self.text.push_str(kind);
        Ok(())
    }

    /// Looks at what is in a part, one deeper.
    fn deeper<R>(&mut self, look: impl FnOnce(&mut Tracer) -> Result<R, Stop>) -> Result<R, Stop> {
        if self.depth == DEEPEST {
            return Err(Stop::custom("it has no end"));
        }
        self.depth += 1;
        let found = look(self);
        self.depth -= 1;
        found
    }

    /// As [`Tracer::deeper`], at the parts of a struct or map whose visitor this is.
    fn deeper_in<'de, V: Visitor<'de>, R>(
        &mut self,
        visitor: V,
        look: impl FnOnce(&mut Tracer, V) -> Result<R, Stop>,
    ) -> Result<R, Stop> {
        let before = self.within.replace((self.depth + 1, expected(&visitor)));
        let found = self.deeper(|tracer| look(tracer, visitor));
        self.within = before;
        found
    }

    /// Notes a part that can only be read from bytes that name their fields or kinds, and ends the
    /// look.
    fn refuse(&mut self, why: String) -> Stop {
        let at = match self.fields.last() {
            Some(("", field)) => format!("its field \"{field}\": "),
            Some((of, field)) => format!("its field \"{field}\" of {of}: "),
            None => String::new(),
        };
        self.unreadable.get_or_insert(format!("{at}{why}"));
        Stop::custom("it does not say what it is")
    }
}

/// A type as its visitor describes it.
fn expected<'de>(visitor: &impl Visitor<'de>) -> String {
    let expected: &dyn Expected = visitor;
    expected.to_string()
}

/// The attribute of a type that reads itself from whatever kind the bytes name, from what it
/// expects there.
fn attribute(expects: &str) -> String {
    match expects.strip_prefix("internally tagged enum ") {
        Some(name) => format!("the enum {name} has `#[serde(tag)]`"),
        None if expects == "any value" => "it has `#[serde(untagged)]`".into(),
        None => format!("it asks the bytes for their kind (`deserialize_any`), to find {expects}"),
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

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        Err(self.refuse(attribute(&expected(&visitor))))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_any(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        // Names of fields are asked for where bytes hold none.
        let of = self
            .within
            .as_ref()
            .filter(|(depth, _)| *depth == self.depth)
            .map(|(_, of)| of.as_str());
        let why = match of.map(|of| (of, of.strip_prefix("adjacently tagged enum "))) {
            Some((_, Some(name))) => format!("the enum {name} has `#[serde(tag, content)]`"),
            Some((of, None)) => format!("{of} has a field with `#[serde(flatten)]`"),
            None => "it asks the bytes for a name (`deserialize_identifier`)".into(),
        };
        Err(self.refuse(why))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.part("option ")?;
        if self.depth >= DEEP {
            self.text.push('…');
            return visitor.visit_none();
        }
        self.deeper(|tracer| visitor.visit_some(tracer))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.part("()")?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.deeper(|tracer| visitor.visit_newtype_struct(tracer))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.part("[")?;
        let left = usize::from(self.depth < DEEP);
        let value = self
            .deeper(|tracer| visitor.visit_seq(Parts { tracer, names: None, left, first: true }))?;
        self.text.push(']');
        Ok(value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Stop> {
        self.part("(")?;
        let value = self.deeper(|tracer| {
            visitor.visit_seq(Parts { tracer, names: None, left: len, first: true })
        })?;
        self.text.push(')');
        Ok(value)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.part("map of ")?;
        self.has_maps = true;
        let left = usize::from(self.depth < DEEP);
        self.deeper_in(visitor, |tracer, visitor| {
            visitor.visit_map(Parts { tracer, names: None, left, first: true })
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.part("{")?;
        let (names, left) = (Some((name, fields)), fields.len());
        let value = self.deeper_in(visitor, |tracer, visitor| {
            visitor.visit_seq(Parts { tracer, names, left, first: true })
        })?;
        self.text.push('}');
        Ok(value)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.part("one of ")?;
        let _ = write!(self.text, "{}: ", variants.join("|"));
        let (deep, known) = (
            self.depth >= DEEP,
            self.enums.entry(name).or_insert(Enum {
                variants: variants.len(),
                next: 0,
                met: false,
            }),
        );
        known.met = true;
        // One that contains itself may have a variant that does not.
        let index = if deep { 0 } else { known.next % variants.len().max(1) };
        let index = u32::try_from(index).expect("variants are few");
        self.deeper(|tracer| visitor.visit_enum(Variant { tracer, index }))
    }
}

/// The parts of something that has several, with its name and theirs if they have some.
struct Parts<'t> {
    tracer: &'t mut Tracer,
    names: Option<(&'static str, &'static [&'static str])>,
    left: usize,
    first: bool,
}

impl<'de> SeqAccess<'de> for Parts<'_> {
    type Error = Stop;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Stop> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        if !std::mem::take(&mut self.first) {
            self.tracer.text.push_str(", ");
        }
        if let Some((of, names)) = self.names {
            let name = names[names.len() - self.left];
            let _ = write!(self.tracer.text, "{name}: ");
            self.tracer.fields.push((of, name));
        }
        self.left = left;
        let part = seed.deserialize(&mut *self.tracer)?;
        if self.names.is_some() {
            self.tracer.fields.pop();
        }
        Ok(Some(part))
    }
}

impl<'de> MapAccess<'de> for Parts<'_> {
    type Error = Stop;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Stop> {
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

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, &'t mut Tracer), Stop> {
        let index: U32Deserializer<Stop> = self.index.into_deserializer();
        let variant = seed.deserialize(index);
        self.tracer.has_variant_aliases |= variant.is_err();
        Ok((variant?, self.tracer))
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

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.deserialize_struct("", fields, visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

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
    #[allow(dead_code)]
    struct Never(Box<Never>);

    #[derive(Deserialize)]
    #[allow(dead_code)]
    enum Event {
        Login(Kind),
        Logout,
    }

    #[derive(Deserialize)]
    #[allow(dead_code)]
    enum Kind {
        Short(u8),
        Long(i64),
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
    fn every_variant_is_looked_into_also_of_enums_within_enums() {
        let event = of::<Event>();
        for part in [
            "Login|Logout: one of Short|Long: u8",
            "Login|Logout: ()",
            "Login|Logout: one of Short|Long: i64",
        ] {
            assert!(event.contains(part), "{part} is not in {event}");
        }
    }

    #[test]
    fn a_type_that_contains_itself_or_refuses_what_it_is_given_has_an_end() {
        let total = of::<Total>();
        assert!(
            total.starts_with("{sum: u64, last: option {sum: u64,")
                && total.ends_with("option …}}}}}"),
            "{total}"
        );
        let tree = of::<Tree>();
        assert!(
            tree.starts_with(
                "one of Leaf|Fork|Empty: i32 or one of Leaf|Fork|Empty: {left: one of"
            ),
            "{tree}"
        );
        assert!(tree.len() < LONGEST + 32, "{tree}");
        let never = of::<Never>();
        assert!(never.ends_with('…') && never.len() < LONGEST, "{never}");
        assert_eq!(of::<(u8, Even)>(), "(u8, u8…");
        assert_eq!(of::<serde_json::Value>(), "…");
    }
}
