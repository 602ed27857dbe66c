//! The reports of librdkafka beside its results: why nothing comes, how far partitions are, which
//! topic a name stands for, what was sent twice.
//!
//! They come through a client's main queue, and are taken out of it by [`super::client::drain`].

use super::error_class::{self, ErrorClass};
use super::identity::{TopicId, changed_id};
use super::oauth::Tokens;
use super::rights;
use super::statistics::{BrokerStatistics, OpenTransaction, Statistics};
use crate::clock;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;
use rdkafka::{Message, TopicPartitionList};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A client that reads.
pub(super) type Consumer = BaseConsumer<Events>;

/// The time a partition may be without a leader, or its leader without a connection, before that is
/// trouble: a leader that moves takes a second or two.
const LEADER_WITHIN: Duration = Duration::from_secs(5);

/// The time the trouble with one broker lasts before it is taken for that of all: longer than the
/// time between two statistics, which show whether another can be reached.
const ONE_BROKER_FOR: Duration = Duration::from_secs(3);

/// The time brokers that took a client before may refuse it before that is final: their view of
/// users may be stale.
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// The standing of this user with the brokers, shared by all clients of one source or sink.
#[derive(Debug, Default)]
pub(super) struct Standing {
    was_well: AtomicBool,
    refused_since: Mutex<Option<Instant>>,
}

impl Standing {
    fn is_well(&self) {
        self.was_well.store(true, SeqCst);
        *self.refused_since.lock().expect("no holder of this lock panics") = None;
    }

    fn is_refused(&self, now: Instant) {
        self.refused_since.lock().expect("no holder of this lock panics").get_or_insert(now);
    }

    /// Returns whether a refusal is the brokers' last word: they never took this user, or have
    /// refused it for a minute.
    fn is_final(&self, now: Instant) -> bool {
        let since = *self.refused_since.lock().expect("no holder of this lock panics");
        !self.was_well.load(SeqCst)
            || since.is_some_and(|since| now.saturating_duration_since(since) >= REFUSED_FOR)
    }
}

/// The reports of one client: shared by librdkafka's callbacks and the users of the client.
#[derive(Clone, Default)]
pub(super) struct Events(Arc<Reports>);

#[derive(Default)]
struct Reports {
    standing: Arc<Standing>,
    /// The supplier of tokens, if the client authenticates by them.
    tokens: Option<Arc<Tokens>>,
    /// The reason why brokers cannot be reached.
    trouble: Mutex<Option<Trouble>>,
    refusal: Mutex<Option<Refusal>>,
    /// True if the brokers refuse the client's group, which it needs for nothing but lag tools.
    group_refused: AtomicBool,
    partitions: Mutex<HashMap<String, HashMap<i32, Reported>>>,
    /// True if a partition has a reason of its own why it cannot be read.
    partition_trouble: AtomicBool,
    ids: Mutex<HashMap<String, TopicId>>,
    /// Raised whenever the id of a topic changes.
    ids_version: AtomicU64,
    /// True if something may lie in the main queue.
    pending: AtomicBool,
    /// The number of reports that came.
    handled: AtomicU64,
    retries: AtomicU64,
    delivered: AtomicUsize,
    failed: Mutex<Vec<Failed>>,
}

/// A connection that failed, while nothing came from another broker.
struct Trouble {
    why: String,
    since: Instant,
    /// True if it is of all brokers. One of a single broker passes with the next statistics if
    /// another can be reached.
    is_of_all: bool,
}

impl Trouble {
    fn is_certain(&self) -> bool {
        self.is_of_all || self.since.elapsed() >= ONE_BROKER_FOR
    }
}

/// The brokers' refusal of this client.
struct Refusal {
    reason: String,
    /// True if it may pass: a failed authentication, of a client that the brokers took before.
    may_pass: bool,
}

/// A partition, as the statistics show it.
#[derive(Default)]
struct Reported {
    end: i64,
    /// The reason why it cannot be read, and since when.
    away: Option<(String, Instant)>,
    open: Option<OpenTransaction>,
}

