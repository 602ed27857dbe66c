//! A program that changed under its state: refused with the difference, or gone on with if it has
//! only grown.

use super::place::{Place, append, kept};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidemill::prelude::*;
use tidemill::{Engine, Kind, Settings};
use tidemill_harness::binary::{PATIENCE, folder, newest_in, recount};

/// The programs of the cases of a changed program: each a version of the first.
mod programs {
    use super::*;

    pub(super) type Program = Arc<dyn Fn(&Topology<'_>) + Send + Sync>;

    /// Makes a program that reads this input and writes that output.
    pub(super) type Version = fn(String, PathBuf) -> Program;

    fn program(build: impl Fn(&Topology<'_>) + Send + Sync + 'static) -> Program {
        Arc::new(build)
    }

    /// Counts words, and writes the counts.
    pub(super) fn first(input: String, out: PathBuf) -> Program {
        program(move |topology| {
            let words = topology.source("words", Files::lines(input.as_str()));
            let counts = words.group_by(|word| word.clone()).persistent_aggregate("counts", Count);
            counts.changes().map(|change| (change.key, change.new)).sink("out", Files::to(&out));
        })
    }

    pub(super) fn other_value(input: String, out: PathBuf) -> Program {
        program(move |topology| {
            let words = topology.source("words", Files::lines(input.as_str()));
            let lengths = of(|word: &Str| word.len() as f64, Sum);
            let counts =
                words.group_by(|word| word.clone()).persistent_aggregate("counts", lengths);
            counts.changes().map(|change| (change.key, change.new)).sink("out", Files::to(&out));
        })
    }

    pub(super) fn other_key(input: String, out: PathBuf) -> Program {
        program(move |topology| {
            let words = topology.source("words", Files::lines(input.as_str()));
            let counts =
                words.group_by(|word| word.len() as u32).persistent_aggregate("counts", Count);
            counts.changes().map(|change| (change.key, change.new)).sink("out", Files::to(&out));
        })
    }

    pub(super) fn no_state(input: String, out: PathBuf) -> Program {
        program(move |topology| {
            topology.source("words", Files::lines(input.as_str())).sink("out", Files::to(&out))
        })
    }

    pub(super) fn no_sink(input: String, _: PathBuf) -> Program {
        program(move |topology| {
            let words = topology.source("words", Files::lines(input.as_str()));
            words.group_by(|word| word.clone()).persistent_aggregate("counts", Count);
        })
    }

    pub(super) fn other_sink(input: String, _: PathBuf) -> Program {
        program(move |topology| {
            let words = topology.source("words", Files::lines(input.as_str()));
            let counts = words.group_by(|word| word.clone()).persistent_aggregate("counts", Count);
            counts.changes().map(|change| (change.key, change.new)).sink("out", Stdout::new());
        })
    }

    pub(super) fn other_source(input: String, out: PathBuf) -> Program {
        program(move |topology| {
            let words = topology.source("words", Files::json_lines::<Str>(input.as_str()));
            let counts = words.group_by(|word| word.clone()).persistent_aggregate("counts", Count);
            counts.changes().map(|change| (change.key, change.new)).sink("out", Files::to(&out));
        })
    }

    pub(super) fn renamed_source(input: String, out: PathBuf) -> Program {
        program(move |topology| {
            let words = topology.source("lines", Files::lines(input.as_str()));
            let counts = words.group_by(|word| word.clone()).persistent_aggregate("counts", Count);
            counts.changes().map(|change| (change.key, change.new)).sink("out", Files::to(&out));
        })
    }

    /// One more state, source and sink; the old ones are declared after them.
    pub(super) fn grown(input: String, out: PathBuf) -> Program {
        program(move |topology| {
            let more = topology.source("more", Files::lines(format!("{input}.more")));
            let words = topology.source("words", Files::lines(input.as_str()));
            let all = more.merge(words);
            let lengths = all
                .clone()
                .group_by(|word| word.len() as u64)
                .persistent_aggregate("lengths", Count);
            lengths
                .changes()
                .map(|change| (change.key, change.new))
                .sink("lengths", Files::to(out.with_extension("lengths")));
            let counts = all.group_by(|word| word.clone()).persistent_aggregate("counts", Count);
            counts.changes().map(|change| (change.key, change.new)).sink("out", Files::to(&out));
        })
    }
}

/// Runs a program in this process until all of its sources are at their end.
fn run_to_the_end(settings: &Settings, program: &programs::Program) -> tidemill::Result<()> {
    let program = Arc::clone(program);
    let engine = Engine::start(settings.clone(), move |topology: &Topology<'_>| program(topology))?;
    let began = Instant::now();
    while !engine.runtime().is_at_end() && !engine.is_over() {
        assert!(
            began.elapsed() < PATIENCE,
            "it does not come to its end: {:?}",
            engine.runtime().status()
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    engine.stop();
    engine.wait()
}

struct Changing {
    place: Place,
    settings: Settings,
    input: PathBuf,
}

impl Changing {
    /// The state of [`programs::first`] over these words.
    fn ran() -> Changing {
        let place = Place { folder: folder() };
        let input = place.folder.path().join("words.txt");
        fs::write(&input, "a\nbb\na\n").expect("it can be written");
        fs::write(input.with_extension("txt.more"), "ccc\na\n").expect("it can be written");
        let settings =
            Settings { workers: 2, disk_reserve: 0, ..Settings::new("changing", place.state()) };
        let changing = Changing { place, settings, input };
        run_to_the_end(&changing.settings, &changing.of(programs::first))
            .expect("the first program runs");
        changing
    }

    fn of(&self, program: programs::Version) -> programs::Program {
        program(self.input.to_str().expect("UTF-8").to_string(), self.place.out())
    }
}

#[test]
fn a_changed_program_is_refused_with_the_difference() {
    let changing = Changing::ran();
    let rows: [(&str, programs::Version, &str); 7] = [
        ("value type", programs::other_value, "-> u64, is"),
        ("key type", programs::other_key, "-> u64, is (u32)"),
        ("state removed", programs::no_state, "state \"counts\" is gone"),
        ("sink removed", programs::no_sink, "sink \"out\" is gone"),
        ("sink of another kind", programs::other_sink, "sink \"out\" was files/json-lines of"),
        ("source of another kind", programs::other_source, "source \"words\" was files/lines of"),
        ("source renamed", programs::renamed_source, "source \"words\" is gone"),
    ];
    for (row, program, difference) in rows {
        let program = changing.of(program);
        let before = kept(&changing.place);
        let build = Arc::clone(&program);
        let checked =
            Engine::check(&changing.settings, move |topology: &Topology<'_>| build(topology));
        for error in [
            checked.map(|_| ()).expect_err(row),
            run_to_the_end(&changing.settings, &program).expect_err(row),
        ] {
            assert_eq!(error.kind(), Kind::Config, "{row}: {error}");
            for part in [difference, "--start-over", "the program has changed under its state"] {
                assert!(error.to_string().contains(part), "{row}: {part:?} is not in: {error}");
            }
        }
        let after = kept(&changing.place);
        assert!(
            before.iter().all(|(path, hash)| after.get(path) == Some(hash)),
            "{row}: something was changed"
        );
    }
    append(&changing.input, "bb\n");
    run_to_the_end(&changing.settings, &changing.of(programs::first))
        .expect("the first program goes on");
    assert_eq!(newest_in(&changing.place.out()), recount(["a bb a bb"]));
}

#[test]
fn a_grown_program_goes_on_and_what_is_new_begins_now() {
    let changing = Changing::ran();
    let grown = changing.of(programs::grown);
    let build = Arc::clone(&grown);
    let words = Engine::check(&changing.settings, move |topology: &Topology<'_>| build(topology))
        .expect("it goes on");
    for part in [
        "go on after batch 1",
        "sink \"lengths\" is new, from batch 2",
        "sink \"out\" holds batch 1",
    ] {
        assert!(words.contains(part), "{part:?} is not in: {words}");
    }
    run_to_the_end(&changing.settings, &grown).expect("the grown program runs");
    assert_eq!(newest_in(&changing.place.out()), recount(["a bb a ccc a"]));
    let lengths =
        fs::read_to_string(changing.place.out().with_extension("lengths")).expect("it is written");
    let mut lengths: Vec<&str> = lengths.lines().collect();
    lengths.sort_unstable();
    // Only what was read since the state is there: the new source's records.
    assert_eq!(lengths, ["[1,1]", "[3,1]"]);
    let error = run_to_the_end(&changing.settings, &changing.of(programs::first))
        .expect_err("it has shrunk again");
    for part in ["state \"lengths\" is gone", "source \"more\" is gone", "sink \"lengths\" is gone"]
    {
        assert!(error.to_string().contains(part), "{part:?} is not in: {error}");
    }
}
