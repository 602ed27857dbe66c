//! Reads one partition of a topic, on the worker that owns it.
//!
//! A record is given only while its topic is certain: librdkafka follows a topic's name, and
//! continues at the old offset in whatever topic has that name now. librdkafka reports the other id
//! before anything of that topic can be fetched. So the reports are looked at after a record was
//! taken and before it is given ([`Events::are_pending`]).

use super::begin::Verdict;
use super::client;
use super::decode::{Incoming, NoRecord, decode};
use super::doubts::{Doubt, IN_TROUBLE_FOR, Why};
use super::events::{Events, take_end};
use super::held::Held;
use super::opened::Opened;
use super::reading::{Client, Waker};
use super::run_facts::RunFacts;
use super::statistics::OpenTransaction;
use rdkafka::Message as _;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};
use tidemill_engine::source::{ReadStatus, Reader, Records};
use tidemill_state::{Error, Position, Result};

/// The time a reader sleeps that nothing wakes.
const IDLE: Duration = Duration::from_millis(500);

/// The time a reader sleeps whose partition is in doubt.
const IN_DOUBT: Duration = Duration::from_millis(50);

/// The interval at which events beside the records are looked at: errors, statistics.
const EVENTS_EVERY: Duration = Duration::from_millis(200);

/// The time a transaction must be open to be reported: most end before.
const OPEN_FOR: Duration = Duration::from_secs(5);

/// The number of messages that are skipped in one go: what is skipped fills no batch, and the
/// worker has more to do.
const SKIPPED_AT_ONCE: u64 = 256;

/// See the module's documentation.
pub(super) struct KafkaReader<T> {
    opened: Opened<T>,
    /// `None` once the bound was reached: a client that nobody reads with can be closed.
    client: Option<Client>,
    /// `None` while it is replaced, and without a client.
    queue: Option<PartitionQueue<Events>>,
    waker: Arc<Waker>,
    /// The version of the topics' ids that was compared last.
    ids_version: Option<u64>,
    doubt: Option<Arc<Doubt>>,
    /// The next message, which cannot be decoded yet.
    held: Option<Held>,
    /// True if something was read.
    was_well: bool,
    skipped: u64,
    /// Facts of the run, and the partition's name in them.
    facts: Arc<RunFacts>,
    name: String,
    /// The offset after the last record that is to be read, if there is to be a last one.
    bound: Option<i64>,
    /// When something of the partition came last.
    heard: Instant,
    /// When events were looked at last, by [`Reader::read`] and by [`Reader::trouble`].
    looked: Instant,
    shown: Cell<Instant>,
}

impl<T> KafkaReader<T> {
    pub(super) fn new(opened: Opened<T>) -> Result<KafkaReader<T>> {
        let client = opened.reading.client()?;
        let waker = Arc::new(Waker::default());
        let queue = opened.assign(&client, &waker)?;
        let (facts, name) = (opened.reading.facts(), opened.name());
        let bound = facts.bound_of(&name);
        Ok(KafkaReader {
            facts,
            name,
            bound,
            heard: Instant::now(),
            opened,
            client: Some(client),
            queue: Some(queue),
            waker,
            ids_version: None,
            doubt: None,
            held: None,
            was_well: false,
            skipped: 0,
            looked: Instant::now(),
            shown: Cell::new(Instant::now()),
        })
    }

    fn client(&self) -> &Client {
        self.client.as_ref().expect("a reader that reads has a client")
    }

    fn give_up(&mut self) {
        if let Some(client) = &self.client {
            self.opened.give_up(client);
        }
        // Before another is made of the same partition: it would take away that one's callback.
        self.queue = None;
    }

    /// Reads from the position again, with the client that the source has now.
    fn reopen(&mut self) -> Result<()> {
        self.give_up();
        let client = self.opened.reading.client()?;
        self.queue = Some(self.opened.assign(&client, &self.waker)?);
        self.client = Some(client);
        // A message that is held comes again: the position is before it.
        (self.ids_version, self.doubt, self.held) = (None, None, None);
        Ok(())
    }

