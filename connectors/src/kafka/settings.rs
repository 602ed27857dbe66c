//! The settings of a cluster: the brokers, and librdkafka's settings under its own names.

use super::backoff::{self, Backoff};
use super::events::Standing;
use super::group_name::GroupName;
use super::oauth::{Token, Tokens};
use super::operator;
use super::setting_names;
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tidemill_state::{Error, Result};

/// A Kafka cluster, as sources and sinks reach it.
///
/// ```
/// use tidemill_connectors::kafka::Kafka;
/// let kafka = Kafka::new("broker-1:9093,broker-2:9093")
///     .set("security.protocol", "SASL_SSL")
///     .set("sasl.mechanism", "SCRAM-SHA-512")
///     .set("sasl.username", "tide")
///     .set("sasl.password", std::env::var("KAFKA_PASSWORD").unwrap_or_default());
/// assert!(!format!("{kafka:?}").contains("password\": \""), "no value is shown");
/// ```
#[derive(Clone)]
pub struct Kafka {
    brokers: String,
    /// By their first names.
    settings: BTreeMap<String, String>,
    standing: Arc<Standing>,
    group: GroupName,
    tokens: Option<Arc<Tokens>>,
}

impl Kafka {
    /// The cluster that these brokers belong to: `host:port`, with commas between.
    pub fn new(brokers: impl Into<String>) -> Kafka {
        Kafka {
            brokers: brokers.into(),
            settings: BTreeMap::new(),
            standing: Arc::default(),
            group: GroupName::default(),
            tokens: None,
        }
    }

    /// Sets one of librdkafka's settings under its own name. One that the guarantee rests on, or
    /// that librdkafka does not know, is refused at the start, with the reason.
    ///
    /// What an operator gives wins over it: the table `[kafka]` of the settings file,
    /// `TIDEMILL_KAFKA_*` (`TIDEMILL_KAFKA_SASL_PASSWORD` is `sasl.password`) and `--kafka-set
    /// name=value`, the later over the earlier, for every cluster of the program.
    ///
    /// `retry.backoff.ms` (100 to 10,000; 100 if it is left out) is for sinks alone. A commit that
    /// takes four fifths of it or longer may have been sent twice, and costs a new producer that
    /// reads the marker. Where brokers are far and commits are always slow, give ten times what one
    /// takes.
    #[must_use]
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Kafka {
        let name = name.into();
        self.settings.insert(setting_names::first_name(&name).to_string(), value.into());
        self
    }

    /// Authenticates by SASL's OAUTHBEARER, with the tokens that this closure gives; with TLS,
    /// unless `security.protocol` is set. It is called on a thread of its own: before the first
    /// client connects, and again when three fifths of a token's life are over. Nothing else waits
    /// for it longer than 5 s; whatever needs a token then is tried again.
    ///
    /// An error of kind Unreachable ([`tidemill_state::Error::unreachable`]) is waited for; any
    /// other ends a start. During a run, each error is logged and the closure is called again. The
    /// last token is used as long as it is valid.
    ///
    /// Topics are not made, and their settings not read, with such tokens: the crate `rdkafka` has
    /// no way to give one to the client that does. The output topic, and the sink's progress topic
    /// `<topology>.<sink>.progress` (one partition, `cleanup.policy=compact`), must be there, and
    /// messages may be as large as the setting `message.max.bytes` says (1,000,000 if it is left
    /// out).
    ///
    /// ```
    /// use std::time::{Duration, SystemTime};
    /// use tidemill_connectors::kafka::{Kafka, Token};
    /// # fn token_of_the_provider() -> std::io::Result<String> { Ok("eyJhbGciOiJub25lIn0.e30.".into()) }
    /// let kafka = Kafka::new("broker-1:9093").oauth(|| {
    ///     let value = token_of_the_provider().map_err(|why| tidemill_state::Error::unreachable(why.to_string()))?;
    ///     Ok(Token::new(value, SystemTime::now() + Duration::from_secs(900)))
    /// });
    /// ```
    #[must_use]
    pub fn oauth(mut self, token: impl Fn() -> Result<Token> + Send + Sync + 'static) -> Kafka {
        self.tokens = Some(Arc::new(Tokens::new(Box::new(token))));
        self
    }

