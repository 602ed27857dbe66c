//! The settings of a run: defaults, over them the file, over it the environment, over it the
//! arguments.

mod bounds;

use super::amounts::{Bytes, Span};
use super::environment;
use super::kafka::KafkaSettings;
use clap::{Args, ValueEnum};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tidemill_connectors::kafka::Overrides;
use tidemill_engine::source::{OnLoss, StartAt};
use tidemill_engine::{BatchLimits, QueryLimits, Settings};
use tidemill_server::Access;
use tidemill_state::resolve::Assume;
use tidemill_state::{Durability, Error, Result, system};

/// The settings that an argument, its environment variable, or its key in the file can give. A
/// setting that is not given is absent.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Options {
    /// The folder of the state; created at the first start
    #[arg(long, env = "TIDEMILL_STATE", value_name = "DIR")]
    state: Option<PathBuf>,
    /// The topology's name, recorded in its state and sinks [default: the binary's]
    #[arg(long, env = "TIDEMILL_NAME")]
    name: Option<String>,
    /// The number of workers; may differ from run to run [default: one a core, at most 8]
    #[arg(long, env = "TIDEMILL_WORKERS", value_name = "N")]
    workers: Option<usize>,
    /// The address of the port for queries and the page, or none [default: 127.0.0.1:7070]
    #[arg(long, env = "TIDEMILL_LISTEN", value_name = "ADDR")]
    listen: Option<Listen>,
    /// Require the token in the first line of this file; requests without it are rejected
    #[arg(long, env = "TIDEMILL_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Also answer requests for this host name; several times, or with commas, for several. With a
    /// token any name is answered
    #[arg(long, env = "TIDEMILL_ALLOW_HOST", value_name = "NAME", value_delimiter = ',')]
    #[serde(deserialize_with = "one_or_more")]
    allow_host: Vec<String>,
    /// Let pages of this origin, such as https://mill.example.org, post and open web sockets;
    /// several times, or with commas, for several
    #[arg(long, env = "TIDEMILL_ALLOW_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    #[serde(deserialize_with = "one_or_more")]
    allow_origin: Vec<String>,
    /// Listen beyond loopback without a token: everybody who reaches the port may read
    #[arg(long, env = "TIDEMILL_OPEN_TO_ALL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    open_to_all: Option<bool>,
    /// The longest duration of a request to a query [default: 5s]
    #[arg(long, env = "TIDEMILL_QUERY_TIME_OUT", value_name = "TIME")]
    query_time_out: Option<Span>,
    /// The number of requests to queries that run at once on each worker [default: 1024]
    #[arg(long, env = "TIDEMILL_QUERIES_RUNNING", value_name = "N")]
    queries_running: Option<usize>,
    /// The number of requests to queries that wait to run; more are refused [default: 4096]
    #[arg(long, env = "TIDEMILL_QUERIES_WAITING", value_name = "N")]
    queries_waiting: Option<usize>,
    /// The largest request [default: 1MiB]
    #[arg(long, env = "TIDEMILL_REQUEST_BYTES", value_name = "SIZE")]
    request_bytes: Option<Bytes>,
    /// The largest answer [default: 16MiB]
    #[arg(long, env = "TIDEMILL_ANSWER_BYTES", value_name = "SIZE")]
    answer_bytes: Option<Bytes>,
    /// The size of the old values kept for requests that read an earlier batch; beyond it the oldest
    /// of these requests fail [default: 256MiB]
    #[arg(long, env = "TIDEMILL_PIN_BYTES", value_name = "SIZE")]
    pin_bytes: Option<Bytes>,
    /// The size of the answers that wait for their clients; beyond it further large ones are refused
    /// [default: 256MiB]
    #[arg(long, env = "TIDEMILL_UNSENT_BYTES", value_name = "SIZE")]
    unsent_bytes: Option<Bytes>,
    /// End the run when all sources are exhausted and everything is committed and published
    #[arg(long, env = "TIDEMILL_EXIT_AT_END", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    exit_at_end: Option<bool>,
    /// The crash that a commit survives: of the machine (sync) or of the process [default: sync]
    #[arg(long, env = "TIDEMILL_DURABILITY", value_enum)]
    durability: Option<Survives>,
    /// Close a batch after this many records [default: 20000]
    #[arg(long, env = "TIDEMILL_MAX_BATCH_RECORDS", value_name = "N")]
    max_batch_records: Option<u64>,
    /// Close a batch after this much input [default: 16MiB]
    #[arg(long, env = "TIDEMILL_MAX_BATCH_BYTES", value_name = "SIZE")]
    max_batch_bytes: Option<Bytes>,
    /// Close a batch once its first record is this old [default: 50ms]
    #[arg(long, env = "TIDEMILL_MAX_BATCH_DELAY", value_name = "TIME")]
    max_batch_delay: Option<Span>,
    /// Hold the sources back while this many closed batches are uncommitted [default: 8]
    #[arg(long, env = "TIDEMILL_MAX_BATCHES_IN_FLIGHT", value_name = "N")]
    max_batches_in_flight: Option<u64>,
    /// Hold the sources back while this much committed output is not confirmed by its sinks
    /// [default: 256MiB]
    #[arg(long, env = "TIDEMILL_OUTBOX_BYTES", value_name = "SIZE")]
    outbox_bytes: Option<Bytes>,
    /// Fold committed changes once they have this size [default: 48MiB]
    #[arg(long, env = "TIDEMILL_FOLD_BYTES", value_name = "SIZE")]
    fold_bytes: Option<Bytes>,
    /// Hold the sources back while this much of the committed changes is not folded
    /// [default: 8 times --fold-bytes]
    #[arg(long, env = "TIDEMILL_UNFOLDED_BYTES", value_name = "SIZE")]
    unfolded_bytes: Option<Bytes>,
    /// Hold the sources back while the state's disk has less free than this, or than a fold needs;
    /// 0: never [default: 256MiB]
    #[arg(long, env = "TIDEMILL_DISK_RESERVE", value_name = "SIZE")]
    disk_reserve: Option<Bytes>,
    /// The time that a stop has for the current batch and the sinks [default: 10s]
    #[arg(long, env = "TIDEMILL_DRAIN", value_name = "TIME")]
    drain: Option<Span>,
    /// The fate of output that a sink without its marker may have or lack; only as an argument
    /// [default: refuse, 68]
    #[arg(long, value_enum)]
    #[serde(deserialize_with = "only_an_argument")]
    sink_assume: Option<Assumed>,
    /// The beginning of sources that were never read: earliest, latest, a date, a time of RFC 3339,
    /// or milliseconds since 1970 [default: each source's own]
    #[arg(long, env = "TIDEMILL_FROM", value_name = "WHERE")]
    from: Option<Beginning>,
    /// Continue although unread records are gone at a source, and report them; only as an argument
    /// [default: refuse, 67]
    #[arg(long, value_enum)]
    #[serde(deserialize_with = "only_an_argument")]
    on_loss: Option<Lossy>,
    /// The number of retries in a row after a failure of user code, before it ends the run
    /// [default: 0]
    #[arg(long, env = "TIDEMILL_RETRIES", value_name = "N")]
    retries: Option<u32>,
    /// The format of log lines on the standard error; RUST_LOG selects them [default: text]
    #[arg(long, env = "TIDEMILL_LOG", value_enum)]
    log: Option<LogFormat>,
    /// Settings of librdkafka.
    #[command(flatten)]
    kafka: KafkaSettings,
}

