//! Counts a day of real Wikipedia edits by what was done, by whom and where, and prints the counts
//! as a table while it runs.
//!
//! ```text
//! cargo run --release --example wiki_edits -- run --state target/edits
//! cargo run --release --example wiki_edits -- state scan channels --state target/edits
//! cargo run --release --example load_edits -- --kafka localhost:9092 --topic edits
//! cargo run --release --example wiki_edits -- run --state target/topic-edits --kafka localhost:9092 --topic edits
//! ```

use serde::{Deserialize, Serialize};
use std::io::Write;
use std::time::Duration;
use tidemill::kafka::Message;
use tidemill::prelude::*;
use tidemill::{Cli, Running, clap};

#[derive(clap::Args, Clone)]
struct Arguments {
    /// The edits: a glob of JSON lines; plain, gzip or zstd
    #[arg(
        long,
        value_name = "GLOB",
        default_value = "examples/data/wikipedia-edits-2015-09-12.json.gz"
    )]
    input: String,
    /// Read the edits from a topic of this Kafka cluster instead (the example load_edits puts them
    /// there)
    #[arg(long, value_name = "BROKERS", requires = "topic", conflicts_with = "input")]
    kafka: Option<String>,
    /// The topic with the edits, or a pattern of topics
    #[arg(long, requires = "kafka")]
    topic: Option<String>,
    /// Also write each batch's new counts by channel to this topic
    #[arg(long, value_name = "TOPIC", requires = "kafka")]
    out: Option<String>,
}

/// An edit, as far as it is counted.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Edit {
    channel: Str,
    namespace: Str,
    is_new: bool,
    is_robot: bool,
    is_anonymous: bool,
    added: u64,
}

fn main() -> tidemill::Result<()> {
    let topology = |topology: &Topology<'_>, arguments: &Arguments| {
        let kafka = arguments.kafka.as_ref().map(Kafka::new);
        let edits = match (&kafka, &arguments.topic) {
            (Some(kafka), Some(topic)) => {
                topology.source("edits", kafka.source([topic]).json::<Edit>())
            }
            _ => topology.source("edits", Files::json_lines::<Edit>(&arguments.input)),
        };
        let action = |edit: &Edit| Str::from(if edit.is_new { "new" } else { "edit" });
        let robot = |edit: &Edit| Str::from(if edit.is_robot { "robot" } else { "human" });
        let anonymous =
            |edit: &Edit| Str::from(if edit.is_anonymous { "anonymous" } else { "logged-in" });
        edits.clone().group_by(action).persistent_aggregate("actions", Count);
        edits.clone().group_by(robot).persistent_aggregate("robots", Count);
        edits.clone().group_by(anonymous).persistent_aggregate("anonymous", Count);
        let channels = edits
            .clone()
            .group_by(|edit: &Edit| edit.channel.clone())
            .persistent_aggregate("channels", Count);
        if let (Some(kafka), Some(out)) = (kafka, &arguments.out) {
            channels.changes().sink("out", kafka.sink(out, message));
        }
        edits
            .clone()
            .group_by(|edit: &Edit| edit.namespace.clone())
            .persistent_aggregate("edits_by_namespace", Count);
        let added = of(|edit: &Edit| edit.added, Sum);
        edits
            .group_by(|edit: &Edit| edit.namespace.clone())
            .persistent_aggregate("namespaces", added);
    };
    Cli::new(topology).while_running(Duration::from_secs(1), print_table).main()
}

/// The channel as key, its new count as decimal text.
fn message(change: &Change<Str, u64>) -> Message {
    Message::new().key(change.key.as_bytes()).value(change.new.unwrap_or_default().to_string())
}

/// What the table shows: state, key, and what it is called there.
const ROWS: [(&str, &str, &str); 11] = [
    ("robots", "robot", "by robots"),
    ("robots", "human", "by humans"),
    ("anonymous", "anonymous", "anonymous"),
    ("anonymous", "logged-in", "logged in"),
    ("actions", "new", "new pages"),
    ("actions", "edit", "changes"),
    ("channels", "#en.wikipedia", "on en.wikipedia"),
    ("channels", "#vi.wikipedia", "on vi.wikipedia"),
    ("edits_by_namespace", "Main", "in namespace Main"),
    ("namespaces", "Main", "bytes added in Main"),
    ("namespaces", "Talk", "bytes added in Talk"),
];

fn print_table(running: &Running) {
    let mut table = format!("edits of 2015-09-12, up to batch {}\n", running.committed());
    for (state, key, title) in ROWS {
        table += &match running.value::<u64>(state, key) {
            Ok(count) => format!("  {title:<22}{:>12}\n", count.unwrap_or(0)),
            Err(error) => format!("  {title:<22}{error}\n"),
        };
    }
    // The run goes on when nobody reads the table any more, as behind `| head`.
    let _ = std::io::stdout().write_all(table.as_bytes());
}