    /// The brokers, as they were given.
    pub(super) fn brokers(&self) -> &str {
        &self.brokers
    }

    /// The standing of this user with the brokers.
    pub(super) fn standing(&self) -> &Arc<Standing> {
        &self.standing
    }

    /// The same cluster, for a source or a sink of its own: with a group of its own.
    pub(super) fn apart(&self) -> Kafka {
        Kafka { group: GroupName::default(), ..self.clone() }
    }

    /// Notes the topology's name, which the group has unless a setting names another.
    pub(super) fn belongs_to(&self, topology: &str) {
        self.group.note(topology);
    }

    /// The name of the consumer group.
    pub(super) fn group(&self) -> String {
        let applied = operator::applied();
        applied
            .get("group.id")
            .or_else(|| self.settings.get("group.id"))
            .cloned()
            .unwrap_or_else(|| self.group.get())
    }

    /// Returns the supplier of tokens, if clients authenticate by them.
    pub(super) fn tokens(&self) -> Option<&Arc<Tokens>> {
        self.tokens.as_ref()
    }

    /// Returns the settings given in code, and over them those of an operator.
    ///
    /// # Errors
    /// Kind Config: something of it is refused.
    fn given(&self) -> Result<BTreeMap<String, String>> {
        let mut given = self.settings.clone();
        given.extend(operator::applied());
        self.with_tokens(given)
    }

    /// Adds the settings of tokens, if a closure gives some. Whoever set what does not fit to them
    /// makes no difference.
    fn with_tokens(&self, mut given: BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
        given.keys().try_for_each(|name| setting_names::check(name))?;
        let is_oauth = |mechanism: &String| mechanism.eq_ignore_ascii_case(OAUTHBEARER);
        let by_itself = given
            .get("sasl.oauthbearer.method")
            .is_some_and(|method| method.eq_ignore_ascii_case("oidc"));
        let mechanism = given.get(MECHANISM);
        if self.tokens.is_none() {
            return match mechanism.is_some_and(is_oauth) && !by_itself {
                true => Err(Error::config(
                    "sasl.mechanism is OAUTHBEARER, and nothing gives tokens: give a closure that \
                     does with Kafka::oauth",
                )),
                false => Ok(given),
            };
        }
        let clash = match mechanism.is_some_and(|mechanism| !is_oauth(mechanism)) {
            true => Some("sasl.mechanism is another than OAUTHBEARER"),
            false => by_itself.then_some("sasl.oauthbearer.method is oidc"),
        };
        if let Some(clash) = clash {
            return Err(Error::config(format!(
                "{clash} (in code or from outside), and tokens are given by Kafka::oauth: leave \
                 one of them out"
            )));
        }
        given.insert(MECHANISM.into(), OAUTHBEARER.into());
        given.entry("security.protocol".into()).or_insert_with(|| "sasl_ssl".into());
        Ok(given)
    }