    /// Looks at what is not a record: errors of the client as a whole, statistics, the ids of
    /// topics.
    fn look_at_events(&self) -> Result<()> {
        let failed = |error: &KafkaError| {
            client::error(&self.opened.kafka, &self.client().events, &self.opened.name(), error)
        };
        // The records are all in partition queues.
        client::drain(&self.client().consumer).map_err(|error| failed(&error))?;
        match self.client().events.refused() {
            Some(_) => Err(failed(&KafkaError::Global(RDKafkaErrorCode::Authentication))),
            None => Ok(()),
        }
    }

    /// Returns whether the topic is still the one that is read, as far as the client knows. What
    /// was taken from the queue before this is of that topic.
    fn is_same_topic(&mut self) -> Result<bool> {
        let events = &self.client().events;
        if !events.are_pending() && self.ids_version == Some(events.ids_version()) {
            return Ok(true);
        }
        self.look_at_events()?;
        let events = &self.client().events;
        let version = events.ids_version();
        let now = events.id_of(&self.opened.topic);
        // A position of an earlier version had none, and its source took it for the topic's.
        let is_same = now.is_none_or(|now| *self.opened.witness.topic.get_or_insert(now) == now);
        self.ids_version = is_same.then_some(version);
        Ok(is_same)
    }

    /// Asks, before anything more is read.
    fn doubt(&mut self, why: Why) {
        let Opened { topic, partition, witness, .. } = &self.opened;
        let next = self.opened.next.unwrap_or_default();
        let doubt = Doubt::new(topic, *partition, next, *witness, self.was_well, why);
        self.doubt = Some(self.opened.doubts.ask(doubt));
    }

    /// Returns whether nothing may be read before a doubt is settled.
    fn is_in_doubt(&self) -> bool {
        self.doubt.as_ref().is_some_and(|doubt| doubt.why == Why::Reported)
    }

    /// Tends a doubt. Returns whether records may be read.
    fn settle(&mut self) -> Result<bool> {
        let Some(doubt) = &self.doubt else { return Ok(true) };
        let why = doubt.why;
        match (doubt.verdict(), why) {
            (Some(Verdict::Lost(what)), _) => Err(Error::source_lost(what)),
            (Some(Verdict::Refused(what)), _) => Err(Error::config(what)),
            (Some(Verdict::ReadOn), Why::Reported) => {
                tracing::debug!(partition = self.opened.name(), "nothing is lost: it is read on");
                self.reopen().map(|()| true)
            }
            (Some(Verdict::ReadOn), Why::Trouble { .. }) => {
                self.doubt = None;
                Ok(true)
            }
            (_, why) => {
                self.opened.doubts.keep_asking();
                Ok(why != Why::Reported)
            }
        }
    }

    /// Has a client replaced that has been in trouble for long though the partition can be reached.
    fn look_at_trouble(&mut self) {
        let trouble = self.client().events.trouble_of(&self.opened.topic, self.opened.partition);
        let lasted = trouble.map(|(_, since)| since.elapsed());
        match (&self.doubt, lasted) {
            (None, Some(lasted)) if lasted >= IN_TROUBLE_FOR => {
                self.doubt(Why::Trouble { client: self.client().number })
            }
            (Some(doubt), None) if doubt.why != Why::Reported => self.doubt = None,
            _ => {}
        }
    }

