//! The word count against a plain hash map: `cargo bench --bench word_count`.
//!
//! Lines of 8 words, 100,000 distinct words drawn log-uniformly, from memory. The yardstick is one
//! thread that splits the same lines and counts into a `hashbrown` map with foldhash as one would
//! write it, `*counts.entry(word.to_string()).or_insert(0) += 1`, keeping nothing. It is run again
//! around each run of a case, and the ratio is to the runs around it, because machines drift.
//! `borrowing_ratio` is to the most that one thread does with such a map: it is asked with the
//! borrowed word, and a `String` is made only for a new one. The topology is README's, word for
//! word, but for its source.

#[path = "support/embedded.rs"]
mod embedded;
#[path = "support/words.rs"]
mod words;

use embedded::Embedded;
use hashbrown::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidemill::prelude::*;
use tidemill::{BatchLimits, Durability, Engine, Settings};
use words::{WORDS_PER_LINE, make_lines};

/// How often a case is run; the median is told.
const RUNS: usize = 3;

fn main() {
    // `cargo bench -- 20000` runs the cases whose line contains that.
    let filter =
        std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let lines: usize = std::env::var("TIDEMILL_BENCH_LINES")
        .ok()
        .and_then(|lines| lines.parse().ok())
        .unwrap_or(2_000_000);
    let lines = Arc::new(make_lines(lines));
    let mut cases = Vec::new();
    for workers in [1, 2] {
        for batch_lines in [2_000, 20_000, 200_000] {
            cases.push((workers, batch_lines, Durability::Sync));
        }
    }
    cases.push((2, 20_000, Durability::Process));
    let mut before = yardstick(&lines);
    for (workers, batch_lines, durability) in cases {
        let durability_name = if durability == Durability::Sync { "sync" } else { "process" };
        let name = format!(
            "word_count workers={workers} batch_lines={batch_lines} durability={durability_name}"
        );
        if !name.contains(&filter) {
            continue;
        }
        let mut runs = Vec::new();
        let borrowing = borrowing(&lines);
        for _ in 0..RUNS {
            let run = run(&lines, workers, batch_lines, durability);
            let after = yardstick(&lines);
            runs.push((run.words_per_s / ((before + after) / 2.0), run));
            before = after;
        }
        runs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (ratio, run) = &runs[RUNS / 2];
        println!(
            "{name} words_per_s={:.0} ratio={ratio:.2} commit_p50_us={} commit_p99_us={} \
             longest_slice_us={} ratio_min={:.2} ratio_max={:.2} borrowing_ratio={:.2}",
            run.words_per_s,
            run.commit_us(0.50),
            run.commit_us(0.99),
            run.longest_slice_us,
            runs[0].0,
            runs[RUNS - 1].0,
            run.words_per_s / borrowing
        );
    }
}

/// Words per second of a plain map, as one would write it: a `String` for each word.
fn yardstick(lines: &[Str]) -> f64 {
    let began = Instant::now();
    let mut counts: HashMap<String, u64, foldhash::fast::RandomState> = HashMap::default();
    for line in lines {
        for word in line.split_whitespace() {
            *counts.entry(word.to_string()).or_insert(0) += 1;
        }
    }
    per_second(lines, &counts, began)
}

/// Words per second of a map that is asked with the borrowed word, and makes a `String` only for a
/// new one: the most that one thread does with such a map.
fn borrowing(lines: &[Str]) -> f64 {
    let began = Instant::now();
    let mut counts: HashMap<String, u64, foldhash::fast::RandomState> = HashMap::default();
    for line in lines {
        for word in line.split_whitespace() {
            *counts.entry_ref(word).or_insert(0) += 1;
        }
    }
    per_second(lines, &counts, began)
}

fn per_second(
    lines: &[Str],
    counts: &HashMap<String, u64, foldhash::fast::RandomState>,
    began: Instant,
) -> f64 {
    let took = began.elapsed();
    let words = (lines.len() * WORDS_PER_LINE) as f64;
    assert_eq!(counts.values().sum::<u64>() as f64, words);
    words / took.as_secs_f64()
}

struct Run {
    words_per_s: f64,
    commits_us: Vec<u64>,
    longest_slice_us: u64,
}

impl Run {
    fn commit_us(&self, quantile: f64) -> u64 {
        self.commits_us[((self.commits_us.len() - 1) as f64 * quantile) as usize]
    }
}

fn run(lines: &Arc<Vec<Str>>, workers: usize, batch_lines: u64, durability: Durability) -> Run {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .expect("the target folder can be written");
    let batches = BatchLimits {
        max_records: batch_lines,
        max_bytes: 1 << 30,
        max_delay: Duration::from_secs(10),
        ..BatchLimits::default()
    };
    let settings = Settings {
        workers,
        durability,
        batches,
        disk_reserve: 0,
        ..Settings::new("bench", folder.path().join("state"))
    };
    let source = Embedded { records: Arc::clone(lines), partitions: workers };
    let engine = Engine::start(settings, move |topology| word_count(topology, source.clone()))
        .expect("the topology starts");
    let runtime = Arc::clone(engine.runtime());
    while !runtime.is_ready() {
        std::thread::sleep(Duration::from_micros(100));
    }
    let began = Instant::now();
    while !runtime.is_at_end() {
        assert!(!engine.is_over(), "the topology ended by itself");
        std::thread::sleep(Duration::from_millis(1));
    }
    let took = began.elapsed();
    let status = runtime.status();
    assert_eq!(status.records, lines.len() as u64);
    let mut commits_us: Vec<u64> =
        runtime.batches(1000).iter().map(|batch| batch.commit_us).collect();
    commits_us.sort_unstable();
    engine.stop();
    engine.wait().expect("the topology stops cleanly");
    Run {
        words_per_s: (lines.len() * WORDS_PER_LINE) as f64 / took.as_secs_f64(),
        commits_us,
        longest_slice_us: status.longest_slice_us,
    }
}

fn word_count(topology: &Topology<'_>, source: Embedded<Str>) {
    let counts = topology
        .source("sentences", source)
        .flat_map(|line: Str, words| words.extend(line.split_whitespace().map(Str::from)))
        .group_by(|word| word.clone())
        .persistent_aggregate("counts", Count);
    topology.query("words", |text: Requests<Str>| {
        text.flat_map(|text, words| words.extend(text.split_whitespace().map(Str::from)))
            .lookup(&counts)
            .aggregate(Sum)
    });
}
