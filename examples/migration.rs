//! A program that changes under its state: the value of a state gets another type, and the counts
//! so far are kept.
//!
//! ```text
//! cargo run --release --example migration -- run --version 1 --input 'examples/data/text/al*.txt' --state target/migration --exit-at-end
//! cargo run --release --example migration -- check --state target/migration
//! cargo run --release --example migration -- run --state target/migration --exit-at-end
//! cargo run --release --example migration -- state get words the --state target/migration
//! ```
//!
//! Version 1 reads one text and counts its words, in 32 bits. Version 2 keeps more of each word,
//! and reads both texts: the first is not read again. Without the migration (`--no-migration`) its
//! start is refused, and nothing is changed.

use serde::{Deserialize, Serialize};
use tidemill::aggregates::fold;
use tidemill::clap;
use tidemill::prelude::*;

#[derive(clap::Args, Clone)]
struct Arguments {
    /// The version of the program: the old one (1) or the present one (2). A real program has its
    /// old version only in its history
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=2))]
    version: u8,
    /// Leave the migration out, to see the start refused
    #[arg(long)]
    no_migration: bool,
    /// The texts: a glob
    #[arg(long, value_name = "GLOB", default_value = "examples/data/text/*.txt")]
    input: String,
}

/// What version 2 keeps of a word.
#[derive(Clone, Default, Debug, PartialEq, Serialize, Deserialize)]
struct Tally {
    count: u64,
    /// The longest line with the word; none for a word that only version 1 has seen.
    longest_line: Option<u64>,
}

/// The words of a text, each with the length of its line.
fn words<'s>(topology: &Topology<'s>, arguments: &Arguments) -> Stream<'s, (Str, u64)> {
    topology.source("sentences", Files::lines(&arguments.input)).flat_map(|line: Str, words| {
        words.extend(line.split_whitespace().map(|word| (Str::from(word), line.len() as u64)));
    })
}

fn version_1(topology: &Topology<'_>, arguments: &Arguments) {
    let count = fold(|| 0, |count: &mut u32, _: (Str, u64)| *count += 1);
    words(topology, arguments)
        .group_by(|(word, _)| word.clone())
        .persistent_reduce("counts", count);
}

fn version_2(topology: &Topology<'_>, arguments: &Arguments) {
    if !arguments.no_migration {
        // Done once on each store, before its next batch; kept here as long as there are stores of
        // version 1. The changes are made in this order, so that the second one uses the new name.
        topology
            .migration("2026-12 tallies of words")
            .rename_state("counts", "words")
            .convert_state("words", |count: u32| Tally { count: count.into(), longest_line: None });
    }
    let tally = fold(Tally::default, |tally: &mut Tally, (_, line): (Str, u64)| {
        tally.count += 1;
        tally.longest_line = tally.longest_line.max(Some(line));
    });
    words(topology, arguments).group_by(|(word, _)| word.clone()).persistent_reduce("words", tally);
}

fn main() -> Result<()> {
    tidemill::main_with(|topology, arguments: &Arguments| match arguments.version {
        1 => version_1(topology, arguments),
        _ => version_2(topology, arguments),
    })
}