    /// The settings of every client, of those that are given.
    fn common(&self, given: &BTreeMap<String, String>) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("client.id", "tidemill");
        for (name, value) in given.iter().filter(|(name, _)| *name != backoff::NAME) {
            config.set(name, value);
        }
        config.set("allow.auto.create.topics", "false");
        config
    }

    /// The settings of a client that reads; `share` bounds what it holds of each partition. What is
    /// given wins over the defaults chosen here, except for what the guarantee rests on.
    pub(super) fn reading(&self, isolation: Isolation, share: Share) -> Result<ClientConfig> {
        let given = self.given()?;
        let mut config = self.common(&given);
        let defaults = [
            ("group.id", self.group()),
            // Per partition, so that memory is bounded while the sources wait.
            ("queued.max.messages.kbytes", (share.bytes() >> 10).to_string()),
            ("queued.min.messages", share.messages().to_string()),
            ("fetch.message.max.bytes", share.fetched().to_string()),
            ("fetch.max.bytes", "16777216".to_string()),
            // A full queue is looked at again at once: the default, a second, halves the
            // throughput.
            ("fetch.queue.backoff.ms", "5".to_string()),
            ("socket.timeout.ms", "10000".to_string()),
        ];
        set_defaults(&mut config, &given, &defaults);
        // Topics' ids stand in the lines of this context alone.
        let debug =
            given.get("debug").map_or("metadata".to_string(), |debug| format!("{debug},metadata"));
        config.set_log_level(RDKafkaLogLevel::Debug);
        config
            .set("debug", debug)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("check.crcs", "true")
            .set("enable.partition.eof", "true")
            .set("statistics.interval.ms", "1000")
            .set(
                "isolation.level",
                if isolation == Isolation::Committed {
                    "read_committed"
                } else {
                    "read_uncommitted"
                },
            );
        Ok(config)
    }

    /// Returns the settings of a client that only sends queries, or commits a group's offsets. The
    /// client is polled now and then: statistics would pile up in its queue.
    pub(super) fn asking(&self, isolation: Isolation) -> Result<ClientConfig> {
        let mut config = self.reading(isolation, Share::MOST)?;
        config.set("statistics.interval.ms", "0");
        Ok(config)
    }

    /// The pause before a request of a sink is sent again.
    pub(super) fn backoff(&self) -> Result<Backoff> {
        Backoff::of(&self.given()?)
    }

    /// The largest message that is set, where the topics' own limits are not known.
    pub(super) fn message_bytes(&self) -> Result<usize> {
        let given = self.given()?;
        Ok(given.get(MAX_MESSAGE).and_then(|given| given.parse().ok()).unwrap_or(BATCH_BYTES))
    }

    /// The settings of a client that publishes in transactions of this id.
    pub(super) fn publishing(&self, transactional_id: &str, takes: Takes) -> Result<ClientConfig> {
        let given = self.given()?;
        let mut config = self.common(&given);
        let largest =
            given.get("batch.size").and_then(|given| given.parse().ok()).unwrap_or(BATCH_BYTES);
        let batch = takes.every.clamp(1, largest.max(1));
        let defaults = [
            ("queue.buffering.max.ms", "1"),
            ("queue.buffering.max.messages", "1000000"),
            ("queue.buffering.max.kbytes", "262144"),
        ];
        set_defaults(&mut config, &given, &defaults);
        for (name, value) in Backoff::of(&given)?.settings() {
            config.set(name, value);
        }
        config
            .set("transactional.id", transactional_id)
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .set("transaction.timeout.ms", "60000")
            .set("message.timeout.ms", "60000")
            .set(MAX_MESSAGE, takes.some.clamp(MESSAGE_BYTES.0, MESSAGE_BYTES.1).to_string())
            .set("batch.size", batch.to_string())
            .set("statistics.interval.ms", "1000");
        Ok(config)
    }

    /// The settings of a client that makes and describes topics.
    pub(super) fn administering(&self) -> Result<ClientConfig> {
        Ok(self.common(&self.given()?))
    }
}

/// The memory that a client has for the messages of one partition that wait to be read, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share(usize);

impl Share {
    /// More than this makes nothing faster.
    pub(super) const MOST: Share = Share(32 << 20);
    const LEAST: usize = 64 << 10;
    /// The memory that a message takes beside its bytes.
    const MESSAGE_BYTES: usize = 400;

    /// Shares so many bytes out among so many partitions.
    pub(super) fn of(bytes: usize, partitions: usize) -> Share {
        Share((bytes / partitions.max(1)).clamp(Share::LEAST, Share::MOST.0))
    }

    /// The bytes of messages: half of the share.
    fn bytes(self) -> usize {
        self.0 / 2
    }

    /// Returns the number of messages that are fetched ahead: what they take beside their bytes is
    /// within the other half.
    fn messages(self) -> usize {
        self.0 / 2 / Share::MESSAGE_BYTES
    }

    /// Returns the number of bytes fetched at once of one partition. They may come when the queue
    /// is nearly full.
    fn fetched(self) -> usize {
        (self.0 / 4).min(1 << 20)
    }
}

/// Sets what is not given.
fn set_defaults<V: AsRef<str>>(
    config: &mut ClientConfig,
    given: &BTreeMap<String, String>,
    defaults: &[(&str, V)],
) {
    for (name, value) in defaults.iter().filter(|(name, _)| !given.contains_key(*name)) {
        config.set(*name, value.as_ref());
    }
}

/// The setting that chooses how clients authenticate, and its value for tokens.
const MECHANISM: &str = "sasl.mechanisms";
const OAUTHBEARER: &str = "OAUTHBEARER";

/// The setting that bounds a message.
const MAX_MESSAGE: &str = "message.max.bytes";

