//! The progress line on a terminal: batches, records per second, lag.

use super::log;
use super::output::thousands;
use std::io::IsTerminal;
use std::time::{Duration, Instant};
use tidemill_engine::{Runtime, Status};

/// The interval at which it is rewritten.
const EVERY: Duration = Duration::from_millis(200);

/// The progress line, where there is a terminal to show it.
pub(super) struct Progress {
    shown: bool,
    last: Option<Instant>,
}

impl Progress {
    /// Off a terminal it is not shown; nor on a terminal where records of the topology appear,
    /// which it would be mixed up with.
    pub(super) fn new(prints_records: bool) -> Progress {
        let shown =
            std::io::stderr().is_terminal() && !(prints_records && std::io::stdout().is_terminal());
        Progress { shown, last: None }
    }

    /// Rewrites the line when it is time.
    pub(super) fn look(&mut self, runtime: &Runtime) {
        if self.shown && self.last.is_none_or(|last| last.elapsed() >= EVERY) {
            self.last = Some(Instant::now());
            log::show_progress(&line(&runtime.status()));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        log::hide_progress();
    }
}

/// The line: short enough not to be broken by a narrow terminal.
fn line(status: &Status) -> String {
    let lags: Option<Vec<u64>> = status
        .partitions
        .iter()
        .filter(|partition| !partition.ended)
        .map(|partition| partition.lag)
        .collect();
    let lag = match (&status.waiting, status.sources_at_end, lags) {
        (Some(_), _, _) => "waiting, see status".to_string(),
        (None, true, _) => "at the end".to_string(),
        (None, false, Some(lags)) => format!("lag {}", short(lags.iter().sum::<u64>() as f64)),
        (None, false, None) => "lag unknown".to_string(),
    };
    let batch = thousands(status.committed.0);
    format!(
        "batch {batch} | {} records | {} records/s | {lag}",
        short(status.records as f64),
        short(status.records_per_s)
    )
}

/// A number with three digits at most, and its thousands as a letter.
fn short(number: f64) -> String {
    const UNITS: [(f64, &str); 4] = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    match UNITS.iter().find(|(worth, _)| number >= *worth) {
        Some((worth, unit)) => {
            format!("{:.*}{unit}", if number / worth < 10.0 { 1 } else { 0 }, number / worth)
        }
        None => format!("{number:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0.0, 999.0, 1200.0, 56_789.0, 2.5e6, 7e12].map(short),
            ["0", "999", "1.2k", "57k", "2.5M", "7.0T"]
        );
    }
}