    /// Handles an error in place of a record. Returns `Ok` for a temporary error, and for one that
    /// is being investigated.
    fn failed(&mut self, error: &KafkaError) -> Result<()> {
        match error.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::AutoOffsetReset
                | RDKafkaErrorCode::OffsetOutOfRange
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::TopicAuthorizationFailed,
            ) => {
                tracing::debug!(partition = self.opened.name(), %error, "the brokers are asked \
                    what this means");
                self.doubt(Why::Reported);
                Ok(())
            }
            Some(
                RDKafkaErrorCode::BadMessage
                | RDKafkaErrorCode::InvalidMessage
                | RDKafkaErrorCode::InvalidMessageSize,
            ) => Err(Error::source_lost(format!(
                "{}: the record at or after offset {} is damaged ({error}): restore the topic",
                self.opened.name(),
                self.opened.next.unwrap_or_default()
            ))),
            _ => {
                tracing::debug!(partition = self.opened.name(), %error, "reading failed; \
                    librdkafka tries again");
                Ok(())
            }
        }
    }

    /// Takes what the queue has next.
    fn take(&mut self, into: &mut Records<T>) -> Result<Next> {
        if self.held.as_ref().is_some_and(|held| held.wait(Instant::now()).is_some()) {
            return Ok(Next::NotYet(None));
        }
        if let Some(held) = self.held.take() {
            let next = self.give(&Incoming::held(&held.message), into)?;
            if let Next::NotYet(why) = &next {
                self.held = Some(held.again(why.clone(), Instant::now()));
            }
            return Ok(next);
        }
        let queue = self.queue.take().expect("a reader has its queue until it is replaced");
        let polled = queue.poll(Duration::ZERO);
        let next = match polled {
            None => Ok(Next::Nothing),
            Some(Ok(message)) => match self.is_same_topic() {
                Ok(true) if self.bound.is_some_and(|bound| message.offset() >= bound) => {
                    // Whatever lies between the last record and the bound is no record.
                    self.opened.next = self.opened.next.max(self.bound);
                    Ok(Next::Bound)
                }
                Ok(true) => {
                    let next = self.give(&Incoming::new(&message), into);
                    if let Ok(Next::NotYet(why)) = &next {
                        self.held = Some(Held::new(message.detach(), why.clone(), Instant::now()));
                    }
                    next
                }
                Ok(false) => Ok(Next::OtherTopic),
                Err(error) => Err(error),
            },
            Some(Err(KafkaError::PartitionEOF(_))) => Ok(Next::End),
            Some(Err(error)) => Ok(Next::Failed(error)),
        };
        self.queue = Some(queue);
        next
    }

    fn give(&mut self, message: &Incoming<'_>, into: &mut Records<T>) -> Result<Next> {
        let offset = message.offset();
        if self.opened.next.is_some_and(|next| offset < next) {
            return Ok(Next::Record);
        }
        match decode(&*self.opened.decoder, self.opened.undecodable, message, into) {
            Ok(decoded) => self.skipped += u64::from(!decoded),
            Err(NoRecord::NotYet(why)) => return Ok(Next::NotYet(why)),
            Err(NoRecord::Undecodable(why)) => {
                return Err(Error::user_code(format!("{}, {why}", self.opened.name())));
            }
            Err(NoRecord::Refused(why)) => {
                return Err(Error::config(format!("{}: {why}", self.opened.name())));
            }
        }
        self.opened.next = Some(offset + 1);
        self.opened.witness.record = Some(message.record());
        Ok(Next::Record)
    }

    /// Returns whether everything was read that is to be read.
    fn has_reached_its_bound(&self) -> bool {
        self.bound.is_some_and(|bound| self.opened.next.is_some_and(|next| next >= bound))
    }

    /// Ends the partition: its records are fetched no more.
    fn end(&mut self) -> ReadStatus {
        self.give_up();
        (self.doubt, self.held, self.client) = (None, None, None);
        ReadStatus::End
    }

    /// The transaction that holds the partition up: everything before it was read.
    fn held_up_by(&self) -> Option<OpenTransaction> {
        let open =
            self.client().events.open_transaction_of(&self.opened.topic, self.opened.partition)?;
        let lasts = open.since.elapsed().is_ok_and(|lasted| lasted >= OPEN_FOR);
        (lasts && self.opened.next.unwrap_or_default() >= open.at).then_some(open)
    }

    /// Notes that the partition was reached.
    fn is_well(&mut self) {
        self.was_well = true;
        self.heard = Instant::now();
        // Without one nothing more is read.
        if let Some(Client { events, .. }) = &self.client {
            events.is_well();
            events.partition_is_well(&self.opened.topic, self.opened.partition);
        }
    }
}

/// The next item of a queue.
enum Next {
    Nothing,
    /// A record, which was given or skipped.
    Record,
    /// A record that may be of another topic of the same name. It was not given.
    OtherTopic,
    /// A record that cannot be decoded yet, with the reason if something is wrong. It is held.
    NotYet(Option<String>),
    /// The end of the partition.
    End,
    /// A record that is not to be read any more. It was not given.
    Bound,
    Failed(KafkaError),
}

