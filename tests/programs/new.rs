//! `tidemill new`: what it makes builds, runs and passes its test, as it says.

use crate::support::binary::Running;
use crate::support::checkout;
use std::path::Path;
use std::process::{Command, Output};

fn tidemill(arguments: &[&str], folder: &Path) -> Output {
    Command::new(checkout::program("tidemill")).args(arguments).current_dir(folder).output().expect("it can be run")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs cargo in a folder, with what is compiled for these tests.
fn cargo(arguments: &[&str], folder: &Path) -> String {
    let mut command = Command::new(env!("CARGO"));
    let command = command.args(arguments).current_dir(folder).env("CARGO_TARGET_DIR", checkout::target());
    let ran = command.output().expect("it can be run");
    assert!(ran.status.success(), "cargo {arguments:?}: {}\n{}", text(&ran.stdout), text(&ran.stderr));
    text(&ran.stdout) + &text(&ran.stderr)
}

#[test]
fn a_new_topology_builds_runs_and_passes_its_test() {
    let folder = tempfile::tempdir().expect("a folder");
    // Said, because what a program was compiled from may have been another folder, if several share what is compiled.
    let sources = checkout::root();
    let sources = sources.to_str().expect("UTF-8");
    let made = tidemill(&["new", "my_words", "--tidemill", sources], folder.path());
    assert!(made.status.success() && text(&made.stdout).contains("cargo test --release"), "{}", text(&made.stderr));
    let made = folder.path().join("my_words");
    let tested = cargo(&["test", "--release"], &made);
    assert!(tested.contains("2 passed"), "{tested}");
    assert!(!tested.contains("Compiling librocksdb-sys"), "what was compiled is compiled again: {tested}");
    cargo(&["build", "--release"], &made);
    let mut running = Running::of(
        Command::new(checkout::program("my_words"))
            .args(["run", "--state", "state", "--listen", "127.0.0.1:0"])
            .current_dir(&made),
    );
    running.says("all sources are at their end");
    let url = running.url();
    let asked = |arguments: &[&str]| {
        let ran = tidemill(&[arguments, &["--at", &url]].concat(), &made);
        (ran.status.code(), text(&ran.stdout).trim().to_string())
    };
    assert_eq!(asked(&["query", "words", "the tide"]), (Some(0), "5".into()));
    assert_eq!(asked(&["state", "get", "counts", "mill"]), (Some(0), "1".into()));
    assert_eq!(asked(&["state", "get", "counts", "sea"]).0, Some(1));
    assert_eq!(asked(&["state", "scan", "counts", "--limit", "1"]).1, "{\"key\":\"and\",\"value\":1}");
    assert!(asked(&["state", "list"]).1.contains("counts"));
    assert!(asked(&["status"]).1.contains("my_words"));
}

#[test]
fn what_cannot_be_made_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("taken")).expect("made");
    for (arguments, part) in [
        (&["new", "taken"][..], "is there already"),
        (&["new", "1st"], "begin with a letter"),
        (&["new", "words", "--tidemill", "taken"], "no Cargo.toml of Tidemill"),
        (&["new"], "NAME"),
        (&["nwe"], "unrecognized subcommand"),
        (&["status", "--at", "http://127.0.0.1:1"], "127.0.0.1:1"),
    ] {
        let ran = tidemill(arguments, folder.path());
        assert!(
            ran.status.code().is_some_and(|code| code != 0) && text(&ran.stderr).contains(part),
            "{arguments:?}: {}",
            text(&ran.stderr)
        );
    }
    assert!(!folder.path().join("words").exists(), "a refusal makes nothing");
}
