//! Stores of earlier formats, kept in `tests/fixtures/`: read by every later version, upgraded by
//! the first start, and counted on exactly.

use super::place::copy_folder;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;
use tidemill::{Points, Position, Store};
use tidemill_harness::binary::{
    Outcome, Running, counts_are, folder, newest_in, recount, run, scan,
};
use tidemill_harness::checkout;
use tidemill_state::Txid;
use tidemill_state::store::format::STORE_FORMAT;

/// The fixtures' input, as it is named in their positions: from the top of the repository.
const INPUT: &str = "tests/fixtures/store-format-1/input.txt";

/// A copy of a fixture: `word_count` over its first lines, aborted between a commit and its output.
struct Fixture {
    folder: TempDir,
}

impl Fixture {
    fn of_format(format: u32) -> Fixture {
        let copy = Fixture { folder: folder() };
        let fixtures = checkout::root().join("tests/fixtures");
        copy_folder(&fixtures.join(format!("store-format-{format}")), copy.folder.path());
        copy
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out.jsonl")
    }

    fn start(&self, command: &str, environment: &[(&str, &str)]) -> Outcome {
        let (state, out) = (self.state(), self.out());
        let [state, out] = [&state, &out].map(|path| path.to_str().expect("UTF-8"));
        let own = [command, "--state", state, "--out", out, "--input", INPUT];
        let small = [
            "--listen",
            "none",
            "--exit-at-end",
            "--max-batch-records",
            "10",
            "--fold-bytes",
            "500",
        ];
        Running::start_with("word_count", &[&own[..], &small].concat(), environment).wait()
    }

    fn format(&self) -> u32 {
        let store = Store::inspect(&self.state()).expect("every version reads it");
        let format = store.format();
        store.close(&Points::none()).expect("it can be closed");
        format
    }

    /// All of the input is counted, once, in the state and in the sink's file.
    #[track_caller]
    fn is_exact(&self, case: &str) {
        let words = recount([input().as_str()]);
        counts_are(case, &self.state(), &words);
        assert_eq!(newest_in(&self.out()), words, "{case}: the sink");
    }
}

fn input() -> String {
    fs::read_to_string(checkout::root().join(INPUT)).expect("it is there")
}

/// The words of the first lines.
fn words_of(lines: usize) -> BTreeMap<String, u64> {
    recount(input().lines().take(lines))
}

#[test]
fn a_store_of_format_1_is_read_as_it_was_written() {
    let copy = Fixture::of_format(1);
    let words = words_of(LINES_READ);
    let store = Store::inspect(&copy.state()).expect("it can be looked at");
    assert_eq!((store.format(), store.committed().txid(), store.folded()), (1, COMMITTED, FOLDED));
    assert!(store.unfolded_bytes() > 0, "a part of it is not folded");
    let facts = store.facts().expect("read");
    let source = facts.schema.source("sentences").expect("it was recorded");
    let positions: BTreeMap<String, Position> = store.positions(source).expect("read");
    let offset: usize = input().split_inclusive('\n').take(LINES_READ).map(str::len).sum();
    assert_eq!(
        positions.into_iter().map(|(name, at)| (name, at.offset)).collect::<Vec<_>>(),
        [(INPUT.into(), offset as u64)]
    );
    assert_eq!(facts.sinks.len(), 1);
    assert!(!facts.sinks[0].entries.is_empty(), "the sink has not had all");
    store.close(&Points::none()).expect("it can be closed");
    let counts: BTreeMap<String, u64> =
        scan("word_count", "counts", &copy.state()).into_iter().collect();
    assert_eq!(counts, words);
    let state = copy.state();
    run("word_count", &["state", "list", "--state", state.to_str().expect("UTF-8")]).is(
        "state list",
        0,
        &["counts", "out"],
    );
    let checked = copy.start("check", &[]);
    checked.is("check", 0, &["go on after batch", "upgrades the store from format 1 to"]);
    assert_eq!(copy.format(), 1, "a look changes nothing");
}

#[test]
fn a_store_of_format_1_is_upgraded_by_a_start_and_goes_on_exactly() {
    let copy = Fixture::of_format(1);
    let said = format!("store upgraded from format 1 to {STORE_FORMAT}");
    copy.start("run", &[]).is("the first run", 0, &["go on after batch", &said]);
    assert_eq!(copy.format(), STORE_FORMAT);
    copy.is_exact("upgraded");
    let second = copy.start("run", &[]);
    second.is("the second run", 0, &["go on after batch"]);
    assert!(!second.err.contains("upgraded"), "it is upgraded once: {second:#?}");
    copy.is_exact("started again");
}

#[test]
fn i5_after_a_crash_at_each_point_of_an_upgrading_start_everything_has_counted_once() {
    // The points of a start around the upgrade, and whether it was made before them.
    let points = [
        ("incarnation-written", false),
        ("incarnation-raised", false),
        ("store-upgraded", true),
        ("registered", true),
    ];
    for (point, upgraded) in points {
        let copy = Fixture::of_format(1);
        let crashed = copy.start("run", &[("TIDEMILL_CRASH_AT", &format!("{point}:abort"))]);
        assert_eq!(crashed.code, None, "{point}: {crashed:#?}");
        assert_eq!(copy.format(), if upgraded { STORE_FORMAT } else { 1 }, "{point}");
        copy.start("run", &[]).is(point, 0, &["go on after batch"]);
        copy.is_exact(point);
    }
}

/// What the fixture of format 1 has: see its README.
const LINES_READ: usize = 140;
const COMMITTED: Txid = Txid(14);
const FOLDED: Txid = Txid(11);
