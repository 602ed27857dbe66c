//! The alternatives that values of a type have taken, and the places in a type at which they are.

use std::cell::Cell;

/// The alternatives that values of one type have taken: the variants of its enums, options with and
/// without a value, empty and other sequences, each at its place in the type.
///
/// It notes which of them are new, so that the first value with each can be looked at closely. Two
/// alternatives may share a bit: then the second is not noted as new.
#[derive(Clone, Debug)]
pub struct Alternatives {
    bits: Box<[Cell<u64>]>,
    new: Cell<bool>,
    refused: Cell<bool>,
    many: Cell<bool>,
}

/// The number of bits of [`Alternatives`], as a power of two.
const BITS: u32 = 13;

impl Default for Alternatives {
    fn default() -> Self {
        let words = 1 << (BITS - u64::BITS.ilog2());
        let [new, refused, many] = [(); 3].map(|()| Cell::new(false));
        Alternatives { bits: vec![Cell::new(0); words].into(), new, refused, many }
    }
}

impl Alternatives {
    /// Returns whether a new alternative was taken since the last call.
    pub fn take_new(&self) -> bool {
        self.new.take()
    }

    /// Returns whether [`Exact`](super::Exact) itself has refused a value for its type, and not the
    /// serializer or the type itself. A field that is left out of one value does not count.
    #[must_use]
    pub fn has_refused(&self) -> bool {
        self.refused.get()
    }

    /// Returns whether a value had a map, set or sequence with more than one entry, bytes or a
    /// text: the entries of a hash map come in another order when it was read back.
    #[must_use]
    pub fn holds_many(&self) -> bool {
        self.many.get()
    }

    pub(super) fn note_refusal(&self) {
        self.refused.set(true);
    }

    #[inline]
    pub(super) fn note_many(&self) {
        self.many.set(true);
    }

    pub(super) fn note(&self, at: Place) {
        let bit = at.0 >> (u64::BITS - BITS);
        let word = &self.bits[usize::try_from(bit >> 6).expect("a few bits are a usize")];
        let mask = 1 << (bit & 63);
        if word.get() & mask == 0 {
            word.set(word.get() | mask);
            self.new.set(true);
        }
    }
}

/// A place in a type, hashed: the steps from its outermost part to there, so many of them.
///
/// From [`MOST_STEPS`] on all parts have the place of the one that they are in: the levels of a
/// type that contains itself would else take all bits of [`Alternatives`].
#[derive(Clone, Copy)]
pub(super) struct Place(u64, u8);

/// The number of levels of a type whose places are told apart.
const MOST_STEPS: u8 = 16;

impl Place {
    pub(super) const OUTERMOST: Place = Place(0, 0);

    /// The place of a part. What is not used is not computed.
    #[inline]
    pub(super) fn within(self, part: u64) -> Place {
        if self.1 < MOST_STEPS { Place(self.mixed(part), self.1 + 1) } else { self }
    }

    /// The place of an alternative here.
    #[inline]
    pub(super) fn alternative(self, number: u64) -> Place {
        Place(self.mixed(number), self.1)
    }

    #[inline]
    fn mixed(self, step: u64) -> u64 {
        (self.0.rotate_left(29) ^ (step + 1)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}