/// A message that was not delivered.
#[derive(Clone, Debug)]
pub(super) struct Failed {
    /// Its number in the transaction.
    pub(super) number: usize,
    /// The topic that it was sent to.
    pub(super) topic: String,
    /// The reason.
    pub(super) code: RDKafkaErrorCode,
}

thread_local! {
    /// The offset of the last end of a partition that was polled on this thread: librdkafka's event
    /// has it only in its text.
    static END: Cell<Option<i64>> = const { Cell::new(None) };
}

impl Events {
    /// The reports of a new client of this standing, which authenticates by these tokens, if there
    /// are any.
    pub(super) fn new(standing: &Arc<Standing>, tokens: Option<&Arc<Tokens>>) -> Events {
        Events(Arc::new(Reports {
            standing: Arc::clone(standing),
            tokens: tokens.cloned(),
            ..Reports::default()
        }))
    }

    /// Returns whether the brokers refuse the client's consumer group.
    pub(super) fn is_group_refused(&self) -> bool {
        self.0.group_refused.load(SeqCst)
    }

    /// The reason why no broker can be reached now, or takes this client, if so.
    pub(super) fn trouble(&self) -> Option<String> {
        let refusal = self.0.refusal.lock().expect("no holder of this lock panics");
        let refused = refusal.as_ref().map(|refusal| refusal.reason.clone());
        let trouble = self.0.trouble.lock().expect("no holder of this lock panics");
        refused.or_else(|| trouble.as_ref().map(|trouble| trouble.why.clone()))
    }

    /// As [`Events::trouble`], without what may be the trouble with one broker of several.
    pub(super) fn certain_trouble(&self) -> Option<String> {
        let is_uncertain = |trouble: &Trouble| !trouble.is_certain();
        let is_one = self
            .0
            .trouble
            .lock()
            .expect("no holder of this lock panics")
            .as_ref()
            .is_some_and(is_uncertain);
        let is_refused = self.0.refusal.lock().expect("no holder of this lock panics").is_some();
        if is_one && !is_refused { None } else { self.trouble() }
    }

    /// Since when no broker can be reached, if so.
    pub(super) fn trouble_since(&self) -> Option<Instant> {
        self.0
            .trouble
            .lock()
            .expect("no holder of this lock panics")
            .as_ref()
            .map(|trouble| trouble.since)
    }

    /// The reason why this partition cannot be read now, and since when, if so.
    pub(super) fn trouble_of(&self, topic: &str, partition: i32) -> Option<(String, Instant)> {
        if let Some(trouble) = &*self.0.trouble.lock().expect("no holder of this lock panics")
            && trouble.is_certain()
        {
            return Some((trouble.why.clone(), trouble.since));
        }
        let partitions = self.0.partitions.lock().expect("no holder of this lock panics");
        let (why, since) = partitions.get(topic)?.get(&partition)?.away.as_ref()?;
        (since.elapsed() >= LEADER_WITHIN).then(|| (why.clone(), *since))
    }

    /// Why the brokers will never take this client: a wrong password, say.
    pub(super) fn refused(&self) -> Option<String> {
        let refusal = self.0.refusal.lock().expect("no holder of this lock panics");
        let refusal = refusal.as_ref()?;
        (!refusal.may_pass || self.0.standing.is_final(Instant::now()))
            .then(|| refusal.reason.clone())
    }

    /// Notes that something came from a broker.
    pub(super) fn is_well(&self) {
        *self.0.trouble.lock().expect("no holder of this lock panics") = None;
        self.0
            .refusal
            .lock()
            .expect("no holder of this lock panics")
            .take_if(|refusal| refusal.may_pass);
        self.0.standing.is_well();
    }

    /// Notes that something of this partition came.
    pub(super) fn partition_is_well(&self, topic: &str, partition: i32) {
        if self.0.partition_trouble.load(SeqCst) {
            let mut partitions = self.0.partitions.lock().expect("no holder of this lock panics");
            let reported =
                partitions.get_mut(topic).and_then(|partitions| partitions.get_mut(&partition));
            reported.into_iter().for_each(|reported| reported.away = None);
        }
    }

