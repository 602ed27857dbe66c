//! A day of Wikipedia edits as it happened, 144 times faster: counts by minute of the edits' own
//! time, asked while they move. The page on the port draws them.
//!
//! ```text
//! cargo run --release --example wiki_trends -- run --state target/trends
//! cargo run --release --example wiki_trends -- query trend '["2015-09-12T00:00", "2015-09-12T00:59", "robot"]'
//! cargo run --release --example wiki_trends -- query top 10
//! cargo run --release --example wiki_trends -- query page '"Jeremy Corbyn"'
//! ```
//!
//! From topics instead, with `load_edits` to fill one:
//! `-- run --state target/topic-trends --kafka localhost:9092 --topic edits`.

use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tidemill::aggregates::top_k_by;
use tidemill::prelude::*;
use tidemill::{Cli, clap};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The most pages that `top` gives.
const MOST_PAGES: usize = 1_000;

/// While the top is looked for: the number that is wanted, or a page with its edits.
type Row = (u64, Str, u64);

#[derive(clap::Args, Clone)]
struct Arguments {
    /// The edits: a glob of JSON lines; plain, gzip or zstd
    #[arg(
        long,
        value_name = "GLOB",
        default_value = "examples/data/wikipedia-edits-2015-09-12.json.gz"
    )]
    input: String,
    /// The speed of the replay, as a multiple of the real one
    #[arg(long, value_name = "FACTOR", default_value_t = 144.0)]
    speed: f64,
    /// Repeat the day without end, each time as the next day
    #[arg(long)]
    endless: bool,
    /// Read the edits from a topic of this Kafka cluster instead, as they arrive
    #[arg(long, value_name = "BROKERS", requires = "topic", conflicts_with_all = ["input", "speed", "endless"])]
    kafka: Option<String>,
    /// The topic with the edits, or a pattern of topics
    #[arg(long, requires = "kafka")]
    topic: Option<String>,
}

/// An edit, as far as it is counted.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Edit {
    time: Timestamp,
    page: Str,
    channel: Str,
    namespace: Str,
    is_new: bool,
    is_robot: bool,
    is_anonymous: bool,
}

/// What is counted: by what, in which minute, and which of it.
type Trend = (Str, Str, Str);

/// What an edit is counted by: its kinds, as `trend` is asked for them.
fn kinds(edit: &Edit) -> [(&'static str, Str); 5] {
    [
        ("action", Str::from(if edit.is_new { "new page" } else { "edit" })),
        ("robot", Str::from(if edit.is_robot { "bot" } else { "human" })),
        ("anonymous", Str::from(if edit.is_anonymous { "anonymous" } else { "logged-in" })),
        ("channel", edit.channel.clone()),
        ("namespace", edit.namespace.clone()),
    ]
}

/// The minute of an edit's own time.
fn minute(edit: &Edit) -> Str {
    Str::from(edit.time.strftime("%Y-%m-%dT%H:%M").to_string())
}

/// The minutes from one to another, both of them; an empty text is before, or after, all of them.
fn minutes((from, to, by): &(Str, Str, Str)) -> Scan {
    // A colon comes after every digit: behind the last value of the last minute.
    let end = if to.is_empty() { ":".into() } else { format!("{to}:") };
    Scan::range((by.as_str(), from.as_str(), "")..(by.as_str(), end.as_str(), ""))
}

/// An assembly: the edits, wherever they come from.
fn edits<'s>(topology: &Topology<'s>, arguments: &Arguments) -> Stream<'s, Edit> {
    if let (Some(kafka), Some(topic)) = (&arguments.kafka, &arguments.topic) {
        return topology.source("edits", Kafka::new(kafka).source([topic]).json::<Edit>());
    }
    let time_ms = |edit: &Edit| edit.time.as_millisecond().unsigned_abs();
    let replay =
        Replay::of(Files::json_lines::<Edit>(&arguments.input), time_ms).speed(arguments.speed);
    let replay = if arguments.endless { replay.endless(DAY) } else { replay };
    topology.source("edits", replay).try_map(|(day, edit)| {
        let time = edit.time.checked_add((24 * i64::try_from(day).unwrap_or(i64::MAX)).hours())?;
        Ok::<_, jiff::Error>(Edit { time, ..edit })
    })
}

fn main() -> tidemill::Result<()> {
    let topology = |topology: &Topology<'_>, arguments: &Arguments| {
        let edits = edits(topology, arguments);
        let counted = edits.clone().flat_map(|edit, trends| {
            let minute = minute(&edit);
            trends.extend(kinds(&edit).map(|(by, value)| (Str::from(by), minute.clone(), value)));
        });
        let newest = edits.clone().map(|edit| minute(&edit)).persistent_aggregate("newest", Max);
        let trends = counted.group_by(Trend::clone).persistent_aggregate("trends", Count);
        let pages = edits.group_by(|edit| edit.page.clone()).persistent_aggregate("pages", Count);

        topology.query("trend", |range: Requests<(Str, Str, Str)>| {
            range.scan(&trends, minutes).map(|((_, minute, value), count)| (minute, value, count))
        });
        topology.query("top", |n: Requests<u64>| {
            // The number that is wanted travels beside the pages.
            let rows =
                n.clone().scan(&pages, |_| Scan::all()).map(|(page, edits)| (0, page, edits));
            let all = rows.merge(n.map(|n| (n, Str::default(), 0)));
            let top = all.aggregate((
                of(|(n, _, _): &Row| *n, Max),
                top_k_by(MOST_PAGES, |(_, _, edits): &Row| *edits),
            ));
            top.flat_map(|(n, top), rows| {
                let pages = top
                    .into_iter()
                    .map(|ranked| (ranked.record.1, ranked.record.2))
                    .filter(|(_, edits)| *edits > 0);
                rows.extend(pages.take(usize::try_from(n).unwrap_or(MOST_PAGES)));
            })
        });
        topology.query("newest", |ask: Requests<()>| ask.lookup(&newest));
        topology.query("page", |title: Requests<Str>| title.lookup(&pages));
    };
    Cli::new(topology).main()
}
