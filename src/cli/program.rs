//! The program `tidemill`: creates new topologies, and inspects running ones over their port.

use super::arguments::{self, At};
use super::{NoArguments, environment, log, new, panics, query, refused, state, status};
use clap::{CommandFactory, Parser, Subcommand};
use std::path::PathBuf;
use tidemill_state::Result;

#[derive(Parser)]
#[command(name = "tidemill", version, about = "Creates new topologies, and inspects running ones")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Create a crate with a topology that builds, runs and passes its test immediately
    New {
        /// The folder to create; its name becomes the crate's
        #[arg(value_name = "NAME")]
        folder: PathBuf,
        /// The folder of Tidemill's sources [default: those that this program was built from]
        #[arg(long, value_name = "DIR")]
        tidemill: Option<PathBuf>,
    },
    /// Print the status of a running topology: committed batch, rates, lag, states, last error
    Status {
        #[command(flatten)]
        at: At,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Send a request to a query of a running topology, and print the result
    Query {
        /// The name of the query
        name: String,
        /// The arguments as JSON; a text that is not JSON of the query's type is sent as a string
        #[arg(value_name = "ARGS", allow_hyphen_values = true)]
        arguments: String,
        #[command(flatten)]
        at: At,
        /// Print JSON with the result, the batch's number and the state's lineage
        #[arg(long)]
        json: bool,
    },
    /// Print values of a running topology
    State {
        #[command(subcommand)]
        command: StateCommand,
    },
}

#[derive(Subcommand)]
enum StateCommand {
    /// Print the committed batch, and the states with their types and sizes
    List {
        #[command(flatten)]
        at: At,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the value of a key as JSON; for a key without a value nothing, with exit code 1
    Get {
        /// The name of the state
        name: String,
        /// The key: a text as it is, anything else as JSON
        #[arg(allow_hyphen_values = true)]
        key: String,
        #[command(flatten)]
        at: At,
    },
    /// Print all keys and values in the order of the keys, one JSON object a line
    Scan {
        /// The name of the state
        name: String,
        /// The maximum number of keys [default: all]
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
        #[command(flatten)]
        at: At,
    },
}

/// Does what the command line of this process asks for, and ends the process.
pub fn program() -> ! {
    let code = match Arguments::try_parse() {
        Ok(arguments) => {
            match check_environment().and_then(|()| panics::caught(|| execute(arguments.command))) {
                Ok(code) => code,
                Err(error) => {
                    log::error(&error);
                    error.kind().exit_code().into()
                }
            }
        }
        Err(error) => {
            refused(&error, &Arguments::command(), &std::env::args_os().collect::<Vec<_>>())
        }
    };
    std::process::exit(code)
}

/// Checks the environment. The variables that a topology reads may be set for this program too.
fn check_environment() -> Result<()> {
    environment::check(&[Arguments::command(), arguments::Arguments::<NoArguments>::command()])
}

fn execute(command: Command) -> Result<i32> {
    // What runs knows its own types.
    let none = |_: &tidemill_engine::Topology<'_>| {};
    let done = match command {
        Command::New { folder, tidemill } => new::new(&folder, tidemill.as_deref()),
        Command::Status { at, json } => status::status(&at, json),
        Command::Query { name, arguments, at, json } => query::query(&name, &arguments, &at, json),
        Command::State { command: StateCommand::List { at, json } } => {
            state::list(&at.place(), json)
        }
        Command::State { command: StateCommand::Get { name, key, at } } => {
            return state::get(&at.place(), &name, &key, &none);
        }
        Command::State { command: StateCommand::Scan { name, limit, at } } => {
            state::scan(&at.place(), &name, limit, &none)
        }
    };
    done.map(|()| 0)
}
