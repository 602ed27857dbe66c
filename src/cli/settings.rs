//! The settings of a run: defaults, over them the file, over it the environment, over it the arguments.

use super::amounts::{Bytes, Span};
use clap::{Args, ValueEnum};
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tidemill_engine::{BatchLimits, Settings};
use tidemill_state::resolve::Assume;
use tidemill_state::{Durability, Error, Result};

/// What can be set, by an argument, its environment variable, or its key in the file. What is not set is absent.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Options {
    /// The folder of the state; made at the first start
    #[arg(long, env = "TIDEMILL_STATE", value_name = "DIR")]
    state: Option<PathBuf>,
    /// The topology's name, recorded in its state and sinks [default: the binary's]
    #[arg(long, env = "TIDEMILL_NAME")]
    name: Option<String>,
    /// How many workers; may differ from run to run [default: one a core, at most 8]
    #[arg(long, env = "TIDEMILL_WORKERS", value_name = "N")]
    workers: Option<usize>,
    /// Where to answer, or none [default: 127.0.0.1:7070]
    #[arg(long, env = "TIDEMILL_LISTEN", value_name = "ADDR")]
    listen: Option<Listen>,
    /// End when all sources are at their end and everything is committed and published
    #[arg(long, env = "TIDEMILL_EXIT_AT_END", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    exit_at_end: Option<bool>,
    /// What a commit survives: a crash of the machine (sync) or of the process [default: sync]
    #[arg(long, env = "TIDEMILL_DURABILITY", value_enum)]
    durability: Option<Survives>,
    /// Close a batch at so many records [default: 20000]
    #[arg(long, env = "TIDEMILL_MAX_BATCH_RECORDS", value_name = "N")]
    max_batch_records: Option<u64>,
    /// Close a batch at so many bytes of input [default: 16MiB]
    #[arg(long, env = "TIDEMILL_MAX_BATCH_BYTES", value_name = "SIZE")]
    max_batch_bytes: Option<Bytes>,
    /// Close a batch when its first record is so old [default: 50ms]
    #[arg(long, env = "TIDEMILL_MAX_BATCH_DELAY", value_name = "TIME")]
    max_batch_delay: Option<Span>,
    /// The sources wait while so many closed batches are uncommitted [default: 4]
    #[arg(long, env = "TIDEMILL_MAX_BATCHES_IN_FLIGHT", value_name = "N")]
    max_batches_in_flight: Option<u64>,
    /// The sources wait while sinks have not confirmed so much committed output [default: 256MiB]
    #[arg(long, env = "TIDEMILL_OUTBOX_BYTES", value_name = "SIZE")]
    outbox_bytes: Option<Bytes>,
    /// Fold committed changes when there are so many bytes of them [default: 48MiB]
    #[arg(long, env = "TIDEMILL_FOLD_BYTES", value_name = "SIZE")]
    fold_bytes: Option<Bytes>,
    /// The sources wait while the state's disk has less free than this [default: 256MiB]
    #[arg(long, env = "TIDEMILL_DISK_RESERVE", value_name = "SIZE")]
    disk_reserve: Option<Bytes>,
    /// How long a stop waits for the sinks [default: 10s]
    #[arg(long, env = "TIDEMILL_DRAIN", value_name = "TIME")]
    drain: Option<Span>,
    /// What to think of output whose fate is unknown because its sink lost its marker
    #[arg(long, env = "TIDEMILL_SINK_ASSUME", value_enum)]
    sink_assume: Option<Assumed>,
    /// How often in a row a failure of user code is tried again before it ends the run [default: 0]
    #[arg(long, env = "TIDEMILL_RETRIES", value_name = "N")]
    retries: Option<u32>,
    /// How log lines are written to the standard error; RUST_LOG chooses which [default: text]
    #[arg(long, env = "TIDEMILL_LOG", value_enum)]
    log: Option<LogFormat>,
}

/// See [`Durability`].
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Survives {
    /// On the disk at each commit
    Sync,
    /// Given to the operating system
    Process,
}

/// See [`Assume`].
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Assumed {
    /// The sink has it
    Delivered,
    /// The sink lacks it
    Lost,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum LogFormat {
    /// For people
    #[default]
    Text,
    /// For machines
    Json,
}

/// Where a run answers.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub(super) enum Listen {
    /// On this address.
    At(SocketAddr),
    /// Nowhere.
    Nowhere,
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Listen, String> {
        if text == "none" {
            return Ok(Listen::Nowhere);
        }
        if let Some(port) = text.strip_prefix("localhost:").and_then(|port| port.parse().ok()) {
            return Ok(Listen::At(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)));
        }
        text.parse().map(Listen::At).map_err(|_| format!("\"{text}\" is no address: write it as 127.0.0.1:7070, or none"))
    }
}