    /// The end of a partition, as of about a second ago.
    pub(super) fn end_of(&self, topic: &str, partition: i32) -> Option<i64> {
        let partitions = self.0.partitions.lock().expect("no holder of this lock panics");
        partitions.get(topic)?.get(&partition).map(|reported| reported.end)
    }

    /// The transaction that is open on a partition, as of about a second ago.
    pub(super) fn open_transaction_of(
        &self,
        topic: &str,
        partition: i32,
    ) -> Option<OpenTransaction> {
        let partitions = self.0.partitions.lock().expect("no holder of this lock panics");
        partitions.get(topic)?.get(&partition)?.open
    }

    /// The id of a topic, as this client has learnt it last. `None` before that, and where the
    /// brokers have no ids.
    pub(super) fn id_of(&self, topic: &str) -> Option<TopicId> {
        self.0.ids.lock().expect("no holder of this lock panics").get(topic).copied()
    }

    /// A number that rises when the id of some topic changes.
    pub(super) fn ids_version(&self) -> u64 {
        self.0.ids_version.load(SeqCst)
    }

    /// Returns whether something may lie in the client's main queue.
    pub(super) fn are_pending(&self) -> bool {
        self.0.pending.load(SeqCst)
    }

    /// Sets whether something may lie in the client's main queue.
    pub(super) fn set_pending(&self, pending: bool) {
        self.0.pending.store(pending, SeqCst);
    }

    /// Returns the number of reports that came.
    pub(super) fn handled(&self) -> u64 {
        self.0.handled.load(SeqCst)
    }

    /// Returns the number of times requests were sent again or timed out, as of about a second ago.
    pub(super) fn retries(&self) -> u64 {
        self.0.retries.load(SeqCst)
    }

    /// Returns the number of messages that were delivered, or have failed, since the last call of
    /// [`Events::forget_deliveries`].
    pub(super) fn reported(&self) -> usize {
        self.0.delivered.load(SeqCst)
            + self.0.failed.lock().expect("no holder of this lock panics").len()
    }

    /// Returns whether a message has failed with such a code.
    pub(super) fn has_failed(&self, with: impl Fn(RDKafkaErrorCode) -> bool) -> bool {
        let failed = self.0.failed.lock().expect("no holder of this lock panics");
        failed.iter().any(|failed| with(failed.code))
    }

    /// The messages that have failed.
    pub(super) fn failed(&self) -> Vec<Failed> {
        self.0.failed.lock().expect("no holder of this lock panics").clone()
    }

    /// Begins to count deliveries from zero.
    pub(super) fn forget_deliveries(&self) {
        self.0.delivered.store(0, SeqCst);
        self.0.failed.lock().expect("no holder of this lock panics").clear();
    }

    fn note_refusal(&self, reason: &str, may_pass: bool) {
        if may_pass {
            self.0.standing.is_refused(Instant::now());
        }
        let mut refusal = self.0.refusal.lock().expect("no holder of this lock panics");
        refusal.get_or_insert_with(|| Refusal { reason: reason.to_string(), may_pass });
    }

    /// Notes that a connection failed. The first reason is kept, unless this one `replaces` it.
    fn note_trouble(&self, reason: &str, replaces: bool, is_of_all: bool) {
        let mut trouble = self.0.trouble.lock().expect("no holder of this lock panics");
        match &mut *trouble {
            Some(trouble) => {
                trouble.is_of_all |= is_of_all;
                if replaces {
                    trouble.why = reason.to_string();
                }
            }
            None => {
                *trouble =
                    Some(Trouble { why: reason.to_string(), since: Instant::now(), is_of_all })
            }
        }
    }
}

/// Returns the offset of the end of partition that this thread has just polled.
pub(super) fn take_end() -> Option<i64> {
    END.take()
}

