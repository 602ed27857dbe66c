//! Publishes one sink's output in transactions.
//!
//! One producer is one session. A commit is trusted only if it cannot have been sent twice; else
//! the producer is thrown away, a new one of the same transactional id fences whatever is still
//! under way, and reads the marker.

use super::admin::Admin;
use super::backoff::SlowCommits;
use super::events::Failed;
use super::findings::Findings;
use super::letters::{self, Refusal};
use super::marker::{self, Progress, await_topic, replication_of};
use super::message::Encoded;
use super::presence::Presence;
use super::refused::{Place, Refused, is_for_good, place_of};
use super::session::{LOOK, Session, is_purged, to_topic};
use super::settings::{Isolation, Kafka, Takes};
use super::topics::Probe;
use super::{client, error_class};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer as _};
use rdkafka::util::Timeout;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tidemill_engine::sink::{Entry, Marker, Outcome, Owner, Prepared, Publisher};
use tidemill_state::{CrashPoint, Error, Result, Txid};

/// The time deliveries are waited for before a broker that cannot be reached is taken for one that
/// is away.
const AWAY_AFTER: Duration = Duration::from_secs(3);

/// The number of times a claim is made that cannot be trusted, before it is left to a new start.
const CLAIMS: usize = 10;

/// See the module's documentation.
pub(super) struct KafkaPublisher {
    shared: Arc<Shared>,
    owner: Owner,
    progress: Arc<Progress>,
    session: Option<Session>,
}

impl KafkaPublisher {
    pub(super) fn open(shared: Arc<Shared>, owner: Owner) -> Result<KafkaPublisher> {
        shared.kafka.belongs_to(&owner.topology);
        let mut known = shared.progress.lock().expect("no holder of this lock panics");
        let progress = match known.as_ref().filter(|known| known.is_of(&owner) && !known.is_stuck())
        {
            Some(progress) => Arc::clone(progress),
            None => Arc::clone(known.insert(Arc::new(Progress::of(&shared.kafka, &owner)?))),
        };
        drop(known);
        Ok(KafkaPublisher { shared, owner, progress, session: None })
    }

    fn kafka(&self) -> &Kafka {
        &self.shared.kafka
    }

    /// Makes the topics that may be made, and learns how large messages may be; or takes what was
    /// found before, if nothing has failed since.
    fn look_at_topics(&self) -> Result<Takes> {
        if let Some(takes) = self.shared.findings.at(Instant::now()) {
            return Ok(takes);
        }
        let takes = if self.kafka().tokens().is_some() {
            self.look_without_admin()?
        } else {
            self.look_with_admin()?
        };
        self.shared.findings.keep(takes, Instant::now());
        Ok(takes)
    }

    fn look_with_admin(&self) -> Result<Takes> {
        let admin = Admin::new(self.kafka())?;
        let probe = Probe::new(self.kafka(), Isolation::Committed)?;
        let Shared { topic, dead_letters, .. } = &*self.shared;
        for topic in std::iter::once(topic).chain(dead_letters) {
            if probe.partitions_of(topic)?.is_some() {
                continue;
            }
            let Some(partitions) = self.shared.create else { return Err(self.missing(topic)) };
            admin.create(topic, partitions, None, &[])?;
            await_topic(&probe, topic)?;
        }
        self.shared.presence.lock().expect("no holder of this lock panics").are_there();
        self.progress.ensure(&admin, replication_of(&probe, topic)?)?;
        let takes = |topic: &str| {
            admin
                .settings(topic, ["max.message.bytes"])
                .map(|[takes]| takes.parse().unwrap_or(1_000_000))
        };
        let messages = takes(topic)?;
        let letters = dead_letters.as_ref().map_or(Ok(messages), |topic| takes(topic))?;
        Ok(self.takes(messages, letters))
    }

    /// The same where topics can be neither made nor described: see [`Kafka::oauth`].
    fn look_without_admin(&self) -> Result<Takes> {
        let probe = Probe::new(self.kafka(), Isolation::Committed)?;
        let Shared { topic, dead_letters, .. } = &*self.shared;
        for topic in std::iter::once(topic).chain(dead_letters) {
            if probe.partitions_of(topic)?.is_none() {
                return Err(self.missing(topic));
            }
        }
        self.shared.presence.lock().expect("no holder of this lock panics").are_there();
        self.progress.look()?;
        let bytes = self.kafka().message_bytes()?;
        Ok(self.takes(bytes, bytes))
    }

