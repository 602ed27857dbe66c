//! The threads of a run: each has a name, and none works where there is nothing for it to do.

use std::fs;
use tidemill_harness::alone::exclusive;
use tidemill_harness::binary::{Running, folder};

/// The threads of a process by name: the niceness of each, and how often it has slept and was
/// woken.
fn threads(pid: u32) -> Vec<(String, i64, u64)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let looked = tasks.filter_map(|task| {
        let task = task.ok()?.path();
        let name = fs::read_to_string(task.join("comm")).ok()?.trim().to_string();
        let stat = fs::read_to_string(task.join("stat")).ok()?;
        // Behind the name in brackets come the state and, as the 17th, the niceness.
        let nice = stat.rsplit_once(')')?.1.split_whitespace().nth(16)?.parse().ok()?;
        let status = fs::read_to_string(task.join("status")).ok()?;
        let slept = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?
            .trim()
            .parse()
            .ok()?;
        Some((name, nice, slept))
    });
    looked.collect()
}

#[test]
fn the_fold_is_not_woken_by_commits() {
    let _exclusive = exclusive();
    const BATCHES: u64 = 3000;
    let folder = folder();
    let input = folder.path().join("in.txt");
    fs::write(&input, "tide\n".repeat(usize::try_from(BATCHES).expect("small")))
        .expect("it can be written");
    let text = |path: &std::path::Path| path.to_str().expect("UTF-8").to_string();
    let state = text(&folder.path().join("state"));
    let arguments = [
        "run",
        "--state",
        &state,
        "--listen",
        "127.0.0.1:0",
        "--workers",
        "1",
        "--durability",
        "process",
    ];
    let batches = ["--input", &text(&input), "--max-batch-records", "1"];
    let mut running = Running::start("word_count", &[&arguments[..], &batches].concat());
    running.says("all sources are at their end");
    let (_, status) = running.get("/v1/status");
    assert_eq!(status["committed"].as_u64(), Some(BATCHES), "{status}");
    let threads = threads(running.pid());
    let of = |name: &str| {
        let found = threads.iter().find(|(known, ..)| known == name);
        found.unwrap_or_else(|| panic!("there is no thread {name}: {threads:?}"))
    };
    let (_, nice, slept) = of("folder");
    // Once a second, and when there is something to fold: there is not. The committer, for
    // comparison, was woken by most.
    assert!(*slept < BATCHES / 4, "the fold was woken {slept} times in {BATCHES} batches");
    assert_eq!(
        *nice,
        of("committer").1,
        "RocksDB takes a fold's file while commits wait for that thread"
    );
}