/// Refuses a setting in the file that decides about one start.
fn only_an_argument<'de, D: Deserializer<'de>, T>(_: D) -> Result<T, D::Error> {
    Err(D::Error::custom(format!(
        "this is no setting of a file. {}: give it as an argument of that start",
        environment::ONE_START
    )))
}

/// Reads a text, or a list of texts.
fn one_or_more<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMore {
        One(String),
        More(Vec<String>),
    }
    Ok(match OneOrMore::deserialize(from)? {
        OneOrMore::One(one) => vec![one],
        OneOrMore::More(more) => more,
    })
}

/// The first list, or the second if it is empty.
fn first_of(ours: Vec<String>, others: Vec<String>) -> Vec<String> {
    if ours.is_empty() { others } else { ours }
}

/// See [`Durability`].
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Survives {
    /// Each commit is synced to the disk
    Sync,
    /// Each commit is handed to the operating system
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

/// See [`StartAt`].
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
struct Beginning(StartAt);

impl FromStr for Beginning {
    type Err = String;

    fn from_str(text: &str) -> Result<Beginning, String> {
        match text {
            "earliest" => Ok(Beginning(StartAt::Earliest)),
            "latest" => Ok(Beginning(StartAt::Latest)),
            time => time_ms(time).map(|ms| Beginning(StartAt::Time(ms))).ok_or_else(|| {
                format!(
                    "\"{text}\" is no beginning: give earliest, latest, a date (2026-11-30), a \
                     date and time (2026-11-30T12:00:00Z; UTC without an offset), or milliseconds \
                     since 1970 (1764000000000)"
                )
            }),
        }
    }
}

/// The milliseconds since 1970 of a time as an operator writes it: RFC 3339, a date, a date and
/// time, or the number itself.
fn time_ms(text: &str) -> Option<i64> {
    if let Ok(ms) = text.parse() {
        return Some(ms);
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(time.as_millisecond());
    }
    // Without an offset it is of UTC.
    let time: jiff::civil::DateTime = text.parse().ok()?;
    Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

impl TryFrom<String> for Beginning {
    type Error = String;

    fn try_from(text: String) -> Result<Beginning, String> {
        text.parse()
    }
}

/// See [`OnLoss`].
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Lossy {
    /// Continue with the oldest record that is there
    Earliest,
    /// Continue with the records that come after the start
    Latest,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum LogFormat {
    /// Lines for people
    #[default]
    Text,
    /// A JSON object a line
    Json,
}

/// The address on which a run answers, if it does.
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
        text.parse()
            .map(Listen::At)
            .map_err(|_| format!("\"{text}\" is no address: write it as 127.0.0.1:7070, or none"))
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
        let wrong =
            |why: String| Error::config(format!("the settings in {}: {why}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|why| {
            system::error(format!("the settings in {} (--config)", file.display()), &why)
        })?;
        toml::from_str(&text).map_err(|why| {
            wrong(format!("{}. Correct it; run --help lists the settings", described(&why, &text)))
        })
    }

    /// These, and what they leave out from `others`.
    fn or(self, others: Options) -> Options {
        Options {
            state: self.state.or(others.state),
            name: self.name.or(others.name),
            workers: self.workers.or(others.workers),
            listen: self.listen.or(others.listen),
            token_file: self.token_file.or(others.token_file),
            allow_host: first_of(self.allow_host, others.allow_host),
            allow_origin: first_of(self.allow_origin, others.allow_origin),
            open_to_all: self.open_to_all.or(others.open_to_all),
            query_time_out: self.query_time_out.or(others.query_time_out),
            queries_running: self.queries_running.or(others.queries_running),
            queries_waiting: self.queries_waiting.or(others.queries_waiting),
            request_bytes: self.request_bytes.or(others.request_bytes),
            answer_bytes: self.answer_bytes.or(others.answer_bytes),
            pin_bytes: self.pin_bytes.or(others.pin_bytes),
            unsent_bytes: self.unsent_bytes.or(others.unsent_bytes),
            exit_at_end: self.exit_at_end.or(others.exit_at_end),
            durability: self.durability.or(others.durability),
            max_batch_records: self.max_batch_records.or(others.max_batch_records),
            max_batch_bytes: self.max_batch_bytes.or(others.max_batch_bytes),
            max_batch_delay: self.max_batch_delay.or(others.max_batch_delay),
            max_batches_in_flight: self.max_batches_in_flight.or(others.max_batches_in_flight),
            outbox_bytes: self.outbox_bytes.or(others.outbox_bytes),
            fold_bytes: self.fold_bytes.or(others.fold_bytes),
            unfolded_bytes: self.unfolded_bytes.or(others.unfolded_bytes),
            disk_reserve: self.disk_reserve.or(others.disk_reserve),
            drain: self.drain.or(others.drain),
            sink_assume: self.sink_assume,
            from: self.from.or(others.from),
            on_loss: self.on_loss,
            retries: self.retries.or(others.retries),
            log: self.log.or(others.log),
            kafka: self.kafka.or(others.kafka),
        }
    }
}

/// Returns what is wrong with a file, and in which line. The value there may be a secret: only the
/// key is named.
fn described(why: &toml::de::Error, text: &str) -> String {
    let Some(before) = why.span().and_then(|span| text.get(..span.start)) else {
        return why.message().into();
    };
    let number = before.matches('\n').count();
    let is_key = |key: &&str| key.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
    let line = text.lines().nth(number).unwrap_or_default();
    let table = || line.trim().strip_prefix('[')?.strip_suffix(']');
    let key = line.split_once('=').map(|(key, _)| key.trim()).or_else(table).filter(is_key);
    let key = key.map_or(String::new(), |key| format!(", {key}"));
    format!("line {}{key}: {}", number + 1, why.message())
}

impl Options {
    /// The engine's settings, with the defaults filled in.
    fn engine_settings(&self, binary: &str) -> Result<Settings> {
        let state = self.state.clone().ok_or_else(|| {
            Error::config(
                "where is the state to lie? Give its folder with --state DIR, \
                TIDEMILL_STATE, or state = \"DIR\" in the file of --config",
            )
        })?;
        let defaults =
            Settings::new(self.name.clone().unwrap_or_else(|| binary.to_string()), state);
        Ok(Settings {
            workers: self.workers.unwrap_or(defaults.workers),
            durability: match self.durability {
                None => defaults.durability,
                Some(Survives::Sync) => Durability::Sync,
                Some(Survives::Process) => Durability::Process,
            },
            batches: self.batch_limits(&defaults.batches),
            outbox_bytes: in_memory(self.outbox_bytes, defaults.outbox_bytes, "outbox_bytes")?,
            fold_bytes: size(self.fold_bytes, defaults.fold_bytes),
            unfolded_bytes: self.unfolded_bytes.map(|bytes| bytes.0),
            disk_reserve: size(self.disk_reserve, defaults.disk_reserve),
            drain: self.drain.map_or(defaults.drain, |span| span.0),
            sink_assume: self.sink_assume.map(|assumed| match assumed {
                Assumed::Delivered => Assume::Delivered,
                Assumed::Lost => Assume::Lost,
            }),
            queries: self.query_limits(&defaults.queries)?,
            retries: self.retries.unwrap_or(defaults.retries),
            first: self.from.map(|from| from.0),
            to_end: self.exit_at_end.unwrap_or(false),
            on_loss: self.on_loss.map_or(OnLoss::Refuse, |lossy| match lossy {
                Lossy::Earliest => OnLoss::Earliest,
                Lossy::Latest => OnLoss::Latest,
            }),
            ..defaults
        })
    }

    fn batch_limits(&self, defaults: &BatchLimits) -> BatchLimits {
        BatchLimits {
            max_records: self.max_batch_records.unwrap_or(defaults.max_records),
            max_bytes: size(self.max_batch_bytes, defaults.max_bytes),
            max_delay: self.max_batch_delay.map_or(defaults.max_delay, |span| span.0),
            max_in_flight: self.max_batches_in_flight.unwrap_or(defaults.max_in_flight),
        }
    }

    fn query_limits(&self, defaults: &QueryLimits) -> Result<QueryLimits> {
        Ok(QueryLimits {
            running: self.queries_running.unwrap_or(defaults.running),
            waiting: self.queries_waiting.unwrap_or(defaults.waiting),
            time_out: self.query_time_out.map_or(defaults.time_out, |span| span.0),
            request_bytes: in_memory(self.request_bytes, defaults.request_bytes, "request_bytes")?,
            answer_bytes: in_memory(self.answer_bytes, defaults.answer_bytes, "answer_bytes")?,
            pin_bytes: in_memory(self.pin_bytes, defaults.pin_bytes, "pin_bytes")?,
            unsent_bytes: in_memory(self.unsent_bytes, defaults.unsent_bytes, "unsent_bytes")?,
            ..defaults.clone()
        })
    }

    /// The conditions under which the port answers.
    fn access(&self) -> Result<Access> {
        let mut access = Access::default();
        if let Some(file) = &self.token_file {
            access = access.with_token_file(file)?;
        }
        for host in &self.allow_host {
            access = access.with_host(host);
        }
        for origin in &self.allow_origin {
            let is_origin = origin.split_once("://").is_some_and(|(scheme, rest)| {
                ["http", "https"].contains(&scheme) && !rest.is_empty() && !rest.contains('/')
            });
            if !is_origin {
                return Err(Error::config(format!(
                    "allow_origin is \"{origin}\", which is no origin: give it with \
                     --allow-origin as a browser sends it, such as https://mill.example.org or \
                     http://localhost:8080, without a path"
                )));
            }
            access = access.with_origin(origin);
        }
        if self.open_to_all == Some(true) {
            access = access.open_to_all();
        }
        Ok(access)
    }
}

fn size(given: Option<Bytes>, default: u64) -> u64 {
    given.map_or(default, |bytes| bytes.0)
}

/// A size of something that is kept in memory.
fn in_memory(given: Option<Bytes>, default: usize, name: &str) -> Result<usize> {
    let too_large =
        |_| Error::config(format!("{name} is more than this machine can address: give less"));
    given.map_or(Ok(default), |bytes| usize::try_from(bytes.0).map_err(too_large))
}

/// The complete settings of a run, with the defaults filled in.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// The engine's settings.
    pub(super) settings: Settings,
    pub(super) listen: Listen,
    pub(super) access: Access,
    pub(super) exit_at_end: bool,
    pub(super) log: LogFormat,
    /// Settings of librdkafka, for every cluster.
    pub(super) kafka: Overrides,
}

