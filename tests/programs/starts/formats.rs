//! A store of each format, kept in `tests/fixtures/`: read by every later version, upgraded by the
//! first start, and counted on exactly.

use super::place::copy_folder;
use crate::support::binary::{Outcome, Running, counts_are, folder, newest_in, recount, run, scan};
use crate::support::checkout;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;
use tidemill::{Points, Position, Store};
use tidemill_state::Txid;
use tidemill_state::store::format::STORE_FORMAT;

/// The content of a fixture: see its README.
struct Content {
    format: u32,
    lines_read: usize,
    committed: Txid,
    folded: Txid,
}

/// The fixtures, one for each format up to the present one.
const FIXTURES: [Content; 2] = [
    Content { format: 1, lines_read: 140, committed: Txid(14), folded: Txid(11) },
    Content { format: 2, lines_read: 160, committed: Txid(16), folded: Txid(8) },
];

/// A copy of a fixture: `word_count` over its first lines, aborted between a commit and its output.
struct Fixture {
    format: u32,
    folder: TempDir,
}

impl Fixture {
    fn of_format(format: u32) -> Fixture {
        let copy = Fixture { format, folder: folder() };
        let fixtures = checkout::root().join("tests/fixtures");
        copy_folder(&fixtures.join(format!("store-format-{format}")), copy.folder.path());
        copy
    }

    fn is_older(&self) -> bool {
        self.format < STORE_FORMAT
    }

    /// The input, as it is named in the position: from the top of the repository.
    fn input(&self) -> String {
        format!("tests/fixtures/store-format-{}/input.txt", self.format)
    }

    fn text(&self) -> String {
        fs::read_to_string(checkout::root().join(self.input())).expect("it is there")
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out.jsonl")
    }

    fn start(&self, command: &str, environment: &[(&str, &str)]) -> Outcome {
        let (state, out, input) = (self.state(), self.out(), self.input());
        let [state, out] = [&state, &out].map(|path| path.to_str().expect("UTF-8"));
        let own = [command, "--state", state, "--out", out, "--input", &input];
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
        let words = recount([self.text().as_str()]);
        counts_are(case, &self.state(), &words);
        assert_eq!(newest_in(&self.out()), words, "{case}: the sink");
    }
}

/// A change of the format has to leave a store of the one before behind, while there is a program
/// that writes it.
#[test]
fn every_format_up_to_the_present_one_has_a_fixture() {
    let kept = fs::read_dir(checkout::root().join("tests/fixtures")).expect("the folder is there");
    let mut kept: Vec<u32> = kept
        .filter_map(|entry| entry.expect("listed").file_name().into_string().ok())
        .filter_map(|name| name.strip_prefix("store-format-").map(str::to_owned))
        .map(|number| number.parse().expect("a number"))
        .collect();
    kept.sort_unstable();
    let formats: Vec<u32> = (1..=STORE_FORMAT).collect();
    assert_eq!(kept, formats, "the folders tests/fixtures/store-format-*, one for each format");
    assert_eq!(
        FIXTURES.map(|content| content.format).to_vec(),
        formats,
        "the contents of the folders, in this file"
    );
}

#[test]
fn a_store_of_every_format_is_read_as_it_was_written() {
    for Content { format, lines_read, committed, folded } in FIXTURES {
        let copy = Fixture::of_format(format);
        let store = Store::inspect(&copy.state()).expect("it can be looked at");
        assert_eq!(
            (store.format(), store.committed().txid(), store.folded()),
            (format, committed, folded)
        );
        assert!(store.unfolded_bytes() > 0, "format {format}: a part of it is not folded");
        let facts = store.facts().expect("read");
        let source = facts.schema.source("sentences").expect("it was recorded");
        let positions: BTreeMap<String, Position> = store.positions(source).expect("read");
        let offset: usize = copy.text().split_inclusive('\n').take(lines_read).map(str::len).sum();
        assert_eq!(
            positions.into_iter().map(|(name, at)| (name, at.offset)).collect::<Vec<_>>(),
            [(copy.input(), offset as u64)]
        );
        assert_eq!(facts.sinks.len(), 1);
        assert!(!facts.sinks[0].entries.is_empty(), "format {format}: the sink has not had all");
        store.close(&Points::none()).expect("it can be closed");
        let counts: BTreeMap<String, u64> =
            scan("word_count", "counts", &copy.state()).into_iter().collect();
        assert_eq!(counts, recount(copy.text().lines().take(lines_read)), "format {format}");
        let state = copy.state();
        run("word_count", &["state", "list", "--state", state.to_str().expect("UTF-8")]).is(
            "state list",
            0,
            &["counts", "out"],
        );
        let upgrades = format!("upgrades the store from format {format} to {STORE_FORMAT}");
        let checked = copy.start("check", &[]);
        checked.is("check", 0, &["go on after batch"]);
        assert_eq!(
            checked.out.contains(&upgrades) || checked.err.contains(&upgrades),
            copy.is_older(),
            "{checked:#?}"
        );
        assert_eq!(copy.format(), format, "a look changes nothing");
    }
}

#[test]
fn a_store_of_every_format_is_upgraded_by_a_start_and_goes_on_exactly() {
    for Content { format, .. } in FIXTURES {
        let copy = Fixture::of_format(format);
        let upgraded = format!("store upgraded from format {format} to {STORE_FORMAT}");
        let first = copy.start("run", &[]);
        first.is("the first run", 0, &["go on after batch"]);
        assert_eq!(first.err.contains(&upgraded), copy.is_older(), "{first:#?}");
        assert_eq!(copy.format(), STORE_FORMAT);
        copy.is_exact(&format!("format {format}, the first run"));
        let second = copy.start("run", &[]);
        second.is("the second run", 0, &["go on after batch"]);
        assert!(!second.err.contains("upgraded"), "it is upgraded once: {second:#?}");
        copy.is_exact(&format!("format {format}, started again"));
    }
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
    for Content { format, .. } in FIXTURES {
        for (point, upgraded) in points {
            let copy = Fixture::of_format(format);
            if point == "store-upgraded" && !copy.is_older() {
                continue;
            }
            let case = format!("format {format}, {point}");
            let crashed = copy.start("run", &[("TIDEMILL_CRASH_AT", &format!("{point}:abort"))]);
            assert_eq!(crashed.code, None, "{case}: {crashed:#?}");
            assert_eq!(copy.format(), if upgraded { STORE_FORMAT } else { format }, "{case}");
            copy.start("run", &[]).is(&case, 0, &["go on after batch"]);
            copy.is_exact(&case);
        }
    }
}
