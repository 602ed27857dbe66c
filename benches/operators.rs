//! Each operator against a plain loop: `cargo bench --bench operators`.
//!
//! Records are pairs of a key, of 100,000, and a value, in memory; batches have 50,000, each
//! synced. The loop does the same on one thread over the same records, batch by batch, with
//! `hashbrown` maps and foldhash, and keeps nothing. `ratio` is records per second to the loop's,
//! which is run around each run of the operator; of three runs the median. What an operator gives
//! is counted into a state of one key, by batch, so that all of it is made; the loop adds it up.
//! The first case, `read`, is no operator: it is what reading, counting and committing take.
//!
//! What is more than four times slower than its loop says why. The last line is what catching
//! panics costs: 16 `map`s in a row, against 16 that do not catch any, in turns; the best of each.
//! A sixteenth of the difference is what one `map` pays.

#[path = "support/embedded.rs"]
mod embedded;

use embedded::Embedded;
use hashbrown::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidemill::aggregates::{fold, top_k};
use tidemill::prelude::*;
use tidemill::{BatchLimits, Engine, Inner, Part, Settings};

type Record = (u32, u64);
type Map<V> = HashMap<u32, V, foldhash::fast::RandomState>;

const RECORDS: u64 = 4_000_000;
const BATCH: usize = 50_000;
const KEYS: u64 = 100_000;
const WORKERS: usize = 2;
const RUNS: usize = 3;

