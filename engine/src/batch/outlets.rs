//! The sinks as the run sees them: how much committed output each has, what it has confirmed, and
//! what its publisher is doing.

use crate::clock::now_ms;
use crate::ids::SinkIndex;
use crate::sync::{Condvar, Mutex, MutexGuard};
use schemars::JsonSchema;
use serde::Serialize;
use std::time::{Duration, Instant};
use tidemill_state::{SinkId, Txid};

/// One sink, in [`Status`](crate::Status).
#[derive(Clone, Debug, Default, JsonSchema, Serialize)]
pub struct SinkStatus {
    /// Its name.
    pub name: String,
    /// The last batch that it holds, of those that have output for it.
    #[schemars(with = "u64")]
    pub published: Txid,
    /// Bytes of committed output that it has not confirmed.
    pub backlog_bytes: usize,
    /// The number of times the sink's publisher was rebuilt in this run, after a failure or a
    /// commit that could not be trusted.
    pub rebuilds: u64,
    /// Why it does not take output now, if so.
    pub error: Option<String>,
    /// Since when, in milliseconds since 1970.
    pub error_since_ms: Option<u64>,
    #[serde(skip)]
    pub(crate) id: Option<SinkId>,
    #[serde(skip)]
    pub(crate) last_output: Txid,
    #[serde(skip)]
    pub(crate) call: Option<Call>,
}

/// A call of a sink's publisher that has not returned.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Shown if the call takes long.
    doing: String,
    since: Instant,
    /// The same in milliseconds since 1970.
    since_ms: u64,
}

/// The time a call of a publisher may take before the status names it.
const BUSY_WITHIN: Duration = Duration::from_secs(5);

impl SinkStatus {
    /// Returns the status as it is shown outside: with a call that does not return, if there is no
    /// worse.
    fn as_shown(&self, now: Instant) -> SinkStatus {
        let mut shown = self.clone();
        let lasting = self
            .call
            .as_ref()
            .filter(|call| now.saturating_duration_since(call.since) >= BUSY_WITHIN);
        if let (None, Some(call)) = (&self.error, lasting) {
            shown.error = Some(format!(
                "{}: the sink is slow, or does not answer; nothing is lost",
                call.doing
            ));
            shown.error_since_ms = Some(call.since_ms);
        }
        shown
    }

    fn is_confirmed(&self) -> bool {
        self.last_output <= self.published
    }
}

/// The sinks of a run, by their index. The committer adds output, each sink's publisher confirms
/// it.
pub(crate) struct Outlets {
    inner: Mutex<Inner>,
    /// There is output, or publishing is to end.
    changed: Condvar,
}

struct Inner {
    sinks: Vec<SinkStatus>,
    ends: Option<Instant>,
}

