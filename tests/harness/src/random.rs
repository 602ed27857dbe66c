//! What a seed fixes for good: numbers, and the lines that are made of them.

use std::time::{SystemTime, UNIX_EPOCH};

/// A sequence of numbers that a seed fixes for good (splitmix64).
pub struct Random(u64);

impl Random {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// Another one each time.
    pub fn of_the_clock() -> Random {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("1970 is over");
        Random(u64::from(now.subsec_nanos()) << 32 ^ now.as_secs())
    }

    /// Returns the next number.
    #[allow(clippy::should_implement_trait, reason = "it never ends, and gives no Option")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number of this range.
    pub fn within(&mut self, range: std::ops::Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// One of these.
    pub fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        let at = self.within(0..of.len() as u64);
        of[usize::try_from(at).expect("an index came from a length")]
    }
}

/// A line that is like no other: the name of what it is in and its number, then words, of which a
/// few are frequent and most are rare.
pub fn line(name: &str, number: u64, random: &mut Random) -> String {
    let mut line = format!("{name}-{number}");
    for _ in 0..random.within(1..9) {
        let bound = 1 << random.within(1..10);
        let word = match random.within(0..bound) {
            0 => "tide".to_string(),
            1 => "mühle".to_string(),
            rank => format!("w{rank}"),
        };
        line = line + " " + &word;
    }
    line + "\n"
}
