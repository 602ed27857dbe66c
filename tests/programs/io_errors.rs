//! Failing I/O: an error at any call of a run, from its start to its stop, a kill at one, and a
//! power loss after it. Each record has counted once all the same, and the process has ended with a
//! code of the table.
//!
//! The calls are made to fail by `tests/shim/io.c`, which is preloaded into `word_count`.
//! `TIDEMILL_LONG=1` takes every call of the workload instead of 60 of them, `TIDEMILL_TEST_SEED=N`
//! repeats a choice that failed.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use tempfile::TempDir;
use tidemill::{Points, Store};
use tidemill_harness::binary::{Outcome, Running, newest_in, recount};
use tidemill_harness::random::Random;
use tidemill_harness::{asked, binary, checkout, store};

const EIO: u32 = 5;
const ENOSPC: u32 = 28;
/// Not an error number: the process is killed at the call.
const KILL: u32 = 0;

/// The codes with which a process may end at an error that passes: it has got over it, or the same
/// command may succeed later.
const CODES: [i32; 2] = [0, 75];

/// How many calls are made to fail if not all are asked for.
const CALLS: u64 = 60;

/// How many runs are made beside each other.
const BESIDE: usize = 4;

/// The shim, built once.
fn shim() -> &'static Path {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    SHIM.get_or_init(|| {
        let source = checkout::root().join("tests/shim/io.c");
        let shim = checkout::target().join("tmp/tidemill-io-shim.so");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&shim)
            .arg(source)
            .arg("-ldl")
            .output();
        let built = built.expect("a C compiler is there: RocksDB was built with one");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        shim
    })
}

pub(super) fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A folder with an input, a state and a file sink.
pub(super) struct Place {
    pub(super) folder: TempDir,
    pub(super) input: String,
    pub(super) has_sink: bool,
}

impl Place {
    /// With as many lines as make 30 batches.
    pub(super) fn new() -> Place {
        let input = (0..300).map(random_line).collect();
        let place = Place { folder: binary::folder(), input, has_sink: true };
        fs::write(place.folder.path().join("input.txt"), &place.input).expect("it can be written");
        place
    }

    pub(super) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out.jsonl")
    }

    pub(super) fn arguments(&self, command: &str, more: &[&str]) -> Vec<String> {
        let (state, out, input) = (self.state(), self.out(), self.folder.path().join("input.txt"));
        let mut words =
            vec![command, "--state", text(&state), "--input", text(&input), "--workers", "2"];
        let usual = [
            ("--listen", "none"),
            ("--max-batch-records", "10"),
            ("--fold-bytes", "2KB"),
            ("--disk-reserve", "0"),
            ("--out", text(&out)),
        ];
        let wanted = |name: &str| !more.contains(&name) && (self.has_sink || name != "--out");
        words.extend(
            usual.iter().filter(|(name, _)| wanted(name)).flat_map(|(name, value)| [*name, *value]),
        );
        words.extend(more);
        words.into_iter().map(str::to_string).collect()
    }

    pub(super) fn start(
        &self,
        command: &str,
        more: &[&str],
        environment: &[(&str, &str)],
    ) -> Running {
        let arguments = self.arguments(command, more);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Running::start_with("word_count", &arguments, environment)
    }

    /// Runs it to the end of its input, without the shim.
    pub(super) fn run(&self, more: &[&str]) -> Outcome {
        self.start("run", &[&["--exit-at-end"], more].concat(), &[]).wait()
    }

    /// As [`Place::run`], with the shim preloaded and set so.
    pub(super) fn run_with(&self, more: &[&str], settings: &[(&str, &str)]) -> Outcome {
        self.start("run", &[&["--exit-at-end"], more].concat(), &self.preloaded(settings)).wait()
    }

    pub(super) fn preloaded<'a>(
        &'a self,
        settings: &[(&'a str, &'a str)],
    ) -> Vec<(&'a str, &'a str)> {
        let own = [("LD_PRELOAD", text(shim())), ("IO_UNDER", text(self.folder.path()))];
        own.iter().chain(settings).copied().collect()
    }

    /// The state, and the last value of each word in the sink's file, whose values only rise, are
    /// the words of the input.
    #[track_caller]
    pub(super) fn is_exact(&self, case: &str) {
        let words = recount([self.input.as_str()]);
        let store = Store::inspect(&self.state()).unwrap_or_else(|why| panic!("{case}: {why}"));
        assert_eq!(store::scan::<String, u64>(&store, "counts"), words, "{case}: the state");
        store.close(&Points::none()).expect("it can be closed");
        if self.has_sink {
            assert_eq!(newest_in(&self.out()), words, "{case}: the sink");
        }
    }
}

