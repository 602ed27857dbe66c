//! Input made from a seed: text files, plain and gzip, whose lines are all different.

use flate2::{Compression, write::GzEncoder};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A sequence of numbers that a seed fixes for good (splitmix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// Another one each time.
    pub(crate) fn of_the_clock() -> Random {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("1970 is over");
        Random(u64::from(now.subsec_nanos()) << 32 ^ now.as_secs())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number of this range.
    pub(crate) fn within(&mut self, range: std::ops::Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// One of these.
    pub(crate) fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        let at = self.within(0..of.len() as u64);
        of[usize::try_from(at).expect("an index came from a length")]
    }
}

/// One file: a partition of a source.
pub(crate) struct InputFile {
    /// The first part of each of its lines, before the number: `a` in `a-17 tide mill`.
    pub(crate) name: &'static str,
    pub(crate) path: PathBuf,
    /// What is in it, decompressed.
    pub(crate) text: String,
}

impl InputFile {
    /// The source that reads it.
    pub(crate) fn source(&self) -> &'static str {
        if PACKED.contains(&self.name) { "packed" } else { "plain" }
    }
}

/// The files of both sources.
pub(crate) struct Input {
    pub(crate) files: Vec<InputFile>,
}

/// The files of the source "plain" and of the source "packed".
const PLAIN: [&str; 3] = ["a", "b", "c"];
const PACKED: [&str; 2] = ["y", "z"];

impl Input {
    /// Writes the files into `folder`: about `lines` lines each, no two files equally many.
    pub(crate) fn write(folder: &Path, seed: u64, lines: u64) -> Input {
        let mut random = Random::new(seed);
        let mut files = Vec::new();
        for name in PLAIN.into_iter().chain(PACKED) {
            let lines = lines * random.within(70..131) / 100;
            let text: String = (0..lines).map(|number| line(name, number, &mut random)).collect();
            // A last line without its newline is a line.
            let text = if random.within(0..2) == 0 { text } else { text.trim_end().to_string() };
            let packed = PACKED.contains(&name);
            let path = folder.join(if packed { format!("{name}.txt.gz") } else { format!("{name}.txt") });
            let bytes = if packed { gzip(&text) } else { text.clone().into_bytes() };
            fs::write(&path, bytes).expect("an input file can be written");
            files.push(InputFile { name, path, text });
        }
        Input { files }
    }
}

/// A line that is like no other: its file and number, then words, of which a few are frequent and most are rare.
fn line(name: &str, number: u64, random: &mut Random) -> String {
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

fn gzip(text: &str) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(text.as_bytes()).and_then(|()| packed.finish()).expect("memory can be written to")
}