impl Wanted {
    /// Returns the settings that the arguments (with the environment behind them), the file and the
    /// defaults give together.
    pub(super) fn of(arguments: Box<Options>, file: Option<&Path>, binary: &str) -> Result<Wanted> {
        let file = file.map(Options::read).transpose()?.unwrap_or_default();
        let options = arguments.or(file);
        let settings = options.engine_settings(binary)?;
        bounds::check(&settings)?;
        Ok(Wanted {
            settings,
            access: options.access()?,
            listen: options
                .listen
                .unwrap_or(Listen::At(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7070))),
            exit_at_end: options.exit_at_end.unwrap_or(false),
            log: options.log.unwrap_or_default(),
            kafka: options.kafka.resolve(std::env::vars_os())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::NoArguments;
    use super::super::arguments::{Arguments, Command};
    use super::*;
    use clap::Parser;

    fn parsed(arguments: &[&str]) -> Result<Wanted, String> {
        let arguments = [&["t", "run"], arguments].concat();
        match Arguments::<NoArguments>::try_parse_from(arguments)
            .map_err(|why| why.to_string())?
            .command
        {
            Command::Run { run, .. } => Wanted::of(run.options, run.config.as_deref(), "binary")
                .map_err(|error| error.to_string()),
            _ => Err("another command".into()),
        }
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("it can be written");
        file
    }

    /// Tells what arguments, environment and file come to. The environment cannot be changed within
    /// a process that has threads, so the test of the order runs this one as a process of its own.
    #[test]
    fn a_beginning_may_be_a_date() {
        for (text, expected) in [
            ("1764000000000", Some(1_764_000_000_000)),
            ("1970-01-02", Some(86_400_000)),
            ("1970-01-01T00:00:01", Some(1_000)),
            ("1970-01-01 00:00:01.5", Some(1_500)),
            ("1970-01-01T01:00:01Z", Some(3_601_000)),
            ("1970-01-01T01:00:01+01:00", Some(1_000)),
            ("yesterday", None),
            ("1970-13-01", None),
            ("", None),
        ] {
            let expected = expected.map(|ms| Beginning(StartAt::Time(ms)));
            assert_eq!(text.parse::<Beginning>().ok(), expected, "{text}");
        }
    }

    #[test]
    fn tell() {
        let Ok(arguments) = std::env::var("ARGUMENTS_TO_TELL") else { return };
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        match parsed(&arguments) {
            Ok(wanted) => {
                println!(
                    "told: {} {:?} {}",
                    wanted.settings.name, wanted.settings.batches.max_delay, wanted.exit_at_end
                )
            }
            Err(error) => println!("told: {error}"),
        }
    }

    fn check(arguments: &str, environment: &[(&str, &str)], config: Option<&str>, expected: &str) {
        let config = config.map(file);
        let path = config
            .as_ref()
            .map_or(String::new(), |file| format!("--config {}", file.path().display()));
        let child = std::process::Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "--nocapture", "cli::settings::tests::tell"])
            .env("ARGUMENTS_TO_TELL", format!("--state x {path} {arguments}"))
            .envs(environment.iter().copied())
            .output()
            .expect("it runs");
        let out = String::from_utf8_lossy(&child.stdout);
        assert!(out.contains(&format!("told: {expected}")), "expected {expected}, got\n{out}");
    }

