//! The environment variables that Tidemill reads. One that begins like them and that nobody reads
//! is a mistake, and is refused: a setting that silently does nothing is found too late.

use clap::Command;
use clap::error::{ContextKind, ContextValue};
use std::ffi::OsString;
use tidemill_state::{Error, Result};

/// The beginning of every variable that Tidemill reads.
const PREFIX: &str = "TIDEMILL_";

/// The folder of the state.
pub(super) const STATE: &str = "TIDEMILL_STATE";

/// The address of a running topology.
pub(super) const AT: &str = "TIDEMILL_AT";

/// Variables that are read elsewhere than by arguments: crash points, and the length of tests.
const OTHERS: [&str; 4] = [STATE, AT, "TIDEMILL_CRASH_AT", "TIDEMILL_LONG"];

/// Beginnings behind which any name may stand: variables of tests and benchmarks. Settings that are
/// passed on by their own names belong here too.
const OPEN_PREFIXES: [&str; 3] = ["TIDEMILL_TEST_", "TIDEMILL_BENCH_", "TIDEMILL_KAFKA_"];

/// From this likeness on, from 0 to 1, a name is taken for another that was mistyped.
const ALIKE: f64 = 0.6;

/// Variables that are refused, with the argument that takes their place.
const ARGUMENTS_ONLY: [(&str, &str); 2] =
    [("TIDEMILL_ON_LOSS", "--on-loss"), ("TIDEMILL_SINK_ASSUME", "--sink-assume")];

/// The reason why some settings can only be arguments.
pub(super) const ONE_START: &str =
    "It decides about one start, and would decide about every later one in silence";

/// Checks the environment of this process. `commands` are those whose arguments may be variables.
///
/// # Errors
/// Kind Config: a variable that begins with `TIDEMILL_` is read by nobody.
pub(super) fn check(commands: &[Command]) -> Result<()> {
    let mut known: Vec<String> = OTHERS.map(str::to_string).to_vec();
    commands.iter().for_each(|command| add_variables(command, &mut known));
    let names = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    let mut refused: Vec<String> = names.filter_map(|name| refusal(&name, &known)).collect();
    refused.sort_unstable();
    if refused.is_empty() { Ok(()) } else { Err(Error::config(refused.join("; "))) }
}

/// Adds the variables of a command and of those below it.
fn add_variables(command: &Command, known: &mut Vec<String>) {
    let variables = command.get_arguments().filter_map(|argument| argument.get_env());
    known.extend(variables.map(|name| name.to_string_lossy().into_owned()));
    command.get_subcommands().for_each(|command| add_variables(command, known));
}

/// Returns why a variable of this name is refused, if it is.
fn refusal(name: &str, known: &[String]) -> Option<String> {
    let own = name.strip_prefix(PREFIX)?;
    if known.iter().any(|known| known == name)
        || OPEN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    {
        return None;
    }
    if let Some((_, argument)) = ARGUMENTS_ONLY.iter().find(|(refused, _)| *refused == name) {
        return Some(format!(
            "the environment variable {name} is not read. {ONE_START}: give {argument} as an \
             argument of that start"
        ));
    }
    let likeness = |known: &String| {
        strsim::normalized_damerau_levenshtein(own, &known[PREFIX.len().min(known.len())..])
    };
    let nearest = known
        .iter()
        .filter(|known| known.starts_with(PREFIX))
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    // Kafka's settings are not listed: they are librdkafka's.
    let kafka =
        strsim::normalized_damerau_levenshtein(own.split('_').next().unwrap_or_default(), "KAFKA");
    let nearest = match nearest.filter(|known| likeness(known) >= ALIKE) {
        _ if kafka >= ALIKE => format!(": a setting of Kafka begins with {PREFIX}KAFKA_"),
        Some(nearest) => format!(": did you mean {nearest}?"),
        None => String::new(),
    };
    Some(format!(
        "the environment variable {name} is unknown{nearest}. Correct it or unset it; run --help \
         lists the variables"
    ))
}

/// Names the variable that an argument's wrong value came from, if it is not among the arguments.
pub(super) fn origin(
    error: &clap::Error,
    command: &Command,
    arguments: &[OsString],
) -> Option<String> {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let argument = argument.split([' ', '=', '[']).next()?;
    let is_given = |given: &OsString| {
        let given = given.to_string_lossy();
        given == argument || given.strip_prefix(argument).is_some_and(|rest| rest.starts_with('='))
    };
    let variable = if arguments.iter().any(is_given) {
        None
    } else {
        variable_of(command, argument.strip_prefix("--")?)
    }?;
    std::env::var_os(&variable)
        .map(|_| format!("note: the value is that of the environment variable {variable}"))
}

fn variable_of(command: &Command, long: &str) -> Option<String> {
    let of_argument = command
        .get_arguments()
        .find(|argument| argument.get_long() == Some(long) && argument.get_env().is_some());
    let variable = of_argument
        .and_then(|argument| argument.get_env())
        .map(|name| name.to_string_lossy().into_owned());
    variable.or_else(|| command.get_subcommands().find_map(|command| variable_of(command, long)))
}

#[cfg(test)]
mod tests {
    use super::super::NoArguments;
    use super::super::arguments::Arguments;
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn a_variable_that_nobody_reads_is_refused_with_the_nearest_that_there_is() {
        let mut known = OTHERS.map(str::to_string).to_vec();
        add_variables(&Arguments::<NoArguments>::command(), &mut known);
        for fine in [
            "TIDEMILL_WORKERS",
            "TIDEMILL_TEST_SEED",
            "TIDEMILL_BENCH_LINES",
            "TIDEMILL_CRASH_AT",
            "PATH",
            "TIDEMILLS",
            "",
        ] {
            assert_eq!(refusal(fine, &known), None, "{fine}");
        }
        for (wrong, parts) in [
            ("TIDEMILL_WORKRES", ["is unknown", "TIDEMILL_WORKERS"]),
            ("TIDEMILL_MAX_BATCH_DEALY", ["is unknown", "TIDEMILL_MAX_BATCH_DELAY"]),
            ("TIDEMILL_", ["is unknown", "run --help"]),
            ("TIDEMILL_KAFAK_CLIENT_ID", ["is unknown", "begins with TIDEMILL_KAFKA_"]),
            ("TIDEMILL_workers", ["is unknown", "TIDEMILL_"]),
            ("TIDEMILL_ON_LOSS", ["one start", "give --on-loss as an argument"]),
            ("TIDEMILL_SINK_ASSUME", ["one start", "give --sink-assume as an argument"]),
        ] {
            let refused =
                refusal(wrong, &known).unwrap_or_else(|| panic!("{wrong} is not refused"));
            assert!(parts.iter().all(|part| refused.contains(part)), "{wrong}: {refused}");
        }
    }
}