/// A line of words of which some are frequent, the same for each number.
pub(super) fn random_line(number: u64) -> String {
    let mut random = Random::new(number);
    let words: Vec<String> =
        (0..4).map(|_| format!("w{}", random.within(0..40) * random.within(0..40) / 40)).collect();
    words.join(" ") + "\n"
}

/// One call that fails: the `at`th of this name, `times` in a row.
#[derive(Clone, Debug)]
struct Fault {
    call: String,
    at: u64,
    times: u64,
    errno: u32,
}

/// How often each call is made by a run that nothing happens to.
fn count_calls() -> BTreeMap<String, u64> {
    let place = Place::new();
    let counts = place.folder.path().join("counts");
    place.run_with(&[], &[("IO_COUNTS", text(&counts))]).is(
        "a run without an error",
        0,
        &["30 batches"],
    );
    place.is_exact("a run without an error");
    let counts = fs::read_to_string(counts).expect("the shim has written it");
    let count = |line: &str| {
        line.split_once(' ')
            .map(|(name, count)| (name.to_string(), count.parse().expect("a number")))
    };
    let counts: BTreeMap<String, u64> = counts.lines().filter_map(count).collect();
    for call in ["fdatasync", "fsync", "write", "rename", "link", "unlink", "ftruncate", "open"] {
        assert!(
            counts.get(call).is_some_and(|count| *count > 0),
            "the shim sees no {call}: {counts:?}"
        );
    }
    counts
}

/// Calls of each name, spread over the run: all of them, or so many in total.
fn faults(counts: &BTreeMap<String, u64>, random: &mut Random) -> Vec<Fault> {
    let mut shares: BTreeMap<&String, u64> = counts.keys().map(|call| (call, 0)).collect();
    let mut left =
        if asked::long() { counts.values().sum() } else { CALLS.min(counts.values().sum()) };
    while left > 0 {
        for (call, share) in &mut shares {
            if left > 0 && *share < counts[*call] {
                *share += 1;
                left -= 1;
            }
        }
    }
    let mut faults = Vec::new();
    for (call, share) in shares {
        for part in 0..share {
            // One of each part of the run.
            let part = part * counts[call] / share..(part + 1) * counts[call] / share;
            let at = 1 + random.within(part);
            let errno = random.one_of(&[EIO, ENOSPC]);
            faults.push(Fault { call: call.clone(), at, times: random.within(1..4), errno });
        }
    }
    faults
}

#[test]
fn i5_after_an_io_error_at_any_call_everything_has_counted_once() {
    let seed = asked::seed().unwrap_or_else(|| Random::of_the_clock().next() >> 32);
    let faults = faults(&count_calls(), &mut Random::new(seed));
    in_parallel(&faults, |fault| check(fault, &format!("TIDEMILL_TEST_SEED={seed}: {fault:?}")));
}

/// Does the same with each of these, some at a time: they wait for the disk most of the time.
pub(super) fn in_parallel<T: Sync>(cases: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let one_by_one = || {
        while let Some(case) = cases.get(next.fetch_add(1, SeqCst)) {
            work(case);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..BESIDE {
            scope.spawn(one_by_one);
        }
    });
}

