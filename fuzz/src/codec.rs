//! Target: values of the store and of requests. A value that is decoded is encoded again, to no
//! more bytes, which decode to the same value.

use crate::{Seed, chosen, is_explained};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use tidemill_state::codec::{decode, decode_from_outside, encode};
use tidemill_state::{Incarnation, Position, Txid};

/// A type with all kinds of variants, which contains itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Named { name: String, weight: Option<f64> },
    Not(Box<Tree>),
    All(Vec<Tree>),
    Two(Box<Tree>, (u8, i128)),
}

/// The types that the first byte chooses from. The last one may nest: it is read as from outside.
const TYPES: [fn(&[u8]); 9] = [
    check::<u64>,
    check::<String>,
    check::<(i128, char, bool, f32)>,
    check::<Vec<(u64, Option<String>)>>,
    check::<BTreeMap<String, Vec<u8>>>,
    check::<Result<BTreeSet<i16>, [u32; 3]>>,
    check::<Position>,
    check::<(Txid, Incarnation, ())>,
    check_from_outside::<Tree>,
];

/// Runs the target: the first byte chooses a type.
pub fn run(input: &[u8]) {
    if let Some((choice, bytes)) = input.split_first() {
        TYPES[usize::from(*choice) % TYPES.len()](bytes);
    }
}

fn check<T: Serialize + DeserializeOwned + Debug>(bytes: &[u8]) {
    let (plain, outside) = (decode::<T>(bytes), decode_from_outside::<T>(bytes));
    assert_eq!(plain.is_ok(), outside.is_ok(), "none of these types nests deeply");
    if let Some(value) = is_explained(plain) {
        comes_back(bytes, &value, decode::<T>);
    }
    check_from_outside::<T>(bytes);
}

fn check_from_outside<T: Serialize + DeserializeOwned + Debug>(bytes: &[u8]) {
    if let Some(value) = is_explained(decode_from_outside::<T>(bytes)) {
        comes_back(bytes, &value, decode_from_outside::<T>);
    }
}

/// Compares encodings: a NaN is not equal to itself.
fn comes_back<T: Serialize + Debug>(
    bytes: &[u8],
    value: &T,
    decode: fn(&[u8]) -> tidemill_state::Result<T>,
) {
    let encoded = encoded(value);
    assert!(encoded.len() <= bytes.len(), "{value:?} takes more bytes than it was read from");
    let again = decode(&encoded).expect("an encoded value decodes");
    assert_eq!(self::encoded(&again), encoded, "{value:?} and {again:?}");
}

fn encoded<T: Serialize + Debug>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(value, &mut bytes).unwrap_or_else(|why| panic!("{value:?} was decoded: {why}"));
    bytes
}

/// Returns a value of each type, encoded.
pub fn seeds() -> Vec<Seed> {
    fn seed(choice: u8, value: &(impl Serialize + Debug)) -> Vec<u8> {
        chosen(choice, &encoded(value))
    }
    let leaf = Tree::Named { name: "tide".into(), weight: Some(0.5) };
    let tree = Tree::All(vec![Tree::Not(Box::new(leaf)), Tree::Two(Box::new(Tree::Leaf), (7, -1))]);
    let deep = (0..130).fold(Tree::Leaf, |tree, _| Tree::Not(Box::new(tree)));
    let texts = BTreeMap::from([("a".to_string(), vec![0_u8, 255]), ("ü".to_string(), vec![])]);
    vec![
        ("number", seed(0, &300_u64)),
        ("text", seed(1, &"the tide")),
        ("tuple", seed(2, &(i128::MIN, 'ü', true, 1.5_f32))),
        ("list", seed(3, &vec![(1_u64, None), (u64::MAX, Some("x"))])),
        ("map", seed(4, &texts)),
        ("result", seed(5, &Ok::<_, [u32; 3]>(BTreeSet::from([-1_i16, 256])))),
        ("position", seed(6, &Position { offset: 70_000, witness: vec![2, 9, 9] })),
        ("ids", seed(7, &(Txid(9), Incarnation { counter: 1, nonce: u64::MAX }, ()))),
        ("tree", seed(8, &tree)),
        ("too-deep", seed(8, &deep)),
        // A length that is not believed.
        ("long", vec![3, 1, 253, 255, 255, 255, 255, 255, 255, 255, 255]),
    ]
}
