//! From the bytes of a line to a record.

use super::settings::{Invalid, Malformed};
use crate::Str;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use tidemill_engine::json;
use tidemill_engine::source::Data;
use tidemill_state::type_names;

/// Makes records of lines. Implemented by [`Lines`] and [`JsonLines`] only.
pub trait Decode: Clone + Send + Sync + fmt::Debug + 'static {
    /// The type of the records that lines are decoded to.
    type Item: Data;

    /// The name of the decoding, as recorded in the store.
    #[doc(hidden)]
    const KIND: &'static str;

    #[doc(hidden)]
    fn set_invalid_utf8(&mut self, policy: Invalid);

    /// Decodes a line, given without its line end.
    #[doc(hidden)]
    fn decode(&self, line: &[u8]) -> Decoded<Self::Item>;
}

/// The result of decoding a line.
#[doc(hidden)]
#[derive(Debug, PartialEq)]
pub enum Decoded<T> {
    /// A record.
    Record(T),
    /// Nothing, as the format has it.
    Blank,
    /// Not a record, to be passed over by policy.
    Skipped,
    /// Not a record: from which byte of the line on, and why.
    Refused { at: usize, why: String },
}

/// Each line is a record: a [`Str`], made straight from the buffer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lines {
    invalid: Invalid,
}

impl Decode for Lines {
    type Item = Str;
    const KIND: &'static str = "lines";

    fn set_invalid_utf8(&mut self, policy: Invalid) {
        self.invalid = policy;
    }

    #[inline]
    fn decode(&self, line: &[u8]) -> Decoded<Str> {
        match text(line, self.invalid) {
            Ok(text) => Decoded::Record(Str::from(text)),
            Err(refused) => refused,
        }
    }
}

/// Each line is a JSON value, read as a `T`.
pub struct JsonLines<T> {
    invalid: Invalid,
    pub(super) malformed: Malformed,
    item: PhantomData<fn() -> T>,
}

impl<T> Default for JsonLines<T> {
    fn default() -> JsonLines<T> {
        JsonLines {
            invalid: Invalid::default(),
            malformed: Malformed::default(),
            item: PhantomData,
        }
    }
}

// Derived, they would ask the same of T.
impl<T> Clone for JsonLines<T> {
    fn clone(&self) -> JsonLines<T> {
        JsonLines { ..*self }
    }
}

impl<T> fmt::Debug for JsonLines<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonLines")
            .field("invalid", &self.invalid)
            .field("malformed", &self.malformed)
            .finish()
    }
}

impl<T: Data> Decode for JsonLines<T> {
    type Item = T;
    const KIND: &'static str = "json-lines";

    fn set_invalid_utf8(&mut self, policy: Invalid) {
        self.invalid = policy;
    }

    fn decode(&self, line: &[u8]) -> Decoded<T> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Decoded::Blank;
        }
        let text = match text(line, self.invalid) {
            Ok(text) => text,
            Err(refused) => return refused,
        };
        match (json::from_str(&text), self.malformed) {
            (Ok(record), _) => Decoded::Record(record),
            (Err(_), Malformed::Skip) => Decoded::Skipped,
            (Err(why), Malformed::Fail) => Decoded::Refused { at: 0, why: malformed::<T>(&why) },
        }
    }
}

fn text<T>(line: &[u8], invalid: Invalid) -> Result<Cow<'_, str>, Decoded<T>> {
    match std::str::from_utf8(line) {
        Ok(text) => Ok(Cow::Borrowed(text)),
        Err(_) if invalid == Invalid::Lossy => Ok(String::from_utf8_lossy(line)),
        Err(why) => Err(Decoded::Refused {
            at: why.valid_up_to(),
            why: "this is not UTF-8; repair the file, or read such bytes as U+FFFD with \
                .invalid_utf8(Invalid::Lossy)"
                .into(),
        }),
    }
}

fn malformed<T>(why: &serde_json::Error) -> String {
    // serde_json counts lines in what it was given, one line, which would contradict the file's
    // line number beside it. Column 0 is "somewhere".
    let what = why.to_string();
    let what = what
        .strip_suffix(&format!(" at line {} column {}", why.line(), why.column()))
        .unwrap_or(&what);
    let place =
        if why.column() > 0 { format!(" at column {}", why.column()) } else { String::new() };
    format!(
        "not the JSON of a {}: {what}{place}; repair the line, or pass over such lines with \
         .malformed(Malformed::Skip)",
        type_names::of::<T>()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_lines_follow_their_policies() {
        let mut json = JsonLines::<(String, u32)>::default();
        assert_eq!(json.decode(b"[\"a\",1]"), Decoded::Record(("a".into(), 1)));
        assert_eq!(json.decode(b" \t"), Decoded::Blank);
        let Decoded::Refused { at: 0, why } = json.decode(b"[\"a\",-1]") else {
            panic!("-1 is no u32")
        };
        assert!(why.contains("column 7") && !why.contains("line 1"), "{why}");
        assert!(matches!(json.decode(b"[\"a\xff\",1]"), Decoded::Refused { at: 3, .. }));
        // As a sink writes it.
        let floats = JsonLines::<(u128, f64)>::default();
        assert_eq!(
            floats.decode(b"[18446744073709551616,\"-Infinity\"]"),
            Decoded::Record((1 << 64, f64::NEG_INFINITY))
        );
        assert!(matches!(floats.decode(b"[1,null]"), Decoded::Refused { .. }), "none is no number");
        json.set_invalid_utf8(Invalid::Lossy);
        assert_eq!(json.decode(b"[\"a\xff\",1]"), Decoded::Record(("a\u{fffd}".into(), 1)));
        json.malformed = Malformed::Skip;
        assert_eq!(json.decode(b"[\"a\""), Decoded::Skipped);
    }
}