impl TryFrom<String> for Listen {
    type Error = String;

    fn try_from(text: String) -> Result<Listen, String> {
        text.parse()
    }
}

impl Options {
    /// Reads a file of settings.
    fn read(file: &Path) -> Result<Options> {
        let wrong = |why: String| Error::config(format!("the settings in {}: {why}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|why| wrong(format!("{why}. Give a readable file with --config")))?;
        toml::from_str(&text).map_err(|why| wrong(format!("{}. Correct it; run --help lists the settings", why.to_string().trim_end())))
    }

    /// These, and what they leave out from `others`.
    fn or(self, others: Options) -> Options {
        Options {
            state: self.state.or(others.state),
            name: self.name.or(others.name),
            workers: self.workers.or(others.workers),
            listen: self.listen.or(others.listen),
            exit_at_end: self.exit_at_end.or(others.exit_at_end),
            durability: self.durability.or(others.durability),
            max_batch_records: self.max_batch_records.or(others.max_batch_records),
            max_batch_bytes: self.max_batch_bytes.or(others.max_batch_bytes),
            max_batch_delay: self.max_batch_delay.or(others.max_batch_delay),
            max_batches_in_flight: self.max_batches_in_flight.or(others.max_batches_in_flight),
            outbox_bytes: self.outbox_bytes.or(others.outbox_bytes),
            fold_bytes: self.fold_bytes.or(others.fold_bytes),
            disk_reserve: self.disk_reserve.or(others.disk_reserve),
            drain: self.drain.or(others.drain),
            sink_assume: self.sink_assume.or(others.sink_assume),
            retries: self.retries.or(others.retries),
            log: self.log.or(others.log),
        }
    }
}

/// What is wanted of a run, with nothing left open.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// What the engine is told.
    pub(super) settings: Settings,
    pub(super) listen: Listen,
    pub(super) exit_at_end: bool,
    pub(super) log: LogFormat,
}

impl Wanted {
    /// What the arguments (with the environment behind them), the file and the defaults give together.
    pub(super) fn of(arguments: Box<Options>, file: Option<&Path>, binary: &str) -> Result<Wanted> {
        let file = file.map(Options::read).transpose()?.unwrap_or_default();
        let options = arguments.or(file);
        let state = options.state.ok_or_else(|| {
            Error::config("where is the state to lie? Give its folder with --state DIR, TIDEMILL_STATE, or state = \"DIR\" in the file of --config")
        })?;
        let defaults = Settings::new(options.name.unwrap_or_else(|| binary.to_string()), state);
        let size = |given: Option<Bytes>, default: u64| given.map_or(default, |bytes| bytes.0);
        let outbox_bytes = options.outbox_bytes.map_or(Ok(defaults.outbox_bytes), |bytes| usize::try_from(bytes.0));
        let settings = Settings {
            workers: options.workers.unwrap_or(defaults.workers),
            durability: match options.durability {
                None => defaults.durability,
                Some(Survives::Sync) => Durability::Sync,
                Some(Survives::Process) => Durability::Process,
            },
            batches: BatchLimits {
                max_records: options.max_batch_records.unwrap_or(defaults.batches.max_records),
                max_bytes: size(options.max_batch_bytes, defaults.batches.max_bytes),
                max_delay: options.max_batch_delay.map_or(defaults.batches.max_delay, |span| span.0),
                max_in_flight: options.max_batches_in_flight.unwrap_or(defaults.batches.max_in_flight),
            },
            outbox_bytes: outbox_bytes.map_err(|_| Error::config("outbox_bytes is more than this machine can address: give less"))?,
            fold_bytes: size(options.fold_bytes, defaults.fold_bytes),
            disk_reserve: size(options.disk_reserve, defaults.disk_reserve),
            drain: options.drain.map_or(defaults.drain, |span| span.0),
            sink_assume: options.sink_assume.map(|assumed| match assumed {
                Assumed::Delivered => Assume::Delivered,
                Assumed::Lost => Assume::Lost,
            }),
            retries: options.retries.unwrap_or(defaults.retries),
            ..defaults
        };
        let never = [("outbox_bytes", settings.outbox_bytes == 0), ("fold_bytes", settings.fold_bytes == 0)];
        if let Some((name, _)) = never.iter().find(|(_, zero)| *zero) {
            return Err(Error::config(format!("{name} is 0: give at least 1, better some MiB")));
        }
        Ok(Wanted {
            settings,
            listen: options.listen.unwrap_or(Listen::At(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7070))),
            exit_at_end: options.exit_at_end.unwrap_or(false),
            log: options.log.unwrap_or_default(),
        })
    }
}
