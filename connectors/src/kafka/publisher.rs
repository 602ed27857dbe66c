//! Publishes one sink's output in transactions.
//!
//! One producer is one session. A commit is trusted only if it cannot have been sent twice; else
//! the producer is thrown away, a new one of the same transactional id fences whatever is still
//! under way, and reads the marker.
//!
//! `kafka/publisher/topics.rs` looks at the topics before a session,
//! `kafka/publisher/transaction.rs` fills a transaction.

mod topics;
mod transaction;

use super::backoff::SlowCommits;
use super::findings::Findings;
use super::marker::Progress;
use super::presence::Presence;
use super::refused::Refused;
use super::session::Session;
use super::settings::Kafka;
use super::{client, error_class};
use rdkafka::error::KafkaError;
use rdkafka::producer::Producer as _;
use rdkafka::util::Timeout;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tidemill_engine::sink::{Entry, Marker, Outcome, Owner, Prepared, Publisher};
use tidemill_state::{CrashPoint, Error, Result, Txid};

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
