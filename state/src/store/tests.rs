//! Starts of a store after the machine has crashed.

use super::{Batch, Durability, Store};
use crate::points::Effect;
use crate::{CrashPoint, Lineage, Points, Txid};
use std::fs;
use std::path::Path;

fn lineage(dir: &Path) -> Lineage {
    Store::inspect(dir).expect("it can be looked at").lineage()
}

/// The files that RocksDB writes beside its tables are bounded within a run. It records the options
/// that it runs with.
#[test]
fn its_messages_and_its_manifest_are_bounded() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::create(dir.path(), Durability::Sync, None).expect("created");
    let names = fs::read_dir(dir.path().join("db"))
        .expect("it is there")
        .map(|entry| entry.expect("an entry").path());
    let newest = names
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("OPTIONS-"))
        })
        .max();
    let options = fs::read_to_string(newest.expect("RocksDB has written its options"))
        .expect("it can be read");
    let value = |name: &str| -> u64 {
        let value = options
            .lines()
            .find_map(|lineage| lineage.trim().strip_prefix(name)?.strip_prefix('='));
        value
            .and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("{name} is not in {options}"))
    };
    let most = 16 << 20;
    for name in ["max_log_file_size", "max_manifest_file_size"] {
        assert!((1..=most).contains(&value(name)), "{name} is {}", value(name));
    }
    assert!(value("keep_log_file_num") * value("max_log_file_size") <= most);
    drop(store);
}

/// A store with one batch, left by a crash of the machine.
fn lost_by_the_machine(dir: &Path) {
    let mut store = Store::create(dir, Durability::Process, None).expect("created");
    store.raise_incarnation(&Points::none()).expect("raised");
    store
        .commit(&[Batch { txid: Txid(1), ..Batch::default() }], &Points::none())
        .expect("committed");
    drop(store);
    let mode = dir.join("mode");
    let text = fs::read_to_string(&mode).expect("it is there");
    let boot =
        text.split("\"boot\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a boot");
    fs::write(&mode, text.replace(boot, "another-boot")).expect("it can be written");
}

#[test]
fn i7_the_line_is_new_after_a_crash_of_the_machine_also_if_the_start_crashes_before_its_mode_is_written()
 {
    let dir = tempfile::tempdir().expect("a folder");
    lost_by_the_machine(dir.path());
    let old = lineage(dir.path());
    let points = Points::none();
    points.arm(CrashPoint::IncarnationWritten, Effect::Stop, 1);
    let mut store = Store::open(dir.path(), Durability::Process).expect("opened");
    store.raise_incarnation(&points).expect_err("it crashes between the two writes");
    drop(store);
    let mut store = Store::open(dir.path(), Durability::Process).expect("opened");
    let counter = store.raise_incarnation(&Points::none()).expect("raised").counter;
    assert_eq!(counter, 3, "the crashed start has used one");
    assert_ne!(store.lineage(), old, "batches of the old lineage may be numbered again");
    drop(store);
    // Within one boot nothing was lost: the lineage stays.
    let now = lineage(dir.path());
    let mut store = Store::open(dir.path(), Durability::Process).expect("opened");
    store.raise_incarnation(&Points::none()).expect("raised");
    assert_eq!(store.lineage(), now);
}
