//! Leases: batches kept readable between the pages of one walk over a state.

use crate::runtime::Runtime;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;
use tidemill_state::Txid;

/// The batches that are held for next pages: since when, and until when.
#[derive(Default)]
pub(crate) struct Leases {
    pub(super) held: Mutex<BTreeMap<Txid, (Instant, Instant)>>,
    /// Pages that are being read.
    pub(super) pages: Arc<AtomicUsize>,
}

/// One of them. Dropping it gives the batch back, also when nobody is left to wait for its end.
pub(super) struct Lease {
    pub(super) runtime: Weak<Runtime>,
    pub(super) at: Txid,
}

impl Lease {
    /// Until when it is held, as far as is known now. One that is over is given back.
    pub(super) fn goes_on_until(&self) -> Option<Instant> {
        let runtime = self.runtime.upgrade()?;
        let mut held = runtime.leases.held.lock().expect("no holder of this lock panics");
        let until = held.get(&self.at).map(|(_, until)| *until)?;
        if until > Instant::now() {
            return Some(until);
        }
        held.remove(&self.at);
        runtime.hub.pins.give_back(self.at);
        None
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.upgrade() {
            let held =
                runtime.leases.held.lock().expect("no holder of this lock panics").remove(&self.at);
            if held.is_some() {
                runtime.hub.pins.give_back(self.at);
            }
        }
    }
}

/// A pin that is given back when it is dropped.
pub(super) struct Pin<'r> {
    pub(super) runtime: &'r Runtime,
    pub(super) at: Txid,
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        self.runtime.hub.pins.give_back(self.at);
    }
}
