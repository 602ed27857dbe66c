//! The fuzz targets (`fuzz/src`) over their corpus, and over random input for a few seconds in all.
//!
//! Random input is mostly an entry of the corpus with some changes, so that it gets past the first
//! checks. Each input has a seed of its own, one more than that of the input before: a failure
//! prints it, and `TIDEMILL_TEST_SEED` begins with that input.

mod mutate;

use mutate::Mutator;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tidemill_fuzz::{TARGETS, Target};
use tidemill_harness::checkout;
use tidemill_harness::random::Random;

/// The time of random input over all targets, and the same with `TIDEMILL_LONG`.
const IN_ALL: Duration = Duration::from_secs(10);
const LONG_IN_ALL: Duration = Duration::from_secs(120);

/// The most memory that this process may ever have taken. Inputs have a few KiB.
const MOST_MEMORY_KIB: u64 = 512 << 10;

macro_rules! run {
    ($($target:ident)*) => {
        $(#[test]
        fn $target() {
            run_target(stringify!($target));
        })*

        const RUN: &[&str] = &[$(stringify!($target)),*];
    };
}
run! { codec delta files hot json kafka keys outbox proto registry }

#[test]
fn every_target_is_run_and_has_a_corpus() {
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names, RUN);
    let folders = fs::read_dir(checkout::root().join("fuzz/corpus")).expect("the corpus is there");
    let mut folders: Vec<String> = folders
        .map(|entry| entry.expect("listed").file_name().to_string_lossy().into_owned())
        .collect();
    folders.sort();
    assert_eq!(folders, names);
}

#[test]
fn a_seed_gives_the_same_input_again() {
    let corpus = [b"one".to_vec(), b"another".to_vec()];
    let inputs = |seed: u64| Mutator::new(&corpus).input(&mut Random::new(seed));
    assert!((0..1_000).all(|seed| inputs(seed) == inputs(seed)));
    assert!((0..1_000).any(|seed| inputs(seed) != inputs(seed + 1)));
}

fn run_target(name: &str) {
    let target = tidemill_fuzz::target(name).expect("it is listed");
    let corpus = corpus_of(target);
    for (path, input) in &corpus {
        let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
        assert!(outcome.is_ok(), "{name}: the property does not hold for {}", path.display());
    }
    let corpus: Vec<Vec<u8>> = corpus.into_iter().map(|(_, input)| input).collect();
    run_random(target, &Mutator::new(&corpus));
}

/// The entries of a target's corpus: its seeds, and inputs that once failed. A seed is as the
/// program encodes it now; `TIDEMILL_TEST_UPDATE=1` writes the seeds anew.
fn corpus_of(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = checkout::root().join("fuzz/corpus").join(target.name);
    let update = std::env::var_os("TIDEMILL_TEST_UPDATE").is_some();
    for (name, bytes) in (target.seeds)() {
        let path = folder.join(name);
        if update {
            fs::create_dir_all(&folder).expect("a folder can be made");
            fs::write(&path, &bytes).expect("the corpus can be written");
        }
        let kept = fs::read(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        assert_eq!(
            kept,
            bytes,
            "{} is not what the program encodes now. If the format was to change, keep the old \
             bytes under another name, and run TIDEMILL_TEST_UPDATE=1 cargo test --release \
             --workspace --test fuzz",
            path.display()
        );
    }
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|why| panic!("{}: {why}", folder.display()))
        .map(|entry| entry.expect("listed").path())
        .collect();
    paths.sort();
    let read = |path: PathBuf| {
        let bytes = fs::read(&path).expect("an entry can be read");
        (path, bytes)
    };
    paths.into_iter().map(read).collect()
}

/// Runs a target over random input, for its part of the time.
fn run_random(target: &Target, mutator: &Mutator<'_>) {
    let seed = std::env::var("TIDEMILL_TEST_SEED").ok();
    let first = seed.map_or_else(
        || Random::of_the_clock().next(),
        |seed| seed.parse().expect("TIDEMILL_TEST_SEED is a number"),
    );
    let in_all = if std::env::var_os("TIDEMILL_LONG").is_some() { LONG_IN_ALL } else { IN_ALL };
    let until = Instant::now() + in_all / u32::try_from(TARGETS.len()).expect("a few");
    let mut number = 0;
    while Instant::now() < until {
        let seed = first.wrapping_add(number);
        let input = mutator.input(&mut Random::new(seed));
        if catch_unwind(AssertUnwindSafe(|| (target.run)(&input))).is_err() {
            let kept = keep(target, seed, &input);
            panic!(
                "{}: the property does not hold for an input of {} bytes: {kept}. \
                 TIDEMILL_TEST_SEED={seed} begins with it. Mend the fault, and copy the input to \
                 fuzz/corpus/{0} under a name that describes it",
                target.name,
                input.len(),
            );
        }
        number += 1;
        if number.is_multiple_of(1_000) {
            is_small(target, seed);
        }
    }
    is_small(target, first.wrapping_add(number));
    println!("{}: {number} random inputs, from TIDEMILL_TEST_SEED={first}", target.name);
}

/// Writes the input of a failure beside what is compiled, and returns its path.
fn keep(target: &Target, seed: u64, input: &[u8]) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{seed}", target.name));
    match fs::write(&path, input) {
        Ok(()) => path.display().to_string(),
        Err(why) => format!("{} ({why})", input.escape_ascii()),
    }
}

/// Asserts that no input so far took much memory. Where the system does not report that, nothing is
/// asserted.
fn is_small(target: &Target, seed: u64) {
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return };
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    assert!(
        peak.is_none_or(|peak| peak < MOST_MEMORY_KIB),
        "{}: this process took {peak:?} KiB, by an input of a target that runs now; of this one, \
         with a seed of the 1,000 before TIDEMILL_TEST_SEED={seed}",
        target.name
    );
}
