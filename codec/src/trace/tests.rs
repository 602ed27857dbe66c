//! Traces of values as they are written and as they are read.

use super::*;
use crate::{decode_traced, encode, shape};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, LinkedList, VecDeque};
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroI128, NonZeroU8, Saturating, Wrapping};
use std::ops::Bound;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Span {
    from: u64,
    to: u64,
}

#[derive(Serialize, Deserialize)]
struct Swapped {
    to: u64,
    from: u64,
}

#[derive(Serialize, Deserialize)]
struct Generic<T> {
    inner: T,
    #[serde(rename = "named")]
    other: Option<T>,
    #[serde(default)]
    late: u8,
    #[serde(skip)]
    #[allow(dead_code)]
    left_out: u64,
}

#[derive(Serialize, Deserialize)]
struct Empty;

#[derive(Serialize, Deserialize)]
struct Newtype(Span);

#[derive(Serialize, Deserialize)]
struct Pair(u8, String);

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Transparent {
    inner: Span,
}

#[derive(Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
struct Checked(String);

impl From<Checked> for String {
    fn from(Checked(text): Checked) -> String {
        text
    }
}

impl Clone for Checked {
    fn clone(&self) -> Checked {
        Checked(self.0.clone())
    }
}

impl TryFrom<String> for Checked {
    type Error = String;

    fn try_from(text: String) -> Result<Checked, String> {
        if text.is_empty() { Err("it is empty".into()) } else { Ok(Checked(text)) }
    }
}

#[derive(Serialize, Deserialize)]
enum Shape {
    Unit,
    New(Span),
    Two(u8, Vec<Shape>),
    Fields { to: u64, from: u64 },
}

#[derive(Serialize, Deserialize)]
struct Aliased {
    #[serde(alias = "a", alias = "z")]
    from: u64,
    to: u64,
}

#[derive(Serialize, Deserialize)]
enum AliasedKind {
    #[serde(alias = "Old", alias = "A")]
    First,
    Second,
}

/// Encodes one value, and reads its bytes as another type: whether the traces fit, and the value.
fn read_as<T: Serialize + ?Sized, R: DeserializeOwned>(value: &T) -> Option<(R, bool)> {
    let (mut bytes, written) = (Vec::new(), of(value).expect("it is written"));
    encode(value, &mut bytes).expect("it is written");
    decode_traced::<R>(&bytes).ok().map(|(read, traced)| (read, traced.is_of(&written.trace)))
}

#[track_caller]
fn fits<R: DeserializeOwned>(value: &(impl Serialize + ?Sized)) {
    let (_, fits) = read_as::<_, R>(value).expect("it is read");
    assert!(fits, "{} is a {}", of(value).expect("written").text, shape::of::<R>());
}

#[track_caller]
fn same<T: Serialize + DeserializeOwned>(value: T) {
    fits::<T>(&value);
}

#[track_caller]
fn differs<R: DeserializeOwned>(value: &(impl Serialize + ?Sized)) {
    if let Some((_, fits)) = read_as::<_, R>(value) {
        assert!(!fits, "{} is no {}", of(value).expect("written").text, shape::of::<R>());
    }
}

#[test]
fn a_value_has_one_trace_when_it_is_written_and_when_it_is_read() {
    same((true, 'a', "text".to_string(), 1.5f32, -1.5f64, ()));
    same((1u8, 1u16, 1u32, 1u64, u128::MAX, 1usize));
    same((-1i8, -1i16, -1i32, -1i64, i128::MIN, -1isize));
    same((Some(Some(1u8)), Some(None::<u8>), None::<Option<u8>>));
    same(([1u8; 32], [0u64; 0], [Empty, Empty], PhantomData::<String>));
    same((vec![1u8, 2], Vec::<String>::new(), vec![vec![1i64], vec![]]));
    same(BTreeMap::from([(1, vec!["a".to_string()]), (2, vec![])]));
    same(HashMap::from([("a".to_string(), Some(1)), ("b".to_string(), None)]));
    same((
        BTreeSet::from([1, 2]),
        HashSet::from(['a']),
        VecDeque::from([1]),
        LinkedList::from([1]),
    ));
    same((BinaryHeap::from([1]), Reverse(1u8), Wrapping(1i16), Saturating(1u8)));
    same((NonZeroU8::MIN, NonZeroI128::MIN, 1..2u8, 1..=2u8, Bound::Included(1), ..3u64));
    same((Bound::<u8>::Unbounded, Ok::<u8, String>(1), Err::<u8, String>("no".into())));
    same((Duration::from_millis(1500), SystemTime::UNIX_EPOCH));
    let ip: IpAddr = "127.0.0.1".parse().expect("an address");
    let six: SocketAddr = "[::1]:80".parse().expect("an address");
    same((ip, six, PathBuf::from("a/b"), std::ffi::OsString::from("a"), c"a".to_owned()));
    same((
        Box::new(1u8),
        std::cell::Cell::new(2u8),
        Cow::<str>::Borrowed("a"),
        Box::<str>::from("b"),
    ));
    same((vec![1u8].into_boxed_slice(), std::sync::Mutex::new(1), Box::new([1u8])));
    same((Newtype(Span { from: 1, to: 2 }), Pair(1, "a".into()), Empty, Checked("a".into())));
    same(Generic { inner: 1u8, other: Some(2), late: 3, left_out: 4 });
    same(Generic {
        inner: Transparent { inner: Span { from: 1, to: 2 } },
        other: None,
        late: 3,
        left_out: 4,
    });
    let nested = Shape::Two(1, vec![Shape::Unit, Shape::New(Span { from: 1, to: 2 })]);
    same(vec![nested, Shape::Fields { to: 1, from: 2 }, Shape::Two(2, vec![])]);
    same(vec![Aliased { from: 1, to: 2 }, Aliased { from: 3, to: 4 }]);
}