    /// Notes how large messages and letters may be.
    fn takes(&self, messages: usize, letters: usize) -> Takes {
        self.shared.max_message_bytes.store(messages, SeqCst);
        self.shared.max_letter_bytes.store(letters, SeqCst);
        Takes { some: messages.max(letters), every: messages.min(letters) }
    }

    /// The error for a topic that is not there, or that the broker at hand does not know for a
    /// moment.
    fn missing(&self, topic: &str) -> Error {
        let brokers = self.kafka().brokers();
        let mut presence = self.shared.presence.lock().expect("no holder of this lock panics");
        if presence.one_is_missing(Instant::now()) {
            return Error::config(no_topic(topic, brokers, self.kafka().tokens().is_some()));
        }
        Error::unreachable(format!(
            "topic {topic} was there, and a broker at {brokers} does not know it now: it is \
             looked for again"
        ))
    }

    /// A new producer. When it is there, no older one of this sink can commit anything more.
    fn begin_session(&mut self) -> Result<()> {
        self.session = None;
        let takes = self.look_at_topics()?;
        let id = format!("{}.{}", self.owner.topology, self.owner.sink);
        let begun = Session::begin(self.kafka(), &id, &self.shared.topic, takes);
        self.session = Some(begun.inspect_err(|_| self.shared.findings.forget())?);
        Ok(())
    }

    /// A new session after one that was dropped with what it had prepared. Whatever else has
    /// happened meanwhile is found by the marker.
    fn begin_again(&mut self, entries: &[Entry]) -> Result<()> {
        // Looked at before anything is fenced: a run that was taken over must not disturb its
        // successor.
        if let Some(marker) =
            self.progress.peek()?.filter(|marker| marker.is_newer_than(self.owner.incarnation))
        {
            return Err(self.taken_over(&marker));
        }
        self.begin_session()?;
        match self.progress.read()? {
            Some(marker) if marker.incarnation != self.owner.incarnation => {
                Err(self.taken_over(&marker))
            }
            Some(marker) if entries.iter().all(|entry| entry.txid > marker.txid) => Ok(()),
            _ => Err(Error::bug(
                "a Kafka sink is given output that it may hold, or before it was claimed",
            )),
        }
    }

    fn session(&self) -> Result<&Session> {
        self.session
            .as_ref()
            .ok_or_else(|| Error::bug("a Kafka sink publishes before it has taken over"))
    }

    /// Returns the error of a failed call of a transaction: another run has taken over, or the
    /// transaction must be tried again.
    fn after_failure(&mut self, doing: &str, why: &KafkaError) -> Error {
        let Some(session) = self.session.take() else {
            return Error::bug("a session has ended twice");
        };
        self.shared.findings.forget();
        let error = match error_class::code_of(why) {
            // The next session looks whether it is there.
            Some(code) if client::is_unknown_topic(code) => {
                Error::unreachable(format!("{doing}: a broker does not know the topic ({why})"))
            }
            _ => session.failed(&self.shared.kafka, doing, why),
        };
        if !session.is_fenced(why) {
            return error;
        }
        drop(session);
        match self.progress.peek() {
            Ok(Some(marker)) if marker.is_newer_than(self.owner.incarnation) => {
                self.taken_over(&marker)
            }
            // The next session reads the marker again.
            _ => error,
        }
    }

    fn taken_over(&self, marker: &Marker) -> Error {
        Error::foreign(format!(
            "run {} of topology \"{}\" has taken over topic {} (this is run {}): nothing more of \
             this run is published. Stop one of the two",
            marker.incarnation, marker.topology, self.shared.topic, self.owner.incarnation
        ))
    }

    fn send_marker(
        &self,
        txid: Txid,
        number: usize,
    ) -> Result<std::result::Result<(), KafkaError>> {
        let value = marker::encode(&self.owner, txid)?;
        let key = self.owner.sink.as_bytes();
        let record = BaseRecord::<[u8], [u8], usize>::with_opaque_to(&self.progress.topic, number)
            .partition(0)
            .key(key)
            .payload(&value);
        Ok(self.session()?.send(record))
    }

