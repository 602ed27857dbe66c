//! The lines that the benchmarks count: 8 words each, of 100,000 distinct ones.

use tidemill::prelude::Str;

/// How many words a line has.
pub(crate) const WORDS_PER_LINE: usize = 8;

const DISTINCT: f64 = 100_000.0;

/// Words drawn so that each of the ranks 1-10, 10-100, … is as likely: as in a natural text, few
/// are frequent and most are rare.
pub(crate) fn make_lines(count: usize) -> Vec<Str> {
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut uniform = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut line = String::new();
    let mut lines = Vec::with_capacity(count);
    for _ in 0..count {
        line.clear();
        for word in 0..WORDS_PER_LINE {
            if word > 0 {
                line.push(' ');
            }
            push_word(&mut line, DISTINCT.powf(uniform()) as u64);
        }
        lines.push(Str::from(&line));
    }
    lines
}

/// The word of a rank: three to nine letters, more for rarer words.
fn push_word(line: &mut String, rank: u64) {
    let mut left = rank.wrapping_mul(2_654_435_761) % 300_000_007;
    let letters = 3 + (rank.ilog2() as usize) / 3;
    for _ in 0..letters {
        line.push(char::from(b'a' + (left % 26) as u8));
        left = left / 26 + rank;
    }
}
