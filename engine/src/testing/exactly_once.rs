//! A topology is run through every crash point, and compared with a run without a crash.

use super::{Io, Kit};
use crate::dataflow::topology::Topology;
use crate::settings::Settings;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidemill_state::CrashPoint;
use tidemill_state::points::Effect;

/// The contents and the output of a topology: the rows of each state and sink, sorted.
type Seen = BTreeMap<String, Vec<String>>;

/// The time after a batch for which the test waits for a point that comes automatically: a fold,
/// the trimming of the log.
const A_LITTLE_LATER: Duration = Duration::from_millis(500);

/// The number of rows that are shown of what differs.
const ROWS_SHOWN: usize = 5;

/// Runs a topology on `batches` batches, which `feed` feeds by their numbers from 0: once without a
/// crash, and once for each crash point that it reaches, crashing there in the middle of the
/// batches and going on from its state. What its states hold and its sinks were given in the end
/// must be the same.
///
/// ```
/// use tidemill_engine::{aggregates::Count, testing::assert_exactly_once};
///
/// assert_exactly_once(
///     |topology, io| {
///         let counts = topology.source("words", io.source::<String>("words")).group_by(|word| word.clone()).persistent_aggregate("counts", Count);
///         counts.changes().sink("changes", io.sink("changes"));
///     },
///     3,
///     |kit, batch| kit.feed("words", [format!("word {batch}"), "tide".to_string()]),
/// );
/// ```
///
/// # Panics
/// If they are not, with the crash points at which they differ, and how; or if the topology fails.
pub fn assert_exactly_once(
    build: impl Fn(&Topology<'_>, &Io) + Send + Sync + 'static,
    batches: usize,
    feed: impl Fn(&mut Kit, usize),
) {
    assert_exactly_once_with(|_| {}, build, batches, feed);
}

/// As [`assert_exactly_once`], with other settings.
///
/// # Panics
/// As [`assert_exactly_once`].
pub fn assert_exactly_once_with(
    set: impl Fn(&mut Settings),
    build: impl Fn(&Topology<'_>, &Io) + Send + Sync + 'static,
    batches: usize,
    feed: impl Fn(&mut Kit, usize),
) {
    let build = Arc::new(build);
    let started = || {
        let build = Arc::clone(&build);
        Kit::with(&set, move |topology, io| build(topology, io))
    };
    let mut kit = started();
    for batch in 0..batches {
        feed(&mut kit, batch);
        kit.step();
    }
    let expected = seen(&kit);
    let mut differences = String::new();
    for point in CrashPoint::usual() {
        let mut kit = started();
        for batch in 0..batches {
            feed(&mut kit, batch);
            if batch == batches / 2 {
                if is_of_start(point) {
                    crash_at_start(&mut kit, point);
                } else {
                    crash_in_batch(&mut kit, point);
                }
            }
            kit.step();
        }
        describe(&mut differences, point, &expected, &seen(&kit));
    }
    assert!(
        differences.is_empty(),
        "with a crash there is another result than without:\n{differences}"
    );
}

fn is_of_start(point: CrashPoint) -> bool {
    use CrashPoint as P;
    matches!(
        point,
        P::RecoveryOpened
            | P::IncarnationWritten
            | P::IncarnationRaised
            | P::StoreUpgraded
            | P::MigrationWritten
            | P::SinkMarkerRead
            | P::SinkMarkerClaimed
            | P::SinksClaimed
            | P::Registered
            | P::StateRestored
            | P::SourcesOpened
    )
}

fn crash_at_start(kit: &mut Kit, point: CrashPoint) {
    let has_sinks = !kit.engine().runtime().status().sinks.is_empty();
    if has_sinks || !point.is_of_transactions() {
        kit.restart_and_crash(point);
        kit.restart();
    }
}

/// Runs a batch, crashes at the point if it comes there, and starts again.
fn crash_in_batch(kit: &mut Kit, point: CrashPoint) {
    kit.points().arm(point, Effect::Stop, 1);
    let outcome = kit.try_step();
    let began = Instant::now();
    let later = matches!(
        point,
        CrashPoint::FoldBegun
            | CrashPoint::FoldWritten
            | CrashPoint::FoldIngested
            | CrashPoint::LogTrimmed
    );
    while later && !kit.points().stopped() && began.elapsed() < A_LITTLE_LATER {
        std::thread::sleep(Duration::from_millis(1));
    }
    if let (Err(error), false) = (outcome, kit.points().stopped()) {
        panic!("the topology fails by itself: {error}");
    }
    kit.kill();
    kit.restart();
}

/// Returns the contents and the output of a topology.
fn seen(kit: &Kit) -> Seen {
    let runtime = kit.engine().runtime();
    let mut seen = Seen::new();
    for codec in &runtime.facts.codecs {
        let mut rows = Vec::new();
        let scanned = runtime.scan_committed(&codec.decl().name, |key, value| {
            rows.push(format!(
                "{} = {}",
                codec.key_to_json(key)?,
                codec.value_to_json(key, value)?
            ));
            Ok(true)
        });
        scanned.unwrap_or_else(|error| {
            panic!("state \"{}\" cannot be read: {error}", codec.decl().name)
        });
        rows.sort();
        seen.insert(format!("state \"{}\"", codec.decl().name), rows);
    }
    for (name, mut rows) in kit.io.given() {
        rows.sort();
        seen.insert(format!("sink \"{name}\""), rows);
    }
    seen
}

fn describe(differences: &mut String, point: CrashPoint, expected: &Seen, got: &Seen) {
    for (what, rows) in expected.iter().filter(|(what, rows)| got.get(*what) != Some(*rows)) {
        let empty = Vec::new();
        let other = got.get(what).unwrap_or(&empty);
        let _ = writeln!(differences, "after a crash at {}, {what}:", point.name());
        for (word, rows) in
            [("lacks", left_over(rows, other)), ("has too much", left_over(other, rows))]
        {
            for row in rows.iter().take(ROWS_SHOWN) {
                let _ = writeln!(differences, "  {word}: {row}");
            }
            if rows.len() > ROWS_SHOWN {
                let _ = writeln!(differences, "  … and {} more", rows.len() - ROWS_SHOWN);
            }
        }
    }
}

/// The rows that `one` has more often than `other`.
fn left_over<'r>(one: &'r [String], other: &[String]) -> Vec<&'r String> {
    let mut counts: BTreeMap<&String, usize> = BTreeMap::new();
    for row in other {
        *counts.entry(row).or_default() += 1;
    }
    let is_left = |row: &&String| match counts.get_mut(*row) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    };
    one.iter().filter(is_left).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregates::Count;
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    #[test]
    fn a_program_that_counts_outside_of_its_state_is_found_and_shown() {
        let checked = std::panic::catch_unwind(|| {
            let seen_before = Arc::new(AtomicU64::new(0));
            assert_exactly_once(
                move |topology, io| {
                    let seen_before = Arc::clone(&seen_before);
                    // What it gives depends on how often it was run: a batch that is done again
                    // gives something else.
                    let numbered = topology
                        .source("in", io.source::<u64>("in"))
                        .map(move |_| seen_before.fetch_add(1, SeqCst) % 100);
                    numbered.group_by(|n| *n).persistent_aggregate("counts", Count);
                },
                2,
                |kit, _| kit.feed("in", [1u64]),
            );
        });
        let panic = checked.expect_err("it differs");
        let text = crate::panics::panic_message(&*panic);
        assert!(
            text.contains("after a crash at batch-computed, state \"counts\":")
                && text.contains("lacks: "),
            "{text}"
        );
    }
}