/// An operator, and the same by a plain loop, which keeps its map over all batches.
struct Case {
    name: &'static str,
    build: fn(Stream<'_, Record>),
    plain: fn(&[Record], &mut Map<u64>) -> u64,
    /// Why it is slower than the loop, if it is more than four times.
    why: &'static str,
}

/// For operators that see each record once and keep nothing.
const SUM: &str = "the loop is a sum in vector registers that makes no record; here each is read, \
    given on and committed: see read";

/// For states.
const DURABLE: &str = "of 50,000 records 40,000 are the only one of their key in their batch, and \
    each key is encoded, hashed, sent to its owner, kept by batch, logged and synced; the loop is \
    one probe of a map of u32 in the cache";

fn counted<T: tidemill::Record>(stream: Stream<'_, T>) {
    stream.aggregate(Count).persistent_aggregate("given", Sum);
}

fn key(record: &Record) -> u32 {
    record.0
}

fn sums(batch: &[Record]) -> Map<u64> {
    batch.iter().fold(Map::default(), |mut sums, (key, value)| {
        *sums.entry(*key).or_insert(0) += value;
        sums
    })
}

fn kept(batch: &[Record], sums: &mut Map<u64>) -> u64 {
    for (key, value) in batch {
        *sums.entry(*key).or_insert(0) += value;
    }
    sums.len() as u64
}

fn looked_up(batch: &[Record], table: &mut Map<u64>) -> u64 {
    kept(batch, table);
    batch.iter().map(|(key, _)| table.get(key).copied().unwrap_or(0)).sum()
}

const CASES: [Case; 15] = [
    Case {
        name: "read",
        build: |records| counted(records),
        plain: |batch, _| batch.iter().map(|(_, value)| black_box(*value)).sum(),
        why: SUM,
    },
    Case {
        name: "map",
        build: |records| counted(records.map(|(key, value)| (key, value ^ 7))),
        plain: |batch, _| {
            batch.iter().map(|(key, value)| u64::from(*key) ^ black_box(value ^ 7)).sum()
        },
        why: SUM,
    },
    Case {
        name: "filter",
        build: |records| counted(records.filter(|(_, value)| value % 2 == 0)),
        plain: |batch, _| {
            batch.iter().filter(|(_, value)| black_box(*value) % 2 == 0).count() as u64
        },
        why: SUM,
    },
    Case {
        name: "flat_map",
        build: |records| {
            counted(
                records
                    .flat_map(|(key, value), rows| rows.extend([(key, value), (key, value + 1)])),
            )
        },
        plain: |batch, _| {
            batch
                .iter()
                .flat_map(|(key, value)| [(*key, *value), (*key, value + 1)])
                .map(|row| black_box(row).1)
                .sum()
        },
        why: SUM,
    },
    Case {
        name: "shuffle",
        build: |records| counted(records.shuffle()),
        plain: |batch, _| batch.iter().map(|(_, value)| black_box(*value)).sum(),
        why: SUM,
    },
    Case {
        name: "partition_by",
        build: |records| counted(records.partition_by(key)),
        plain: |batch, _| batch.iter().map(|(_, value)| black_box(*value)).sum(),
        why: SUM,
    },
    Case {
        name: "aggregate",
        build: |records| {
            counted(records.group_by(key).aggregate(of(|(_, value): &Record| *value, Sum)))
        },
        plain: |batch, _| sums(batch).len() as u64,
        why: DURABLE,
    },
    Case {
        name: "reduce",
        build: |records| {
            counted(
                records
                    .group_by(key)
                    .reduce(fold(|| 0, |sum: &mut u64, (_, value): Record| *sum += value)),
            )
        },
        plain: |batch, _| sums(batch).len() as u64,
        why: DURABLE,
    },
    Case {
        name: "top_k",
        build: |records| counted(records.aggregate(top_k::<Record>(10))),
        plain: |batch, _| {
            let mut sorted = batch.to_vec();
            sorted.select_nth_unstable_by(10, |one, other| other.cmp(one));
            sorted[..10].iter().map(|(_, value)| value).sum()
        },
        why: SUM,
    },
    Case {
        name: "join_batch",
        build: |records| {
            let (one, other) = records.branch(|(_, value)| value % 2 == 0);
            counted(one.group_by(key).join_batch(other.group_by(key), Inner));
        },
        plain: |batch, _| {
            let mut sides: Map<(Vec<u64>, Vec<u64>)> = Map::default();
            for (key, value) in batch {
                let (one, other) = sides.entry(*key).or_default();
                if value % 2 == 0 { one.push(*value) } else { other.push(*value) }
            }
            sides.values().map(|(one, other)| (one.len() * other.len()) as u64).sum()
        },
        why: SUM,
    },
    Case {
        name: "persistent_aggregate",
        build: |records| {
            drop(
                records
                    .group_by(key)
                    .persistent_aggregate("sums", of(|(_, value): &Record| *value, Sum)),
            )
        },
        plain: kept,
        why: DURABLE,
    },
    Case {
        name: "persistent_reduce",
        build: |records| {
            let sum = fold(|| 0, |sum: &mut u64, (_, value): Record| *sum += value);
            drop(records.group_by(key).persistent_reduce("sums", sum));
        },
        plain: kept,
        why: DURABLE,
    },
    Case {
        name: "upsert",
        build: |records| drop(records.map(|(key, value)| (key, Some(value))).upsert("table")),
        plain: |batch, table| {
            table.extend(batch.iter().copied());
            table.len() as u64
        },
        why: DURABLE,
    },
    Case {
        name: "update_state",
        build: |records| {
            records.group_by(key).update_state(
                "sums",
                |_, records, sums: &mut Part<'_, u32, u64>| {
                    for (key, (_, value)) in records {
                        sums.update(key, |sum| *sum = Some(sum.unwrap_or(0) + value));
                    }
                },
            );
        },
        plain: kept,
        why: DURABLE,
    },
    Case {
        name: "lookup_after",
        build: |records| {
            let sums = records
                .clone()
                .group_by(key)
                .persistent_aggregate("sums", of(|(_, value): &Record| *value, Sum));
            counted(records.lookup_after(&sums, key));
        },
        plain: looked_up,
        why: DURABLE,
    },
];

