//! The approximate number of different records.

use crate::aggregates::Combiner;
use datasketches::hll::{HllSketch, HllType, HllUnion};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tidemill_state::keys::{self, Key};

/// Counts different records, about, in a few KiB however many there are: a HyperLogLog sketch
/// (Flajolet and others, 2007) of 4,096 registers, by Apache DataSketches, in whose format it is
/// kept.
///
/// The standard error is 1.6 % (1.04 / √4096, and less for few: up to a hundred or so it is exact).
/// Records count as the same if their keys are encoded equally.
#[derive(Clone, Copy, Debug)]
pub struct DistinctCount;

/// Log₂ of the number of registers.
const LG_K: u8 = 12;

/// A sketch of the different records that it has seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Distinct(HllSketch);

impl Default for Distinct {
    fn default() -> Self {
        Distinct(HllSketch::new(LG_K, HllType::Hll8).expect("4,096 registers are allowed"))
    }
}

impl Distinct {
    /// Returns the number of different records that there were, about.
    #[must_use]
    pub fn estimate(&self) -> u64 {
        self.0.estimate().round() as u64
    }

    fn see<T: Key>(&mut self, record: &T) {
        let mut encoded = Vec::new();
        keys::encode_key(record, &mut encoded).unwrap_or_else(|why| panic!("{why}"));
        // A hash that is documented as stable: a sketch is continued after a restart, by another
        // version, on another machine.
        self.0.update(keys::hash_key(&encoded).to_le());
    }
}

impl Serialize for Distinct {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize().serialize(to)
    }
}

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let bytes = Vec::<u8>::deserialize(from)?;
        HllSketch::deserialize(&bytes).map(Distinct).map_err(serde::de::Error::custom)
    }
}

impl<T: Key> Combiner<T> for DistinctCount {
    type Value = Distinct;

    fn init(&self, record: &T) -> Distinct {
        let mut sketch = Distinct::default();
        sketch.see(record);
        sketch
    }

    fn combine(&self, into: &mut Distinct, other: Distinct) {
        let mut union = HllUnion::new(LG_K).expect("4,096 registers are allowed");
        union.update(&into.0);
        union.update(&other.0);
        into.0 = union.to_sketch(HllType::Hll8);
    }

    fn add(&self, into: &mut Distinct, record: &T) {
        into.see(record);
    }

    fn zero(&self) -> Option<Distinct> {
        Some(Distinct::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_state::codec;

    fn of(records: impl Iterator<Item = u64>) -> Distinct {
        records.fold(Distinct::default(), |mut sketch, record| {
            DistinctCount.add(&mut sketch, &record);
            sketch
        })
    }

    fn combine(into: &mut Distinct, other: Distinct) {
        Combiner::<u64>::combine(&DistinctCount, into, other);
    }

    #[test]
    fn the_estimate_is_near_however_it_was_combined() {
        let mut halves = of(0..60_000);
        combine(&mut halves, of(40_000..100_000));
        for sketch in [halves, of((0..100_000).chain(0..1000))] {
            let error = sketch.estimate().abs_diff(100_000);
            assert!(error < 5_000, "three standard errors: {error}");
        }
        assert_eq!((of(0..100).estimate(), of(0..0).estimate()), (100, 0));
    }

    #[test]
    fn a_sketch_comes_back_from_the_disk_and_goes_on() {
        let mut bytes = Vec::new();
        codec::encode(&of(0..500), &mut bytes).expect("it encodes");
        let mut back: Distinct = codec::decode(&bytes).expect("it decodes");
        combine(&mut back, of(250..750));
        assert!(back.estimate().abs_diff(750) < 40, "{}", back.estimate());
        assert!(codec::decode::<Distinct>(&bytes[..bytes.len() - 1]).is_err());
    }

    /// On users' disks: the hash and the sketch's format. This test must never be changed to pass.
    #[test]
    fn the_sketch_on_disk_is_fixed() {
        assert_eq!(
            of(0..2).0.serialize(),
            [2, 1, 7, 12, 3, 8, 2, 8, 105, 139, 45, 5, 54, 251, 141, 14]
        );
    }

    #[test]
    fn a_sketch_of_any_size_is_written_as_it_was_read() {
        for size in [0, 1, 2, 7, 8, 9, 100, 300, 1000, 3000, 10_000, 200_000] {
            let mut combined = of(0..size / 2);
            combine(&mut combined, of(size / 3..size));
            for sketch in [of(0..size), combined] {
                let mut bytes = Vec::new();
                codec::encode(&sketch, &mut bytes).expect("it encodes");
                tidemill_state::round_trip::value_comes_back(&sketch, &bytes)
                    .unwrap_or_else(|why| panic!("{size}: {why}"));
            }
        }
    }
}
