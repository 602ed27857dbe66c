//! The client that reads the partitions of a source on one worker, and its replacement by another.

use super::client;
use super::events::{Consumer, Events};
use super::run_facts::RunFacts;
use super::settings::{Isolation, Kafka, Share};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::Thread;
use std::time::Duration;
use tidemill_state::Result;

/// See the module's documentation.
pub(super) struct Reading {
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
        Reading { kafka, buffer_bytes, facts: Mutex::default(), current: Mutex::default(), number: AtomicU64::new(0) }
    }

    /// The facts of the run.
    pub(super) fn facts(&self) -> Arc<RunFacts> {
        Arc::clone(&self.facts.lock().expect("no holder of this lock panics"))
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

    /// Takes the reports of the current client, if there is one: in place of readers that have let it go.
    pub(super) fn tend(&self) {
        if let Some(Client { consumer, .. }) = &*self.current.lock().expect("no holder of this lock panics") {
            client::look_at_events(consumer);
        }
    }

    /// The number of the current client: another than a reader's own means that the reader has to move.
    pub(super) fn number(&self) -> u64 {
        self.number.load(SeqCst)
    }

    /// Makes another client in place of that of this number, unless it was replaced already. Readers move to it by themselves.
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
        // Closing waits for librdkafka's threads. Whoever lets go last would do it: that must not be a worker.
        if let Some(Client { consumer, .. }) = old {
            std::thread::spawn(move || {
                while Arc::strong_count(&consumer) > 1 {
                    std::thread::sleep(LEFT_WITHIN);
                }
            });
        }
        Ok(())
    }

    fn make(&self, number: u64) -> Result<Client> {
        let share = Share::of(self.buffer_bytes, self.facts().partitions());
        let settings = self.kafka.reading(Isolation::Committed, share)?;
        let (mut consumer, events) = client::create::<Consumer>(&self.kafka, &settings)?;
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

/// How often it is looked whether the readers have left a client that was replaced.
const LEFT_WITHIN: Duration = Duration::from_millis(200);
