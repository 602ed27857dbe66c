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
    or it refuses; 69 user code or a record failed; 70 a fault of Tidemill; 75 try again; 130, 143 \
    a second SIGINT or SIGTERM. Restart after 75, and after death by a signal (out of memory, \
    SIGKILL); after no other code.";

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
    /// Print values: of a stopped topology by its folder, of a running one by its port
    State {
        #[command(subcommand)]
        command: StateCommand<A>,
    },
    /// Report whether this program would start on a state; changes nothing
    Check {
        #[command(flatten)]
        options: Box<Options>,
        /// A TOML file with settings
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten, next_help_heading = "The topology's own")]
        own: A,
    },
    /// Print the dataflow: operators, exchanges, states
    Plan {
        /// The output format
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
    /// Move the state aside, to DIR.old-<txid>, and begin again with batch 1. Not for a supervisor:
    /// each of its starts would do so
    #[arg(long)]
    pub(super) start_over: bool,
}

#[derive(Subcommand)]
pub(super) enum StateCommand<A: Args> {
    /// Print the committed batch, the positions, and the states with their types and sizes
    List {
        #[command(flatten)]
        place: Place,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten, next_help_heading = "The topology's own")]
        own: A,
    },
    /// Print the value of a key as JSON; for a key without a value nothing, with exit code 1
    Get {
        /// The name of the state
        name: String,
        /// The key: a text as it is, anything else as JSON
        #[arg(allow_hyphen_values = true)]
        key: String,
        #[command(flatten)]
        place: Place,
        #[command(flatten, next_help_heading = "The topology's own")]
        own: A,
    },
    /// Print all keys and values in the order of the keys, one JSON object a line
    Scan {
        /// The name of the state
        name: String,
        /// The maximum number of keys [default: all]
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
    /// The address of the running topology
    #[arg(long, env = environment::AT, value_name = "URL", default_value = HERE)]
    pub(super) at: String,
    /// A file with the topology's token in its first line
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
    /// The state folder of a stopped topology [env: TIDEMILL_STATE, unless --at is given]
    #[arg(long, value_name = "DIR", conflicts_with = "at")]
    pub(super) state: Option<PathBuf>,
    /// The address of a running topology [env: TIDEMILL_AT, unless --state is given]
    #[arg(long, value_name = "URL")]
    pub(super) at: Option<String>,
    /// A file with the running topology's token in its first line
    #[arg(long, env = "TIDEMILL_TOKEN_FILE", value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
}

/// The output format of a plan.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum PlanFormat {
    /// One line for each operator
    Text,
    /// The language of Graphviz
    Dot,
    /// An object for programs
    Json,
}
