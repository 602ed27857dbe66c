//! The bytes of a key, with zeros behind their end: `memcomparable` panics where bytes are missing.

use bytes::Buf;
use std::cell::Cell;

/// The bytes that are left, and whether more were read.
pub(super) struct Padded<'a> {
    rest: &'a [u8],
    cut_off: &'a Cell<bool>,
}

impl<'a> Padded<'a> {
    pub(super) fn new(rest: &'a [u8], cut_off: &'a Cell<bool>) -> Padded<'a> {
        Padded { rest, cut_off }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl Buf for Padded<'_> {
    fn remaining(&self) -> usize {
        usize::MAX
    }

    fn chunk(&self) -> &[u8] {
        // A zero ends every sequence and every text.
        if self.rest.is_empty() { &[0; 16] } else { self.rest }
    }

    fn advance(&mut self, count: usize) {
        if count > self.rest.len() {
            self.cut_off.set(true);
        }
        self.rest = &self.rest[count.min(self.rest.len())..];
    }
}