impl<T> Drop for KafkaReader<T> {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl<T: Send> Reader<T> for KafkaReader<T> {
    fn read(&mut self, into: &mut Records<T>) -> Result<ReadStatus> {
        if self.waker.thread.lock().expect("no holder of this lock panics").is_none() {
            *self.waker.thread.lock().expect("no holder of this lock panics") =
                Some(std::thread::current());
        }
        if self.client.is_none() || self.has_reached_its_bound() {
            return Ok(self.end());
        }
        if self.opened.reading.number() != self.client().number {
            self.reopen()?;
        }
        if self.looked.elapsed() >= EVENTS_EVERY {
            self.looked = Instant::now();
            self.look_at_events()?;
            self.look_at_trouble();
        }
        if !self.settle()? {
            return Ok(ReadStatus::Idle(IN_DOUBT));
        }
        // Also if no record of it comes: the run ends then, rather than wait for one.
        if !self.is_same_topic()? {
            self.doubt(Why::Reported);
            return Ok(ReadStatus::Idle(IN_DOUBT));
        }
        // Before the queue is looked at: what comes after it was found empty wakes again.
        self.waker.woken.store(false, SeqCst);
        let skipped_before = self.skipped;
        let mut came = false;
        let status = loop {
            if into.is_full() || self.skipped - skipped_before >= SKIPPED_AT_ONCE {
                break ReadStatus::More;
            }
            match self.take(into)? {
                Next::Nothing => break ReadStatus::Idle(IDLE),
                Next::Record => came = true,
                Next::Bound => {
                    came = true;
                    break self.end();
                }
                Next::NotYet(_) => {
                    let wait = self.held.as_ref().and_then(|held| held.wait(Instant::now()));
                    break ReadStatus::Idle(wait.unwrap_or_default());
                }
                Next::OtherTopic => {
                    self.doubt(Why::Reported);
                    break ReadStatus::Idle(IN_DOUBT);
                }
                Next::End => {
                    came = true;
                    // Control records and aborted ones lie between the last record and the end: a
                    // restart need not look at them again.
                    if let (Some(end), true) = (take_end(), self.is_same_topic()?) {
                        self.opened.next = Some(self.opened.next.map_or(end, |next| next.max(end)));
                    }
                    if self.has_reached_its_bound() {
                        break self.end();
                    }
                }
                Next::Failed(error) => {
                    self.failed(&error)?;
                    if self.is_in_doubt() {
                        break ReadStatus::Idle(IN_DOUBT);
                    }
                }
            }
        };
        if came {
            self.is_well();
        }
        Ok(status)
    }

    fn position(&self) -> Position {
        self.opened.witness.at(self.opened.next.unwrap_or_default())
    }

    fn lag(&self) -> Option<u64> {
        // At the bound nothing is left to read.
        let Some(client) = &self.client else { return Some(0) };
        let reported = client.events.end_of(&self.opened.topic, self.opened.partition);
        let end = self.facts.end_of(&self.name, reported, self.heard, Instant::now())?;
        // Nor is what comes after it.
        let end = self.bound.map_or(end, |bound| bound.min(end));
        Some(u64::try_from(end - self.opened.next.unwrap_or_default()).unwrap_or(0))
    }

    fn woken(&self) -> bool {
        self.waker.woken.load(SeqCst)
    }

    fn trouble(&self) -> Option<String> {
        // Asked also while the sources wait and nothing is read: statistics would pile up, and an
        // unreachable broker would not be seen.
        if self.shown.get().elapsed() >= EVENTS_EVERY {
            self.shown.set(Instant::now());
            match &self.client {
                Some(client) => client::look_at_events(&client.consumer),
                None => self.opened.reading.tend(),
            }
        }
        let events = &self.client.as_ref()?.events;
        let brokers = self.opened.kafka.brokers();
        if let Some(why) = events.certain_trouble() {
            return Some(format!("the brokers at {brokers} cannot be reached: {why}"));
        }
        if let Some((why, _)) = events.trouble_of(&self.opened.topic, self.opened.partition) {
            return Some(format!("{} cannot be read: {why}", self.opened.name()));
        }
        if let Some(why) = self.facts.silence(&self.name, self.heard, Instant::now()) {
            return Some(format!(
                "nothing comes of {}, and its leader does not answer: {why}",
                self.name
            ));
        }
        if let Some(open) = self.held_up_by() {
            return Some(format!(
                "{} waits for a transaction of its producers that is open at offset {} since {} \
                 or longer: what comes after it can be read when that is committed or aborted",
                self.opened.name(),
                open.at,
                open.since_text()
            ));
        }
        if self.is_in_doubt() {
            let name = self.opened.name();
            return Some(format!(
                "{name} is not read on before the brokers at {brokers} confirm that nothing of it \
                 is lost"
            ));
        }
        let held = self.held.as_ref()?;
        let why = held.why.as_ref()?;
        Some(format!(
            "{} is not read on at offset {}: {why}",
            self.opened.name(),
            held.message.offset()
        ))
    }

    fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode::{self, Decoder, Undecodable};
    use super::super::doubts::Doubts;
    use super::super::identity::Witness;
    use super::super::reading::Reading;
    use super::super::settings::Kafka;
    use super::*;
    use crate::Str;
    use rdkafka::Timestamp;
    use rdkafka::consumer::Consumer as _;
    use rdkafka::message::OwnedMessage;
    use std::sync::atomic::AtomicU32;

    fn reader(reading: &Arc<Reading>, decoder: Arc<Decoder<Str>>) -> KafkaReader<Str> {
        let kafka = Kafka::new("127.0.0.1:1");
        let opened = Opened {
            topic: "t".into(),
            partition: 3,
            reading: Arc::clone(reading),
            doubts: Arc::new(Doubts::new(Arc::clone(reading))),
            kafka,
            decoder,
            undecodable: Undecodable::Stop,
            next: Some(7),
            witness: Witness::default(),
        };
        KafkaReader::new(opened).expect("no broker is needed")
    }

    fn reading() -> Arc<Reading> {
        Arc::new(Reading::new(Kafka::new("127.0.0.1:1"), 512 << 20))
    }

    fn utf8() -> Arc<Decoder<Str>> {
        Arc::new(|message: &Incoming<'_>| decode::utf8(message).map_err(NoRecord::Undecodable))
    }

    /// Its threads and its memory would stay for the run.
    #[test]
    fn a_reader_at_its_bound_lets_its_client_go() {
        let reading = reading();
        reading.facts().bound([("t[3]".to_string(), 7)].into());
        let mut reader = reader(&reading, utf8());
        let client = Arc::downgrade(&reader.client().consumer);
        let status = reader.read(&mut Records::with_limits(1, 1)).expect("nothing is wrong");
        assert_eq!((status, reader.lag(), reader.trouble()), (ReadStatus::End, Some(0), None));
        reading.replace(0).expect("another is made");
        let began = Instant::now();
        while client.strong_count() > 0 {
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "the client that was replaced is kept"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(
            reader.read(&mut Records::with_limits(1, 1)).expect("nothing is wrong"),
            ReadStatus::End
        );
    }

    #[test]
    fn a_message_that_is_held_is_not_decoded_at_each_look() {
        let decoded = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&decoded);
        let decoder = move |_: &Incoming<'_>| {
            counted.fetch_add(1, SeqCst);
            Err(NoRecord::NotYet(None))
        };
        let mut reader = reader(&reading(), Arc::new(decoder));
        let message =
            OwnedMessage::new(None, None, "t".into(), Timestamp::NotAvailable, 3, 7, None);
        reader.held = Some(Held::new(message, None, Instant::now()));
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(700) {
            let status = reader.read(&mut Records::with_limits(1, 1)).expect("nothing is wrong");
            assert!(matches!(status, ReadStatus::Idle(_)), "{status:?}");
            // Something wakes its worker all the time.
            std::thread::sleep(Duration::from_millis(1));
        }
        let decoded = decoded.load(SeqCst);
        assert!((1..=5).contains(&decoded), "{decoded} times in 0.7 s");
    }

    #[test]
    fn a_reader_moves_to_the_client_that_takes_the_place_of_its_own_and_keeps_its_position() {
        let reading = reading();
        let mut reader = reader(&reading, utf8());
        let assigned =
            |client: &Client| client.consumer.assignment().expect("it has a list").count();
        let old = reader.client().clone();
        assert_eq!(assigned(&old), 1);
        reading.replace(0).expect("another is made");
        reading.replace(0).expect("it was replaced already");
        let status = reader.read(&mut Records::with_limits(1, 1)).expect("nothing is wrong");
        assert_eq!(
            (status, reader.client().number, reader.position().offset),
            (ReadStatus::Idle(IDLE), 1, 7)
        );
        assert_eq!((assigned(reader.client()), assigned(&old)), (1, 0));
    }
}
