//! Types with every attribute of serde's that matters: which of them are refused, where, and with
//! which words.

use super::*;
use crate::Kind;
use serde::{Deserialize, Deserializer, Serializer};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Part {
    n: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Flat {
    #[serde(flatten)]
    part: Part,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u64),
    Text(String),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    Part(Part),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "of")]
enum Adjacent {
    Number(u64),
}

/// A struct that writes its name as a field, and does not read it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
struct Named {
    n: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct WriteOnly {
    #[serde(skip_deserializing)]
    n: u64,
    m: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct ReadOnly {
    m: u64,
    #[serde(skip_serializing)]
    n: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Gap {
    First,
    #[serde(skip)]
    #[allow(dead_code, reason = "its place counts")]
    Hidden,
    Third,
    Fourth,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum LastHidden {
    First,
    Second,
    #[serde(skip)]
    #[allow(dead_code, reason = "nothing is behind it")]
    Hidden,
}

fn as_millis<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<u64, D::Error> {
    u64::deserialize(from).map(|seconds| seconds * 1000)
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Scaled {
    #[serde(deserialize_with = "as_millis")]
    ms: u64,
}

fn from_text<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<u64, D::Error> {
    String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct FromText {
    #[serde(deserialize_with = "from_text")]
    n: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Sparse {
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<u64>,
    n: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Quiet {
    #[serde(skip_serializing_if = "String::is_empty")]
    note: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Harmless {
    #[serde(default, rename = "x", alias = "y")]
    one: Option<Box<Harmless>>,
    #[serde(with = "tuple")]
    two: (u8, u8),
    three: LastHidden,
    four: HashMap<String, Vec<IpAddr>>,
    five: std::time::Duration,
    six: Other,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Other {
    One(u8),
    #[serde(other)]
    None,
}

mod tuple {
    use super::*;

    pub(super) fn serialize<S: Serializer>(
        of: &(u8, u8),
        into: S,
    ) -> std::result::Result<S::Ok, S::Error> {
        [of.0, of.1].serialize(into)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> std::result::Result<(u8, u8), D::Error> {
        <[u8; 2]>::deserialize(from).map(|[one, other]| (one, other))
    }
}

/// A text that is checked when it is read: nothing behind it is seen from the type.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String")]
struct Mail(String);

impl TryFrom<String> for Mail {
    type Error = &'static str;

    fn try_from(text: String) -> std::result::Result<Mail, &'static str> {
        if text.contains('@') { Ok(Mail(text)) } else { Err("it has no @") }
    }
}

#[test]
fn what_a_type_shows_is_refused_with_its_attribute_and_field() {
    let refused = |found: Option<String>, parts: &[&str]| {
        let found = found.unwrap_or_else(|| panic!("{parts:?}: it is not refused"));
        for part in parts {
            assert!(found.contains(part), "{part} is not in: {found}");
        }
    };
    refused(of_values::<Flat>(), &["struct Flat has a field with `#[serde(flatten)]`"]);
    refused(of_values::<(u8, Vec<Untagged>)>(), &["`#[serde(untagged)]`"]);
    refused(of_values::<Option<Tagged>>(), &["the enum Tagged has `#[serde(tag)]`"]);
    refused(
        of_values::<BTreeMap<u8, Adjacent>>(),
        &["the enum Adjacent has `#[serde(tag, content)]`"],
    );
    refused(of_values::<serde_json::Value>(), &["any valid JSON value"]);
    refused(of_values::<Result<u8, serde_json::Number>>(), &["a JSON number"]);
    for found in [of_values::<Named>(), of_values::<WriteOnly>(), of_values::<ReadOnly>()] {
        refused(found, &["bytes that are not read", "skip_serializing"]);
    }
    refused(
        of_values::<Gap>(),
        &["\"Third\" would be read as \"Fourth\"", "`#[serde(skip)]` on a variant"],
    );
    refused(
        of_values::<Scaled>(),
        &["{\"ms\":1000} would be read as {\"ms\":1000000}", "`deserialize_with`"],
    );
    // Only a value shows it, and there may be no such value.
    assert_eq!(of_values::<Quiet>(), None);
    let why = Values::default()
        .encode(&Quiet { note: String::new() }, &mut Vec::new())
        .expect_err("it is refused");
    assert!(why.to_string().contains("the field \"note\" of Quiet is left out"), "{why}");
    Values::default().encode(&Quiet { note: "n".into() }, &mut Vec::new()).expect("it comes back");
    #[derive(Serialize, Deserialize)]
    struct Deep {
        row: Vec<(u8, Inner)>,
    }
    #[derive(Serialize, Deserialize)]
    enum Inner {
        Empty,
        Full { value: serde_json::Value },
    }
    refused(of_values::<Deep>(), &["its field \"value\""]);
    for found in [
        of_values::<Harmless>(),
        of_values::<Sparse>(),
        of_values::<Mail>(),
        of_values::<FromText>(),
    ] {
        assert_eq!(found, None);
    }
}

#[test]
fn keys_may_not_hold_maps_and_else_what_values_may() {
    assert_eq!(of_keys::<(IpAddr, std::net::SocketAddr, Vec<Option<i128>>)>(), None);
    let found = of_keys::<Vec<BTreeMap<u8, u8>>>().expect("a map has no order");
    assert!(found.contains("a map"), "{found}");
}

/// Encodes these one after the other, and gives the first error.
fn first_error<V: Serialize + DeserializeOwned>(
    values: impl IntoIterator<Item = V>,
) -> Option<(usize, Error)> {
    let (mut encoding, mut bytes) = (Values::default(), vec![7]);
    values.into_iter().enumerate().find_map(|(index, value)| {
        bytes.truncate(1);
        encoding.encode(&value, &mut bytes).err().map(|error| (index, error))
    })
}

#[test]
fn a_value_that_leaves_a_field_out_is_refused() {
    let (index, error) = first_error([Some(1), None].map(|note| Sparse { note, n: 3 }))
        .expect("the second is refused");
    assert_eq!((index, error.kind()), (1, Kind::UserCode));
    let error = error.to_string();
    for part in ["the field \"note\" of Sparse", "skip_serializing_if", "of type Sparse"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
}

#[test]
fn the_first_value_is_read_back() {
    let (index, error) = first_error([FromText { n: 7 }]).expect("it is refused");
    assert_eq!((index, error.kind()), (0, Kind::UserCode));
    assert!(
        error.to_string().contains("{\"n\":7} is written as bytes that are not read"),
        "{error}"
    );
}

#[test]
fn each_alternative_is_read_back_when_it_comes_first() {
    // Behind the mail nothing is seen when the topology is built.
    type Row = (Mail, Option<Vec<Gap>>);
    assert_eq!(of_values::<Row>(), None);
    let row = |gaps: Option<Vec<Gap>>| (Mail("a@b".into()), gaps);
    let rows = [
        row(None),
        row(Some(vec![])),
        row(Some(vec![Gap::First])),
        row(Some(vec![Gap::First, Gap::Third])),
    ];
    let (index, error) = first_error(rows).expect("the last is refused");
    assert_eq!((index, error.kind()), (3, Kind::UserCode));
    assert!(error.to_string().contains("[\"First\",\"Third\"]] would be read as"), "{error}");
}

#[test]
fn one_in_a_thousand_is_read_back() {
    #[derive(Serialize, Deserialize)]
    struct Row(Mail, Scaled);
    let rows = (0..3000).map(|n| Row(Mail("a@b".into()), Scaled { ms: u64::from(n >= 1500) }));
    assert_eq!(first_error(rows).expect("one is refused").0, 2000);
}

#[test]
fn a_hash_map_that_lists_its_entries_in_another_order_is_the_same() {
    let map = |n: u32| (n..n + 100).map(|n| (n, n.to_string())).collect::<HashMap<u32, String>>();
    assert!(first_error((0..100).map(map)).is_none());
}

#[test]
fn parts_that_change_places_are_not_the_same() {
    #[derive(Deserialize)]
    struct Swapped {
        a: u64,
        b: u64,
    }
    impl Serialize for Swapped {
        fn serialize<S: Serializer>(&self, into: S) -> std::result::Result<S::Ok, S::Error> {
            (self.b, self.a).serialize(into)
        }
    }
    let (index, error) = first_error([Swapped { a: 1, b: 2 }]).expect("it is refused");
    assert_eq!((index, error.kind()), (0, Kind::UserCode));
    assert!(error.to_string().contains("[2,1] would be read as [1,2]"), "{error}");
}

#[test]
fn the_levels_of_a_type_that_contains_itself_are_one_place_from_some_level_on() {
    #[derive(Serialize)]
    struct List(Option<Box<List>>);
    let list = |levels: u32| (0..levels).fold(List(None), |list, _| List(Some(Box::new(list))));
    let taken = Alternatives::default();
    let is_new = |levels| {
        tidemill_codec::encode_noting(&list(levels), &taken, &mut Vec::new())
            .expect("it is not too deep");
        taken.take_new()
    };
    assert!(is_new(3) && is_new(4) && is_new(20));
    assert!(!is_new(60) && !is_new(100));
}

#[test]
fn a_key_that_comes_back_as_another_is_refused() {
    #[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
    struct Page {
        title: String,
        #[serde(skip)]
        reads: u64,
    }
    let error = Keys::default()
        .encode(&Page { title: "tide".into(), reads: 1 }, &mut Vec::new())
        .expect_err("it is refused");
    assert_eq!(error.kind(), Kind::UserCode);
    assert!(error.to_string().contains("#[serde(skip)]"), "{error}");
    assert!(Keys::default().encode(&IpAddr::from([10, 0, 0, 1]), &mut Vec::new()).is_ok());
}

#[test]
fn code_that_panics_at_what_it_reads_is_an_error() {
    #[derive(Serialize)]
    struct Strict(u8);
    impl<'de> Deserialize<'de> for Strict {
        fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Strict, D::Error> {
            let n = u8::deserialize(from)?;
            assert!(n < 9, "too much");
            Ok(Strict(n))
        }
    }
    assert_eq!(of_values::<Strict>(), None);
    let error = first_error([Strict(9)]).expect("it is refused").1.to_string();
    assert!(error.contains("panicked"), "{error}");
}