    #[test]
    fn an_argument_wins_over_the_environment_over_the_file_over_the_default() {
        let file = Some("name = \"filed\"\nmax_batch_delay = \"1ms\"\nexit_at_end = true");
        let environment = [
            ("TIDEMILL_NAME", "aired"),
            ("TIDEMILL_MAX_BATCH_DELAY", "2ms"),
            ("TIDEMILL_EXIT_AT_END", "false"),
        ];
        check("", &[], None, "binary 50ms false");
        check("", &[], file, "filed 1ms true");
        check("", &environment, file, "aired 2ms false");
        check(
            "--name said --max-batch-delay 3ms --exit-at-end",
            &environment,
            file,
            "said 3ms true",
        );
        check("--max-batch-delay 3ms", &environment[..1], file, "aired 3ms true");
    }

    #[test]
    fn an_unknown_or_wrong_setting_of_the_file_is_named_with_the_file() {
        let check = |text: &str, parts: &[&str]| {
            let file = file(text);
            let path = file.path().display().to_string();
            let error = parsed(&["--state", "x", "--config", &path]).expect_err("it is wrong");
            for part in parts.iter().copied().chain([path.as_str()]) {
                assert!(error.contains(part), "{part} is not in: {error}");
            }
        };
        check("worker = 2", &["unknown field `worker`", "`workers`"]);
        check("state = \"x\"\n[batches]\nmax = 1", &["unknown field `batches`"]);
        check("fold_bytes = \"many\"", &["\"many\" is no size"]);
        check("drain = \"10\"", &["with its unit"]);
        check("listen = \"everywhere\"", &["is no address"]);
        check("durability = \"maybe\"", &["maybe"]);
        check("workers = ", &["line 1"]);
        check(
            "workers = 1\non_loss = \"latest\"",
            &["line 2", "on_loss", "one start", "as an argument"],
        );
        check("sink_assume = \"lost\"", &["sink_assume", "one start", "as an argument"]);
    }

