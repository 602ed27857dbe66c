//! Sizes and durations as a person writes them: `64MiB`, `50ms`.

use serde::Deserialize;
use serde::de::{Deserializer, Visitor};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A number of bytes: `64MiB`, `1.5GB`, or digits alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) u64);

/// A length of time, at most a year: `50ms`, `2s`, `1.5m`. A number alone could mean anything, and
/// is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

const SIZES: [(&str, f64); 9] = [
    ("", 1.0),
    ("B", 1.0),
    ("KB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("KiB", 1024.0),
    ("MiB", 1048576.0),
    ("GiB", 1073741824.0),
    ("TiB", 1099511627776.0),
];

/// The longest time: a moment that lies much further ahead cannot be computed.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

const TIMES: [(&str, f64); 5] =
    [("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Bytes, String> {
        if let Ok(bytes) = text.trim().parse() {
            return Ok(Bytes(bytes));
        }
        let bytes = amount(text, &SIZES).filter(|bytes| *bytes < u64::MAX as f64);
        bytes
            .map(|bytes| Bytes(bytes as u64))
            .ok_or_else(|| format!("\"{text}\" is no size: write it as 64MiB, 1.5GB or in bytes"))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        let span =
            amount(text, &TIMES).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let span = span.ok_or_else(|| {
            format!("\"{text}\" is no duration: write it with its unit, as 50ms, 2s, 1.5m or 1h")
        })?;
        if span > LONGEST {
            return Err(format!(
                "\"{text}\" is longer than a year: give at most {} h",
                LONGEST.as_secs() / 3600
            ));
        }
        Ok(Span(span))
    }
}

/// A number with one of these units behind it, case aside.
fn amount(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let text = text.trim();
    let (number, unit) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()));
    let number: f64 = number.parse().ok()?;
    let (_, worth) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()))?;
    Some(number * worth)
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        struct BytesVisitor;
        impl Visitor<'_> for BytesVisitor {
            type Value = Bytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size, as \"64MiB\" or a number of bytes")
            }
            fn visit_u64<E>(self, bytes: u64) -> Result<Bytes, E> {
                Ok(Bytes(bytes))
            }
            fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<Bytes, E> {
                u64::try_from(bytes)
                    .map(Bytes)
                    .map_err(|_| E::custom(format!("{bytes} is no size")))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Bytes, E> {
                text.parse().map_err(E::custom)
            }
        }
        from.deserialize_any(BytesVisitor)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Span, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_they_are_written() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(text.parse::<Bytes>().ok().map(|bytes| bytes.0), expected, "{text}")
        };
        check("0", Some(0));
        check("18446744073709551615", Some(u64::MAX));
        check("64MiB", Some(64 << 20));
        check("64 mib", Some(64 << 20));
        check("1.5GB", Some(1_500_000_000));
        check("10 B", Some(10));
        for wrong in ["", "MiB", "-1", "64 M", "1e3", "64MiBs", "99999999999999TiB", "1.2.3MB"] {
            check(wrong, None);
        }
    }

    #[test]
    fn durations_need_their_unit() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(
                text.parse::<Span>()
                    .ok()
                    .map(|span| u64::try_from(span.0.as_micros()).expect("short")),
                expected,
                "{text}"
            );
        };
        check("50ms", Some(50_000));
        check("2s", Some(2_000_000));
        check("0.5 s", Some(500_000));
        check("1m", Some(60_000_000));
        check("250us", Some(250));
        check("0s", Some(0));
        check("8760h", Some(365 * 24 * 3_600_000_000));
        for wrong in
            ["", "50", "s", "-1s", "1d", "8761h", "5000000000000000h", "99999999999999999999h"]
        {
            check(wrong, None);
        }
    }
}
