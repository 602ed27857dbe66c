//! How soon a topology is back after `kill -9`, and how soon a record is visible:
//! `cargo bench --bench start`.
//!
//! `recovery`: a process with a state of so many keys is killed; another one starts on its folder.
//! From the start of that process until its workers take records, and until its first new commit.
//! `visible`: a line is appended to a file that is followed; from then until a batch that holds it
//! is committed. `beyond_delay` is what that takes longer than `max_batch_delay`, which is waited
//! for more lines.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tidemill::prelude::*;
use tidemill::{Engine, Settings, Txid};

const KEYS: u64 = 1_000_000;

/// What the processes of `recovery` are given: the state's folder.
const STATE: &str = "TIDEMILL_BENCH_STATE";

fn main() {
    if let Some(state) = std::env::var_os(STATE) {
        return run(Path::new(&state));
    }
    let filter =
        std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    if "recovery".contains(&filter) {
        recovery();
    }
    if "visible".contains(&filter) {
        visible(Duration::from_millis(50));
    }
}

/// The process that is killed: says when it takes records, when it has committed, and when every
/// key is there.
fn run(state: &Path) {
    let settings = Settings { workers: 2, disk_reserve: 0, ..Settings::new("bench", state) };
    let engine = Engine::start(settings, |topology: &Topology<'_>| {
        // Each key once, in an order that goes all over them; then again.
        let numbers =
            Generator::new(7, |_, number| (number % KEYS).wrapping_mul(0x9e37_79b9_7f4a_7c15))
                .partitions(2);
        topology
            .source("numbers", numbers)
            .group_by(|number| *number)
            .persistent_aggregate("counts", Count);
    });
    let engine = engine.expect("it starts");
    let runtime = engine.runtime();
    let before = runtime.committed();
    let wait_until = |what: &str, wanted: &dyn Fn() -> bool| {
        while !wanted() {
            std::thread::sleep(Duration::from_millis(1));
        }
        println!("{what}");
    };
    wait_until("ready", &|| runtime.is_ready());
    wait_until("committed", &|| runtime.committed() > before);
    wait_until("all", &|| runtime.status().states[0].keys as u64 >= KEYS);
    // It ends by itself should nobody kill it.
    std::thread::sleep(Duration::from_secs(120));
}

/// A process, and how long it took to say these.
fn started(state: &Path, says: &[&str]) -> (Child, Vec<Duration>) {
    let began = Instant::now();
    let mut command = Command::new(std::env::current_exe().expect("this benchmark is a file"));
    let mut child = command
        .env(STATE, state)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let took = says.iter().map(|wanted| {
        assert_eq!(lines.next().and_then(Result::ok).as_deref(), Some(*wanted), "it has ended");
        began.elapsed()
    });
    let took = took.collect();
    (child, took)
}

fn recovery() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .expect("the target folder can be written");
    let state = folder.path().join("state");
    let (mut child, _) = started(&state, &["ready", "committed", "all"]);
    for turn in 1..=3 {
        // On Unix that is kill -9.
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        let (next, took) = started(&state, &["ready", "committed"]);
        child = next;
        let [ready, committed] = [took[0].as_millis(), took[1].as_millis()];
        println!("recovery turn={turn} keys={KEYS} ready_ms={ready} first_commit_ms={committed}");
    }
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}

fn visible(delay: Duration) {
    const LINES: usize = 100;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .expect("the target folder can be written");
    let path = folder.path().join("lines.txt");
    let mut file = std::fs::File::create(&path).expect("it can be made");
    let mut settings = Settings {
        workers: 2,
        disk_reserve: 0,
        ..Settings::new("bench", folder.path().join("state"))
    };
    settings.batches.max_delay = delay;
    let glob = path.display().to_string();
    let engine = Engine::start(settings, move |topology: &Topology<'_>| {
        topology
            .source("lines", Files::lines(glob.as_str()).follow())
            .persistent_aggregate("lines", Count);
    });
    let engine = engine.expect("it starts");
    let runtime = engine.runtime();
    let mut took: Vec<Duration> = Vec::new();
    for line in 0..LINES {
        let before = runtime.committed();
        let began = Instant::now();
        writeln!(file, "line {line}").expect("it can be written");
        while runtime.committed() == before {
            std::thread::sleep(Duration::from_micros(100));
        }
        took.push(began.elapsed());
    }
    assert!(runtime.committed() >= Txid(1));
    took.sort_unstable();
    let beyond = |quantile: f64| {
        let took = took[((LINES - 1) as f64 * quantile) as usize];
        took.as_secs_f64() * 1e3 - delay.as_secs_f64() * 1e3
    };
    println!(
        "visible max_batch_delay_ms={} beyond_delay_p50_ms={:.1} beyond_delay_p99_ms={:.1}",
        delay.as_millis(),
        beyond(0.5),
        beyond(0.99)
    );
    engine.stop();
    engine.wait().expect("it stops");
}
