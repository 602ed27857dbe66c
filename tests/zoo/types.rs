//! The zoo: types of keys and values with what serde lets a type do, and those that are refused for
//! it.

use serde::{Deserialize, Deserializer, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Every form of a variant, one within the other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Event {
    Start,
    Moved(u32),
    Placed(i16, char),
    Named { name: String, then: Option<Box<Event>> },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Nothing;

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Wrapped(pub(crate) Vec<Event>);

/// An address in a struct, as access logs have it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Visit {
    pub(crate) from: IpAddr,
    pub(crate) agent: Option<String>,
}

/// Attributes that only JSON notices, and those that convert on both ways.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Attributed {
    #[serde(default, alias = "old")]
    pub(crate) some_count: u64,
    #[serde(rename = "y")]
    pub(crate) other: Level,
    #[serde(with = "rust_decimal::serde::str")]
    pub(crate) price: rust_decimal::Decimal,
    pub(crate) celsius: Celsius,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Level {
    High(u8),
    #[serde(rename = "l")]
    Low,
    #[serde(other)]
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "i32", into = "i32")]
pub(crate) struct Celsius(pub(crate) i32);

impl TryFrom<i32> for Celsius {
    type Error = String;

    fn try_from(degrees: i32) -> Result<Celsius, String> {
        if degrees >= -273 { Ok(Celsius(degrees)) } else { Err(format!("{degrees} is too cold")) }
    }
}

impl From<Celsius> for i32 {
    fn from(Celsius(degrees): Celsius) -> i32 {
        degrees
    }
}

/// What only a value can be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) mean: f64,
    pub(crate) low: f32,
    pub(crate) by_name: std::collections::HashMap<String, BTreeMap<u16, Vec<bool>>>,
    pub(crate) seen: BTreeSet<char>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Inner {
    pub(crate) n: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Flat {
    #[serde(flatten)]
    pub(crate) inner: Inner,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Untagged {
    Number(u64),
    Text(String),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub(crate) enum Tagged {
    One(Inner),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "of")]
pub(crate) enum Adjacent {
    One(u64),
    None,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ReadOnly {
    #[serde(skip_serializing)]
    pub(crate) n: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Gap {
    First,
    #[serde(skip)]
    #[allow(dead_code, reason = "its place counts")]
    Hidden,
    Third,
    Fourth,
}

fn as_millis<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    u64::deserialize(from).map(|seconds| seconds * 1000)
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Scaled {
    #[serde(deserialize_with = "as_millis")]
    pub(crate) ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Sparse {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<u64>,
    pub(crate) n: u64,
}

/// A text that is checked when it is read, so that nothing behind it is seen from the type.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Mail(pub(crate) String);

impl TryFrom<String> for Mail {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Mail, &'static str> {
        if text.contains('@') { Ok(Mail(text)) } else { Err("it has no @") }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Page {
    pub(crate) title: String,
    #[serde(skip)]
    pub(crate) reads: u64,
}