/// Runs the workload with this fault and then without, and compares what came of it.
fn check(fault: &Fault, case: &str) {
    let place = Place::new();
    let (at, times, errno) =
        (fault.at.to_string(), fault.times.to_string(), fault.errno.to_string());
    let set = [
        ("IO_CALL", fault.call.as_str()),
        ("IO_AT", &at),
        ("IO_TIMES", &times),
        ("IO_ERRNO", &errno),
    ];
    let failed = place.run_with(&[], &set);
    assert!(
        failed.code.is_some_and(|code| CODES.contains(&code)),
        "{case}: it ended otherwise: {failed:#?}"
    );
    assert!(!failed.err.contains("panicked"), "{case}: {failed:#?}");
    let finished = place.run(&[]);
    assert_eq!(
        finished.code,
        Some(0),
        "{case}: it does not go on: {finished:#?}\nafter: {failed:#?}"
    );
    place.is_exact(case);
}

/// RocksDB removes the table that it was taking in when the manifest cannot be synced, although the
/// manifest may name it.
#[test]
fn i2_after_a_sync_of_the_manifest_has_failed_the_store_can_be_opened() {
    let cases: Vec<u64> = (1..=14).collect();
    in_parallel(&cases, |at| {
        let place = Place::new();
        let at = at.to_string();
        let set = [
            ("IO_NAMED", "MANIFEST"),
            ("IO_CALL", "fdatasync"),
            ("IO_AT", &at),
            ("IO_TIMES", "1"),
            ("IO_ERRNO", "5"),
        ];
        let failed = place.run_with(&["--max-batches-in-flight", "1"], &set);
        assert!(failed.code.is_some_and(|code| CODES.contains(&code)), "sync {at}: {failed:#?}");
        place.run(&[]).is(&format!("after sync {at} has failed"), 0, &[]);
        place.is_exact(&format!("after sync {at} has failed"));
    });
}

#[test]
fn a_fold_whose_file_cannot_be_written_is_put_off_and_the_run_goes_on() {
    let place = Place::new();
    let set = [
        ("IO_NAMED", "fold.sst"),
        ("IO_CALL", "write"),
        ("IO_AT", "1"),
        ("IO_TIMES", "1"),
        ("IO_ERRNO", "28"),
    ];
    let mut running = place.start("run", &["--follow"], &place.preloaded(&set));
    let said = running.says("the log is not folded now");
    for part in ["fold.sst", "No space left", "Nothing is lost", "tried again every 5s"] {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
    assert!(!place.state().join("fold.sst").exists(), "what was written of it is left behind");
    running.says("the log is folded again");
    running.signal("TERM");
    running.wait().is("a clean stop", 0, &["stopped after batch"]);
    place.run(&[]).is("the rest", 0, &[]);
    place.is_exact("a fold was put off");
    let store = Store::inspect(&place.state()).expect("it can be looked at");
    assert!(store.folded() > tidemill::Txid::NONE, "it was folded in the end");
}

/// What a power loss leaves of the files that were not synced to their ends.
#[derive(Clone, Copy, Debug)]
enum Left {
    /// What was synced.
    Synced,
    /// All but the last bytes: a torn record.
    Torn,
}

/// Cuts the files in this folder as a power loss does, given what the shim has noted of syncs.
/// Returns whether a log of the store is shorter now.
fn lose_power(folder: &Path, synced: &Path, left: Left) -> bool {
    let noted = fs::read_to_string(synced).expect("the shim has written it");
    let mut lengths: HashMap<(u64, u64), u64> = HashMap::new();
    for line in noted.lines() {
        let numbers: Vec<u64> =
            line.split(' ').map(|number| number.parse().expect("a number")).collect();
        lengths.insert((numbers[0], numbers[1]), numbers[2]);
    }
    let mut cut = false;
    for path in files_in(folder) {
        let metadata = fs::metadata(&path).expect("it is there");
        let synced = lengths.get(&(metadata.dev(), metadata.ino())).copied().unwrap_or(0);
        let keep = match left {
            Left::Synced => synced,
            Left::Torn => synced.max(metadata.len().saturating_sub(7)),
        };
        if keep < metadata.len() {
            cut |= path.extension().is_some_and(|extension| extension == "log");
            File::options()
                .write(true)
                .open(&path)
                .and_then(|file| file.set_len(keep))
                .expect("it can be cut");
        }
    }
    cut
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder).expect("it is there").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files_in(&path) } else { vec![path] }).collect()
}

