//! Random input: noise, and entries of a corpus with changes.

use tidemill_harness::random::Random;

/// The most bytes of an input.
const MOST_BYTES: usize = 4 << 10;

/// Bytes and numbers at which encodings branch.
const EDGES: [u8; 12] = [0, 1, 2, 9, 0x7f, 0x80, 250, 251, 252, 253, 254, 255];
const WIDE_EDGES: [u64; 6] = [0, 0xff, 1 << 31, 1 << 32, 1 << 63, u64::MAX];

/// Makes input of a corpus.
pub(crate) struct Mutator<'c> {
    corpus: &'c [Vec<u8>],
}

impl<'c> Mutator<'c> {
    pub(crate) fn new(corpus: &'c [Vec<u8>]) -> Mutator<'c> {
        Mutator { corpus }
    }

    /// The input of a seed.
    pub(crate) fn input(&self, random: &mut Random) -> Vec<u8> {
        if self.corpus.is_empty() || random.within(0..8) == 0 {
            return noise(random, 256);
        }
        let mut bytes = self.entry(random).to_vec();
        for _ in 0..1 << random.within(0..5) {
            self.change(&mut bytes, random);
            bytes.truncate(MOST_BYTES);
        }
        bytes
    }

    fn entry(&self, random: &mut Random) -> &'c [u8] {
        &self.corpus[below(self.corpus.len(), random)]
    }

    fn change(&self, bytes: &mut Vec<u8>, random: &mut Random) {
        let at = below(bytes.len() + 1, random);
        let end = at + below(bytes.len() - at + 1, random).min(64);
        match random.within(0..10) {
            0 => change_byte(bytes, at, |byte| byte ^ 1 << random.within(0..8)),
            1 => change_byte(bytes, at, |_| random.one_of(&EDGES)),
            2 => change_byte(bytes, at, |byte| byte.wrapping_add(1)),
            3 => change_byte(bytes, at, |_| random.next().to_le_bytes()[0]),
            4 => bytes.truncate(at),
            5 => drop(bytes.drain(at..end)),
            6 => {
                let twice = bytes[at..end].to_vec();
                bytes.splice(at..at, twice);
            }
            7 => {
                let number = random.one_of(&WIDE_EDGES);
                let number = if random.next() & 1 == 0 {
                    number.to_le_bytes()
                } else {
                    number.to_be_bytes()
                };
                let width = 1 << random.within(0..4);
                bytes.splice(at..end.min(at + width), number[..width].iter().copied());
            }
            8 => {
                let inserted = noise(random, 16);
                bytes.splice(at..at, inserted);
            }
            _ => {
                let other = self.entry(random);
                let from = below(other.len() + 1, random);
                bytes.splice(at..end, other[from..].iter().copied());
            }
        }
    }
}

fn change_byte(bytes: &mut [u8], at: usize, change: impl FnOnce(u8) -> u8) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte = change(*byte);
    }
}

fn noise(random: &mut Random, most: usize) -> Vec<u8> {
    let length = below(below(most, random) + 1, random);
    (0..length).map(|_| random.next().to_le_bytes()[0]).collect()
}

fn below(bound: usize, random: &mut Random) -> usize {
    usize::try_from(random.within(0..bound as u64)).expect("it is below a usize")
}
