//! Stores and sinks that do not belong together: old copies, second instances, lost folders, lost
//! markers.

use super::place::{
    Place, Untouched, append, content, exact, flip, goes_on, newest_marker, refused, written,
};
use std::fs;
use tidemill_harness::binary::{counts_are, folder, newest_in, recount, run, texts};

#[test]
fn a_copy_that_is_older_than_its_sink_is_refused_and_the_original_goes_on() {
    let (place, input) = written();
    let input_of = ["--input", input.to_str().expect("UTF-8")];
    place.run(&input_of).is("the first run", 0, &[]);
    let old = place.copy();
    append(&input, "c d\n");
    place.run(&input_of).is("the second run", 0, &["go on after batch 1"]);
    // The old copy comes back beside the newer output.
    fs::copy(place.out(), old.out()).expect("it can be copied");
    fs::copy(place.marker(), old.marker()).expect("it can be copied");
    let parts = [
        "state is older than its sink",
        "ends with batch 1",
        "holds batch 2",
        "newest folder",
        "--start-over",
    ];
    refused("an old copy", &old, &input_of, 66, &parts, Untouched::Written);
    place.run(&input_of).is("the original", 0, &["go on after batch 2"]);
    assert_eq!(newest_in(&place.out()), recount(["a b a b c c d"]));
}

#[test]
fn a_copy_whose_original_went_on_is_refused() {
    let place = Place::counted();
    let copy = place.copy();
    place.run(&[]).is("the original starts once more", 0, &[]);
    fs::copy(place.marker(), copy.marker()).expect("it can be copied");
    let parts = ["another instance owns sink \"out\"", "batch 16", "not in this folder's history"];
    refused("two folders", &copy, &[], 66, &parts, Untouched::Written);
}

#[test]
fn a_store_of_another_name_is_refused() {
    let place = Place::counted();
    fs::remove_file(place.out()).expect("it is there");
    fs::remove_file(place.marker()).expect("it is there");
    let parts =
        ["belongs to topology \"word_count\", this is \"other\"", "--state", "--start-over"];
    refused("another name", &place, &["--name", "other"], 64, &parts, Untouched::Written);
}

#[test]
fn a_second_instance_is_refused_with_the_pid_of_the_first() {
    let (place, input) = written();
    let input_of = ["--input", input.to_str().expect("UTF-8")];
    let mut first = place.start(&[&input_of[..], &["--follow"]].concat(), &[]);
    first.says("first commit");
    let pid = format!("pid {}", first.pid());
    let state = place.state();
    let state = state.to_str().expect("UTF-8");
    let parts = ["in use by another instance", pid.as_str(), state];
    place.run(&input_of).is("run", 75, &parts);
    place.check(&input_of).is("check", 75, &parts);
    place.run(&[&input_of[..], &["--start-over"]].concat()).is("--start-over", 75, &parts);
    run("word_count", &["state", "list", "--state", state]).is("state list", 75, &["--at URL"]);
    assert!(!first.has_ended(), "the first goes on");
    first.signal("STOP");
    place.run(&input_of).is("a paused instance", 75, &parts);
    first.kill();
    place.run(&input_of).is("after it", 0, &["go on after batch 1"]);
    assert_eq!(newest_in(&place.out()), recount(["a b a b c"]));
}

#[test]
fn output_without_its_state_is_refused() {
    let place = Place::counted();
    fs::rename(place.state(), place.folder.path().join("lost")).expect("it can be moved");
    let parts =
        ["no state in this folder", "\"out\"", "batch 16", "\"word_count\"", "--state", "--name"];
    refused("no store", &place, &[], 66, &parts, Untouched::All);
    assert!(!place.state().exists(), "no state was begun");
}

#[test]
fn output_that_is_not_what_was_written_is_refused() {
    type Damage = fn(&Place);
    let damages: [(&str, Damage, &[&str]); 5] = [
        (
            "truncated",
            |place| {
                let out =
                    fs::OpenOptions::new().write(true).open(place.out()).expect("it is there");
                out.set_len(1000).expect("it can be cut");
            },
            &["truncated", "has 1000", "restore", "another path"],
        ),
        (
            "replaced by a shorter one",
            |place| fs::write(place.out(), "[]\n").expect("it can be written"),
            &["has 3"],
        ),
        (
            "replaced by one of the same length",
            |place| flip(&place.out(), |length| length - 2000),
            &["changed or replaced", "restore", "another path"],
        ),
        (
            "removed",
            |place| fs::remove_file(place.out()).expect("it is there"),
            &["missing", "restore"],
        ),
        (
            "a damaged marker",
            |place| flip(&place.marker(), |length| length / 2),
            &["marker", "damaged", "another path"],
        ),
    ];
    for (case, damage, parts) in damages {
        let place = Place::counted();
        damage(&place);
        refused(case, &place, &[], 68, parts, Untouched::Written);
    }
}

/// A run that dies with committed output that its sink does not have.
fn unconfirmed() -> Place {
    let place = Place { folder: folder() };
    let small = ["--max-batch-records", "500"];
    let run = place.start(&small, &[("TIDEMILL_CRASH_AT", "before-publish:abort:2")]).wait();
    assert_eq!(run.code, None, "it is aborted: {run:#?}");
    place
}