    #[test]
    fn no_secret_of_the_file_is_shown() {
        for wrong in [
            "[kafka]\nsasl.password = \"hunter2",
            "[kafka]\nsasl.password = hunter2",
            "kafka = \"hunter2\"",
        ] {
            let file = file(wrong);
            let error = parsed(&["--state", "x", "--config", &file.path().display().to_string()])
                .expect_err("it is wrong");
            assert!(error.contains("line ") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn what_can_never_work_is_refused() {
        let check = |arguments: &[&str], part: &str| {
            let error = parsed(arguments).expect_err("it is wrong");
            assert!(error.contains(part), "{part} is not in: {error}");
        };
        check(&[], "--state DIR");
        check(&["--state", "x", "--workers", "two"], "--workers");
        for (argument, value) in [
            ("--outbox-bytes", "0"),
            ("--fold-bytes", "0"),
            ("--answer-bytes", "0"),
            ("--request-bytes", "0"),
            ("--queries-running", "0"),
            ("--queries-running", "18446744073709551615"),
            ("--queries-waiting", "18446744073709551615"),
            ("--query-time-out", "0s"),
            ("--query-time-out", "5000000000000000h"),
            ("--max-batch-delay", "5000000000000000h"),
            ("--drain", "5000000000000000h"),
            ("--workers", "0"),
            ("--workers", "257"),
            ("--max-batch-records", "0"),
            ("--max-batch-records", "18446744073709551615"),
            ("--max-batch-bytes", "0"),
            ("--max-batches-in-flight", "0"),
            ("--max-batches-in-flight", "18446744073709551615"),
        ] {
            check(&["--state", "x", argument, value], argument);
        }
        for (argument, value) in [
            ("--queries-waiting", "0"),
            ("--drain", "0s"),
            ("--max-batch-delay", "0s"),
            ("--disk-reserve", "0"),
        ] {
            parsed(&["--state", "x", argument, value])
                .unwrap_or_else(|why| panic!("{argument} {value}: {why}"));
        }
        check(&["--state", "x", "--listen", "7070"], "is no address");
        check(&["--state", "x", "--from", "yesterday"], "is no beginning");
        check(&["--state", "x", "--wrokers", "2"], "--wrokers");
        check(&["--state", "x", "--config", "/does/not/exist"], "/does/not/exist");
    }

    #[test]
    fn hosts_and_origins_are_given_once_or_several_times() {
        let access = |arguments: &[&str]| {
            let given = [&["--state", "x"], arguments].concat();
            parsed(&given).map(|wanted| format!("{:?}", wanted.access))
        };
        let several = ["--allow-host", "a", "--allow-host", "b,c"];
        let several = access(&several).expect("they are right");
        assert!(several.contains("hosts: [\"a\", \"b\", \"c\"]"), "{several}");
        let one = file("allow_host = \"a\"\nallow_origin = [\"http://a\", \"http://b:8080\"]");
        let path = one.path().display().to_string();
        let of_file = access(&["--config", &path]).expect("they are right");
        for part in ["hosts: [\"a\"]", "origins: [\"http://a\", \"http://b:8080\"]"] {
            assert!(of_file.contains(part), "{part}: {of_file}");
        }
        let over = access(&["--config", &path, "--allow-host", "d"]).expect("they are right");
        assert!(over.contains("hosts: [\"d\"]"), "arguments come before the file: {over}");
        for wrong in ["mill.example.org", "https://mill.example.org/", "ftp://mill", "https://"] {
            let why = access(&["--allow-origin", wrong]).expect_err(wrong);
            assert!(why.contains("--allow-origin"), "{why}");
        }
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "every setting once: given, taken out, compared")]
    fn every_setting_reaches_its_place() {
        let file = file(
            "state = \"s\"\nname = \"n\"\nworkers = 3\nlisten = \"none\"\nexit_at_end = \
             true\ndurability = \"process\"\nmax_batch_records = 5\nmax_batch_bytes = \
             6\nmax_batch_delay = \"7ms\"\nmax_batches_in_flight = 8\noutbox_bytes = \
             \"9KiB\"\nfold_bytes = 10\nunfolded_bytes = 21\ndisk_reserve = 11\ndrain = \
             \"12s\"\nfrom = \"latest\"\nretries = 13\nlog = \"json\"\nopen_to_all = \
             true\nallow_host = [\"mill\", \"mill.example.org\"]\nallow_origin = \
             \"https://mill.example.org\"\nquery_time_out = \"14s\"\nqueries_running = \
             15\nqueries_waiting = 16\nrequest_bytes = 17\nanswer_bytes = 18\npin_bytes = \
             19\nunsent_bytes = 20\n[kafka]\nlinger.ms = 21",
        );
        let path = file.path().display().to_string();
        let wanted = parsed(&["--config", &path, "--sink-assume", "lost", "--on-loss", "earliest"])
            .expect("it is right");
        let mut kafka = Overrides::default();
        kafka.set("linger.ms", "21").expect("it is allowed");
        assert!(wanted.kafka == kafka);
        let Settings {
            name,
            state,
            workers,
            durability,
            batches,
            outbox_bytes,
            fold_bytes,
            unfolded_bytes,
            disk_reserve,
            drain,
            sink_assume,
            retries,
            first,
            on_loss,
            to_end,
            queries,
            clock: _,
            start_over: _,
            starting: _,
        } = wanted.settings;
        let QueryLimits {
            running,
            waiting,
            per_client: _,
            time_out,
            request_bytes,
            answer_bytes,
            pin_bytes,
            unsent_bytes,
        } = queries;
        assert_eq!(unfolded_bytes, Some(21));
        assert_eq!((time_out.as_secs(), running, waiting, request_bytes), (14, 15, 16, 17));
        assert_eq!((answer_bytes, pin_bytes, unsent_bytes), (18, 19, 20));
        let access = format!("{:?}", wanted.access);
        for part in [
            "hosts: [\"mill\", \"mill.example.org\"]",
            "origins: [\"https://mill.example.org\"]",
            "open: true",
        ] {
            assert!(access.contains(part), "{part}: {access}");
        }
        assert_eq!((first, on_loss), (Some(StartAt::Latest), OnLoss::Earliest));
        assert_eq!(
            (name.as_str(), state.as_path(), workers, durability),
            ("n", Path::new("s"), 3, Durability::Process)
        );
        assert_eq!(
            (
                batches.max_records,
                batches.max_bytes,
                batches.max_delay.as_millis(),
                batches.max_in_flight
            ),
            (5, 6, 7, 8)
        );
        assert_eq!(
            (outbox_bytes, fold_bytes, disk_reserve, drain.as_secs(), sink_assume, retries),
            (9 << 10, 10, 11, 12, Some(Assume::Lost), 13)
        );
        assert_eq!(
            (wanted.listen, wanted.exit_at_end, wanted.log, to_end),
            (Listen::Nowhere, true, LogFormat::Json, true)
        );
    }
}