impl ClientContext for Events {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(
        &self,
        _config: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.0.handled.fetch_add(1, SeqCst);
        let tokens = self.0.tokens.as_ref().ok_or("nothing gives tokens (Kafka::oauth)")?;
        Ok(tokens.current()?.into())
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.handled.fetch_add(1, SeqCst);
        if let Some((topic, id)) = changed_id(message) {
            let mut ids = self.0.ids.lock().expect("no holder of this lock panics");
            if ids.insert(topic.to_string(), id) != Some(id) {
                self.0.ids_version.fetch_add(1, SeqCst);
            }
        }
        // What matters is reported by the users of the client, in words of their own. Debug lines
        // come with every answer about topics.
        match level {
            RDKafkaLogLevel::Debug => tracing::trace!(target: "librdkafka", facility, "{message}"),
            _ => tracing::debug!(target: "librdkafka", ?level, facility, "{message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.handled.fetch_add(1, SeqCst);
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::PartitionEOF) => END.set(end_in(reason)),
            // Of one topic: its reader finds out what it means.
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                tracing::debug!(%error, reason, "a topic may not be used");
            }
            // The group is needed for nothing but lag tools: the sender of its offsets warns.
            Some(RDKafkaErrorCode::GroupAuthorizationFailed) => {
                self.0.group_refused.store(true, SeqCst);
                tracing::debug!(%error, reason, "the consumer group may not be used");
            }
            // Not a report of the brokers: the supplier of tokens has none now, and is called
            // again.
            Some(RDKafkaErrorCode::Authentication) if reason.starts_with(NO_TOKEN) => {
                self.note_trouble(reason, true, true)
            }
            Some(code) if is_refusal(code) => {
                let remedy = rights::lacking(code).unwrap_or("correct the security settings");
                let reason = format!("{}: {remedy}", reason.trim_end_matches('.'));
                self.note_refusal(&reason, error_class::of(code) == ErrorClass::Unauthenticated);
            }
            Some(RDKafkaErrorCode::SSL) if error_class::is_distrust(reason) => {
                self.note_refusal(&format!("{reason}: correct the security settings"), true);
            }
            // Names what is wrong with a connection; beside it the brokers only seem to be down.
            Some(RDKafkaErrorCode::SSL) => self.note_trouble(reason, true, false),
            Some(
                code @ (RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::Resolve
                | RDKafkaErrorCode::OperationTimedOut),
            ) => {
                tracing::debug!(%error, reason, "a broker cannot be reached");
                // The first says more than "all brokers are down".
                self.note_trouble(reason, false, code == RDKafkaErrorCode::AllBrokersDown);
            }
            _ => tracing::debug!(%error, reason, "librdkafka reports an error"),
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.0.handled.fetch_add(1, SeqCst);
        let Ok(statistics) = serde_json::from_slice::<Statistics>(statistics) else { return };
        if statistics.brokers.values().any(BrokerStatistics::is_up) {
            self.is_well();
        }
        let retries =
            statistics.brokers.values().map(|broker| broker.txretries + broker.req_timeouts).sum();
        self.0.retries.fetch_max(retries, SeqCst);
        let mut partitions = self.0.partitions.lock().expect("no holder of this lock panics");
        let mut some_away = false;
        for (topic, of_topic) in &statistics.topics {
            if !partitions.contains_key(topic) {
                partitions.insert(topic.clone(), HashMap::new());
            }
            let Some(reported) = partitions.get_mut(topic) else { continue };
            for partition in
                of_topic.partitions.values().filter(|partition| partition.partition >= 0)
            {
                let reported = reported.entry(partition.partition).or_default();
                reported.end = partition.ls_offset.max(partition.hi_offset);
                let now = clock::now();
                reported.open = OpenTransaction::of(
                    partition.ls_offset,
                    partition.hi_offset,
                    reported.open,
                    now,
                );
                reported.away =
                    partition.away(&statistics.brokers).map(|why| match reported.away.take() {
                        Some((_, since)) => (why, since),
                        None => (why, Instant::now()),
                    });
                some_away |= reported.away.is_some();
            }
        }
        self.0.partition_trouble.store(some_away, SeqCst);
    }
}

