//! What becomes of records at which the user's code fails, and of the batch that they are in.
//!
//! A closure that sees one record is caught per record, in the same pass ([`crate::dataflow::guard::Guard::each`]): by policy the record is set aside, and the rest of its
//! batch goes on. A failure of a whole batch - of a combiner, a reducer, an update of a state - has no record to blame: the records to blame are then searched
//! for, in trials that never commit ([`crate::failure::search`]).

use crate::dataflow::guard::failure_message;
use crate::panics;
use crate::source::{DeadLetter, DeadLetterSink};
use serde::Serialize;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tidemill_state::{Result, SinkId};

/// What is to be done with a record at which the user's code fails: of a topology ([`crate::Topology::on_failure`]), or of some operators
/// ([`crate::Stream::on_failure`]).
#[derive(Clone, Default)]
pub struct OnFailure(pub(crate) Policy);

#[derive(Clone, Default)]
pub(crate) enum Policy {
    #[default]
    Stop,
    Skip,
    DeadLetter(Letters),
}

impl OnFailure {
    /// Stop the topology (exit code 69), naming the record; nothing of its batch is visible. What is done unless another policy is given.
    pub const STOP: OnFailure = OnFailure(Policy::Stop);

    /// Leave the record out, and count it: `set_aside` in the report of its batch, `tidemill_records_set_aside_total` in the metrics.
    pub const SKIP: OnFailure = OnFailure(Policy::Skip);

    /// Whether the topology goes on without the record.
    pub(crate) fn goes_on(&self) -> bool {
        !matches!(self.0, Policy::Stop)
    }
}

/// Where dead letters go: a sink of the topology.
#[derive(Clone)]
pub(crate) struct Letters {
    pub(crate) id: SinkId,
    pub(crate) sink: DeadLetterSink,
}

impl Letters {
    pub(crate) fn encode(&self, letter: &DeadLetter, into: &mut Vec<u8>) -> Result<()> {
        self.sink.encode(letter, into)
    }
}

/// Calls `body`; a panic in it is an error with its text. `quiet`: the panic is not printed, because it is told otherwise.
#[inline]
pub(crate) fn caught<R>(quiet: bool, body: impl FnOnce() -> std::result::Result<R, String>) -> std::result::Result<R, String> {
    panics::quietly(quiet, body).unwrap_or_else(|panic| {
        let of_key = FAILED_KEY.take().map_or(String::new(), |key| format!(", for the key {key}"));
        Err(format!("{}{of_key}", failure_message(panic.as_ref())))
    })
}

/// Takes those at `left_out`, which are in order, out of `records`.
pub(crate) fn leave_out<T>(records: &mut Vec<T>, left_out: &[usize]) {
    if left_out.is_empty() {
        return;
    }
    let (mut left_out, mut index) = (left_out.iter().copied().peekable(), 0);
    records.retain(|_| {
        index += 1;
        left_out.next_if_eq(&(index - 1)).is_none()
    });
}

thread_local! {
    static FAILED_KEY: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Calls `body`, which works on `key`: if it panics, the failure names the key.
#[inline]
pub(crate) fn naming<K: Serialize, R>(key: &K, body: impl FnOnce() -> R) -> R {
    let named = Named(key);
    let made = body();
    std::mem::forget(named);
    made
}

/// Dropped only while its thread panics.
struct Named<'k, K: Serialize>(&'k K);

impl<K: Serialize> Drop for Named<'_, K> {
    fn drop(&mut self) {
        // The key's own code, which may panic in turn.
        let text = catch_unwind(AssertUnwindSafe(|| crate::json::to_string(self.0)));
        if let Ok(Ok(text)) = text {
            FAILED_KEY.with(|key| *key.borrow_mut() = Some(text));
        }
    }
}
