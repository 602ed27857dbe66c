//! Counts the words of text files, exactly once.
//!
//! ```text
//! cargo run --release --example word_count -- run --state target/words --exit-at-end
//! cargo run --release --example word_count -- state scan counts --state target/words
//! ```

use tidemill::clap;
use tidemill::prelude::*;

#[derive(clap::Args, Clone)]
struct Arguments {
    /// The files to count: a glob; plain text, gzip or zstd
    #[arg(long, value_name = "GLOB", default_value = "examples/data/text/*.txt")]
    input: String,
    /// Go on reading as the files grow and new ones appear (plain files only)
    #[arg(long)]
    follow: bool,
    /// Also write each batch's new counts to this file, as JSON lines
    #[arg(long, value_name = "FILE")]
    out: Option<String>,
}

fn main() -> tidemill::Result<()> {
    tidemill::main_with(|topology, arguments: &Arguments| {
        let files = Files::lines(&arguments.input);
        let counts = topology
            .source("sentences", if arguments.follow { files.follow() } else { files })
            .flat_map(|line: Str, words| words.extend(line.split_whitespace().map(Str::from)))
            .group_by(|word| word.clone())
            .persistent_aggregate("counts", Count);
        if let Some(out) = &arguments.out {
            counts.changes().map(|change| (change.key, change.new)).sink("out", Files::to(out));
        }
    })
}