#[test]
fn i2_with_durability_process_a_power_loss_after_a_look_falls_back_or_loses_nothing() {
    let mut lost = 0;
    for left in [Left::Synced, Left::Torn] {
        for looks in [0, 1, 2] {
            let case = format!("{left:?}, looked at {looks} times");
            lost += u32::from(lost_after_looks(&case, left, looks));
        }
    }
    assert!(lost > 0, "the power loss loses something: else this test sees nothing");
}

/// A process with durability `process` is killed when it has committed batches after a fold; the
/// state is looked at; then the power is lost. Returns whether a part of the log was lost.
fn lost_after_looks(case: &str, left: Left, looks: usize) -> bool {
    let mut place = Place { has_sink: false, ..Place::new() };
    let synced = place.folder.path().join("synced");
    let process = ["--durability", "process"];
    let set = [("IO_SYNCED", text(&synced)), ("TIDEMILL_CRASH_AT", "fold-ingested:wait:1")];
    let follow = [&process[..], &["--follow", "--listen", "127.0.0.1:0"]].concat();
    let mut running = place.start("run", &follow, &place.preloaded(&set));
    running.get_until("/v1/status", |status| status["records"] == 300);
    running.says("crash point fold-ingested");
    // Nothing is folded from here on, and without a sink nothing is synced.
    let more: String = (300..400).map(random_line).collect();
    let input = File::options().append(true).open(place.folder.path().join("input.txt"));
    std::io::Write::write_all(&mut input.expect("it is there"), more.as_bytes())
        .expect("it can be written");
    running.get_until("/v1/status", |status| status["records"] == 400);
    running.kill();
    for _ in 0..looks {
        let checked = place.start("check", &process, &place.preloaded(&set[..1])).wait();
        checked.is(case, 0, &["go on after batch"]);
    }
    let cut = lose_power(&place.state(), &synced, left);
    place.start("check", &process, &[]).wait().is(case, 0, &["go on after batch"]);
    place.run(&process).is(case, 0, &[]);
    place.input += &more;
    place.is_exact(case);
    assert!(looks == 0 || !cut, "{case}: what was seen is on the disk");
    cut
}

#[test]
fn i1_with_durability_sync_a_power_loss_soon_after_a_kill_loses_nothing_that_was_built_on() {
    let cases = [Left::Synced, Left::Torn]
        .into_iter()
        .flat_map(|left| (5..17).step_by(2).map(move |at| (left, at)));
    let cases: Vec<(Left, u64)> = cases.collect();
    in_parallel(&cases, |(left, at)| {
        let case = format!("{left:?}, killed in sync {at} of the log");
        let place = Place::new();
        let (synced, at, kill) =
            (place.folder.path().join("synced"), at.to_string(), KILL.to_string());
        let noted = ("IO_SYNCED", text(&synced));
        let set = [
            ("IO_NAMED", ".log"),
            ("IO_CALL", "fdatasync"),
            ("IO_AT", &at),
            ("IO_TIMES", "1"),
            ("IO_ERRNO", &kill),
        ];
        // No fold covers what is lost.
        let slow = ["--max-batches-in-flight", "1", "--fold-bytes", "48MiB"];
        let killed = place.run_with(&slow, &[&set[..], &[noted]].concat());
        assert_eq!(killed.code, None, "{case}: {killed:#?}");
        // The batch that was written and not synced is read, and what follows it is synced.
        place.run_with(&slow, &[noted]).is(&case, 0, &["stopped after batch"]);
        assert!(
            !lose_power(&place.state(), &synced, *left),
            "{case}: what was built on is on the disk"
        );
        place.run(&slow).is(&case, 0, &[]);
        place.is_exact(&case);
    });
}
