//! Weights: how a request knows that everything that became of it has come home.
//!
//! Mattern's credit distribution ("Global quiescence detection based on credit distribution and
//! recovery", 1989): a request begins with a weight; whatever becomes of it carries a share; when
//! the shares that have come home add up to the whole again, nothing is under way any more. Storm's
//! ackers do the same with random numbers and a message for each record; a weight travels with the
//! record itself.

use serde::{Deserialize, Serialize};

/// A share of a request's weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Weight(u128);

/// By how much of what it has a slice of an operator that does not know how many there will be may
/// give: 1 / 2^24.
const SLICES: u32 = 24;

impl Weight {
    /// The weight of a request when it enters.
    pub(crate) const ENTRY: Weight = Weight(1 << 100);

    /// Returns the weights of `among` records that share this weight: that of the first, and that
    /// of each other. `None` if there is not enough to share.
    pub(crate) fn shared(self, among: usize) -> Option<(Weight, Weight)> {
        let among = among as u128;
        let each = self.0.checked_div(among)?;
        (each > 0).then_some((Weight(each + self.0 % among), Weight(each)))
    }

    /// Returns the part of this weight that one slice may give away. `None` if there is not enough.
    pub(crate) fn of_a_slice(self) -> Option<Weight> {
        let slice = self.0 >> SLICES;
        (slice > 0).then_some(Weight(slice))
    }

    /// The sum.
    ///
    /// # Panics
    /// If it does not fit: a query with more than 2^27 merges, one in the other.
    pub(crate) fn plus(self, other: Weight) -> Weight {
        Weight(self.0.checked_add(other.0).expect("the weights of a query fit into 128 bits"))
    }

    /// Returns the rest of this weight without `other`. `None` if `other` is more than this weight,
    /// or nothing is left.
    pub(crate) fn minus(self, other: Weight) -> Option<Weight> {
        self.0.checked_sub(other.0).filter(|left| *left > 0).map(Weight)
    }
}

#[cfg(test)]
mod tests {
    use crate::request::weight::*;

    #[test]
    fn shares_add_up_to_the_whole() {
        for weight in [Weight::ENTRY, Weight(7), Weight(1_000_003)] {
            for among in [1, 2, 3, 5, 7] {
                let (first, each) = weight.shared(among).expect("there is enough");
                let sum = (1..among).fold(first, |sum, _| sum.plus(each));
                assert_eq!(sum, weight, "{weight:?} among {among}");
            }
        }
    }

    #[test]
    fn too_little_is_not_shared() {
        assert_eq!(Weight(4).shared(5), None);
        assert_eq!(Weight(4).shared(0), None);
        assert_eq!(Weight(1 << 23).of_a_slice(), None);
        assert_eq!(Weight(5).minus(Weight(5)), None);
        assert_eq!(Weight(5).minus(Weight(6)), None);
        assert_eq!(Weight(5).minus(Weight(2)), Some(Weight(3)));
    }
}
