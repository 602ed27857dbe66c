//! The commands and their arguments, as clap reads them.

use super::environment;
use super::settings::Options;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// The address of a running topology if no other is given.
pub(super) const HERE: &str = "http://127.0.0.1:7070";

/// An exactly-once micro-batch topology
#[derive(Parser)]
#[command(version = concat!("(tidemill ", env!("CARGO_PKG_VERSION"), ")"), about, after_help = EXIT_CODES)]
pub(super) struct Arguments<A: Args> {
    #[command(subcommand)]
    pub(super) command: Command<A>,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 no value (state get); 64 configuration; 65 state \
    damaged; 66 state rolled back or foreign; 67 source data lost; 68 a sink's content unknown, \
    or it refuses; 69 user code or a record failed; 70 a fault of Tidemill; 75 try again. A \
    supervisor should restart only after 75.";

#[derive(Subcommand)]
pub(super) enum Command<A: Args> {
    /// Run the topology
    ///
    /// Settings come from their defaults, a TOML file (--config), the environment (TIDEMILL_...)
    /// and these arguments; the later ones win.
    Run {
        #[command(flatten)]
        run: RunArguments,
        #[command(flatten, next_help_heading = "The topology's own")]
        own: A,
    },
    /// What runs: committed batch, rates, lag, states, last error
    Status {
        #[command(flatten)]
        at: At,
        /// Print the answer as JSON
        #[arg(long)]
        json: bool,
    },
    /// Ask a query of a running topology: prints the result
    Query {
        /// Its name
        name: String,
        /// Its arguments as JSON; what is no JSON, or none that the query takes, is a text
        #[arg(value_name = "ARGS", allow_hyphen_values = true)]
        arguments: String,
        #[command(flatten)]
        at: At,
        /// Print the batch's number too, as JSON
        #[arg(long)]
        json: bool,
    },
    /// Look at the values: of a stopped topology by its folder, of a running one by its port
    State {
        #[command(subcommand)]
        command: StateCommand<A>,
    },
    /// Would this program start on that state? Changes nothing
    Check {
        #[command(flatten)]
        options: Box<Options>,
        /// A TOML file with settings
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten, next_help_heading = "The topology's own")]
        own: A,
    },
    /// Show the dataflow: operators, exchanges, states
    Plan {
        /// As what
        #[arg(long, value_enum, default_value_t = PlanFormat::Text)]
        format: PlanFormat,
        #[command(flatten, next_help_heading = "The topology's own")]
        own: A,
    },
}

#[derive(Args)]
pub(super) struct RunArguments {
    #[command(flatten)]
    pub(super) options: Box<Options>,
    /// A TOML file with settings: the names of these arguments with _ for -, such as
    /// max_batch_delay = "50ms"
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Move the state aside, to DIR.old-<txid>, and begin anew with batch 1. Not for a supervisor:
    /// each start would begin anew
    #[arg(long)]
    pub(super) start_over: bool,
}

#[derive(Subcommand)]
pub(super) enum StateCommand<A: Args> {
    /// The committed batch, the positions, and the states with their types and sizes
    List {
        #[command(flatten)]
        place: Place,
        /// Print them as JSON
        #[arg(long)]
        json: bool,
        #[command(flatten, next_help_heading = "The topology's own")]
        own: A,
    },
    /// The value of a key, as JSON. If it has none: nothing, and exit code 1
    Get {
        /// The state
        name: String,
        /// The key: a text as it is, anything else as JSON
        #[arg(allow_hyphen_values = true)]
        key: String,
        #[command(flatten)]
        place: Place,
        #[command(flatten, next_help_heading = "The topology's own")]
        own: A,
    },
    /// Every key and value in the order of the keys, one JSON object a line
    Scan {
        /// The state
        name: String,
        /// At most so many
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
        #[command(flatten)]
        place: Place,
        #[command(flatten, next_help_heading = "The topology's own")]
        own: A,
    },
}

/// The address of a running topology, and the token for it.
#[derive(Args)]
pub(super) struct At {
    /// Where it listens
    #[arg(long, env = environment::AT, value_name = "URL", default_value = HERE)]
    pub(super) at: String,
    /// The token that it asks for, in this file's first line
    #[arg(long, env = "TIDEMILL_TOKEN_FILE", value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
}

impl At {
    pub(super) fn place(self) -> Place {
        Place { state: None, at: Some(self.at), token_file: self.token_file }
    }
}

/// The place where values are looked up: the folder of a stopped topology's state, or a running
/// topology.
#[derive(Args)]
pub(super) struct Place {
    /// The folder of a stopped topology's state [env: TIDEMILL_STATE, unless --at is given]
    #[arg(long, value_name = "DIR", conflicts_with = "at")]
    pub(super) state: Option<PathBuf>,
    /// Where a running topology listens [env: TIDEMILL_AT, unless --state is given]
    #[arg(long, value_name = "URL")]
    pub(super) at: Option<String>,
    /// The token that a running topology asks for, in this file's first line
    #[arg(long, env = "TIDEMILL_TOKEN_FILE", value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
}

/// As what a plan is shown.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum PlanFormat {
    /// A line an operator
    Text,
    /// For Graphviz
    Dot,
    /// For programs
    Json,
}
