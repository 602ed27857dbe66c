//! `tidemill new`: what it makes builds, runs and passes its test, as it says.

use serde_json::Value as Json;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tidemill_harness::binary::{self, Outcome, Running};
use tidemill_harness::checkout;

fn tidemill(arguments: &[&str], folder: &Path) -> Outcome {
    binary::tidemill(arguments, folder, &[])
}

/// A command of cargo's in a folder.
fn cargo_in(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments).current_dir(folder).env_remove("CARGO_TARGET_DIR");
    command
}

/// The crates that a new crate is built of.
const CRATES: [&str; 8] = [
    "tidemill",
    "tidemill-client",
    "tidemill-codec",
    "tidemill-connectors",
    "tidemill-engine",
    "tidemill-proto",
    "tidemill-server",
    "tidemill-state",
];

/// Runs cargo in a folder, with what is compiled for these tests: as they were, with debug
/// assertions or without.
fn cargo(arguments: &[&str], folder: &Path) -> String {
    let checks = CRATES.iter().flat_map(|name| {
        ["debug-assertions", "overflow-checks"]
            .map(|check| format!("profile.release.package.{name}.{check}=true"))
    });
    let checked =
        checks.filter(|_| cfg!(debug_assertions)).flat_map(|set| ["--config".into(), set]);
    let ran = cargo_in(folder, arguments)
        .args(checked)
        .env("CARGO_TARGET_DIR", checkout::target())
        .output()
        .expect("it can be run");
    let [out, err] =
        [ran.stdout, ran.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(ran.status.success(), "cargo {arguments:?}: {out}\n{err}");
    out + &err
}

#[test]
fn a_new_topology_builds_runs_and_passes_its_test() {
    let folder = tempfile::tempdir().expect("a folder");
    // Said, because what a program was compiled from may have been another folder, if several share
    // what is compiled.
    let sources = checkout::root();
    let sources = sources.to_str().expect("UTF-8");
    let made = tidemill(&["new", "my_words", "--tidemill", sources], folder.path());
    made.is("new", 0, &["cargo test --release", "rust-analyzer"]);
    let made = folder.path().join("my_words");
    let tested = cargo(&["test", "--release"], &made);
    assert!(tested.contains("2 passed"), "{tested}");
    assert!(
        !tested.contains("Compiling librocksdb-sys"),
        "what was compiled is compiled again: {tested}"
    );
    cargo(&["build", "--release"], &made);
    let mut running = Running::of(
        binary::plain(&checkout::program("my_words"))
            .args(["run", "--state", "state", "--listen", "127.0.0.1:0"])
            .current_dir(&made),
    );
    running.says("all sources are at their end");
    let url = running.url();
    let asked = |arguments: &[&str]| {
        let ran = tidemill(&[arguments, &["--at", &url]].concat(), &made);
        (ran.code, ran.out.trim().to_string())
    };
    assert_eq!(asked(&["query", "words", "the tide"]), (Some(0), "5".into()));
    assert_eq!(asked(&["state", "get", "counts", "mill"]), (Some(0), "1".into()));
    assert_eq!(asked(&["state", "get", "counts", "sea"]).0, Some(1));
    assert_eq!(
        asked(&["state", "scan", "counts", "--limit", "1"]).1,
        "{\"key\":\"and\",\"value\":1}"
    );
    assert!(asked(&["state", "list"]).1.contains("counts"));
    assert!(asked(&["status"]).1.contains("my_words"));
}

#[test]
fn a_new_crate_has_a_folder_of_its_own_with_what_is_compiled() {
    // Beside the test's own build, so that files can be linked.
    let folder = binary::folder();
    let sources = checkout::root();
    let sources = sources.to_str().expect("UTF-8");
    tidemill(&["new", "my_lent", "--tidemill", sources], folder.path()).is(
        "new",
        0,
        &["is compiled already"],
    );
    let made = folder.path().join("my_lent");
    let described =
        cargo_in(&made, &["metadata", "--no-deps", "--offline", "--format-version", "1"])
            .output()
            .expect("cargo runs");
    let described: Json = serde_json::from_slice(&described.stdout).expect("JSON");
    let target = Path::new(described["target_directory"].as_str().expect("a path")).to_path_buf();
    assert_eq!(
        target,
        made.canonicalize().expect("it is there").join("target"),
        "cargo clean removes only what is the crate's"
    );
    // It neither runs a build script again nor compiles what it made: looked at while it runs,
    // since compiling takes long.
    let arguments = [
        "build",
        "--release",
        "--offline",
        "--verbose",
        "-p",
        "librocksdb-sys",
        "-p",
        "rdkafka-sys",
    ];
    let mut building = Running::of(&mut cargo_in(&made, &arguments));
    let began = Instant::now();
    while !building.has_ended() {
        let said = building.err();
        for package in ["librocksdb-sys", "rdkafka-sys"] {
            let again = said.contains(&format!("Compiling {package}"))
                || said.contains(&format!("Dirty {package}"));
            assert!(!again, "what was compiled is compiled again: {said}");
        }
        assert!(began.elapsed() < Duration::from_secs(300), "it takes long: {said}");
        std::thread::sleep(Duration::from_millis(20));
    }
    building.wait().is("build", 0, &["Fresh librocksdb-sys", "Fresh rdkafka-sys"]);
    let readme = std::fs::read_to_string(made.join("README.md")).expect("it is there");
    for part in ["cargo check --release", "rust-analyzer", "cargo clean", "tidemill = { git"] {
        assert!(readme.contains(part), "{part} is not in {readme}");
    }
    let editor = std::fs::read_to_string(made.join(".vscode/settings.json")).expect("it is there");
    assert!(editor.contains("\"rust-analyzer.cargo.extraArgs\": [\"--release\"]"), "{editor}");
}

/// Cargo joins the flags of all folders above a crate: given twice, they would compile everything
/// again.
#[test]
fn a_crate_below_the_checkout_has_the_flags_of_the_compiler_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let sources = checkout::root();
    let flags_of =
        |parent: &Path| {
            tidemill(&["new", "my_flags", "--tidemill", sources.to_str().expect("UTF-8")], parent)
                .is("new", 0, &["made my_flags"]);
            let config = std::fs::read_to_string(parent.join("my_flags/.cargo/config.toml"))
                .expect("it is there");
            config.lines().filter(|line| line.starts_with("rustflags")).count()
        };
    assert_eq!(flags_of(folder.path()), 1, "outside of the checkout");
    let checkout = folder.path().join("checkout");
    std::fs::create_dir_all(checkout.join(".cargo")).expect("made");
    std::fs::copy(sources.join(".cargo/config.toml"), checkout.join(".cargo/config.toml"))
        .expect("copied");
    assert_eq!(flags_of(&checkout), 0, "inside of it");
    // Other settings above, or none that can be read, change nothing.
    for other in ["[build]\njobs = 1\n", "not TOML at all ["] {
        std::fs::write(checkout.join(".cargo/config.toml"), other).expect("written");
        std::fs::remove_dir_all(checkout.join("my_flags")).expect("removed");
        assert_eq!(flags_of(&checkout), 1, "{other}");
    }
}

