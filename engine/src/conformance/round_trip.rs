//! The suite for types of values and keys: whether they come back from their bytes, and equal.

use crate::record::Storable;
use std::fmt::Debug;
use tidemill_state::keys::{self, Key};
use tidemill_state::{codec, round_trip, type_names};

/// Checks that values of this type survive a restart: that each sample is read back from its bytes,
/// and equal.
///
/// A run checks the same as far as it can without `PartialEq`: a field with `#[serde(skip)]` is
/// found only here. Give samples with every variant, with and without each option, and with no
/// field at its default.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tidemill_engine::conformance;
///
/// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
/// struct Total {
///     sum: u64,
///     last: Option<String>,
/// }
///
/// conformance::value(&[Total { sum: 3, last: None }, Total { sum: 7, last: Some("tide".into()) }]);
/// ```
///
/// # Panics
/// If a sample does not come back, with the sample and what came back.
pub fn value<V: Storable + PartialEq + Debug>(samples: &[V]) {
    if let Some(why) = round_trip::of_values::<V>() {
        panic!("values of type {} could not be read back: {why}", type_names::of::<V>());
    }
    for sample in samples {
        let mut bytes = Vec::new();
        codec::encode(sample, &mut bytes).unwrap_or_else(|why| panic!("{sample:?}: {why}"));
        let back = codec::decode::<V>(&bytes)
            .unwrap_or_else(|why| panic!("{sample:?} is not read back: {why}"));
        #[allow(clippy::eq_op, reason = "what holds a NaN is not equal to itself")]
        let is_comparable = sample == sample;
        assert!(!is_comparable || back == *sample, "{sample:?} is read back as {back:?}");
        round_trip::value_comes_back(sample, &bytes).unwrap_or_else(|why| panic!("{why}"));
    }
}

/// Checks clauses 1 and 2 of [`Key`]'s contract on these samples: that each is read back, and that
/// they encode equally if they are equal, and differently if they differ.
///
/// ```
/// use std::net::IpAddr;
/// use tidemill_engine::conformance;
///
/// conformance::key(&[(IpAddr::from([10, 0, 0, 1]), 80), (IpAddr::from([10, 0, 0, 1]), 443)]);
/// ```
///
/// # Panics
/// When a clause is broken, with the samples.
pub fn key<K: Key + Debug>(samples: &[K]) {
    if let Some(why) = round_trip::of_keys::<K>() {
        panic!("keys of type {} could not be read back: {why}", type_names::of::<K>());
    }
    let encoded: Vec<Vec<u8>> = samples.iter().map(encoded).collect();
    for (sample, bytes) in samples.iter().zip(&encoded) {
        let back = keys::decode_key::<K>(bytes)
            .unwrap_or_else(|why| panic!("clause 2: {sample:?} is not read back: {why}"));
        assert!(back == *sample, "clause 2: {sample:?} is read back as {back:?}");
        round_trip::key_comes_back(sample, bytes).unwrap_or_else(|why| panic!("clause 2: {why}"));
        for (other, other_bytes) in samples.iter().zip(&encoded) {
            let (equal, alike) = (sample == other, bytes == other_bytes);
            assert!(
                equal || !alike,
                "clause 1: {sample:?} and {other:?} differ, and encode equally"
            );
            assert!(
                !equal || alike,
                "clause 1: {sample:?} and {other:?} are equal, and encode differently"
            );
        }
    }
}

/// As [`key`], and that the keys' encodings are in the order of the keys: that of a scan.
///
/// ```
/// use tidemill_engine::conformance;
///
/// conformance::key_in_order(&[("b".to_string(), 1i64), ("a".to_string(), 2), ("a".to_string(), -3)]);
/// ```
///
/// # Panics
/// As [`key`]; or the order of two samples differs from that of their encodings.
pub fn key_in_order<K: Key + Ord + Debug>(samples: &[K]) {
    key(samples);
    for sample in samples {
        for other in samples {
            let (order, of_bytes) = (sample.cmp(other), encoded(sample).cmp(&encoded(other)));
            assert_eq!(
                order, of_bytes,
                "{sample:?} and {other:?} are ordered otherwise than their encodings"
            );
        }
    }
}

fn encoded<K: Key + Debug>(key: &K) -> Vec<u8> {
    let mut bytes = Vec::new();
    keys::encode_key(key, &mut bytes).unwrap_or_else(|why| panic!("{key:?}: {why}"));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};

    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    struct Page {
        title: String,
        #[serde(skip)]
        reads: u64,
    }

    fn page(reads: u64) -> Page {
        Page { title: "tide".into(), reads }
    }

    #[test]
    fn what_comes_back_passes() {
        value(&[page(0)]);
        value(&[f64::NAN, 0.5]);
        value(&[(0..100u64)
            .map(|n| (n, n.to_string()))
            .collect::<std::collections::HashMap<u64, String>>()]);
        key_in_order(&[None, Some((1u8, "a".to_string())), Some((1, "b".to_string()))]);
    }

    #[test]
    #[should_panic(expected = "is read back as Page { title: \"tide\", reads: 0 }")]
    fn a_value_whose_field_is_skipped_is_found() {
        value(&[page(7)]);
    }

    #[test]
    #[should_panic(expected = "clause 2: Page { title: \"tide\", reads: 7 } is read back as")]
    fn a_key_whose_field_is_skipped_is_found() {
        key(&[page(7)]);
    }

    #[test]
    #[should_panic(expected = "any valid JSON value")]
    fn a_type_that_cannot_be_read_back_is_found_without_a_sample() {
        value::<serde_json::Value>(&[]);
    }

    /// A number whose sign does not count.
    #[derive(Clone, Debug, Serialize, Deserialize)]
    struct Size(i64);

    impl PartialEq for Size {
        fn eq(&self, other: &Size) -> bool {
            self.0.abs() == other.0.abs()
        }
    }

    impl Eq for Size {}

    impl std::hash::Hash for Size {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            self.0.abs().hash(state);
        }
    }

    #[test]
    #[should_panic(expected = "clause 1: Size(3) and Size(-3) are equal, and encode differently")]
    fn keys_that_are_equal_and_encode_differently_are_found() {
        key(&[Size(3), Size(-3)]);
    }

    #[test]
    #[should_panic(expected = "are ordered otherwise than their encodings")]
    fn keys_in_another_order_are_found() {
        key_in_order(&[std::cmp::Reverse(1), std::cmp::Reverse(2)]);
    }
}