    /// Sends everything of these entries, and the marker. Gives the number of messages; `None` if
    /// some were refused, and the session has ended with that.
    fn send(&mut self, entries: &[Entry]) -> Result<Option<usize>> {
        let session = self.session()?;
        session.events.forget_deliveries();
        if let Err(why) = session.producer().begin_transaction() {
            return Err(self.after_failure("beginning a transaction", &why));
        }
        self.owner.points.reach(CrashPoint::SinkBegun)?;
        if let Some(first) = entries.first() {
            self.shared
                .refused
                .lock()
                .expect("no holder of this lock panics")
                .forget(Txid(first.txid.0 - 1));
        }
        let (mut number, mut group) = (0, None);
        for entry in entries {
            for (index, record) in entry.records().enumerate() {
                let message = Encoded::read(record)?;
                let place = (entry.txid, index);
                let (reason, with) = {
                    let refused =
                        self.shared.refused.lock().expect("no holder of this lock panics");
                    (refused.reason(place).map(str::to_string), refused.group(place))
                };
                // What must not travel together does not, if the one has arrived before the other
                // is sent.
                if with != std::mem::replace(&mut group, with) && !self.arrive(entries, number)? {
                    return Ok(None);
                }
                let sent = match &reason {
                    None => self.session()?.send(to_topic(&self.shared.topic, &message, number)),
                    Some(reason) => self.send_dead_letter(entry.txid, &message, reason, number)?,
                };
                match sent {
                    Ok(()) => number += 1,
                    Err(why) => match why.rdkafka_error_code().filter(|code| is_for_good(*code)) {
                        Some(code) => return self.refuse(&[(place, code)]).map(|()| None),
                        None => {
                            return Err(
                                self.after_failure(&format!("sending batch {}", entry.txid), &why)
                            );
                        }
                    },
                }
            }
        }
        let last = entries
            .last()
            .map(|entry| entry.txid)
            .ok_or_else(|| Error::bug("a transaction without output"))?;
        if let Err(why) = self.send_marker(last, number)? {
            return Err(self.after_failure("sending the marker", &why));
        }
        self.owner.points.reach(CrashPoint::SinkProduced)?;
        Ok(Some(number + 1))
    }

    fn send_dead_letter(
        &self,
        txid: Txid,
        message: &Encoded<'_>,
        reason: &str,
        number: usize,
    ) -> Result<std::result::Result<(), KafkaError>> {
        let topic = self
            .shared
            .dead_letters
            .as_ref()
            .ok_or_else(|| Error::bug("a refused message without a topic for it"))?;
        let takes = self.shared.max_letter_bytes.load(SeqCst);
        let letter =
            letters::letter(Refusal { topic: &self.shared.topic, txid, reason }, message, takes);
        let mut record =
            BaseRecord::<[u8], [u8], usize>::with_opaque_to(topic, number).payload(&*letter.value);
        record.key = letter.key.as_deref();
        Ok(self.session()?.send(record))
    }

    /// Remembers that the brokers do not take messages that came together, for the next attempt;
    /// without a topic for such messages, that is the end.
    fn refuse(&mut self, together: &[(Place, RDKafkaErrorCode)]) -> Result<()> {
        self.session = None;
        self.shared.findings.forget();
        let Some(((txid, index), code)) = together.first() else { return Ok(()) };
        let others = if together.len() > 1 {
            format!(", or one of the {} that came with it", together.len() - 1)
        } else {
            String::new()
        };
        let topic = &self.shared.topic;
        let Some(dead_letters) = &self.shared.dead_letters else {
            return Err(Error::sink(format!(
                "batch {txid}, message {index}{others}: topic {topic} does not take it: {code}. \
                 It is committed, so it cannot be left out: let the topic take it, or give the \
                 sink a topic for such messages (KafkaSink::dead_letters), and start again"
            )));
        };
        let mut refused = self.shared.refused.lock().expect("no holder of this lock panics");
        if let Some(((txid, index), code)) =
            together.iter().find(|(place, _)| refused.reason(*place).is_some())
        {
            return Err(Error::sink(format!(
                "batch {txid}, message {index}: topic {topic} has refused it, and topic \
                 {dead_letters} does not take the dead letter: {code}. Let one of the two take \
                 it, and start again"
            )));
        }
        refused.refuse(topic, together);
        Ok(())
    }

