//! A gate that holds threads up, and a sink behind one.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tidemill::sink::{Delivery, Entry, Marker, Outcome, Owner, Prepared, Publisher, Sink};
use tidemill::{Result, Txid};

const PATIENCE: Duration = Duration::from_secs(60);

/// Open at first. Closed, it holds up every thread that passes.
#[derive(Default)]
pub struct Gate {
    is_closed: Mutex<bool>,
    opened: Condvar,
    /// How many threads are held up.
    held: AtomicU64,
}

/// Keeps a gate closed until it is dropped: a test that fails leaves nobody there.
pub struct Closed(Arc<Gate>);

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.set_closed(false);
    }
}

impl Gate {
    fn set_closed(&self, closed: bool) {
        *self.is_closed.lock().unwrap_or_else(PoisonError::into_inner) = closed;
        self.opened.notify_all();
    }

    /// Closes the gate, until what is returned is dropped.
    pub fn close(self: &Arc<Self>) -> Closed {
        self.set_closed(true);
        Closed(Arc::clone(self))
    }

    /// Waits while the gate is closed.
    pub fn pass(&self) {
        let closed = self.is_closed.lock().unwrap_or_else(PoisonError::into_inner);
        self.held.fetch_add(1, SeqCst);
        drop(self.opened.wait_while(closed, |closed| *closed));
        self.held.fetch_sub(1, SeqCst);
    }

    /// Waits until somebody is held at the gate.
    pub fn wait_until_held(&self) {
        let began = Instant::now();
        while self.held.load(SeqCst) == 0 {
            assert!(began.elapsed() < PATIENCE, "nobody comes to the gate");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A sink that gives the numbers on to a list, behind a gate.
#[derive(Clone, Default)]
pub struct Gated {
    /// The gate that each output passes.
    pub gate: Arc<Gate>,
    /// The published numbers, each with its batch.
    pub numbers: Arc<Mutex<Vec<(Txid, u64)>>>,
}

impl Sink for Gated {
    type Item = u64;

    fn kind(&self) -> String {
        "gated".into()
    }

    fn delivery(&self) -> Delivery {
        Delivery::AtLeastOnce
    }

    fn encode(&self, number: &u64, into: &mut Vec<u8>) -> Result<()> {
        into.extend_from_slice(&number.to_le_bytes());
        Ok(())
    }

    fn open(&self, _: &Owner) -> Result<Box<dyn Publisher>> {
        Ok(Box::new(self.clone()))
    }
}

impl Publisher for Gated {
    fn is_settled(&mut self) -> Result<bool> {
        Ok(true)
    }

    fn marker(&mut self) -> Result<Option<Marker>> {
        Ok(None)
    }

    fn take_over(&mut self) -> Result<Option<Marker>> {
        Ok(None)
    }

    fn claim(&mut self, _: Txid) -> Result<()> {
        Ok(())
    }

    fn prepare<'a>(&'a mut self, entries: &[Entry]) -> Result<Box<dyn Prepared + 'a>> {
        self.gate.pass();
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        let mut numbers = self.numbers.lock().expect("nobody fails with it");
        numbers.extend(
            entries
                .iter()
                .flat_map(|entry| entry.records().map(move |bytes| (entry.txid, number(bytes)))),
        );
        Ok(Box::new(Given))
    }
}

struct Given;

impl Prepared for Given {
    fn commit(self: Box<Self>) -> Result<Outcome> {
        Ok(Outcome::Confirmed)
    }
}
