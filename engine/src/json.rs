//! JSON that loses nothing: the one way in which values are written as JSON, and read from it.
//!
//! JSON has no number for NaN and the infinities. They are the texts `"NaN"`, `"Infinity"` and
//! `"-Infinity"`, so that `null` is only what is `None`; where a floating-point number is expected,
//! the same texts are read as these numbers. Integers of 128 bits keep all their digits.
//!
//! One limit is serde's: inside a type that serde reads by trial (`untagged`, `flatten`, an
//! internally tagged enum) the three texts are texts, and integers have at most 64 bits.

mod read;
mod write;

use read::Reader;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Result;
use std::io::Write;
use write::Exact;

/// The texts for the floating-point numbers that JSON has no number for.
const NAN: &str = "NaN";
const INFINITY: &str = "Infinity";
const MINUS_INFINITY: &str = "-Infinity";

/// Writes a value as JSON.
///
/// # Errors
/// The value has no JSON (a map whose keys are no texts), its own code fails, or `into` does.
pub fn write<T: Serialize + ?Sized>(value: &T, into: impl Write) -> Result<()> {
    value.serialize(Exact(&mut serde_json::Serializer::new(into)))
}

/// Returns a value as JSON.
///
/// # Errors
/// As [`write()`].
///
/// ```
/// use tidemill_engine::json;
///
/// let numbers = (u128::MAX, f64::INFINITY, None::<f64>);
/// let text = json::to_string(&numbers).expect("it is JSON");
/// assert_eq!(text, r#"[340282366920938463463374607431768211455,"Infinity",null]"#);
/// assert_eq!(json::from_str::<(u128, f64, Option<f64>)>(&text).expect("it is JSON"), numbers);
/// ```
pub fn to_string<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    let mut text = Vec::new();
    write(value, &mut text)?;
    Ok(String::from_utf8(text).expect("JSON is UTF-8"))
}

/// Reads a value from JSON.
///
/// # Errors
/// The text is no JSON, or not that of a `T`.
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T> {
    finish(serde_json::Deserializer::from_str(text))
}

/// As [`from_str`], from bytes.
///
/// # Errors
/// As [`from_str`].
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    finish(serde_json::Deserializer::from_slice(bytes))
}

/// Reads a value as a person writes it: a text as it is, anything else as JSON.
///
/// # Errors
/// As [`from_str`].
pub fn from_text<T: DeserializeOwned>(text: &str) -> Result<T> {
    as_text(text).or_else(|_| from_str(text))
}

/// Reads a value that JSON has a text for from that text, without quotes.
pub(crate) fn as_text<T: DeserializeOwned>(text: &str) -> Result<T> {
    from_str(&serde_json::to_string(text)?)
}

