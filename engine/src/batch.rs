//! What code that sees a whole batch is told of it, and the clock behind it.

pub(crate) mod chunk;
pub(crate) mod commit;
pub(crate) mod intake;
pub(crate) mod publish;
pub(crate) mod slice;
pub(crate) mod turns;

use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{SystemTime, UNIX_EPOCH};
use tidemill_state::Txid;

/// A batch, as code sees it that is called once a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Its number. Numbers after the last committed one are used again after a failure, with other records.
    pub txid: Txid,
    /// When its first record was read, in milliseconds since 1970: the same on all workers.
    pub time_ms: u64,
}

/// What time it is: the system's, or one that a test sets.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<AtomicU64>>);

impl Clock {
    /// A clock that stands still at `ms` milliseconds after 1970 until it is set.
    #[must_use]
    pub fn stopped_at(ms: u64) -> Clock {
        Clock(Some(Arc::new(AtomicU64::new(ms))))
    }

    /// Sets a stopped clock. The system's is left alone.
    pub fn set(&self, ms: u64) {
        if let Some(time) = &self.0 {
            time.store(ms, SeqCst);
        }
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        match &self.0 {
            Some(time) => time.load(SeqCst),
            None => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
            }
        }
    }
}
