//! The client that reads the partitions of a source on one worker, and its replacement by another.

use super::client;
use super::events::{Consumer, Events};
use super::run_facts::RunFacts;
use super::settings::{Isolation, Kafka, Share};
use crate::threads;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::Thread;
use std::time::Duration;
use tidemill_state::Result;

/// See the module's documentation.
pub(super) struct Reading {
    /// For an instance without facts of a run.
    kafka: Kafka,
    /// The bytes that all partitions of the source may take, over all workers.
    buffer_bytes: usize,
    facts: Mutex<Arc<RunFacts>>,
    current: Mutex<Option<Client>>,
    /// The number of the current client.
    number: AtomicU64,
}

/// One client.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) consumer: Arc<Consumer>,
    pub(super) events: Events,
    pub(super) number: u64,
}

impl Reading {
    /// No client yet.
    pub(super) fn new(kafka: Kafka, buffer_bytes: usize) -> Reading {
        Reading {
            kafka,
            buffer_bytes,
            facts: Mutex::default(),
            current: Mutex::default(),
            number: AtomicU64::new(0),
        }
    }

    /// The facts of the run.
    pub(super) fn facts(&self) -> Arc<RunFacts> {
        Arc::clone(&self.facts.lock().expect("no holder of this lock panics"))
    }

    /// The cluster, as all instances of the source in this run reach it. Each worker's own `Kafka`
    /// comes from the closure that builds the topology: it has no token yet, and no standing with
    /// the brokers.
    pub(super) fn kafka(&self) -> Kafka {
        self.facts().kafka().unwrap_or_else(|| self.kafka.clone())
    }

    /// Takes the facts of the instance that has begun the source.
    pub(super) fn adopt(&self, facts: Arc<RunFacts>) {
        *self.facts.lock().expect("no holder of this lock panics") = facts;
    }

    /// The current client; made, if there is none.
    pub(super) fn client(&self) -> Result<Client> {
        let mut current = self.current.lock().expect("no holder of this lock panics");
        match &*current {
            Some(client) => Ok(client.clone()),
            None => Ok(current.insert(self.make(0)?).clone()),
        }
    }

    /// Takes the reports of the current client, if there is one: in place of readers that have let
    /// it go.
    pub(super) fn tend(&self) {
        if let Some(Client { consumer, .. }) =
            &*self.current.lock().expect("no holder of this lock panics")
        {
            client::look_at_events(consumer);
        }
    }

    /// The number of the current client: another than a reader's own means that the reader has to
    /// move.
    pub(super) fn number(&self) -> u64 {
        self.number.load(SeqCst)
    }

    /// Makes another client in place of that of this number, unless it was replaced already.
    /// Readers move to it by themselves.
    pub(super) fn replace(&self, number: u64) -> Result<()> {
        if self.number() != number {
            return Ok(());
        }
        let made = self.make(number + 1)?;
        let mut current = self.current.lock().expect("no holder of this lock panics");
        if current.as_ref().is_some_and(|current| current.number != number) {
            return Ok(());
        }
        let old = current.replace(made);
        self.number.store(number + 1, SeqCst);
        drop(current);
        // Closing waits for librdkafka's threads. Whoever lets go last would do it: that must not
        // be a worker.
        if let Some(Client { consumer, .. }) = old {
            let wait = move || {
                while Arc::strong_count(&consumer) > 1 {
                    std::thread::sleep(LEFT_WITHIN);
                }
            };
            // Without a thread it is as well whoever is last.
            drop(threads::spawn("kafka close", wait));
        }
        Ok(())
    }

    fn make(&self, number: u64) -> Result<Client> {
        let share = Share::of(self.buffer_bytes, self.facts().partitions());
        let kafka = self.kafka();
        let settings = kafka.reading(Isolation::Committed, share)?;
        // A worker makes it, which must not wait.
        let (mut consumer, events) = client::create_at_once::<Consumer>(&kafka, &settings)?;
        // A token, if the brokers want one, is given by a look at the reports.
        client::look_at_events(&consumer);
        // Whatever came before this is set is pending.
        events.set_pending(true);
        let reports = events.clone();
        consumer.set_nonempty_callback(move || reports.set_pending(true));
        Ok(Client { consumer: Arc::new(consumer), events, number })
    }
}

/// Wakes the worker that reads a partition when records have come.
#[derive(Default)]
pub(super) struct Waker {
    pub(super) woken: AtomicBool,
    pub(super) thread: Mutex<Option<Thread>>,
}

impl Waker {
    pub(super) fn wake(&self) {
        self.woken.store(true, SeqCst);
        if let Some(thread) = &*self.thread.lock().expect("no holder of this lock panics") {
            thread.unpark();
        }
    }
}

/// The interval at which it is looked whether the readers have left a client that was replaced.
const LEFT_WITHIN: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::super::oauth::Token;
    use super::*;
    use std::sync::atomic::AtomicU32;
    use std::time::{Instant, SystemTime};
    use tidemill_state::Error;

    /// Each worker has a `Kafka` of its own, whose closure may be slow, or get no answer.
    #[test]
    fn a_worker_reads_with_the_tokens_of_the_instance_that_has_begun() {
        let begun = Kafka::new("127.0.0.1:1")
            .oauth(|| Ok(Token::new("t0", SystemTime::now() + Duration::from_secs(3600))));
        begun.tokens().expect("there are some").begin().expect("one is given");
        let facts = Arc::new(RunFacts::default());
        facts.set_kafka(&begun);
        let calls = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&calls);
        let own = Kafka::new("127.0.0.1:1").oauth(move || {
            counted.fetch_add(1, SeqCst);
            Err(Error::unreachable("no answer"))
        });
        let reading = Reading::new(own, 1 << 20);
        reading.adopt(facts);
        reading.client().expect("the token is there");
        reading.replace(0).expect("also for another client");
        assert_eq!(calls.load(SeqCst), 0);
        let shared = |kafka: &Kafka| Arc::as_ptr(kafka.standing());
        assert_eq!(shared(&reading.kafka()), shared(&begun));
    }

    #[test]
    fn a_worker_waits_for_no_token_and_needs_none_to_make_its_client() {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = Mutex::new(held);
        let slow = Kafka::new("127.0.0.1:1").oauth(move || {
            let _ = held.lock().expect("a test").recv();
            Err(Error::unreachable("no answer"))
        });
        let reading = Reading::new(slow.clone(), 1 << 20);
        let began = Instant::now();
        let client = reading.client().expect("librdkafka asks for a token again");
        assert!(began.elapsed() < Duration::from_secs(4), "it has waited: {:?}", began.elapsed());
        drop(release);
        while slow
            .tokens()
            .expect("there are some")
            .current()
            .is_err_and(|why| !why.contains("no answer"))
        {
            assert!(began.elapsed() < Duration::from_secs(60), "the closure is not called");
            std::thread::sleep(Duration::from_millis(5));
        }
        while client.events.trouble().is_none() {
            assert!(began.elapsed() < Duration::from_secs(60), "it is no trouble");
            reading.tend();
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
