//! Input made from a seed: text files, plain and gzip, whose lines are all different.

use super::random::{Random, line};
use flate2::{Compression, write::GzEncoder};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// One file: a partition of a source.
pub struct InputFile {
    /// The first part of each of its lines, before the number: `a` in `a-17 tide mill`.
    pub name: &'static str,
    /// Its path.
    pub path: PathBuf,
    /// What is in it, decompressed.
    pub text: String,
}

impl InputFile {
    /// The source that reads it.
    pub fn source(&self) -> &'static str {
        if PACKED.contains(&self.name) { "packed" } else { "plain" }
    }
}

/// The files of both sources.
pub struct Input {
    /// The files, in the order of their names.
    pub files: Vec<InputFile>,
}

/// The files of the source "plain" and of the source "packed".
const PLAIN: [&str; 3] = ["a", "b", "c"];
const PACKED: [&str; 2] = ["y", "z"];

impl Input {
    /// Writes the files into `folder`: about `lines` lines each, no two files equally many.
    pub fn write(folder: &Path, seed: u64, lines: u64) -> Input {
        let mut random = Random::new(seed);
        let mut files = Vec::new();
        for name in PLAIN.into_iter().chain(PACKED) {
            let lines = lines * random.within(70..131) / 100;
            let text: String = (0..lines).map(|number| line(name, number, &mut random)).collect();
            // A last line without its newline is a line.
            let text = if random.within(0..2) == 0 { text } else { text.trim_end().to_string() };
            let packed = PACKED.contains(&name);
            let path =
                folder.join(if packed { format!("{name}.txt.gz") } else { format!("{name}.txt") });
            let bytes = if packed { gzip(&text) } else { text.clone().into_bytes() };
            fs::write(&path, bytes).expect("an input file can be written");
            files.push(InputFile { name, path, text });
        }
        Input { files }
    }
}

fn gzip(text: &str) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed
        .write_all(text.as_bytes())
        .and_then(|()| packed.finish())
        .expect("memory can be written to")
}
