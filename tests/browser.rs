//! The page in a real browser, driven by `ui/browser/views.mjs`: every view is used, nothing goes
//! wrong on the console, no request leaves the machine, and a server that is killed and started
//! again is found again.
//!
//! Skipped, with the reason printed, where Node.js, the page's packages or Chromium are missing:
//! `make test` installs them where it may. With `TIDEMILL_TEST_BROWSER=1`, as in CI, they must be
//! there.

#![allow(clippy::disallowed_methods)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tidemill::prelude::*;
use tidemill::server::{Access, Listening};
use tidemill::testing::Kit;
use tidemill_harness::alone::exclusive;
use tidemill_harness::binary::{Running, folder};
use tidemill_harness::checkout::root;

/// Whether there is a browser to use; says why, if not.
fn has_browser() -> bool {
    let there = |path: &str| Path::new(path).exists();
    let missing = [
        (
            !there("/usr/bin/chromium")
                && !there("/usr/bin/google-chrome")
                && !there("/usr/bin/chromium-browser"),
            "Chromium",
        ),
        (
            !root().join("ui/node_modules/playwright-core").exists(),
            "the page's packages (make page)",
        ),
        (Command::new("node").arg("--version").output().is_err(), "Node.js"),
    ];
    for (_, what) in missing.iter().filter(|(missing, _)| *missing) {
        assert!(
            std::env::var_os("TIDEMILL_TEST_BROWSER").is_none(),
            "{what} is not here, and TIDEMILL_TEST_BROWSER says that it is"
        );
        println!("skipped: {what} is not here");
    }
    missing.iter().all(|(missing, _)| !missing)
}

/// One at a time: how long the page takes is looked at too.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The browser's steps, as they are said.
struct Steps {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Steps {
    fn start(url: &str, what: &[&str]) -> Steps {
        let pictures = tidemill_harness::checkout::target().join("page");
        let mut command = Command::new("timeout");
        let command = command
            .args(["--kill-after=5", "240", "node", "browser/views.mjs", url])
            .arg(pictures)
            .args(what);
        let mut child = command
            .current_dir(root().join("ui"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("node can be started");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Steps { child, lines }
    }

    #[track_caller]
    fn until(&mut self, step: &str) {
        for line in self.lines.by_ref() {
            let line = line.expect("a line");
            println!("{line}");
            if line == step {
                return;
            }
        }
        panic!("it has ended before \"{step}\": {:?}", self.child.wait());
    }

    #[track_caller]
    fn end(mut self) {
        for line in self.lines.by_ref() {
            println!("{}", line.expect("a line"));
        }
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "a step was not as it should be: {status}");
    }
}

fn demo(state: &Path, listen: &str, speed: &str, more: &[&str]) -> Running {
    let state = state.to_str().expect("UTF-8");
    let run = ["run", "--state", state, "--listen", listen, "--speed", speed];
    let mut running = Running::start("wiki_trends", &[&run[..], more].concat());
    running.says("listening on");
    running
}

#[test]
fn every_view_is_used_in_a_browser() {
    if !has_browser() {
        return;
    }
    let _alone = alone();
    let folder = folder();
    let mut running = demo(&folder.path().join("state"), "127.0.0.1:0", "600", &[]);
    Steps::start(&running.url(), &["views"]).end();
}

#[test]
fn the_page_finds_a_server_again_that_was_killed() {
    if !has_browser() {
        return;
    }
    let _alone = alone();
    let folder = folder();
    let state = folder.path().join("state");
    let mut running = demo(&state, "127.0.0.1:0", "600", &[]);
    let url = running.url();
    let mut steps = Steps::start(&url, &["outage"]);
    steps.until("loaded");
    running.kill();
    steps.until("away");
    let mut again = demo(&state, url.trim_start_matches("http://"), "100000", &[]);
    again.says("all sources are at their end");
    steps.until("back");
    steps.end();
}

#[test]
fn the_page_notices_a_server_that_stands_still() {
    if !has_browser() {
        return;
    }
    let _alone = alone();
    let folder = folder();
    let mut running = demo(&folder.path().join("state"), "127.0.0.1:0", "600", &[]);
    let mut steps = Steps::start(&running.url(), &["standstill"]);
    steps.until("loaded");
    running.signal("STOP");
    steps.until("stands still");
    running.signal("CONT");
    steps.until("goes on");
    steps.end();
}

#[test]
fn the_sources_are_paused_and_resumed_with_a_token() {
    if !has_browser() {
        return;
    }
    let _alone = alone();
    let folder = folder();
    let token = folder.path().join("token");
    std::fs::write(&token, "0123456789abcdef\n").expect("written");
    let more = ["--token-file", token.to_str().expect("UTF-8")];
    let mut running = demo(&folder.path().join("state"), "127.0.0.1:0", "600", &more);
    Steps::start(&running.url(), &["controls", "0123456789abcdef"]).end();
}

/// How many operators the large topology has before its state, and how many records it takes each
/// time.
const OPERATORS: usize = 195;
const RECORDS: u64 = 600_000;

/// So many records are in a batch: 12,000 batches each time, which are more than the page keeps.
const IN_A_BATCH: u64 = 50;

#[test]
fn the_page_stays_quick_and_does_not_grow_beside_a_large_topology() {
    let _exclusive = exclusive();
    if !has_browser() {
        return;
    }
    let _alone = alone();
    let set = |settings: &mut tidemill::Settings| {
        (settings.workers, settings.batches.max_records) = (2, IN_A_BATCH)
    };
    let mut kit = Kit::with(set, |topology, io| {
        let mut numbers = topology.source("numbers", io.source::<u64>("numbers"));
        for _ in 0..OPERATORS {
            numbers = numbers.map(|number| number);
        }
        let counts = numbers.group_by(|number| *number).persistent_aggregate("counts", Count);
        topology.query("count", |number: Requests<u64>| number.lookup(&counts).aggregate(Sum));
    });
    let port = Listening::bind("127.0.0.1:0".parse().expect("an address"), Access::default())
        .expect("any port");
    let port = port.with_page(tidemill::page::routes());
    let server = port.serve(Arc::clone(kit.engine().runtime())).expect("it serves");
    let batches = (RECORDS / IN_A_BATCH).to_string();
    let mut steps = Steps::start(&format!("http://{}", server.address()), &["large", &batches]);
    steps.until("opened");
    for time in 0..2 {
        kit.feed("numbers", time * RECORDS..(time + 1) * RECORDS);
        kit.step();
        steps.until(&format!("{} more batches have passed", batches));
    }
    steps.end();
    assert_eq!(kit.engine().runtime().status().states[0].keys as u64, 2 * RECORDS);
}