fn main() {
    // `cargo bench --bench operators -- reduce` runs the cases whose line contains that.
    let filter =
        std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let record = |number: u64| {
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (u32::try_from((mixed >> 33) % KEYS).expect("keys are few"), mixed >> 50)
    };
    let records: Arc<Vec<Record>> = Arc::new((0..RECORDS).map(record).collect());
    for case in CASES.iter().filter(|case| case.name.contains(&filter)) {
        let mut runs = Vec::new();
        let mut before = plainly(case, &records);
        for _ in 0..RUNS {
            let rate = run(case.build, &records);
            let after = plainly(case, &records);
            runs.push((rate / ((before + after) / 2.0), rate));
            before = after;
        }
        runs.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (ratio, rate) = runs[RUNS / 2];
        let why = if ratio < 0.25 { format!(" why=\"{}\"", case.why) } else { String::new() };
        println!(
            "operator name={} workers={WORKERS} records_per_s={rate:.0} ratio={ratio:.2} \
             ratio_min={:.2} ratio_max={:.2}{why}",
            case.name,
            runs[0].0,
            runs[RUNS - 1].0
        );
    }
    if "catch".contains(&filter) {
        catching(&records);
    }
}

/// How many operators are in a row where a small difference between two is to be seen.
const IN_A_ROW: usize = 16;

/// What catching panics costs of a `map`.
fn catching(records: &Arc<Vec<Record>>) {
    let caught: fn(Stream<'_, Record>) = |mut stream| {
        for _ in 0..IN_A_ROW {
            stream = stream.map(|(key, value)| (key, value ^ 7));
        }
        counted(stream);
    };
    let uncaught: fn(Stream<'_, Record>) = |mut stream| {
        for _ in 0..IN_A_ROW {
            stream = stream.map_uncaught(|(key, value)| (key, value ^ 7));
        }
        counted(stream);
    };
    let one: fn(Stream<'_, Record>) = |stream| counted(stream.map(|(key, value)| (key, value ^ 7)));
    // The best of many: what disturbs a run makes it slower, and never faster.
    let (mut with, mut without, mut single): (f64, f64, f64) = (0.0, 0.0, 0.0);
    for _ in 0..8 * RUNS {
        without = without.max(run(uncaught, records));
        with = with.max(run(caught, records));
        single = single.max(run(one, records));
    }
    let of_all = (without / with - 1.0) * 100.0;
    // What one of them costs more, of what a topology with one `map` takes: the line `map` above.
    let of_one = (1.0 / with - 1.0 / without) / IN_A_ROW as f64 * single * 100.0;
    println!(
        "operator name=catch of=map cost_percent={of_one:.2} of_map_x{IN_A_ROW}_percent={of_all:.1}"
    );
}

/// Records per second of the plain loop.
fn plainly(case: &Case, records: &[Record]) -> f64 {
    let (began, mut kept) = (Instant::now(), Map::default());
    let given: u64 = records
        .chunks(BATCH)
        .map(|batch| (case.plain)(batch, &mut kept))
        .fold(0, u64::wrapping_add);
    black_box(given);
    records.len() as f64 / began.elapsed().as_secs_f64()
}

/// Records per second of the operator, from the first batch to the last commit.
fn run(build: fn(Stream<'_, Record>), records: &Arc<Vec<Record>>) -> f64 {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .expect("the target folder can be written");
    let batches = BatchLimits {
        max_records: BATCH as u64,
        max_bytes: 1 << 30,
        max_delay: Duration::from_secs(10),
        ..BatchLimits::default()
    };
    let settings = Settings {
        workers: WORKERS,
        batches,
        disk_reserve: 0,
        ..Settings::new("bench", folder.path().join("state"))
    };
    let source = Embedded { records: Arc::clone(records), partitions: WORKERS };
    let engine =
        Engine::start(settings, move |topology| build(topology.source("records", source.clone())));
    let engine = engine.expect("the topology starts");
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
    assert_eq!(runtime.status().records, records.len() as u64);
    engine.stop();
    engine.wait().expect("the topology stops cleanly");
    records.len() as f64 / took.as_secs_f64()
}
