//! Panics under the command line: each has an exit code of the table, and no process ends with
//! Rust's own 101.

use tidemill_engine::panics::{is_of_a_closed_output, located};
use tidemill_state::{Error, Result};

/// Does what a command asks for. A panic that nobody else has caught is a fault of Tidemill.
///
/// # Errors
/// Those of `work`, or kind Bug.
pub(super) fn caught<R>(work: impl FnOnce() -> Result<R>) -> Result<R> {
    located(work).unwrap_or_else(|why| {
        Err(Error::bug(format!("Tidemill {why}. Nothing is lost; please report it")))
    })
}

/// Calls the program's code that shows a run. Returns whether somebody still reads what it prints.
///
/// # Errors
/// Kind UserCode: it panics.
pub(super) fn shown(show: impl FnOnce()) -> Result<bool> {
    match located(show) {
        Ok(()) => Ok(true),
        Err(why) if is_of_a_closed_output(&why) => Ok(false),
        Err(why) => Err(Error::user_code(format!(
            "what shows the run (Cli::while_running) {why}. The run was stopped, nothing is lost: \
             mend it and start again"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cli, NoArguments, Topology};
    use std::time::Instant;
    use tidemill_state::Kind;

    #[test]
    fn a_panic_in_the_closure_that_builds_a_topology_has_a_place_and_the_code_of_user_code() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("state").display().to_string();
        for command in [
            &["run", "--state", &state, "--listen", "none"][..],
            &["check", "--state", &state],
            &["plan"],
        ] {
            let cli =
                Cli::new(|_: &Topology<'_>, _: &NoArguments| panic!("the variable X is not set"));
            let arguments =
                std::iter::once("panics").chain(command.iter().copied()).map(Into::into).collect();
            let error = caught(|| cli.execute(arguments, Instant::now())).expect_err("it panics");
            assert_eq!(error.kind(), Kind::UserCode, "{command:?}: {error}");
            let parts = [
                "building the topology panicked at src/cli/panics.rs:",
                "the variable X is not set",
            ];
            let named = if command == ["plan"] { "" } else { "topology \"" };
            for part in parts.into_iter().chain([named]) {
                assert!(
                    error.to_string().contains(part),
                    "{command:?}: {part:?} is not in: {error}"
                );
            }
            assert!(!folder.path().join("state").exists(), "nothing was written");
        }
    }

    #[test]
    fn a_panic_has_the_kind_of_whose_code_it_is_in() {
        let ours = caught(|| -> Result<()> { panic!("an invariant") }).expect_err("it panics");
        assert_eq!(ours.kind(), Kind::Bug);
        let theirs = shown(|| panic!("a closure")).expect_err("it panics");
        assert_eq!(theirs.kind(), Kind::UserCode);
        for (error, text) in [(ours, "an invariant"), (theirs, "a closure")] {
            let error = error.to_string();
            assert!(error.contains(text) && error.contains("src/cli/panics.rs:"), "{error}");
        }
        let goes_on = shown(|| panic!("failed printing to stdout: Broken pipe (os error 32)"))
            .expect("nobody reads");
        assert!(!goes_on);
        assert!(shown(|| ()).expect("it does not panic"));
    }
}