/// The limits on the size of messages, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Takes {
    /// The size that some topic takes: the limit of a single message.
    pub(super) some: usize,
    /// The size that every topic takes: the limit of a batch of messages. A larger batch would be
    /// refused for its size.
    pub(super) every: usize,
}

/// librdkafka's default for `batch.size`, and its bounds for `message.max.bytes`.
const BATCH_BYTES: usize = 1_000_000;
const MESSAGE_BYTES: (usize, usize) = (1_000, 1_000_000_000);

/// Which records a client sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Isolation {
    /// Those of committed transactions, and those sent without one.
    Committed,
    /// All.
    Uncommitted,
}

impl fmt::Debug for Kafka {
    /// Names the settings without their values: there are secrets among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kafka")
            .field("brokers", &self.brokers)
            .field("settings", &self.settings.keys())
            .finish()
    }
}

/// The time a broker may take to answer about topics and offsets.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The end of the names of progress topics.
pub(super) const PROGRESS: &str = ".progress";

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_state::Kind;

    #[test]
    fn what_the_guarantee_rests_on_is_refused_with_the_reason() {
        for (name, reason) in setting_names::OURS {
            let kafka = Kafka::new("localhost:9092").set(*name, "1");
            for config in [
                kafka.asking(Isolation::Committed),
                kafka.publishing("t", Takes { some: 1000, every: 1000 }),
                kafka.administering(),
            ] {
                let error = config.expect_err("it is refused").to_string();
                assert!(error.contains(name) && error.contains(reason), "{error}");
            }
        }
    }

    #[test]
    fn messages_are_as_large_as_some_topic_takes_and_batches_as_every_one() {
        let kafka = Kafka::new("localhost:9092");
        let sizes = |kafka: &Kafka, some, every| {
            let config = kafka.publishing("t", Takes { some, every }).expect("they are allowed");
            ["message.max.bytes", "batch.size"]
                .map(|name| config.get(name).expect("it is set").to_string())
        };
        assert_eq!(sizes(&kafka, 5_000_000, 2_000), ["5000000", "2000"]);
        assert_eq!(sizes(&kafka, 5_000_000, 3_000_000), ["5000000", "1000000"]);
        assert_eq!(
            sizes(&kafka, 2_147_483_647, 10),
            ["1000000000", "10"],
            "within what librdkafka takes"
        );
        assert_eq!(sizes(&kafka.set("batch.size", "500"), 100, 100_000), ["1000", "500"]);
    }

    #[test]
    fn one_bound_is_shared_out_among_all_partitions() {
        let kafka = Kafka::new("localhost:9092");
        let names =
            ["queued.max.messages.kbytes", "queued.min.messages", "fetch.message.max.bytes"];
        for (partitions, expected) in [
            (1, ["16384", "41943", "1048576"]),
            (16, ["16384", "41943", "1048576"]),
            (512, ["512", "1310", "262144"]),
            // Each has to have some.
            (1_000_000, ["32", "81", "16384"]),
        ] {
            let share = Share::of(512 << 20, partitions);
            let config = kafka.reading(Isolation::Committed, share).expect("they are allowed");
            assert_eq!(
                names.map(|name| config.get(name).unwrap_or("none")),
                expected,
                "{partitions} partitions"
            );
        }
        let given = kafka
            .set("queued.min.messages", "7")
            .set("group.id", "mine")
            .set("max.partition.fetch.bytes", "9");
        let config =
            given.reading(Isolation::Committed, Share::of(1, 1)).expect("they are allowed");
        assert_eq!(
            (config.get("queued.min.messages"), config.get("group.id")),
            (Some("7"), Some("mine"))
        );
        assert_eq!(config.get("fetch.message.max.bytes"), Some("9"));
    }

    #[test]
    fn other_settings_pass_through_and_win_over_defaults() {
        let kafka = Kafka::new("localhost:9092")
            .set("socket.timeout.ms", "7000")
            .set("ssl.ca.location", "ca.pem");
        let config = kafka.reading(Isolation::Committed, Share::MOST).expect("they are allowed");
        assert_eq!(
            (config.get("socket.timeout.ms"), config.get("ssl.ca.location")),
            (Some("7000"), Some("ca.pem"))
        );
        assert_eq!(config.get("isolation.level"), Some("read_committed"));
        assert_eq!(config.get("group.id"), Some("tidemill"));
        kafka.belongs_to("words");
        let config = kafka.reading(Isolation::Committed, Share::MOST).expect("they are allowed");
        assert_eq!(
            (config.get("group.id"), kafka.apart().group().as_str()),
            (Some("words"), "tidemill")
        );
        assert_eq!(kafka.set("group.id", "mine").group(), "mine");
    }

    #[test]
    fn a_setting_of_two_names_has_one_value() {
        let kafka = Kafka::new("localhost:9092")
            .set("linger.ms", "7")
            .set("max.partition.fetch.bytes", "2000");
        let publishing =
            kafka.publishing("t", Takes { some: 1000, every: 1000 }).expect("they are allowed");
        assert_eq!(
            (publishing.get("queue.buffering.max.ms"), publishing.get("linger.ms")),
            (Some("7"), None)
        );
        let reading = kafka.reading(Isolation::Committed, Share::MOST).expect("they are allowed");
        assert_eq!(reading.get("fetch.message.max.bytes"), Some("2000"));
    }

    #[test]
    fn the_back_off_is_of_the_producers_alone() {
        let kafka = Kafka::new("localhost:9092").set("retry.backoff.ms", "2500");
        let publishing =
            kafka.publishing("t", Takes { some: 1000, every: 1000 }).expect("they are allowed");
        let both = ["retry.backoff.ms", "retry.backoff.max.ms"];
        assert_eq!(both.map(|name| publishing.get(name)), [Some("2500"); 2]);
        let reading = kafka.reading(Isolation::Committed, Share::MOST).expect("they are allowed");
        assert_eq!(both.map(|name| reading.get(name)), [None; 2]);
        let refused =
            kafka.set("retry.backoff.ms", "5").publishing("t", Takes { some: 1000, every: 1000 });
        assert!(refused.is_err_and(|error| error.kind() == Kind::Config));
    }

    #[test]
    fn what_an_operator_gives_is_compared_with_tokens_as_what_code_gives_is() {
        let with_tokens =
            Kafka::new("localhost:9092").oauth(|| Err(Error::unreachable("none in this test")));
        let given = |settings: &[(&str, &str)]| {
            with_tokens.with_tokens(
                settings
                    .iter()
                    .map(|(name, value)| (name.to_string(), value.to_string()))
                    .collect(),
            )
        };
        for clash in [("sasl.mechanisms", "PLAIN"), ("sasl.oauthbearer.method", "oidc")] {
            assert!(
                given(&[clash]).is_err_and(|error| error.to_string().contains("from outside")),
                "{clash:?}"
            );
        }
        let taken = given(&[("security.protocol", "sasl_plaintext")]).expect("it fits");
        assert_eq!(
            (&*taken["security.protocol"], &*taken[MECHANISM]),
            ("sasl_plaintext", OAUTHBEARER)
        );
    }

    #[test]
    fn tokens_and_their_mechanism_come_together() {
        let plain = || Kafka::new("localhost:9092");
        let with = |kafka: Kafka| kafka.oauth(|| Err(Error::unreachable("none in this test")));
        let config = with(plain()).administering().expect("they are allowed");
        assert_eq!(
            (config.get("sasl.mechanisms"), config.get("security.protocol")),
            (Some("OAUTHBEARER"), Some("sasl_ssl"))
        );
        let config = with(
            plain().set("security.protocol", "sasl_plaintext").set("sasl.mechanism", "oauthbearer"),
        );
        assert_eq!(
            config.administering().expect("they are allowed").get("security.protocol"),
            Some("sasl_plaintext")
        );
        for (refused, part) in [
            (plain().set("sasl.mechanism", "OAUTHBEARER"), "Kafka::oauth"),
            (with(plain().set("sasl.mechanism", "PLAIN")), "leave one of them out"),
            (with(plain()).set("sasl.mechanism", "PLAIN"), "leave one of them out"),
            (with(plain()).set("sasl.oauthbearer.method", "OIDC"), "leave one of them out"),
        ] {
            let error =
                refused.reading(Isolation::Committed, Share::MOST).expect_err("it is refused");
            assert!(error.kind() == Kind::Config && error.to_string().contains(part), "{error}");
        }
    }
}