fn finish<'de, R, T>(mut from: serde_json::Deserializer<R>) -> Result<T>
where
    R: serde_json::de::Read<'de>,
    T: DeserializeOwned,
{
    let value = T::deserialize(Reader::new(&mut from))?;
    from.end()?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    /// Compares by bits, with one NaN: what must come back.
    fn same(a: f64, b: f64) -> bool {
        a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
    }

    #[test]
    fn every_number_is_written_with_its_digits_and_comes_back() {
        let floats = [
            (f64::NAN, "\"NaN\""),
            (f64::INFINITY, "\"Infinity\""),
            (f64::NEG_INFINITY, "\"-Infinity\""),
            (-0.0, "-0.0"),
            (0.896_163_091_764_959_9, "0.8961630917649599"),
            (f64::MAX, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
        ];
        for (float, expected) in floats {
            let text = to_string(&float).expect("it is JSON");
            assert_eq!(text, expected);
            assert!(same(from_str(&text).expect("it is a number"), float), "{text}");
            assert!(
                same(from_text(text.trim_matches('"')).expect("it is a number"), float),
                "{text}"
            );
        }
        // One that is read one bit off by way of an f64.
        for float in [7.038531e-26f32, f32::MAX, f32::NEG_INFINITY, -0.0] {
            let text = to_string(&float).expect("it is JSON");
            assert_eq!(
                from_str::<f32>(&text).expect("it is a number").to_bits(),
                float.to_bits(),
                "{text}"
            );
        }
        assert!(from_str::<f32>("\"NaN\"").is_ok_and(f32::is_nan));
        for (integer, text) in [(i128::MIN, "-170141183460469231731687303715884105728"), (-1, "-1")]
        {
            assert_eq!(to_string(&integer).expect("it is JSON"), text);
            assert_eq!(from_text::<i128>(text).expect("it is a number"), integer);
        }
        assert_eq!(
            from_str::<u128>(&to_string(&u128::MAX).expect("it is JSON")).expect("it is a number"),
            u128::MAX
        );
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Reading {
        None,
        One(f64),
        Two(f64, u128),
        Named { low: Option<f64>, high: f32, all: Vec<f64> },
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Celsius(f64);

    /// A float as a key of a map, which JSON writes as a text.
    #[derive(Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
    struct Level(f64);
    impl Eq for Level {}
    #[allow(clippy::derive_ord_xor_partial_ord, reason = "there is no NaN in the test")]
    impl Ord for Level {
        fn cmp(&self, other: &Self) -> std::cmp::Ordering {
            self.0.total_cmp(&other.0)
        }
    }

    #[test]
    fn they_come_back_at_any_depth() {
        fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
            value: T,
            expected: &str,
        ) {
            let text = to_string(&value).expect("it is JSON");
            assert_eq!(text, expected);
            assert_eq!(from_str::<T>(&text).expect("it is of the type"), value);
            assert_eq!(from_slice::<T>(text.as_bytes()).expect("it is of the type"), value);
        }
        let inf = f64::INFINITY;
        check(Reading::None, "\"None\"");
        check(Reading::One(inf), r#"{"One":"Infinity"}"#);
        check(
            Reading::Two(-inf, 1 << 100),
            r#"{"Two":["-Infinity",1267650600228229401496703205376]}"#,
        );
        check(
            Reading::Named { low: None, high: f32::INFINITY, all: vec![1.5, inf] },
            r#"{"Named":{"low":null,"high":"Infinity","all":[1.5,"Infinity"]}}"#,
        );
        check((Celsius(inf), Some(inf), None::<f64>), r#"["Infinity","Infinity",null]"#);
        let levels = BTreeMap::from([(Level(-inf), inf), (Level(0.5), 0.5)]);
        check(levels, r#"{"-Infinity":"Infinity","0.5":0.5}"#);
        check(
            BTreeMap::from([(i128::MIN, 'a')]),
            r#"{"-170141183460469231731687303715884105728":"a"}"#,
        );
        check(("NaN".to_string(), ()), r#"["NaN",null]"#);
    }

    #[test]
    fn what_is_no_number_is_refused_as_before() {
        fn refused<T: DeserializeOwned + std::fmt::Debug>(text: &str, part: &str) {
            let why = from_str::<T>(text).expect_err(text).to_string();
            assert!(why.contains(part), "{text}: {why}");
        }
        refused::<f64>("\"1.5\"", "invalid type: string \"1.5\", expected f64");
        refused::<f64>("\"nan\"", "expected f64");
        refused::<f64>("null", "invalid type: null, expected f64");
        refused::<(u8, f32)>("[1,[]]", "expected f32 at line 1");
        refused::<u64>("\"NaN\"", "expected u64");
        refused::<f64>("1 2", "trailing characters");
        refused::<f64>("NaN", "expected value");
        assert!(to_string(&BTreeMap::from([((1, 2), 3)])).is_err(), "JSON has texts for keys only");
    }

    #[test]
    fn a_text_is_read_as_it_is() {
        assert_eq!(from_text::<String>("12 \"a\"\n").expect("a text"), "12 \"a\"\n");
        assert_eq!(from_text::<Option<u64>>("null").expect("JSON"), None);
        assert_eq!(from_text::<(u8, String)>("[1,\"a\"]").expect("JSON"), (1, "a".into()));
        assert_eq!(from_text::<u128>("18446744073709551616").expect("JSON"), 1 << 64);
        assert!(from_text::<f64>("Infinity").is_ok_and(f64::is_infinite));
    }
}
