//! Readings are parsed and added up. What cannot be read, and what the sum refuses, goes to a file
//! of dead letters, once, and everything else is counted.
//!
//! ```text
//! cargo run --release --example dead_letters -- run --state target/readings --exit-at-end
//! cargo run --release --example dead_letters -- state scan sums --state target/readings
//! cat dead-letters.jsonl
//! ```

use tidemill::aggregates::fold;
use tidemill::clap;
use tidemill::prelude::*;

#[derive(clap::Args, Clone)]
struct Arguments {
    /// The file for the dead letters, as JSON lines
    #[arg(long, value_name = "FILE", default_value = "dead-letters.jsonl")]
    letters: String,
}

/// Line `number`: a sensor and its reading. Every thousandth is no number, and two are out of
/// bounds.
fn line(number: u64) -> String {
    let sensor = number % 7;
    match number {
        _ if number % 1_000 == 999 => format!("sensor-{sensor} out of order"),
        12_345 | 67_890 => format!("sensor-{sensor} 1000000"),
        _ => format!("sensor-{sensor} {}", number % 100),
    }
}

fn parse(line: String) -> std::result::Result<(Str, u64), String> {
    let (sensor, reading) = line.split_once(' ').ok_or("no reading")?;
    Ok((sensor.into(), reading.parse().map_err(|why| format!("{reading:?}: {why}"))?))
}

fn main() -> tidemill::Result<()> {
    tidemill::main_with(|topology, arguments: &Arguments| {
        topology.on_failure(topology.dead_letter("dead-letters", Files::to(&arguments.letters)));
        let lines =
            topology.source("lines", Generator::new(1, |_, number| line(number)).records(100_000));
        // A line that is no reading is set aside where it is parsed, in the same pass.
        let readings = lines.try_map(parse).group_by(|(sensor, _)| sensor.clone());
        // A reading that the sum refuses makes its batch fail, which is then searched for it.
        readings.persistent_reduce(
            "sums",
            fold(
                || 0,
                |sum: &mut u64, (sensor, reading): (Str, u64)| {
                    assert!(reading < 1_000, "{sensor} reads {reading}");
                    *sum += reading;
                },
            ),
        );
    })
}