#[test]
fn a_sink_without_its_marker() {
    let place = Place::counted();
    fs::remove_file(place.marker()).expect("it is there");
    let parts = ["exists and was not written by this topology", "move it away", "another path"];
    refused("only the marker is gone", &place, &[], 64, &parts, Untouched::Written);
    fs::rename(place.out(), place.folder.path().join("moved")).expect("it can be moved");
    goes_on("nothing was unconfirmed", &place, &[], &["lost its marker"]);
    assert!(newest_marker(&place).contains("\"txid\":16"), "the marker is written again");

    let place = unconfirmed();
    for file in [place.out(), place.marker()] {
        fs::remove_file(file).expect("it is there");
    }
    let parts = [
        "has no marker",
        "whether it holds them is unknown",
        "--sink-assume delivered",
        "--sink-assume lost",
    ];
    refused("something was unconfirmed", &place, &[], 68, &parts, Untouched::Written);
    let delivered = place.copy();
    goes_on(
        "told that it is delivered",
        &delivered,
        &["--sink-assume", "delivered"],
        &["told to assume"],
    );
    goes_on("told that it is lost", &place, &["--sink-assume", "lost"], &["told to assume"]);
    let whole = recount([texts().as_str()]);
    for place in [&delivered, &place] {
        counts_are("whatever was told", &place.state(), &whole);
    }
    let lines =
        |place: &Place| fs::read_to_string(place.out()).expect("it is there").lines().count();
    assert!(
        lines(&delivered) < lines(&place),
        "what is delivered is not sent again, what is lost is"
    );
}

#[test]
fn unconfirmed_output_is_sent_once() {
    let place = unconfirmed();
    goes_on("after a crash", &place, &[], &["sink \"out\" holds batch"]);
    exact("after a crash", &place);
}

#[test]
fn to_start_over_moves_the_state_aside_and_begins_anew() {
    let place = Place::counted();
    let aside = place.folder.path().join("state.old-16");
    let before = content(&place.state().join("db"));
    place.run(&["--start-over"]).is(
        "the sink holds output",
        66,
        &["state.old-16", "belongs to sink", "a path of its own"],
    );
    assert!(
        aside.exists() && !place.state().join("db").exists(),
        "it is moved, and nothing is begun"
    );
    let kept = content(&aside.join("db"));
    for path in
        before.keys().filter(|path| path.extension().is_some_and(|extension| extension == "sst"))
    {
        let moved = aside.join("db").join(path.file_name().expect("it has a name"));
        assert_eq!(kept.get(&moved), before.get(path), "{} is kept", path.display());
    }
    let new = place.folder.path().join("new.jsonl");
    let new_out = ["--out", new.to_str().expect("UTF-8")];
    place.run(&new_out).is("with another output", 0, &["new topology", "begin with batch 1"]);
    place.run(&[&new_out[..], &["--start-over"]].concat()).is(
        "once more",
        66,
        &["state.old-", "a path of its own"],
    );
    let whole = recount([texts().as_str()]);
    counts_are("the first state", &aside, &whole);
    assert_eq!(newest_in(&new), whole, "the new output");
    assert_eq!(newest_in(&place.out()), whole, "the old output");
    let damaged = Place::counted();
    flip(&damaged.largest(".log"), |length| length / 2);
    damaged
        .run(&["--out", damaged.folder.path().join("new").to_str().expect("UTF-8"), "--start-over"])
        .is(
            "a state that cannot be read",
            0,
            &["state.old-unknown", "cannot be read", "new topology"],
        );
    counts_are("begun anew", &damaged.state(), &whole);
}

/// Txids can be compared within a lineage. It changes when what was counted may be counted again:
/// when the machine, not only the process, has ended under durability "process". The boot in which
/// the last run wrote is in the file `mode`.
#[test]
fn the_line_changes_only_when_the_machine_may_have_lost_something() {
    let (place, input) = written();
    let input_of = ["--input", input.to_str().expect("UTF-8"), "--durability", "process"];
    let line = |place: &Place| {
        let state = place.state();
        let list = run(
            "word_count",
            &["state", "list", "--json", "--state", state.to_str().expect("UTF-8")],
        );
        let list: serde_json::Value =
            serde_json::from_str(&list.is("state list", 0, &[]).out).expect("JSON");
        list["lineage"].as_str().expect("a lineage").to_string()
    };
    let kill = |durability: &str| {
        let mut running =
            place.start(&["--input", input_of[1], "--follow", "--durability", durability], &[]);
        running.says("listening");
        running.kill();
    };
    let rebooted = |place: &Place| {
        let mode = place.state().join("mode");
        let mut said: serde_json::Value =
            serde_json::from_slice(&fs::read(&mode).expect("it is there")).expect("JSON");
        said["boot"] = "another".into();
        fs::write(mode, said.to_string()).expect("it can be written");
    };
    place.run(&input_of).is("the first run", 0, &[]);
    let first = line(&place);
    kill("process");
    assert_eq!(line(&place), first, "the process was killed, the machine went on");
    rebooted(&place);
    place.check(&input_of).is("a clean stop and a new boot", 0, &["go on after batch 1"]);
    assert_eq!(line(&place), first, "a clean stop, and a new boot after it");
    kill("process");
    rebooted(&place);
    place.run(&input_of).is("the machine ended under it", 0, &["go on after batch 1"]);
    let second = line(&place);
    assert_ne!(second, first, "the machine ended under it");
    kill("sync");
    rebooted(&place);
    assert_eq!(line(&place), second, "with sync nothing can be lost");
    counts_are("after all of it", &place.state(), &recount(["a b a b c"]));
}
