//! The command line that every topology has: its commands, and the modules that carry them out.

mod amounts;
mod arguments;
mod check;
mod environment;
mod kafka;
mod limits;
mod listing;
mod log;
mod new;
#[cfg(test)]
mod numbers;
mod output;
mod panics;
mod program;
mod progress;
mod query;
mod remote;
mod run;
mod running;
mod settings;
mod state;
mod status;
mod threads;

use arguments::{Arguments, Command, StateCommand};
use clap::{CommandFactory, FromArgMatches};
pub use program::program;
pub use running::Running;
use settings::Wanted;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidemill_engine::Topology;
use tidemill_state::Result;

/// Gives a topology its command line, and does what the command line asks for.
///
/// An error is printed as one line to the standard error, and ends the process with its kind's exit
/// code ([`crate::Kind::exit_code`]); so this returns only if all went well.
///
/// ```no_run
/// use tidemill::prelude::*;
///
/// fn main() -> tidemill::Result<()> {
///     tidemill::main(|topology| {
///         let lines = topology.source("lines", Files::lines("*.txt"));
///         lines.persistent_aggregate("lines", Count);
///     })
/// }
/// ```
///
/// # Errors
/// None is returned: the process ends. The result lets it be the last expression of a `main`.
pub fn main<F>(build: F) -> Result<()>
where
    F: Fn(&Topology<'_>) + Send + Sync + 'static,
{
    Cli::new(move |topology: &Topology<'_>, _: &NoArguments| build(topology)).main()
}

/// As [`main()`], for a topology with arguments of its own. They join those of `run`, `check`,
/// `plan` and `state`, and the closure is given them; an argument that has a default need not be
/// given to each of these.
///
/// ```no_run
/// use tidemill::clap;
/// use tidemill::prelude::*;
///
/// #[derive(clap::Args, Clone)]
/// struct Arguments {
///     /// The files to count
///     #[arg(long, default_value = "*.txt")]
///     input: String,
/// }
///
/// fn main() -> tidemill::Result<()> {
///     tidemill::main_with(|topology, arguments: &Arguments| {
///         let lines = topology.source("lines", Files::lines(&arguments.input));
///         lines.persistent_aggregate("lines", Count);
///     })
/// }
/// ```
///
/// # Errors
/// As [`main()`].
pub fn main_with<A, F>(build: F) -> Result<()>
where
    A: clap::Args + Clone + Send + Sync + 'static,
    F: Fn(&Topology<'_>, &A) + Send + Sync + 'static,
{
    Cli::new(build).main()
}

/// A topology without arguments of its own.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub struct NoArguments {}

/// A topology's command line, with more that can be said of it than [`main()`] and [`main_with`]
/// take.
///
/// ```no_run
/// use std::time::Duration;
/// use tidemill::prelude::*;
/// use tidemill::{Cli, NoArguments};
///
/// fn main() -> tidemill::Result<()> {
///     Cli::new(|topology, _: &NoArguments| {
///         topology.source("lines", Files::lines("*.txt")).group_by(|line: &Str| line.len()).persistent_aggregate("lengths", Count);
///     })
///     .while_running(Duration::from_secs(1), |running| {
///         if let Ok(Some(empty)) = running.value::<u64>("lengths", "0") {
///             println!("batch {}: {empty} empty lines", running.committed());
///         }
///     })
///     .main()
/// }
/// ```
pub struct Cli<A> {
    build: Build<A>,
    shown: Option<Shown>,
}

/// The closure that builds a topology, with the topology's own arguments.
type Build<A> = Arc<dyn Fn(&Topology<'_>, &A) + Send + Sync>;

/// A callback while a topology runs.
pub(crate) struct Shown {
    every: Duration,
    show: Box<dyn FnMut(&Running)>,
}

impl<A> Cli<A>
where
    A: clap::Args + Clone + Send + Sync + 'static,
{
    /// The command line of the topology that this closure builds.
    pub fn new<F>(build: F) -> Cli<A>
    where
        F: Fn(&Topology<'_>, &A) + Send + Sync + 'static,
    {
        Cli { build: Arc::new(build), shown: None }
    }

    /// Calls `show` while the topology runs: whenever batches were committed since the last call,
    /// at most once in `every`, and once more when all sources are at their end. It is called on
    /// the main thread, beside the workers; what it prints to the standard output does not disturb
    /// the progress line. Once nobody reads that any more (`| head`), it is not called again, and
    /// the run continues. Any other panic in it ends the run with 69.
    #[must_use]
    pub fn while_running(
        mut self,
        every: Duration,
        show: impl FnMut(&Running) + 'static,
    ) -> Cli<A> {
        self.shown = Some(Shown { every, show: Box::new(show) });
        self
    }

    /// Does what the command line of this process asks for; see [`crate::main()`].
    ///
    /// # Errors
    /// As [`crate::main()`].
    pub fn main(self) -> Result<()> {
        let began = Instant::now();
        match panics::caught(|| self.execute(std::env::args_os().collect(), began)) {
            Ok(0) => Ok(()),
            Ok(code) => std::process::exit(code),
            Err(error) => {
                log::error(&error);
                std::process::exit(error.kind().exit_code().into())
            }
        }
    }

    /// Reads the arguments and carries the command out. Gives the exit code.
    fn execute(self, arguments: Vec<OsString>, began: Instant) -> Result<i32> {
        limits::prepare();
        let name = topology_name(&arguments);
        let commands = Arguments::<A>::command().bin_name(name.clone()).display_name(name.clone());
        let parsed = commands
            .clone()
            .try_get_matches_from(&arguments)
            .and_then(|matches| Arguments::<A>::from_arg_matches(&matches));
        let command = match parsed {
            Ok(arguments) => arguments.command,
            Err(error) => return Ok(refused(&error, &commands, &arguments)),
        };
        environment::check(&[commands])?;
        let Cli { build, shown } = self;
        let topology = |own: A| move |topology: &Topology<'_>| build(topology, &own);
        let done = match command {
            Command::Run { run, own } => run::run(
                Wanted::of(run.options, run.config.as_deref(), &name)?,
                run.start_over,
                topology(own),
                shown,
                began,
            ),
            Command::Query { name, arguments, at, json } => {
                query::query(&name, &arguments, &at, json)
            }
            Command::Status { at, json } => status::status(&at, json),
            Command::State { command: StateCommand::List { place, json, .. } } => {
                state::list(&place, json)
            }
            Command::State { command: StateCommand::Get { place, name, key, own } } => {
                return state::get(&place, &name, &key, &topology(own));
            }
            Command::State { command: StateCommand::Scan { place, name, limit, own } } => {
                state::scan(&place, &name, limit, &topology(own))
            }
            Command::Check { options, config, own } => {
                check::check(Wanted::of(options, config.as_deref(), &name)?, topology(own))
            }
            Command::Plan { format, own } => check::plan(&name, format, &topology(own)),
        };
        done.map(|()| 0)
    }
}

/// Prints why arguments are refused, or the help that was asked for. Returns the exit code.
fn refused(error: &clap::Error, commands: &clap::Command, arguments: &[OsString]) -> i32 {
    let _ = error.print();
    if !error.use_stderr() {
        return 0;
    }
    if let Some(origin) = environment::origin(error, commands, arguments) {
        log::say(&origin);
    }
    tidemill_state::Kind::Config.exit_code().into()
}

/// The name of a topology that is not given one: its binary's. A link to the binary does not change
/// it.
fn topology_name(arguments: &[OsString]) -> String {
    let binary = std::env::current_exe().ok().or_else(|| arguments.first().map(Into::into));
    let stem =
        binary.as_deref().and_then(Path::file_stem).map(|stem| stem.to_string_lossy().into_owned());
    stem.unwrap_or_else(|| "topology".to_string())
}