    /// Waits until all of the first `sent` messages are acknowledged, or some are refused. Gives
    /// whether they are; if some were refused, the session has ended with that.
    fn arrive(&mut self, entries: &[Entry], sent: usize) -> Result<bool> {
        let session = self.session()?;
        let began = Instant::now();
        loop {
            session.look_at_events();
            // What is behind a refused batch of its partition is not delivered any more, and
            // reported only when its time is over.
            if session.events.reported() >= sent || session.events.has_failed(is_for_good) {
                break;
            }
            if let Some((code, reason)) = session.producer().client().fatal_error() {
                tracing::debug!(%code, reason, "the producer has failed");
                return Err(self.after_failure("publishing", &KafkaError::Global(code)));
            }
            if began.elapsed() >= AWAY_AFTER && session.events.certain_trouble().is_some() {
                // librdkafka would wait for a minute, and nobody would know.
                return Err(self.after_failure(
                    "publishing",
                    &KafkaError::MessageProduction(RDKafkaErrorCode::AllBrokersDown),
                ));
            }
            // Longer the longer it takes: a broker may be away.
            std::thread::sleep((began.elapsed() / 20).clamp(LOOK.0, LOOK.1));
        }
        let failed = session.events.failed();
        let for_good = failed.iter().filter(|failed| is_for_good(failed.code));
        let together: Vec<_> = for_good
            .filter_map(|failed| Some((place_of(entries, failed.number)?, failed.code)))
            .collect();
        match failed.first() {
            None => Ok(true),
            Some(_) if !together.is_empty() => self.refuse(&together).map(|()| false),
            Some(Failed { code, .. }) if is_purged(*code) => {
                let doing = format!(
                    "publishing to topics {} and {}",
                    self.shared.topic, self.progress.topic
                );
                let why = session.why_it_failed().unwrap_or(KafkaError::MessageProduction(*code));
                Err(self.after_failure(&doing, &why))
            }
            Some(Failed { topic, code, .. }) => Err(self.after_failure(
                &format!("publishing to topic {topic}"),
                &KafkaError::MessageProduction(*code),
            )),
        }
    }

    /// As [`KafkaPublisher::arrive`], for everything of a transaction.
    fn deliver(&mut self, entries: &[Entry], sent: usize) -> Result<bool> {
        let arrived = self.arrive(entries, sent)?;
        if arrived {
            self.owner.points.reach(CrashPoint::SinkDelivered)?;
        }
        Ok(arrived)
    }

    /// Commits the transaction in hand, of which everything is acknowledged.
    fn commit(&mut self) -> Result<Outcome> {
        let session = self.session()?;
        let began = Instant::now();
        if let Err(why) = session.producer().commit_transaction(Timeout::Never) {
            return Err(
                self.after_failure("committing a transaction, whose outcome is unknown", &why)
            );
        }
        let took = began.elapsed();
        self.owner.points.reach(CrashPoint::SinkEnded)?;
        let session = self.session()?;
        session.producer().poll(Duration::ZERO);
        if self.shared.trusts_every_commit {
            return Ok(Outcome::Confirmed);
        }
        if took >= session.trusted_within() {
            self.distrust(took);
            return Ok(Outcome::AskMarker(
                "the commit took so long that it may have been sent twice",
            ));
        }
        // Counted up to a second late: it may be an earlier commit of this producer that was sent
        // twice, and can still come.
        if session.events.retries() > 0 {
            self.session = None;
            return Ok(Outcome::AskMarker("requests were sent twice, or timed out"));
        }
        self.shared.slow_commits.was_trusted();
        Ok(Outcome::Confirmed)
    }

    /// Throws the producer away after a commit that took too long. Brokers that are always so slow
    /// are named once.
    fn distrust(&mut self, took: Duration) {
        self.session = None;
        if let Some(advised) = self.shared.slow_commits.was_slow(took) {
            let (sink, in_a_row) = (&self.owner.sink, SlowCommits::ADVISED_AFTER);
            tracing::warn!(
                sink,
                last = ?took,
                "{in_a_row} commits in a row took so long that each cost a new producer: set \
                 retry.backoff.ms to {advised}, ten times what the last took"
            );
        }
    }
}

/// The text for a topic that is missing for good.
fn no_topic(topic: &str, brokers: &str, with_tokens: bool) -> String {
    let remedy = match with_tokens {
        true => "make the topic first: a sink cannot make one with tokens (Kafka::oauth)",
        false => "make the topic first, or let the sink make it (KafkaSink::create)",
    };
    format!("there is no topic {topic} at {brokers}: correct the name, or {remedy}")
}

impl Publisher for KafkaPublisher {
    fn is_settled(&mut self) -> Result<bool> {
        self.progress.is_settled()
    }

