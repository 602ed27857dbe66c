//! Target: keys. The encodings of two keys have the order of the keys, each is read back, and
//! damaged ones are errors.

use crate::input::ByteReader;
use crate::{Seed, chosen, is_explained};
use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use tidemill_state::keys::{Key, decode_key, encode_key, group_of, hash_key, text_prefix};

/// A key with all kinds of parts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
enum Pier {
    Nowhere,
    Port(u16),
    Route(Vec<String>),
    Berth { harbour: String, number: Option<i64>, tags: (bool, char) },
}

impl Pier {
    fn from(input: &mut ByteReader<'_>) -> Pier {
        match input.below(4) {
            0 => Pier::Nowhere,
            1 => Pier::Port(u16::from_le_bytes([input.byte(), input.byte()])),
            2 => Pier::Route((0..input.below(4)).map(|_| input.text()).collect()),
            _ => Pier::Berth {
                harbour: input.text(),
                number: input.flag().then(|| input.number().cast_signed()),
                tags: (input.flag(), char::from(input.byte())),
            },
        }
    }
}

/// Bytes that are decoded as a key of some type, and what must hold if they are one.
const TYPES: [fn(&[u8]); 8] = [
    decoded::<u64>,
    decoded::<i64>,
    decoded::<String>,
    decoded::<(u32, String, Option<i8>)>,
    decoded::<Vec<u8>>,
    decoded::<Pier>,
    decoded::<(bool, char, ())>,
    decoded::<std::net::IpAddr>,
];

/// Runs the target: the first byte chooses between two keys made of the rest, and bytes to decode
/// as a key of a type.
pub fn run(input: &[u8]) {
    let Some((choice, bytes)) = input.split_first() else { return };
    let mut input = ByteReader::new(bytes);
    match usize::from(*choice) {
        0 => compare(&Pier::from(&mut input), &Pier::from(&mut input)),
        1 => compare(&input.number().cast_signed(), &input.number().cast_signed()),
        2 => {
            let pair = |input: &mut ByteReader<'_>| (input.text(), u32::from(input.byte()));
            compare(&pair(&mut input), &pair(&mut input));
        }
        3 => prefix(&input.text(), &input.text()),
        4 => compare(&input.bytes().to_vec(), &input.bytes().to_vec()),
        choice => TYPES[choice % TYPES.len()](bytes),
    }
}

fn encoded<K: Serialize + Debug>(key: &K) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_key(key, &mut bytes).unwrap_or_else(|why| panic!("{key:?}: {why}"));
    bytes
}

fn compare<K: Key + Ord + Debug>(one: &K, other: &K) {
    let (one_bytes, other_bytes) = (encoded(one), encoded(other));
    assert_eq!(one.cmp(other), one_bytes.cmp(&other_bytes), "{one:?} and {other:?}");
    for (key, bytes) in [(one, &one_bytes), (other, &other_bytes)] {
        assert_eq!(&decode_key::<K>(bytes).expect("an encoded key decodes"), key);
        for groups in [1, 256, 300] {
            assert!(group_of(hash_key(bytes), groups).0 < groups);
        }
        if let Some((_, cut)) = bytes.split_last() {
            assert!(decode_key::<K>(cut).is_err(), "{key:?} without its last byte");
        }
    }
}

fn prefix(text: &str, prefix: &str) {
    let of = |text: &str| {
        let key = encoded(&text);
        key.starts_with(&text_prefix(prefix)) && key >= encoded(&prefix)
    };
    assert_eq!(of(text), text.starts_with(prefix), "{text:?} and {prefix:?}");
    assert!(of(&format!("{prefix}{text}")), "{prefix:?} before {text:?}");
}

fn decoded<K: Key + Debug>(bytes: &[u8]) {
    if let Some(key) = is_explained(decode_key::<K>(bytes)) {
        let again = encoded(&key);
        assert_eq!(decode_key::<K>(&again).expect("an encoded key decodes"), key);
        assert!(again.len() <= bytes.len(), "{key:?} takes more bytes than it was read from");
    }
}

/// Returns pairs of keys that differ late, and encoded keys.
pub fn seeds() -> Vec<Seed> {
    // Which choice decodes as the type at that place: beyond those that compare.
    let of_type = |at: u8| at + 8;
    vec![
        ("two-berths", chosen(0, b"\x03\x02ab\x01\x07\0\0\0\0\0\0\0\x01x\x03\x02ab\0\x01y")),
        ("two-routes", chosen(0, b"\x02\x02\x01a\x02bc\x02\x02\x02ab\x01c")),
        ("two-numbers", chosen(1, b"\xff\xff\xff\xff\xff\xff\xff\xff\x01\0\0\0\0\0\0\0")),
        ("two-pairs", chosen(2, b"\x08abcdefgh\x01\x09abcdefgh\0\x02")),
        ("prefix", chosen(3, b"\x0aabcdefghij\x09abcdefghi")),
        ("two-byte-strings", chosen(4, b"\x02\0\0\x03\0\0\0")),
        ("number", chosen(of_type(0), &encoded(&7_u64))),
        ("text", chosen(of_type(2), &encoded(&"the tide comes in"))),
        ("tuple", chosen(of_type(3), &encoded(&(7_u32, "tide", Some(-1_i8))))),
        (
            "place",
            chosen(of_type(5), &encoded(&Pier::Route(vec!["a".into(), "longer than 8".into()]))),
        ),
        ("address", chosen(of_type(7), &encoded(&std::net::IpAddr::from([10, 0, 0, 1])))),
    ]
}