#[test]
fn types_that_are_written_alike_fit() {
    fits::<String>("a text");
    fits::<Box<str>>(&'a'.to_string());
    fits::<Cow<'static, str>>(&format_args!("{}", 1));
    fits::<Vec<u64>>(&[1u64, 2][..]);
    fits::<BTreeSet<u64>>(&vec![2u64, 1]);
    fits::<HashMap<u8, String>>(&BTreeMap::from([(1u8, "a")]));
    fits::<Span>(&Newtype(Span { from: 1, to: 2 }));
    fits::<Newtype>(&Transparent { inner: Span { from: 1, to: 2 } });
    fits::<Option<u64>>(&None::<i32>);
    fits::<Vec<u64>>(&Vec::<String>::new());
    fits::<(u64, (String, ()))>(&(1usize, (&"a", ())));
    fits::<Checked>("a");
}

#[test]
fn types_that_only_have_the_same_bytes_do_not_fit() {
    // The bytes of most of these can be read as the other type.
    differs::<u64>(&3i32);
    differs::<i64>(&3u64);
    differs::<u64>(&3u32);
    differs::<u128>(&3u64);
    differs::<u8>(&true);
    differs::<String>(&vec![b'a']);
    differs::<Vec<u8>>("a");
    differs::<u64>(&(3u64, ()));
    differs::<Swapped>(&Span { from: 1, to: 2 });
    differs::<Span>(&(1u64, 2u64));
    differs::<Vec<Swapped>>(&vec![Span { from: 1, to: 2 }]);
    differs::<Option<Swapped>>(&Some(Span { from: 1, to: 2 }));
    differs::<Vec<(u8, u8)>>(&BTreeMap::from([(1u8, 2u8)]));
    differs::<(u8, u8)>(&[1u8, 2].to_vec());
    differs::<Vec<Vec<u8>>>(&[[1u8]]);
    #[derive(Serialize)]
    enum Other {
        New(Span),
        Unit,
    }
    differs::<Shape>(&Other::Unit);
    differs::<Shape>(&Other::New(Span { from: 1, to: 2 }));
    #[derive(Serialize)]
    enum Turned {
        _A,
        _B,
        _C,
        Fields { from: u64, to: u64 },
    }
    differs::<Shape>(&Turned::Fields { from: 1, to: 2 });
}

#[test]
fn a_field_with_several_names_is_known_by_its_kind() {
    #[derive(Serialize)]
    struct Kinds {
        from: u64,
        to: i64,
    }
    differs::<Aliased>(&Kinds { from: 1, to: 2 });
    fits::<Aliased>(&Span { from: 1, to: 2 });
    // That of variants is not seen when a value is read, but when the type is looked at.
    assert!(shape::has_variant_aliases::<Vec<AliasedKind>>());
    assert!(!shape::has_variant_aliases::<Vec<Shape>>());
    let (read, _) = read_as::<_, AliasedKind>(&AliasedKind::Second).expect("it is read");
    assert!(matches!(read, AliasedKind::Second));
    let written = of(&AliasedKind::First).expect("it is written").trace;
    let mut bytes = Vec::new();
    encode(&AliasedKind::First, &mut bytes).expect("it is written");
    let (_, traced) = decode_traced::<AliasedKind>(&bytes).expect("it is read");
    assert!(traced.is_of_kinds(&written));
}

#[test]
fn the_numbers_are_those_of_every_version() {
    let span = of(&Span { from: 1, to: 2 }).expect("it is written").trace;
    // FNV-1a of the kinds 23, 10, 10, 25 and of "from\xffto\xff".
    let fnv = |bytes: &[u8]| {
        bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
    };
    assert_eq!(span, Trace { kinds: fnv(&[23, 10, 10, 25]), names: fnv(b"from\xffto\xff") });
    assert_eq!(fnv(b"a"), 0xaf63_dc4c_8601_ec8c, "a test vector of FNV-1a");
}

#[test]
fn a_value_is_described_as_its_type_is() {
    #[track_caller]
    fn check(value: &(impl Serialize + ?Sized), expected: &str) {
        assert_eq!(of(value).expect("it is written").text, expected);
    }
    check(&3, "i32");
    check("a", "text");
    check(&vec![Span { from: 1, to: 2 }, Span { from: 3, to: 4 }], "[{from: u64, to: u64}]");
    check(&BTreeMap::from([(1u8, Some("a")), (2, None)]), "map of u8 to option text");
    check(&(Vec::<u8>::new(), None::<u8>), "([], option)");
    check(&Shape::Two(1, vec![Shape::Unit]), "one of Two: (u8, [one of Unit: ()])");
    let long = of(&std::array::from_fn::<_, 32, _>(|_| [1u128; 32])).expect("it is written");
    assert!(long.text.len() <= LONGEST + '…'.len_utf8() && long.text.ends_with('…'), "{long:?}");
}