    fn marker(&mut self) -> Result<Option<Marker>> {
        self.progress.peek()
    }

    fn take_over(&mut self) -> Result<Option<Marker>> {
        self.begin_session()?;
        let marker = self.progress.read()?;
        self.owner.points.reach(CrashPoint::SinkMarkerRead)?;
        Ok(marker)
    }

    fn claim(&mut self, txid: Txid) -> Result<()> {
        for _ in 0..CLAIMS {
            if self.session.is_none() {
                self.begin_session()?;
            }
            let newer = self
                .progress
                .read()?
                .filter(|marker| marker.incarnation.counter > self.owner.incarnation.counter);
            if let Some(marker) = newer {
                return Err(self.taken_over(&marker));
            }
            let session = self.session()?;
            session.events.forget_deliveries();
            if let Err(why) = session.producer().begin_transaction() {
                return Err(self.after_failure("beginning a transaction", &why));
            }
            if let Err(why) = self.send_marker(txid, 0)? {
                return Err(self.after_failure("sending the marker", &why));
            }
            if !self.deliver(&[], 1)? {
                return Err(Error::bug("a marker was taken for a message"));
            }
            let outcome = self.commit()?;
            self.owner.points.reach(CrashPoint::SinkMarkerClaimed)?;
            if outcome == Outcome::Confirmed {
                return Ok(());
            }
            // A claim may be written twice, so it is simply written again: by a producer that
            // cannot be hit by a late commit.
            self.begin_session()?;
            let ours = self.progress.read()?.is_some_and(|marker| {
                marker.incarnation == self.owner.incarnation && marker.txid == txid
            });
            if ours {
                return Ok(());
            }
        }
        Err(Error::unreachable(format!(
            "the brokers at {} are too slow to be trusted with a transaction",
            self.kafka().brokers()
        )))
    }

    fn prepare<'a>(&'a mut self, entries: &[Entry]) -> Result<Box<dyn Prepared + 'a>> {
        // Again, at once, while it is found out what of it the brokers refuse.
        loop {
            if self.session.is_none() {
                self.begin_again(entries)?;
            }
            if let Some(sent) = self.send(entries)?
                && self.deliver(entries, sent)?
            {
                return Ok(Box::new(Delivered { publisher: self, armed: true }));
            }
        }
    }

    fn idle(&mut self) {
        // Statistics come once a second, and would pile up.
        self.session.iter().for_each(Session::look_at_events);
        self.progress.tend();
    }
}

/// A transaction of which everything is acknowledged. Dropped, it is abandoned with its producer.
struct Delivered<'a> {
    publisher: &'a mut KafkaPublisher,
    armed: bool,
}

impl Prepared for Delivered<'_> {
    fn commit(mut self: Box<Self>) -> Result<Outcome> {
        self.armed = false;
        self.publisher.commit()
    }
}

impl Drop for Delivered<'_> {
    fn drop(&mut self) {
        if self.armed {
            // The next producer of this sink ends the transaction.
            self.publisher.session = None;
        }
    }
}

/// The data that a sink and its publishers share.
pub(super) struct Shared {
    pub(super) kafka: Kafka,
    pub(super) topic: String,
    /// With how many partitions the topic is made, if it is missing and may be made.
    pub(super) create: Option<i32>,
    pub(super) dead_letters: Option<String>,
    /// For the test that shows what then goes wrong.
    pub(super) trusts_every_commit: bool,
    /// The sink's progress topic, once it was looked at, with the clients that do.
    pub(super) progress: Mutex<Option<Arc<Progress>>>,
    /// The largest message that the topic takes; 0 until it is known.
    pub(super) max_message_bytes: AtomicUsize,
    /// The same of the dead letters' topic.
    pub(super) max_letter_bytes: AtomicUsize,
    pub(super) presence: Mutex<Presence>,
    /// Findings about the topics.
    pub(super) findings: Findings,
    /// Commits that took so long that they were not trusted.
    pub(super) slow_commits: SlowCommits,
    /// The messages that the brokers refused for good.
    pub(super) refused: Mutex<Refused>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_for_a_missing_topic_is_one_that_works() {
        assert!(no_topic("out", "b:9092", false).contains("KafkaSink::create"));
        let with_tokens = no_topic("out", "b:9092", true);
        assert!(
            with_tokens.contains("cannot make one with tokens")
                && !with_tokens.contains("KafkaSink::create")
        );
    }
}