impl ConsumerContext for Events {
    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        self.0.handled.fetch_add(1, SeqCst);
        match result {
            Ok(()) => self.is_well(),
            Err(error) => {
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed) {
                    self.0.group_refused.store(true, SeqCst);
                }
                tracing::debug!(%error, "the consumer group did not take an offset");
            }
        }
    }
}

impl ProducerContext for Events {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        match result {
            Ok(_) => {
                self.0.delivered.fetch_add(1, SeqCst);
            }
            Err((error, message)) => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
                tracing::debug!(%error, topic = message.topic(), number, "a message was not \
                    delivered");
                let failed = Failed { number, topic: message.topic().to_string(), code };
                self.0.failed.lock().expect("no holder of this lock panics").push(failed);
            }
        }
    }
}

/// The beginning of librdkafka's report that no token was given.
const NO_TOKEN: &str = "Failed to acquire SASL OAUTHBEARER token";

/// The offset in "… reached end of partition at offset 12 (HighwaterMark 12)".
fn end_in(reason: &str) -> Option<i64> {
    let (_, rest) = reason.split_once("at offset ")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Returns whether a broker that returns this will return it again.
fn is_refusal(code: RDKafkaErrorCode) -> bool {
    matches!(error_class::of(code), ErrorClass::Unauthenticated | ErrorClass::Forbidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: &[u8] = br#"{"brokers": {"b": {"state": "UP", "nodeid": 1, "txretries": 2, "req_timeouts": 1, "rtt": {}}},
        "topics": {"t": {"partitions": {
            "0": {"partition": 0, "desired": true, "leader": 1, "broker": 1, "ls_offset": 7, "hi_offset": 9}}}}}"#;

    #[test]
    fn the_offset_of_an_end_is_found_in_its_text() {
        let reason =
            "Fetch from broker 1 reached end of partition at offset 1234 (HighwaterMark 1240)";
        assert_eq!(end_in(reason), Some(1234));
        assert_eq!(end_in("Fetch from broker 1 reached end of partition"), None);
    }

    #[test]
    fn statistics_tell_of_retries_and_ends() {
        let events = Events::default();
        events.error(KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        assert!(events.trouble().is_some() && events.trouble_of("t", 0).is_some());
        events.stats_raw(UP);
        assert_eq!((events.trouble(), events.retries(), events.end_of("t", 0)), (None, 3, Some(9)));
        assert_eq!(events.trouble_of("t", 0).map(|(why, _)| why), None);
    }

    #[test]
    fn a_broker_that_ends_a_connection_is_no_trouble_of_what_others_lead() {
        let events = Events::default();
        events.error(
            KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure),
            "b:9092: disconnected",
        );
        assert_eq!((events.certain_trouble(), events.trouble_of("t", 0)), (None, None));
        assert!(events.trouble().is_some(), "a call that fails now may name it");
        events.error(KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "2/2 brokers are down");
        assert_eq!(events.certain_trouble().as_deref(), Some("b:9092: disconnected"));
        assert!(events.trouble_of("t", 0).is_some());
        events.stats_raw(UP);
        assert_eq!((events.trouble(), events.trouble_of("t", 0)), (None, None));
    }

    #[test]
    fn a_partition_in_trouble_of_its_own_is_named_until_something_of_it_comes() {
        // It is named only after some seconds, and not any more once something of it came.
        let events = Events::default();
        events.stats_raw(
            &String::from_utf8_lossy(UP).replace("\"leader\": 1", "\"leader\": -1").into_bytes(),
        );
        assert_eq!(
            (events.trouble(), events.trouble_of("t", 0)),
            (None, None),
            "a leader may move"
        );
        let long_ago = Instant::now().checked_sub(LEADER_WITHIN).expect("the machine runs longer");
        events
            .0
            .partitions
            .lock()
            .expect("a test")
            .get_mut("t")
            .and_then(|t| t.get_mut(&0))
            .expect("it is there")
            .away = Some(("it has no leader".into(), long_ago));
        assert!(events.trouble_of("t", 0).is_some_and(|(why, _)| why == "it has no leader"));
        assert_eq!(events.trouble(), None, "the client is well");
        events.partition_is_well("t", 0);
        assert_eq!(events.trouble_of("t", 0), None);
    }

    #[test]
    fn a_refusal_of_a_client_that_was_well_is_trouble_until_it_has_lasted() {
        let refuse = |events: &Events| {
            events.error(
                KafkaError::Global(RDKafkaErrorCode::Authentication),
                "SASL authentication error",
            );
        };
        let fresh = Events::default();
        refuse(&fresh);
        assert!(fresh.refused().is_some(), "it was never taken");
        let standing = Arc::new(Standing::default());
        Events::new(&standing, None).stats_raw(UP);
        let events = Events::new(&standing, None);
        refuse(&events);
        assert!(
            events.refused().is_none() && events.trouble().is_some_and(|why| why.contains("SASL"))
        );
        assert!(
            standing.is_final(Instant::now() + REFUSED_FOR) && !standing.is_final(Instant::now())
        );
        events.is_well();
        assert_eq!((events.refused(), events.trouble()), (None, None));
        assert!(!standing.is_final(Instant::now() + REFUSED_FOR), "it begins again");
        // Of a group, only lag tools notice it; of anything else, a right that is missing does not
        // come back by itself.
        events.error(KafkaError::Global(RDKafkaErrorCode::GroupAuthorizationFailed), "no");
        assert!(
            events.refused().is_none() && events.trouble().is_none() && events.is_group_refused()
        );
        events
            .error(KafkaError::Global(RDKafkaErrorCode::TransactionalIdAuthorizationFailed), "no.");
        events.is_well();
        assert!(events.refused().is_some_and(|why| {
            why.starts_with("no: this user lacks the rights Write and Describe")
        }));
    }

    #[test]
    fn a_certificate_that_is_not_trusted_is_a_refusal_and_a_broken_handshake_is_not() {
        let fail = |events: &Events, reason| {
            events.error(KafkaError::Global(RDKafkaErrorCode::SSL), reason)
        };
        let events = Events::default();
        fail(&events, "SSL handshake failed: Disconnected");
        assert_eq!(events.refused(), None);
        let distrust = "SSL handshake failed: error:0A000086:SSL routines::certificate verify \
            failed: broker certificate could not be verified";
        fail(&events, distrust);
        assert!(events.refused().is_some_and(|why| why.starts_with(distrust)));
    }

    #[test]
    fn a_token_that_is_not_given_is_trouble_and_no_refusal() {
        let events = Events::default();
        events.error(
            KafkaError::Global(RDKafkaErrorCode::Authentication),
            "Failed to acquire SASL OAUTHBEARER token: no answer",
        );
        assert!(
            events.refused().is_none()
                && events.trouble().is_some_and(|why| why.contains("no answer"))
        );
        assert!(events.generate_oauth_token(None).is_err(), "nothing gives any");
    }

    #[test]
    fn the_newest_id_of_a_topic_counts_and_every_change_is_seen() {
        let events = Events::default();
        let line = |id: &str| {
            format!("[thrd:main]: Topic t changed id from AAAAAAAAAAAAAAAAAAAAAA to {id}")
        };
        let log = |id: &str| events.log(RDKafkaLogLevel::Debug, "METADATA", &line(id));
        log("dYNAj3CJSWu3YTZRiUVC/w");
        let (first, version) = (events.id_of("t"), events.ids_version());
        assert!(first.is_some() && events.id_of("other").is_none());
        log("dYNAj3CJSWu3YTZRiUVC/w");
        log("AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(
            (events.id_of("t"), events.ids_version()),
            (first, version),
            "the same, and none, are no change"
        );
        log("eYNAj3CJSWu3YTZRiUVC/w");
        assert!(events.id_of("t") != first && events.ids_version() > version);
        assert_eq!(events.handled(), 4);
    }
}
