//! Counts the words of text files or Kafka topics, exactly once.
//!
//! ```text
//! cargo run --release --example word_count -- run --state target/words --exit-at-end
//! cargo run --release --example word_count -- state scan counts --state target/words
//! cargo run --release --example word_count -- query words '"the tide"'
//! cargo run --release --example word_count -- run --state target/topic-words --kafka localhost:9092 --topic sentences --out counts
//! ```

use tidemill::clap;
use tidemill::kafka::Message;
use tidemill::prelude::*;

#[derive(clap::Args, Clone)]
struct Arguments {
    /// The files to count: a glob; plain text, gzip or zstd
    #[arg(long, value_name = "GLOB", default_value = "examples/data/text/*.txt")]
    input: String,
    /// Continue reading as the files grow and new ones appear (plain files only)
    #[arg(long)]
    follow: bool,
    /// Read a topic of this Kafka cluster instead of files, and write --out to one
    #[arg(long, value_name = "BROKERS", requires = "topic", conflicts_with_all = ["input", "follow"])]
    kafka: Option<String>,
    /// The topic to count, or a pattern such as "sentences-*"
    #[arg(long, requires = "kafka")]
    topic: Option<String>,
    /// Also write each batch's new counts: to this file, as JSON lines, or to this topic, each with
    /// its word as key
    #[arg(long, value_name = "FILE|TOPIC")]
    out: Option<String>,
}

fn main() -> tidemill::Result<()> {
    tidemill::main_with(|topology, arguments: &Arguments| {
        let kafka = arguments.kafka.as_ref().map(Kafka::new);
        let sentences = match (&kafka, &arguments.topic) {
            (Some(kafka), Some(topic)) => {
                topology.source("sentences", kafka.source([topic]).utf8())
            }
            _ => {
                let files = Files::lines(&arguments.input);
                topology.source("sentences", if arguments.follow { files.follow() } else { files })
            }
        };
        let counts = sentences
            .flat_map(|line: Str, words| words.extend(line.split_whitespace().map(Str::from)))
            .group_by(|word| word.clone())
            .persistent_aggregate("counts", Count);
        topology.query("words", |text: Requests<Str>| {
            text.flat_map(|text, words| words.extend(text.split_whitespace().map(Str::from)))
                .lookup(&counts)
                .aggregate(Sum)
        });
        match (&arguments.out, kafka) {
            (Some(out), Some(kafka)) => counts.changes().sink("out", kafka.sink(out, message)),
            (Some(out), None) => {
                counts.changes().map(|change| (change.key, change.new)).sink("out", Files::to(out))
            }
            (None, _) => {}
        }
    })
}

/// The word as key, its new count as decimal text.
fn message(change: &Change<Str, u64>) -> Message {
    Message::new().key(change.key.as_bytes()).value(change.new.unwrap_or_default().to_string())
}