impl Outlets {
    pub(crate) fn new(sinks: Vec<SinkStatus>) -> Outlets {
        Outlets { inner: Mutex::new(Inner { sinks, ends: None }), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of this lock panics")
    }

    /// Adds committed output: of which sink, of which batch, how many bytes.
    pub(crate) fn add(&self, outputs: Vec<(SinkId, Txid, usize)>) {
        let mut inner = self.lock();
        for (sink, txid, bytes) in outputs {
            for status in inner.sinks.iter_mut().filter(|status| status.id == Some(sink)) {
                status.last_output = txid;
                // A publisher may take output between its commit and this call, and confirm it.
                if txid > status.published {
                    status.backlog_bytes += bytes;
                }
            }
        }
        self.changed.notify_all();
    }

    /// The last batch that has output for this sink.
    pub(crate) fn last_output(&self, sink: SinkIndex) -> Txid {
        self.lock().sinks[sink.0].last_output
    }

    /// A sink has confirmed its output up to `txid`, which was so many bytes.
    pub(crate) fn confirm(&self, sink: SinkIndex, txid: Txid, bytes: usize) {
        let mut inner = self.lock();
        let status = &mut inner.sinks[sink.0];
        (status.published, status.backlog_bytes) =
            (txid, status.backlog_bytes.saturating_sub(bytes));
    }

    /// Counts a rebuild of a sink's publisher.
    pub(crate) fn count_rebuild(&self, sink: SinkIndex) {
        self.lock().sinks[sink.0].rebuilds += 1;
    }

    /// A call of a sink's publisher begins, which does this; or the last one is over.
    pub(crate) fn set_call(&self, sink: SinkIndex, doing: Option<String>) {
        let call = doing.map(|doing| Call { doing, since: Instant::now(), since_ms: now_ms() });
        self.lock().sinks[sink.0].call = call;
    }

    /// The call is over: it failed so, or did not.
    pub(crate) fn set_error(&self, sink: SinkIndex, error: Option<String>) {
        let mut inner = self.lock();
        let status = &mut inner.sinks[sink.0];
        status.error_since_ms =
            error.as_ref().map(|_| status.error_since_ms.unwrap_or_else(now_ms));
        (status.error, status.call) = (error, None);
    }

    /// Sleeps until a sink has output to publish, or publishing is to end; at most half a second.
    pub(crate) fn wait_for_output(&self, sink: SinkIndex) {
        // A publisher is idle, and looks for an end of the process, at least this often. No wake-up
        // depends on it.
        let nothing =
            |inner: &mut Inner| inner.sinks[sink.0].is_confirmed() && inner.ends.is_none();
        let wait = Duration::from_millis(500);
        let waited = self.changed.wait_timeout_while(self.lock(), wait, nothing);
        drop(waited.expect("no holder of this lock panics"));
    }

    /// Sinks have until then to confirm what is committed.
    pub(crate) fn end_at(&self, at: Instant) {
        self.lock().ends = Some(at);
        self.changed.notify_all();
    }

    /// Until when sinks have to confirm what is committed, if the run is being ended.
    pub(crate) fn ends(&self) -> Option<Instant> {
        self.lock().ends
    }

    /// Returns whether every sink has confirmed all of its output.
    pub(crate) fn are_confirmed(&self) -> bool {
        self.lock().sinks.iter().all(SinkStatus::is_confirmed)
    }

    /// Returns the number of bytes of committed output that are not confirmed.
    pub(crate) fn backlog_bytes(&self) -> usize {
        self.lock().sinks.iter().map(|sink| sink.backlog_bytes).sum()
    }

    /// The sinks as they are shown outside.
    pub(crate) fn statuses(&self) -> Vec<SinkStatus> {
        let now = Instant::now();
        self.lock().sinks.iter().map(|sink| sink.as_shown(now)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_of_a_publisher_that_does_not_return_is_named_unless_there_is_worse() {
        let since = Instant::now();
        let call = Some(Call {
            doing: "it was given batch 7, and has not confirmed it".into(),
            since,
            since_ms: 12,
        });
        let status = SinkStatus { call, ..SinkStatus::default() };
        assert_eq!(status.as_shown(since + BUSY_WITHIN / 2).error, None);
        let late = status.as_shown(since + BUSY_WITHIN);
        assert!(late.error.is_some_and(|why| why.contains("batch 7")));
        assert_eq!(late.error_since_ms, Some(12));
        let failed =
            SinkStatus { error: Some("refused".into()), error_since_ms: Some(3), ..status };
        let shown = failed.as_shown(since + BUSY_WITHIN);
        assert_eq!((shown.error.as_deref(), shown.error_since_ms), (Some("refused"), Some(3)));
    }

    #[test]
    fn output_is_a_backlog_until_it_is_confirmed() {
        let sink = |id| SinkStatus { id: Some(SinkId(id)), ..SinkStatus::default() };
        let outlets = Outlets::new(vec![sink(4), sink(9)]);
        assert!(outlets.are_confirmed());
        outlets.add(vec![
            (SinkId(9), Txid(3), 10),
            (SinkId(9), Txid(5), 20),
            (SinkId(7), Txid(5), 40),
        ]);
        assert_eq!(
            (
                outlets.backlog_bytes(),
                outlets.last_output(SinkIndex(0)),
                outlets.last_output(SinkIndex(1))
            ),
            (30, Txid(0), Txid(5))
        );
        outlets.confirm(SinkIndex(1), Txid(3), 10);
        assert!(!outlets.are_confirmed() && outlets.backlog_bytes() == 20);
        outlets.confirm(SinkIndex(1), Txid(5), 20);
        assert!(outlets.are_confirmed() && outlets.backlog_bytes() == 0);
        // A publisher is faster than the committer.
        outlets.add(vec![(SinkId(9), Txid(6), 30)]);
        outlets.confirm(SinkIndex(1), Txid(7), 30 + 40);
        outlets.add(vec![(SinkId(9), Txid(7), 40), (SinkId(9), Txid(8), 50)]);
        assert_eq!((outlets.backlog_bytes(), outlets.last_output(SinkIndex(1))), (50, Txid(8)));
    }
}