#[test]
fn names_that_cargo_cannot_take_are_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let sources = checkout::root();
    let sources = sources.to_str().expect("UTF-8");
    for name in [
        "build",
        "deps",
        "examples",
        "test",
        "core",
        "std",
        "match",
        "async",
        "serde",
        "tokio",
        "tidemill-engine",
        "nul",
    ] {
        tidemill(&["new", name, "--tidemill", sources], folder.path()).is(
            name,
            64,
            &["cannot be the name of a crate", name],
        );
        assert!(!folder.path().join(name).exists(), "{name} is made");
    }
}

#[test]
fn what_cannot_be_made_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("taken")).expect("made");
    for (arguments, code, part) in [
        (&["new", "taken"][..], 64, "is there already"),
        (&["new", "1st"], 64, "begin with a letter"),
        (&["new", "words", "--tidemill", "taken"], 64, "no Cargo.toml of Tidemill"),
        (&["new"], 64, "NAME"),
        (&["nwe"], 64, "unrecognized subcommand"),
        (&["status", "--at", "http://127.0.0.1:1"], 75, "127.0.0.1:1"),
    ] {
        tidemill(arguments, folder.path()).is(&arguments.join(" "), code, &[part]);
    }
    assert!(!folder.path().join("words").exists(), "a refusal makes nothing");
}
