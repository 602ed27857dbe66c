//! Target: JSON as the engine reads and writes it. What is read is written to a text that is read
//! as the same value; but for floating-point numbers everything is as `serde_json` alone has it.

use crate::input::ByteReader;
use crate::{Seed, chosen, is_explained};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Debug;
use tidemill_engine::json;

/// A type with all kinds of variants, which contains itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Measurement {
    None,
    One(f64),
    Two(f32, u128),
    Named { low: Option<f64>, all: Vec<Measurement> },
}

/// The types that the first byte chooses from, from 1 on.
const TYPES: [fn(&[u8]); 8] = [
    as_serde_json::<serde_json::Value>,
    as_serde_json::<(u64, Option<String>, bool)>,
    as_serde_json::<BTreeMap<i128, Vec<char>>>,
    as_serde_json::<Result<(), [u8; 2]>>,
    comes_back::<Measurement>,
    comes_back::<BTreeMap<String, Option<f64>>>,
    comes_back::<(f32, f64, Vec<f64>)>,
    text,
];

/// Runs the target: the first byte chooses between a number made of the rest, and a type that the
/// rest is the JSON of.
pub fn run(input: &[u8]) {
    match input.split_first() {
        None => {}
        Some((0, bytes)) => number(&mut ByteReader::new(bytes)),
        Some((choice, bytes)) => TYPES[usize::from(choice - 1) % TYPES.len()](bytes),
    }
}

/// Any number comes back, bit by bit; all NaNs are one.
fn number(input: &mut ByteReader<'_>) {
    let bits = input.number();
    let (double, single) = (f64::from_bits(bits), f32::from_bits(bits as u32));
    let text = json::to_string(&(double, single)).expect("numbers are JSON");
    let back: (f64, f32) = json::from_str(&text).unwrap_or_else(|why| panic!("{text}: {why}"));
    assert!(back.0.to_bits() == bits || back.0.is_nan() && double.is_nan(), "{text}");
    let same = back.1.to_bits() == single.to_bits() || back.1.is_nan() && single.is_nan();
    assert!(same, "{text}");
    let wide = u128::from(bits) << 64 | u128::from(input.number());
    let text = json::to_string(&wide).expect("numbers are JSON");
    assert_eq!(text, wide.to_string());
    assert_eq!(json::from_str::<u128>(&text).expect("it was written so"), wide);
}

fn comes_back<T: Serialize + DeserializeOwned + Debug>(bytes: &[u8]) {
    let Some(value) = is_explained(json::from_slice::<T>(bytes)) else { return };
    let text = json::to_string(&value).unwrap_or_else(|why| panic!("{value:?}: {why}"));
    let again: T = json::from_str(&text).unwrap_or_else(|why| panic!("{text}: {why}"));
    // A NaN is not equal to itself, but its text is.
    assert_eq!(json::to_string(&again).expect("it was JSON before"), text);
}

fn as_serde_json<T: Serialize + DeserializeOwned + Debug + PartialEq>(bytes: &[u8]) {
    let ours = json::from_slice::<T>(bytes).map_err(|why| why.to_string());
    let theirs = serde_json::from_slice::<T>(bytes).map_err(|why| why.to_string());
    assert_eq!(ours, theirs);
    comes_back::<T>(bytes);
}

/// A text as a person writes it is itself.
fn text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    assert_eq!(json::from_text::<String>(text).expect("every text is one"), text);
    if let (Ok(plain), Ok(read)) = (text.parse::<u64>(), json::from_text::<u64>(text)) {
        assert_eq!(plain, read);
    }
    is_explained(json::from_text::<f64>(text));
}

/// Returns JSON of each type, and numbers of all kinds.
pub fn seeds() -> Vec<Seed> {
    let number = |bits: u64| chosen(0, &bits.to_le_bytes());
    let reading = Measurement::Named {
        low: Some(f64::NEG_INFINITY),
        all: vec![
            Measurement::None,
            Measurement::One(0.1),
            Measurement::Two(7.038531e-26, u128::MAX),
        ],
    };
    let written = |choice: u8, value: &dyn Fn() -> serde_json::Result<String>| {
        chosen(choice, value().expect("it is JSON").as_bytes())
    };
    vec![
        ("nan", number(f64::NAN.to_bits())),
        ("least", number(1)),
        ("anything", chosen(1, br#"{"a": [1, -2.5e3, "\u00fc\n", null, true, {"b": {}}]}"#)),
        ("tuple", chosen(2, br#"[18446744073709551615, "tide", false]"#)),
        ("map", chosen(3, br#"{"-170141183460469231731687303715884105728": ["a"]}"#)),
        ("result", chosen(4, br#"{"Err": [1, 255]}"#)),
        ("reading", written(5, &|| json::to_string(&reading))),
        ("levels", chosen(6, br#"{"NaN": "Infinity", "": null}"#)),
        ("floats", chosen(7, br#"["-Infinity", 1e308, [-0.0, "NaN"]]"#)),
        ("text", chosen(8, b"12")),
        ("deep", chosen(5, br#"{"Named":{"low":null,"all":["#.repeat(70).as_slice())),
    ]
}
