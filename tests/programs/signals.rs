//! Signals to a running program: the first ends it in order, whenever it comes.

use tidemill_harness::binary::{Running, folder};

/// From the first moments of a process to a run at work: a signal ends it in order, or as the
/// operating system does before it listens.
#[test]
fn a_signal_at_any_moment_of_a_start_ends_it_in_order() {
    let folder = folder();
    for after_ms in (0..240).step_by(20) {
        let state = folder.path().join("state").display().to_string();
        let run = Running::start(
            "word_count",
            &["run", "--state", &state, "--listen", "none", "--follow"],
        );
        std::thread::sleep(std::time::Duration::from_millis(after_ms));
        run.signal("TERM");
        let (said, outcome) = (run.err(), run.wait());
        let in_time = outcome.code == Some(0)
            || (outcome.code.is_none() && said.is_empty() && outcome.err.is_empty());
        assert!(in_time, "after {after_ms} ms: {outcome:?}");
    }
}

#[test]
fn a_signal_that_comes_after_the_end_is_the_first() {
    let folder = folder();
    let (state, input) = (folder.path().join("state"), folder.path().join("in.txt"));
    std::fs::write(&input, "tide mill tide\n").expect("it is written");
    let arguments = [
        "run",
        "--state",
        &state.display().to_string(),
        "--input",
        &input.display().to_string(),
        "--listen",
        "none",
    ]
    .map(String::from);
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    arguments.push("--exit-at-end");
    for round in 0..5 {
        let mut run = Running::start("word_count", &arguments);
        run.says("; ending");
        // It may be over by now.
        let pid = run.pid().to_string();
        let _ = std::process::Command::new("kill")
            .args(["-TERM", &pid])
            .stderr(std::process::Stdio::null())
            .status();
        let outcome = run.wait();
        // Ended already, or by the first signal as asked: never by a second one, which there was
        // not.
        assert_eq!(outcome.code, Some(0), "round {round}: {outcome:?}");
    }
}
